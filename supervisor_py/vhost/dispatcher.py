"""The WSGI callable of a pool: hands each request to the app that its host and path name."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import context
from .hosts import BadHostError, Router, UnknownHostError, UnknownPathError
from .loader import LoadedApp


class Dispatcher:
    """Serves many apps as one; an unknown host gets 421, never a neighbour's app."""

    def __init__(self, apps: Sequence[LoadedApp]) -> None:
        self._router = Router((site, app) for app in apps for site in app.sites)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; the app stays entered while the caller iterates over the body."""
        path = environ.get("PATH_INFO", "")
        try:
            app, prefix = self._router.pick(
                environ.get("HTTP_HOST"), environ.get("RAW_URI", "/"), path
            )
        except BadHostError as error:
            return _refuse(start_response, "400 Bad Request", str(error))
        except UnknownHostError:
            return _refuse(
                start_response, "421 Misdirected Request", "no site of that name is served here"
            )
        except UnknownPathError:
            return _refuse(start_response, "404 Not Found", "no site has that path on this host")
        if prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = path[len(prefix) :]
        context.enter(app.context)
        return app.application(environ, start_response)


def _refuse(start_response: Callable[..., Any], status: str, reason: str) -> Iterable[bytes]:
    body = f"{status}: {reason}\n".encode()
    start_response(
        status,
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]
