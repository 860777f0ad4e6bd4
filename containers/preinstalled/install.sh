#!/bin/sh
# Runs inside the image while it is built: what the roles would install, so that scenarios that are
# about something else need not wait for it. `default` and `host` begin with a bare machine.
set -eu
export DEBIAN_FRONTEND=noninteractive

# there is no systemd yet, and nothing is to be started without it
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -qy --no-install-recommends logrotate nginx nodejs python3-venv
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d

# the installers and the cache, where plugins/modules/virtualenvs.py has them: it goes on to ask an
# index what there is, and only what is not here is fetched
umask 022
tools=/var/lib/kechi/tools
export UV_CACHE_DIR=/var/cache/kechi/uv UV_PYTHON_DOWNLOADS=never
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
python3 -m venv $tools
$tools/bin/pip --no-input --disable-pip-version-check --no-cache-dir install --quiet \
    --requirement /tmp/setup/uv.txt
tr -d '\n' </tmp/setup/uv.txt >$tools/uv.requirement
mkdir -p $UV_CACHE_DIR
python3 -m venv --without-pip /tmp/setup/venv
$tools/bin/uv pip install --quiet --python=/tmp/setup/venv/bin/python \
    --requirement /tmp/setup/requirements.txt
