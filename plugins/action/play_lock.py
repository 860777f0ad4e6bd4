"""Take a machine for this play, or give it back; see the module's documentation."""

from __future__ import annotations

import os
import shlex
from typing import Any

from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ..module_utils import locks, play_lock
from ..plugin_utils import this_play

# a shell is all that it takes at the end of each play
RELEASE = 'if [ -s {path} ] && [ "$(head -n 1 {path})" = {token} ]; then : > {path}; fi'

Result = dict[str, Any]


class ActionModule(ActionBase):
    """``kechi.vps.play_lock``: the half that knows which play this is."""

    _supports_check_mode = True
    _VALID_ARGS = frozenset({"state"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """One call of the module, and a second one where the play before has died."""
        super().run(tmp, task_vars)
        if self._task.args.get("state") == "released":
            return self._release()
        return self.take("kechi.vps.play_lock", task_vars or {}, keep=True)

    def take(self, module: str, variables: dict[str, Any], *, keep: bool) -> Result:
        """Have a module take the machine, or look who has it."""
        # a task runs in a child of the process that the user has started
        play = this_play.identity(os.getppid(), context.CLIARGS.get("args") or ())
        forced = self._templar.template(variables.get(this_play.VARIABLE, False))

        def ask(take_over: str) -> Result:
            result: Result = self._execute_module(
                module_name=module,
                module_args={**self._task.args, "play": play, "take_over": take_over},
                task_vars=variables,
            )
            return result

        return this_play.take(
            ask,
            forced=boolean(forced, strict=False),
            keep=keep,
            check_mode=self._task.check_mode,
        )

    def _release(self) -> Result:
        if not self._task.check_mode:
            token = shlex.quote(str(this_play.identity(os.getppid(), ())["token"]))
            path = locks.DIRECTORY / play_lock.RECORD
            self._low_level_execute_command(RELEASE.format(path=path, token=token))
        return {"changed": False}
