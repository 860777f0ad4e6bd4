"""The WSGI callable of a pool: hands each request to the app that its Host header names."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import context
from .hosts import BadHostError, Router, UnknownHostError
from .loader import LoadedApp


class Dispatcher:
    """Serves many apps as one; an unknown host gets 421, never a neighbour's app."""

    def __init__(self, apps: Sequence[LoadedApp]) -> None:
        self._router = Router((host, app) for app in apps for host in app.hosts)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; the app stays entered while the caller iterates over the body."""
        try:
            app = self._router.pick(environ.get("HTTP_HOST"), environ.get("RAW_URI", "/"))
        except BadHostError as error:
            return _refuse(start_response, "400 Bad Request", str(error))
        except UnknownHostError:
            return _refuse(
                start_response, "421 Misdirected Request", "no site of that name is served here"
            )
        context.enter(app.context)
        return app.application(environ, start_response)


def _refuse(start_response: Callable[..., Any], status: str, reason: str) -> Iterable[bytes]:
    body = f"{status}: {reason}\n".encode()
    start_response(
        status,
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]
