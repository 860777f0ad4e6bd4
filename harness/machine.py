"""What a report says of the machine: asked by a shell script, which runs there."""

from __future__ import annotations

# prints a name and a value in each line
FACTS = """
. /etc/os-release; echo "distribution: $PRETTY_NAME"
echo "kernel: $(uname -srm)"
echo "processors: $(nproc)"
awk '/^MemTotal/ {printf "memory of the machine: %d MB\\n", $2 / 1024}' /proc/meminfo
echo "cgroups: $(test -e /sys/fs/cgroup/cgroup.controllers && echo v2 || echo v1)"
echo "systemd: $(systemctl --version | head -n 1)"
echo "Python: $(python3 -c 'import platform; print(platform.python_version())')"
echo "nginx: $(nginx -v 2>&1 | sed 's,.*/,,')"
echo "super-daemon: $(start_server --version)"
for gunicorn in /srv/kechi/*/venv/bin/gunicorn; do "$gunicorn" --version; done 2>/dev/null |
    sed -n '1s/.*version \\([0-9.]*\\).*/gunicorn: \\1/p'
node --version 2>/dev/null | sed 's/^v/Node.js: /'
"""


def read(printed: str) -> dict[str, str]:
    """Read what FACTS has printed."""
    return dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
