"""Load a machine's sites while it restarts their pools; see the module's documentation."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ...harness import machine, sampler
from ...harness.load import TlsConnection, load
from ...harness.results import Client, Event, Run, read_sample, requests
from ..plugin_utils import proving

ROOT = Path(__file__).resolve().parents[2]
VISIT_SECONDS = 15.0
NGINX = "nginx"
FRONT_END = (
    "frontend_tls",
    "frontend_acme_email",
    "frontend_port",
    "frontend_tls_port",
    "frontend_requests_per_second",
)
NOTHING_TOLD = {"events": [], "samples": [], "oom_kills": {}, "facts": "", "error": ""}


class ActionModule(ActionBase):
    """``kechi.vps.prove``: whom to ask follows from the inventory, the restarts are a module's."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Look at each site; unless in check mode, load, restart, judge, report."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec({"found": {"type": "dict", "required": True}})
        values = self._values(variables)
        if wrong := proving.wrong({name: values[name] for name in proving.SPEC}, variables):
            raise AnsibleActionFail("\n".join(["Nothing was done:", *wrong]))
        try:
            plan = proving.plan(
                self._templar.template(variables.get("vhost_app_pools") or []),
                arguments["found"],
                values,
                pool=str(values["pool"]),
                app=str(values["app"]),
            )
            statuses = self._visit(plan, values)
        except proving.Refused as error:
            raise AnsibleActionFail(f"Nothing was done: {error}") from error
        name = str(variables["inventory_hostname"])
        result["plan"] = proving.words(plan, name, values)
        if self._task.check_mode:
            return {**result, "changed": False}
        return {**result, **self._prove(name, plan, statuses, values, variables)}

    def _values(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, of this and of the front end, as the inventory or -e has them."""
        defaults = {"pool": "", "app": "", **proving.DEFAULTS}
        found = self._loader.load_from_file(str(ROOT / "roles/frontend/defaults/main.yml"))
        defaults |= {setting: found[setting] for setting in FRONT_END}
        return {
            setting: self._templar.template(variables.get(setting, default))
            for setting, default in defaults.items()
        }

    def _visit(self, plan: proving.Plan, values: Mapping[str, Any]) -> dict[proving.Site, int]:
        """Ask each site once. Raises Refused for all that are not healthy."""
        statuses, faults = {}, []
        for site in plan.sites:
            try:
                status = _ask(site, values)
            except (OSError, http.client.HTTPException) as error:
                instead = values["prove_address"]
                hint = "" if instead else "; -e prove_address=HOST if its name leads elsewhere"
                faults.append(f"{site}: {str(error) or type(error).__name__}{hint}")
                continue
            statuses[site] = status
            if fault := site.fault(status):
                faults.append(f"{site}: {fault}")
        if faults:
            raise proving.Refused("\n  ".join(["not all sites are healthy:", *faults]))
        return statuses

    def _prove(
        self,
        name: str,
        plan: proving.Plan,
        statuses: Mapping[proving.Site, int],
        values: Mapping[str, Any],
        variables: dict[str, Any],
    ) -> dict[str, Any]:
        try:
            from ...harness import store  # noqa: PLC0415 - it needs more than Ansible does
        except ImportError as error:
            raise AnsibleActionFail(
                f"Nothing was done: {error}, which draws the report; `make setup` brings it,"
                " for .venv/bin/ansible-playbook"
            ) from error
        targets = proving.targets(statuses)
        asked = time.time()
        with load(
            {site.host: site.address(values["prove_address"]) for site in statuses},
            targets,
            tls=_contexts(statuses, values),  # none of HTTP
            pause_seconds=plan.pause_seconds,
        ) as report:
            told = self._restart(plan, values, variables)
            answered = time.time()
        ahead = proving.clock_ahead(
            asked, told.get("began", asked), told.get("ended", answered), answered
        )
        run = Run(
            name=f"prove.{name}",
            title=f"{name} restarts its pools without losing a request",
            machine={
                "name": name,
                **machine.read(told["facts"]),
                "its clock": f"{ahead:+.1f} s" if ahead else "agrees with ours",
            },
            began=asked,
            ended=time.time(),
            clients=tuple(Client(NGINX, one.kind, one.host, one.path) for one in targets),
            pools=tuple(str(pool["name"]) for pool in plan.pools),
            pause_seconds=plan.pause_seconds,
            requests=tuple(requests(report, NGINX)),
            events=tuple(Event(one["at"] - ahead, one["label"]) for one in told["events"]),
            samples=tuple(
                replace(found, at=found.at - ahead) for found in map(read_sample, told["samples"])
            ),
        )
        failure = "\n".join(proving.faults(run, plan.pools, told, values))
        run = replace(run, failure=failure)
        reports = Path(str(values["prove_reports"] or "reports")).expanduser().absolute()
        page = str(store.write(reports, run))
        words = [
            f"{len(run.requests)} requests in {len(run.events)} restarts,"
            f" {len(run.failures)} failed, the slowest took {_slowest(run):.3f} s",
            f"report: {page}",
        ]
        return {
            "changed": bool(run.events),
            "failed": not run.passed,
            "msg": "\n".join([*run.problems, *words]),
            "report": page,
        }

    def _restart(
        self, plan: proving.Plan, values: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Have the machine restart its pools; what goes wrong there is told as `error`."""
        try:
            told: dict[str, Any] = self._execute_module(
                module_name="kechi.vps.pool_restarts",
                module_args={
                    "pools": [str(pool["name"]) for pool in plan.pools],
                    "restarts": int(values["prove_restarts"]),
                    "settle_seconds": proving.SETTLE_SECONDS,
                    "seconds": int(values["prove_seconds"]),
                    "sampler": Path(sampler.__file__).read_text(encoding="utf-8"),
                    "facts": machine.FACTS,
                },
                task_vars=variables,
            )
        except AnsibleConnectionFailure as error:
            return {**NOTHING_TOLD, "error": f"the machine was lost: {error}"}
        if told.get("failed"):
            return {**NOTHING_TOLD, "error": str(told.get("msg") or told)}
        return told


def _ask(site: proving.Site, values: Mapping[str, Any]) -> int:
    """The status that a site answers with; raises OSError or HTTPException."""
    address = site.address(values["prove_address"])
    context = _contexts({site: 0}, values)
    connection = (
        TlsConnection(address, site.host, context[site.host], VISIT_SECONDS)
        if context
        else http.client.HTTPConnection(address, timeout=VISIT_SECONDS)
    )
    try:
        connection.request("GET", site.path, headers={"Host": site.host, "Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _contexts(
    sites: Mapping[proving.Site, int], values: Mapping[str, Any]
) -> dict[str, ssl.SSLContext]:
    """How each site's certificate is looked at; nothing for HTTP."""
    found = {}
    for site in sites:
        if not site.tls:
            continue
        context = ssl.create_default_context()
        if values["prove_ca_file"]:
            context.load_verify_locations(Path(str(values["prove_ca_file"])).expanduser())
        if not site.verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        found[site.host] = context
    return found


def _slowest(run: Run) -> float:
    return max((one.seconds for one in run.requests), default=0.0)
