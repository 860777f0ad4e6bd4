#!/usr/bin/python
"""The sites' certificates. What it does is `module_utils/certificates.py`'s."""

from __future__ import annotations

DOCUMENTATION = """
module: certificates
short_description: Have a certificate for each site, and nginx serve it
version_added: 0.1.0
description:
  - A site is served with the certificate that it was given, with one from an ACME server (by
    certbot, over HTTP-01), or, until there is one, self-signed.
  - What is missing is ordered where the ACME server answers and the names lead to this machine. An
    order that has failed is not repeated before some time has passed, which grows.
  - nginx is tested and reloaded where it does not run what its files hold.
options:
  settings:
    description: What the command C(kechi-certificates) reads from C(/etc/kechi/certificates.json).
    type: dict
    required: true
  stage:
    description: >-
      C(prepare) - have some certificate for each site, for nginx to be able to start. C(finish) -
      order what is missing, and have nginx serve all that its files hold.
    type: str
    choices: [prepare, finish]
    required: true
attributes:
  check_mode:
    support: full
    description: Orders nothing, and says what is missing.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Order what is missing
  kechi.vps.certificates:
    stage: finish
    settings:
      ports: {http: 80, https: 443}
      acme: {server: https://acme-v02.api.letsencrypt.org/directory, email: me@example.org}
      sites:
        - name: blog
          hosts: [blog.example.org]
"""

RETURN = """
certificates:
  description: Each site's, with the days that it lasts.
  returned: in stage C(finish), but in check mode
  type: list
  elements: dict
sites:
  description: The sites that have another certificate now.
  returned: success
  type: list
  elements: str
reloaded:
  description: Whether nginx was reloaded, or would be.
  returned: success
  type: bool
"""

from contextlib import ExitStack

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import locks
from ..module_utils.certificates import CertificateError, Certificates, Machine

WAIT_SECONDS = 600  # each order takes half of that at most


def main() -> None:
    """Run one stage."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "stage": {"type": "str", "required": True, "choices": ["prepare", "finish"]},
        },
        supports_check_mode=True,
    )
    machine = Machine(tell=module.warn)
    act = not module.check_mode
    wanted = Certificates(module.params["settings"], machine, act=act)
    reloaded = False
    found = []
    try:
        with ExitStack() as stack:
            if act:  # what the timer has begun by the settings of before ends first
                lock = locks.held(locks.CERTIFICATES, "a play", wait_seconds=WAIT_SECONDS,
                                  tell=module.warn)  # fmt: skip
                stack.enter_context(lock)
            sites = wanted.choose()
            if module.params["stage"] == "finish":
                sites += wanted.obtain()
                sites += wanted.choose()
                reloaded = wanted.reload() if act else not wanted.loaded()
                found = wanted.look() if act else []
    except locks.Busy as busy:
        module.fail_json(
            msg=f"certificates: {busy} has not ended in {WAIT_SECONDS} seconds. Run this again when"
            " it has, or end it: systemctl stop kechi-certificates"
        )
    except CertificateError as error:
        module.fail_json(msg=str(error))
    for problem in wanted.problems:
        module.warn(problem)
    module.exit_json(
        changed=bool(sites or reloaded),
        sites=sorted(set(sites)),
        reloaded=reloaded,
        certificates=found,
    )


if __name__ == "__main__":
    main()
