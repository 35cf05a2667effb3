"""Functions as the workers get them: pickled once for each object, stored once for each content.
Owns the cache and the words about what cannot be pickled; the stored form is
`taskfleet.wire.calls`.
"""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from taskfleet.errors import InvalidTask
from taskfleet.wire import calls, pickles


@dataclass(frozen=True)
class Blob:
    """Data to be stored before the tasks that name it by its SHA-256 are sent."""

    sha256: str
    data: Any

    @classmethod
    def of(cls, data: bytes) -> Blob:
        return cls(calls.content_id(data), data)


@dataclass(frozen=True)
class Pickled:
    """A function as tasks name it.

    name: its name.
    blob: its stored form.
    head: the JSON of a task that calls it, up to its arguments.
    """

    name: str
    blob: Blob
    head: bytes

    @property
    def needs(self) -> tuple[Blob, ...]:
        """What must be stored for every call."""
        return (self.blob,)


class Functions:
    """Pickles functions. An object is pickled at its first call, and again only after it is gone:
    what it closes over is taken as it is then. Bound methods are new objects each time.

    requirements: what the environment of the calls is made of, as pip names it.
    """

    def __init__(self, requirements: Sequence[str] = ()) -> None:
        self._requirements = list(requirements)
        self._lock = threading.Lock()
        self._known: dict[int, tuple[Any, Pickled]] = {}

    def pickled(self, function: Callable[..., Any]) -> Pickled:
        """Returns the function as it is stored. Raises TypeError, naming what cannot be pickled,
        or if `function` is none."""
        found = self._known.get(id(function))
        if found is not None:
            return found[1]
        if not callable(function):
            raise TypeError(f"{function!r:.80} is no function: it cannot be called")
        name = calls.function_name(function)
        try:
            data = calls.encode_function(function, self._requirements)
        except InvalidTask as error:
            raise TypeError(_why(function, name, error)) from error
        blob = Blob.of(data)
        params = msgspec.json.encode(calls.params(name, blob.sha256, {}))
        made = Pickled(name, blob, b'{"kind":"python","params":' + params[:-1] + b",")
        key = id(function)
        try:
            kept: Any = weakref.ref(function, lambda _: self._known.pop(key, None))
        except TypeError:  # such as a builtin, which lives for ever
            kept = function
        with self._lock:
            self._known[key] = (kept, made)
        return made


def _why(function: Callable[..., Any], name: str, error: Exception) -> str:
    for what, value in _parts(function):
        if not _can_be_pickled(value):
            return (
                f"cannot send {name}: it uses {what} ({type(value).__qualname__}), and {error}; "
                "make it inside the function, or pass what it is made of"
            )
    return f"cannot send {name}: {error}"


def _parts(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yields what a function takes with it, with a name for each."""
    inner = getattr(function, "func", function)
    for number, value in enumerate(getattr(function, "args", ()) or ()):
        yield f"its argument {number}", value
    for key, value in (getattr(function, "keywords", None) or {}).items():
        yield f"its argument {key!r}", value
    owner = getattr(inner, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        yield "the object that it is a method of", owner
    inner = getattr(inner, "__func__", inner)
    if not isinstance(inner, types.FunctionType):
        return
    for key, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=False):
        try:
            yield repr(key), cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for value in inner.__defaults__ or ():
        yield "a default argument", value
    for key in inner.__code__.co_names:
        if key in inner.__globals__:
            yield f"the global {key!r}", inner.__globals__[key]


def _can_be_pickled(value: Any) -> bool:
    try:
        pickles.pickled(value, "it", None)
    except InvalidTask:
        return False
    return True
