"""The event loop of a process, which no app can end."""

import asyncio
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class EventLoop:
    """An asyncio loop, for a time that its user decides on."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def run(self, work: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
        """Run the loop until work is done, and return what comes of it; raises TimeoutError.

        What calls sys.exit() in a task of its own, or stops the loop, would take all requests.
        """
        task = self.loop.create_task(asyncio.wait_for(work, seconds))
        task.add_done_callback(lambda _: self.loop.stop())
        while not task.done():
            try:
                self.loop.run_forever()
                if not task.done():
                    sys.stderr.write("the app has stopped its event loop, which goes on\n")
            except BaseException:  # noqa: BLE001
                if not task.done():
                    sys.stderr.write(traceback.format_exc())
        return task.result()


_of_process: EventLoop | None = None


def of_process() -> EventLoop:
    """Return the loop of this process, which is made when it is first asked for."""
    global _of_process  # noqa: PLW0603
    if _of_process is None:
        _of_process = EventLoop()
    return _of_process
