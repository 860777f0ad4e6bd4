"""Try new rules, get in once more under them, and only then have them kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase

MARGIN_SECONDS = 5  # for the last step: it must not meet the timer
AFTER_SECONDS = 60  # how long a machine may be out of reach after its timer's end
PAUSE_SECONDS = 1

Result = dict[str, Any]


class ActionModule(ActionBase):
    """``kechi.vps.firewall``: the half that knows whether the machine can still be reached."""

    _supports_check_mode = True
    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _sleep: Callable[[float], None] = staticmethod(time.sleep)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """One call of the module where nothing changed; else another one over a new connection."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        before = str(arguments.pop("connection", None) or "")
        seconds = int(arguments.get("confirm_seconds", 60))

        def firewall(step: str) -> Result:
            return self._module("firewall", {**arguments, "step": step}, variables)

        result = firewall("try")
        if result.get("failed") or "try" not in result["steps"] or self._task.check_mode:
            return result
        began = self._clock()
        last = began + seconds - MARGIN_SECONDS
        reason = self._until(last, lambda: self._reach(before, variables))
        if not reason:
            return {**result, **_failure(firewall("keep"))}
        unreached = self._until(
            began + seconds + AFTER_SECONDS, lambda: self._reached(lambda: firewall("undo"))
        )
        end = f"and the machine has not been reached since: {unreached}" if unreached else (
            "so that the previous ones are back, and the machine can be reached"
        )  # fmt: skip
        return {
            "failed": True,
            "changed": bool(unreached),
            "steps": ["try"],
            "msg": f"firewall: the new rules let nobody in for {seconds} seconds, {end}. "
            f"What was tried: {reason}",
        }

    def _until(self, deadline: float, ask: Callable[[], str]) -> str:
        """Ask until there is no reason for a failure, or it is too late; return the last reason."""
        while True:
            reason = ask()
            if not reason or self._clock() >= deadline:
                return reason
            self._sleep(PAUSE_SECONDS)

    def _reach(self, before: str, variables: dict[str, Any]) -> str:
        """Get in by a new connection; say why not, if not."""
        found: Result = {}

        def look() -> Result:
            found.update(self._module("ssh_facts", {}, variables))
            return found

        reason = self._reached(look)
        if not reason and before and found["connection"] == before:
            return "the old connection is still used, which proves nothing (see ssh_config(5))"
        return reason

    def _reached(self, ask: Callable[[], Result]) -> str:
        """Ask over a new connection; say why not, if not."""
        try:
            if type(self._connection).reset is not ConnectionBase.reset:  # which only warns
                self._connection.reset()
            result = ask()
        except AnsibleConnectionFailure as failure:
            return str(failure)
        return str(result["msg"]) if result.get("failed") else ""

    def _module(self, name: str, arguments: Result, variables: dict[str, Any]) -> Result:
        result: Result = self._execute_module(
            module_name=f"kechi.vps.{name}", module_args=arguments, task_vars=variables
        )
        return result


def _failure(result: Result) -> Result:
    return {key: result[key] for key in ("failed", "msg") if key in result}
