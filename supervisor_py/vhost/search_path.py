"""sys.path as each app has it: one list object, whose content is the calling thread's app's own."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from . import context
from .context import AppContext


class SearchPath(list[str]):
    """The server's entries, and, for a thread that works for a loaded app, that app's list instead.

    While an app is loaded, `loading` is that one, and the server's entries are its own.
    """

    loading: AppContext | None = None

    def shared(self) -> list[str]:
        """Return the entries of the server, or of the app that is loaded now."""
        return list.copy(self)

    def share(self, entries: Iterable[str]) -> None:
        """Replace those."""
        list.__setitem__(self, slice(None), list(entries))

    def own(self) -> list[str] | None:
        """Return the calling thread's app's list; None where that is this one."""
        app = context.current()
        if app is None or app is self.loading or not app.search:
            return None
        return app.search

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.copy(),)

    def __iter__(self) -> Iterator[str]:
        own = self.own()
        return list.__iter__(self) if own is None else iter(own)

    def __radd__(self, other: list[str]) -> list[str]:
        return other + self.copy()

    def __iadd__(self, entries: Iterable[str]) -> "SearchPath":  # type: ignore[override,misc]
        self.extend(entries)
        return self

    def copy(self) -> list[str]:
        """Return a plain list of what is here for the calling thread."""
        own = self.own()
        return list.copy(self if own is None else own)

    def __eq__(self, other: object) -> bool:
        return self.copy() == (other.copy() if isinstance(other, SearchPath) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.copy())


def _of_own(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of lists that is done to the list of the calling thread's app."""

    @wraps(method)
    def do(self: SearchPath, *arguments: Any, **how: Any) -> Any:
        own = self.own()
        return method(self if own is None else own, *arguments, **how)

    return do


for _name in (
    *("__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__reversed__"),
    *("__add__", "__mul__", "__rmul__", "append", "extend", "insert", "remove", "pop", "clear"),
    *("index", "count", "sort", "reverse"),
):
    setattr(SearchPath, _name, _of_own(getattr(list, _name)))
