"""The WSGI callable of a pool: hands each request to the app that its host and path name."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import context, running
from .hosts import ALL, BadHostError, Router, Site, UnknownHostError, UnknownPathError
from .loader import LoadedApp, loggers_kept
from .pool import App

RETRY_SECONDS = "60"  # a guess: it is tried again at the next restart


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request gets that no app is asked for."""

    status: str
    reason: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def code(self) -> int:
        """The status without its words."""
        return int(self.status.partition(" ")[0])

    @property
    def body(self) -> bytes:
        """What the client reads."""
        return f"{self.status}: {self.reason}\n".encode()


RETRY = (("Retry-After", RETRY_SECONDS),)
NOTHING_SERVED = Refusal(
    "503 Service Unavailable", "the server of this site can't be started, its log says why", RETRY
)


class Dispatcher:
    """Serves many apps as one; an unknown host gets 421, never a neighbour's app."""

    def __init__(self, apps: Sequence[LoadedApp], missing: Iterable[App] = ()) -> None:
        """Take the apps, and those that could not be loaded: their sites get 503."""
        targets: dict[Site, LoadedApp | App] = {site: app for app in missing for site in app.sites}
        targets.update({site: app for app in apps for site in app.sites})
        self._router = Router(targets)
        self._named = Router({site: None for site in targets if site.host != ALL})
        self._all = tuple(apps)
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

    @property
    def only(self) -> LoadedApp | None:
        """The app that has this process for itself; None where it can't be served."""
        (app,) = self._all or (None,)
        return None if app in self._down else app

    def route(self, host: str | None, uri: str, path: str) -> tuple[LoadedApp, str, str] | Refusal:
        """Return whose a request is, with the path's prefix that is the site's, and the rest."""
        try:
            app, prefix, rest = self._router.pick(host, uri, path)
        except BadHostError as error:
            return Refusal("400 Bad Request", str(error))
        except UnknownHostError:
            return Refusal("421 Misdirected Request", "no site of that name is served here")
        except UnknownPathError:
            return Refusal("404 Not Found", "no site has that path on this host")
        if isinstance(app, App) or app in self._down:
            name = app.name if isinstance(app, App) else app.context.name
            reason = f"the app {name} could not be loaded, its log says why"
            return Refusal("503 Service Unavailable", reason, RETRY)
        return app, prefix, rest

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request; the app stays entered while the caller iterates over the body."""
        path = environ.get("PATH_INFO", "")
        found = self.route(environ.get("HTTP_HOST"), environ.get("RAW_URI", "/"), path)
        if isinstance(found, Refusal):
            return _refuse(start_response, found)
        app, prefix, rest = found
        if prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = rest
        context.enter(app.context)
        if (request := running.of_thread()) is not None:
            request.app = app.context
        answer: Iterable[bytes] = app.application(environ, start_response)
        return answer


class Unavailable(Dispatcher):
    """Serves nothing: the pool as a whole can't be."""

    def __init__(self) -> None:
        super().__init__(())

    def route(
        self, _host: str | None, _uri: str, _path: str
    ) -> tuple[LoadedApp, str, str] | Refusal:
        """Answer 503."""
        return NOTHING_SERVED


def _refuse(start_response: Callable[..., Any], refusal: Refusal) -> Iterable[bytes]:
    body = refusal.body
    start_response(
        refusal.status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *refusal.headers,
        ],
    )
    return [body]
