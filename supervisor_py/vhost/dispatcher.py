"""The WSGI callable of a pool: hands each request to the app that its host and path name."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import context, running
from .hosts import ALL, BadHostError, Router, Site, UnknownHostError, UnknownPathError
from .loader import LoadedApp, loggers_kept
from .pool import App

RETRY_SECONDS = "60"  # a guess: it is tried again at the next restart


class Dispatcher:
    """Serves many apps as one; an unknown host gets 421, never a neighbour's app."""

    def __init__(self, apps: Sequence[LoadedApp], missing: Iterable[App] = ()) -> None:
        """Take the apps, and those that could not be loaded: their sites get 503."""
        targets: dict[Site, LoadedApp | App] = {site: app for app in missing for site in app.sites}
        targets.update({site: app for app in apps for site in app.sites})
        self._router = Router(targets)
        self._named = Router({site: None for site in targets if site.host != ALL})
        self._apps = [app for app in apps if app.startup is not None]
        self._down: set[LoadedApp] = set()

    def startup(self) -> bool:
        """Start the apps that want it, in a worker; one that fails is told, and gets 503.

        Returns whether all have started.
        """
        for app in self._apps:
            assert app.startup is not None
            context.enter(app.context)
            try:
                with loggers_kept():
                    app.startup()
            except Exception as error:  # noqa: BLE001  # an app's own code
                self._down.add(app)
                reason = str(error) or type(error).__name__
                sys.stderr.write(f"the app {app.context.name} can't be started: {reason}\n")
            finally:
                context.leave()
        return not self._down

    def shutdown(self) -> None:
        """End what startup() began."""
        for app in self._apps:
            assert app.shutdown is not None
            if app not in self._down:
                context.enter(app.context)
                app.shutdown()
                context.leave()

    def serves(self, host: str) -> bool:
        """Tell whether a host is one that apps here have by its name."""
        try:
            self._named.pick(host, "/", "/")
        except UnknownPathError:
            return True
        except (BadHostError, UnknownHostError):
            return False
        return True

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; the app stays entered while the caller iterates over the body."""
        path = environ.get("PATH_INFO", "")
        try:
            app, prefix, rest = self._router.pick(
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
        if isinstance(app, App) or app in self._down:
            name = app.name if isinstance(app, App) else app.context.name
            return _refuse(
                start_response,
                "503 Service Unavailable",
                f"the app {name} could not be loaded, its log says why",
                ("Retry-After", RETRY_SECONDS),
            )
        if prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = rest
        context.enter(app.context)
        if (request := running.of_thread()) is not None:
            request.app = app.context
        return app.application(environ, start_response)


class Unavailable(Dispatcher):
    """Serves nothing: the pool as a whole can't be."""

    def __init__(self) -> None:
        super().__init__(())

    def __call__(
        self, _environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer 503."""
        return _refuse(
            start_response,
            "503 Service Unavailable",
            "the server of this site can't be started, its log says why",
            ("Retry-After", RETRY_SECONDS),
        )


def _refuse(
    start_response: Callable[..., Any], status: str, reason: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{status}: {reason}\n".encode()
    start_response(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *headers,
        ],
    )
    return [body]
