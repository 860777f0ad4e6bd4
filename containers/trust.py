"""Make the image trust the authorities that the host trusts beyond Debian's own.

On a network with an inspecting proxy the host knows the proxy's authority; pip in the container
must, too. Runs inside the image while it is built, as ``trust.py BUNDLE.pem``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

STOCK = Path("/etc/ssl/certs/ca-certificates.crt")
LOCAL = Path("/usr/local/share/ca-certificates")
_PEM = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def extra_certificates(bundle: str, stock: str) -> list[str]:
    """List the certificates of one PEM bundle that are not in the other, each as PEM, once."""
    known = {"".join(body.split()) for body in _PEM.findall(stock)}
    extra = []
    for match in _PEM.finditer(bundle):
        body = "".join(match[1].split())
        if body not in known:
            known.add(body)
            extra.append(match[0] + "\n")
    return extra


def main(bundle: Path) -> None:
    """Install the extra certificates the way an administrator of a VPS would."""
    extra = extra_certificates(bundle.read_text(), STOCK.read_text())
    for number, certificate in enumerate(extra):
        (LOCAL / f"host-{number}.crt").write_text(certificate)
    if extra:
        subprocess.run(["update-ca-certificates"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
