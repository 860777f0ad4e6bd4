"""An app that has the garbage collector look through everything, as it will in any long run."""

import gc
import os
from collections.abc import Callable, Iterable
from typing import Any


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Collect all there is, and say in which process."""
    gc.collect()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [b"collected\n"]
