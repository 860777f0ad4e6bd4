"""What libraries keep once in a process: a second app that sets it up takes it from the first.

Each row has the sentence that is told of it, and how to see that it has been set up. A library that
is of no use to an app is not imported for a look at it.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Singleton:
    """What a library keeps once.

    `read` gets `module` and returns None as long as nothing is set up, else the names under which
    something is: two apps meet at a name that both have, or, where there are none, in any case.
    `felt`: it takes in what neighbours do that have not set it up at all.
    """

    sentence: str
    module: str
    read: Callable[[Any], Iterable[str] | None]
    felt: bool = False


def _if(condition: object) -> Iterable[str] | None:
    return () if condition else None


def _names(names: Iterable[str]) -> Iterable[str] | None:
    return sorted(names) or None


def _sentry(module: Any) -> Iterable[str] | None:
    if hasattr(module, "get_client"):
        return _if(module.get_client().is_active())
    return _if(module.Hub.current.client)


def _prometheus(module: Any) -> Iterable[str] | None:
    names = module.REGISTRY._names_to_collectors
    return _names(name for name in names if not name.startswith(("python_", "process_")))


SINGLETONS = (
    Singleton(
        "it has called sentry_sdk.init(), and a process reports the errors of all its apps to one"
        " project of Sentry",
        "sentry_sdk",
        _sentry,
        felt=True,
    ),
    Singleton(
        "it has set OpenTelemetry's tracer provider, and a process has one, which names the service"
        " and exports the spans of all",
        "opentelemetry.trace",
        lambda module: _if(getattr(module, "_TRACER_PROVIDER", None)),
    ),
    Singleton(
        "it has set OpenTelemetry's meter provider, and a process has one, which exports the"
        " metrics of all",
        "opentelemetry.metrics._internal",
        lambda module: _if(getattr(module, "_METER_PROVIDER", None)),
    ),
    Singleton(
        "it has made a Celery app, and tasks of @shared_task go to the broker of the one that is"
        " current in the process",
        "celery._state",
        lambda module: _if(len(module._apps)),
    ),
    Singleton(
        "it has started New Relic's agent, which reports all requests of a process as one"
        " application",
        "newrelic.config",
        lambda module: _if(getattr(module, "_configuration_done", None)),
        felt=True,
    ),
    Singleton(
        "it has Datadog's tracer at work (ddtrace), which reports all requests of a process as one"
        " service",
        "ddtrace._monkey",
        lambda module: _if(getattr(module, "_PATCHED_MODULES", None)),
        felt=True,
    ),
    Singleton(
        "it has started the agent of Elastic APM, and a process has one",
        "elasticapm.base",
        lambda module: _if(getattr(module, "CLIENT_SINGLETON", None)),
        felt=True,
    ),
    Singleton(
        "it has called rollbar.init(), and a process reports to one project of Rollbar",
        "rollbar",
        lambda module: _if(getattr(module, "_initialized", None)),
    ),
    Singleton(
        "it has metrics in prometheus_client's default registry, which a process has once, under"
        " names that are taken",
        "prometheus_client.registry",
        _prometheus,
    ),
    Singleton(
        "it has connected mongoengine under an alias, and a process has each alias once",
        "mongoengine.connection",
        lambda module: _names(module._connection_settings),
    ),
    Singleton(
        "it has configured structlog, and a process has one configuration",
        "structlog._config",
        lambda module: _if(module._CONFIG.is_configured),
    ),
    Singleton(
        "it has set up loguru's logger, and a process has one, whose sinks get the lines of all",
        "loguru",
        lambda module: _if(set(module.logger._core.handlers) != {0}),
    ),
)


def found() -> Iterator[tuple[Singleton, list[str]]]:
    """Yield what is set up in this process, with its names."""
    for one in SINGLETONS:
        module = sys.modules.get(one.module)
        names = None if module is None else _read(one, module)
        if names is not None:
            yield one, list(names)


def _read(one: Singleton, module: Any) -> Iterable[str] | None:
    try:
        return one.read(module)
    except Exception:  # noqa: BLE001  # another version keeps it elsewhere
        return None
