#!/bin/sh
# Runs inside the image while it is built: makes a bare, systemd-booting VPS of a Debian base.
set -eu
export DEBIAN_FRONTEND=noninteractive

# a registry's Debian forbids maintainer scripts to start services; a VPS does not
rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-*

apt-get update -q
# python3-apt: Debian's cloud images have it, and ansible's check mode needs it
apt-get install -qy --no-install-recommends \
    systemd systemd-sysv dbus python3 python3-apt sudo ca-certificates iproute2 procps
python3 /tmp/setup/trust.py /tmp/setup/host-ca.pem
apt-get clean
rm -rf /var/lib/apt/lists/*

# The container is privileged: keep its systemd away from what belongs to the host, which is
# kernel settings, modules, devices, consoles, binfmt, clock and file systems.
systemctl mask \
    systemd-sysctl.service systemd-modules-load.service modprobe@.service kmod-static-nodes.service \
    systemd-udevd.service systemd-udev-trigger.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket \
    getty.target console-getty.service systemd-logind.service systemd-vconsole-setup.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
    systemd-timesyncd.service systemd-remount-fs.service systemd-firstboot.service \
    dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount \
    e2scrub_all.timer e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer

# the kernel's log is the host's; a journal in memory goes away with the container
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nReadKMsg=no\nStorage=volatile\n' >/etc/systemd/journald.conf.d/container.conf
: >/etc/machine-id
