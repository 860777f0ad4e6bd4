"""An app that speaks ASGI, as bare as can be: a page, and a slow answer in parts."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

HEADERS = [
    (b"content-type", b"text/plain"),
    (b"x-generation", os.environ.get("SERVER_STARTER_GENERATION", "none").encode()),
]


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer at once, or `/slow` in SECONDS= of the query string."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    if scope["path"] == "/slow":
        asked = parse_qs(scope["query_string"].decode()).get("seconds", ["1"])
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
        await asyncio.sleep(float(asked[0]))
    await send({"type": "http.response.body", "body": b"done\n"})
