"""An app that does what it is told: as a hostile one it runs whatever is put into `shared`."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ORDER = Path("/srv/www/evil/shared/order.py")


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Run the order once, if there is one."""
    if ORDER.exists():
        code = ORDER.read_text(encoding="utf-8")
        ORDER.unlink()
        exec(compile(code, str(ORDER), "exec"), {"__name__": "order"})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()}\n".encode()]
