#!/bin/sh
# Runs inside the image while it is built: makes of a bare Debian what a provider hands over.
set -eu

python3 /tmp/setup/trust.py /tmp/setup/host-ca.pem
install -d -m 700 /root/.ssh
install -m 600 /tmp/setup/authorized_keys /root/.ssh/authorized_keys
rm -r /tmp/setup

echo '/dev/vda / ext4 errors=remount-ro 0 1' >/etc/fstab
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' >/etc/systemd/network/vps.network
systemctl enable systemd-networkd.service
# looks for snapshots of LVM, which there is none of: most of the boot of an emulated machine
systemctl mask e2scrub_reap.service
echo 'nameserver 10.0.2.3' >/etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
# each machine gets its name from the kernel's command line, and an identity at its first boot
rm -f /etc/hostname
: >/etc/machine-id
