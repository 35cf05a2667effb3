"""Calls of Python functions as data: the stored function, the params of a task of kind `python`,
its result, and its failure. Client and worker share these forms. Owns encoding and decoding; not
where objects are stored, nor running a call (`taskfleet.kinds.python`).

Values that JSON gives back exactly travel as JSON, so that every reader sees them; others travel as
pickles (`taskfleet.wire.pickles`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from taskfleet.errors import InvalidTask, PermanentError, TaskFailed
from taskfleet.wire import exact
from taskfleet.wire.pickles import (
    Dumps,
    Loads,
    cloudpickle,
    pickled,
    short_repr,
    unbase64,
    unpickled,
    utf8,
)

FORM_VERSION = 1
"""Version of a stored function's form: the field `v` of its header."""
NAME_MAX_CHARS = 60
"""Longest name of a function in params, in characters."""
HEADER_MAX_BYTES = 1_000_000
"""Longest header of a stored function, in bytes."""
REQUIREMENTS_MAX = 200
"""Most requirements of one function."""
REQUIREMENT_MAX_CHARS = 500
"""Longest requirement, in characters."""
ARGS_MAX_BYTES = 100_000
"""Most bytes of a call's arguments in its params, as JSON or as a pickle; more are stored."""
RESULT_JSON_MAX_BYTES = 250_000
"""Most bytes of JSON of a result that is kept as JSON; a larger one is pickled and stored."""
RESULT_PICKLE_MAX_BYTES = 22_000
"""Most bytes of a pickle in a result, or of an exception's in a failure; a larger result is
stored. In base64, beside its `repr`, it stays below 32 kB, above which the worker would make an
object of the whole result."""
PICKLED, STORED = "$pickle", "$stored"
"""Keys that mark a result as a pickle, and as a pickle in the object store."""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,39}")


@dataclass(frozen=True)
class FunctionHeader:
    """The first line of a stored function. Raises ValueError for values that cannot be.

    v: version of the form.
    name: the function's qualified name, for people.
    python: Python version of the client that pickled it, such as `3.11`.
    cloudpickle: version of cloudpickle that pickled it, such as `3.1.1`.
    requirements: what must be installed where it runs, as pip writes it; none for the worker's own
        environment.
    """

    v: int
    name: str
    python: str
    cloudpickle: str
    requirements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if type(self.v) is not int:
            raise ValueError(f"v is not {self.v!r:.20}")
        if type(self.name) is not str or not 0 < len(self.name) <= REQUIREMENT_MAX_CHARS:
            raise ValueError("the name has 1 to 500 characters")
        for value in (self.python, self.cloudpickle):
            if type(value) is not str or not _VERSION.fullmatch(value):
                raise ValueError(f"{value!r:.60} is no version")
        check_requirements(self.requirements)


def check_requirements(requirements: Any) -> None:
    """Raise ValueError unless the value is a list of requirements as `FunctionHeader` has them."""
    if type(requirements) is not list or len(requirements) > REQUIREMENTS_MAX:
        raise ValueError(f"requirements: a list of at most {REQUIREMENTS_MAX} texts")
    for each in requirements:
        if type(each) is not str or not 0 < len(each.strip()) <= REQUIREMENT_MAX_CHARS:
            raise ValueError(
                f"requirements: {each!r:.60} is no text of 1 to {REQUIREMENT_MAX_CHARS} characters"
            )
        if each.lstrip().startswith("-") or not each.isprintable():
            raise ValueError(f"requirements: {each!r:.60} is no requirement, such as 'numpy>=2'")


class RemoteTraceback(Exception):
    """The traceback of a task, as text: the cause (`__cause__`) of the exception that a client
    raises for it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# --- functions -------------------------------------------------------------------------------


def encode_function(
    function: Callable[..., Any], requirements: Sequence[str] = (), *, dumps: Dumps | None = None
) -> bytes:
    """Returns the object to store for a function. Raises InvalidTask if the function cannot be
    pickled, if cloudpickle is not installed, or if a requirement is malformed."""
    name = function_name(function)
    if isinstance(requirements, str):
        raise InvalidTask(f"requirements: a list of texts, such as [{requirements!r:.60}]")
    try:
        header = FunctionHeader(
            FORM_VERSION, name, python_version(), cloudpickle_version(), list(requirements)
        )
    except ValueError as error:
        raise InvalidTask(str(error)) from None
    line = json.dumps(asdict(header)).encode()
    return line + b"\n" + pickled(function, f"the function {name}", dumps)


def decode_header(data: bytes, name: str) -> tuple[FunctionHeader, bytes]:
    """Returns the header of a stored function and the pickle after it, which is not read. Raises
    PermanentError, naming the function `name`, if the object is no stored function."""
    end = data.find(b"\n", 0, HEADER_MAX_BYTES + 1)
    try:
        if end < 0:
            raise ValueError("it has no header")
        fields = json.loads(data[:end])
        known = {name: fields[name] for name in FunctionHeader.__match_args__ if name in fields}
        header = FunctionHeader(**known)
    except (ValueError, TypeError, RecursionError) as error:
        raise PermanentError(
            f"the upload is no stored function {name}: {error}; submit it with FleetExecutor"
        ) from None
    if header.v != FORM_VERSION:
        raise PermanentError(
            f"the function {name} is stored in form {header.v}, these workers read form "
            f"{FORM_VERSION}: bring the client and the stage to one version of taskfleet"
        )
    return header, data[end + 1 :]


def function_name(function: Callable[..., Any]) -> str:
    """Returns the qualified name of a function for people, at most `REQUIREMENT_MAX_CHARS`
    characters. An object without one is named by its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str) or not name:
        name = type(function).__qualname__
    return utf8(name)[:REQUIREMENT_MAX_CHARS]


def short_name(name: str) -> str:
    """Returns a function's name as it stands in params: its end, at most `NAME_MAX_CHARS`
    characters."""
    return name if len(name) <= NAME_MAX_CHARS else "…" + name[1 - NAME_MAX_CHARS :]


def python_version() -> str:
    """Returns the version of this Python as headers have it, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def cloudpickle_version() -> str:
    """Returns the version of the installed cloudpickle. Raises InvalidTask if there is none."""
    return str(cloudpickle().__version__)


def version_fault(
    header_python: str, header_cloudpickle: str, python: str, cloudpickle: str
) -> str | None:
    """Returns why a function pickled with the first two versions cannot run under the other two, in
    a sentence that says what to do; None if it can. Of cloudpickle, major and minor version must
    agree, of Python, too."""
    if header_python != python:
        return (
            f"it was pickled by Python {header_python}, and the workers have Python {python}: run "
            f"the client with Python {python}, or workers with Python {header_python}"
        )
    if cloudpickle_series(header_cloudpickle) != cloudpickle_series(cloudpickle):
        series = cloudpickle_series(cloudpickle)
        return (
            f"it was pickled by cloudpickle {header_cloudpickle}, and the workers have cloudpickle "
            f"{cloudpickle}: install cloudpickle=={series}.* beside the client"
        )
    return None


def cloudpickle_series(version: str) -> str:
    """Returns major and minor version of a version, such as `3.1` of `3.1.1`."""
    return ".".join(version.split(".")[:2])


# --- calls -----------------------------------------------------------------------------------


def encode_call(
    args: Sequence[Any], kwargs: Mapping[str, Any], *, dumps: Dumps | None = None
) -> tuple[dict[str, Any], bytes | None]:
    """Returns the arguments' part of a call's params, and the bytes to store first by content, or
    None if there is nothing to store. Raises InvalidTask if the arguments cannot be pickled."""
    part: dict[str, Any] = {"args": list(args)}
    if kwargs:
        part["kwargs"] = dict(kwargs)
    if exact.fits(part, ARGS_MAX_BYTES):
        return part, None
    data = pickled((tuple(args), dict(kwargs)), "the arguments", dumps)
    if len(data) <= ARGS_MAX_BYTES:
        return {"pickle": base64.b64encode(data).decode()}, None
    return {"stored": content_id(data)}, data


def params(name: str, function_id: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the params of a task: the function's name and content id, and the arguments' part."""
    return {"function": short_name(name), "sha256": function_id, **part}


def content_id(data: bytes) -> str:
    """Returns the id of an upload by content: its SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode_call(
    params: Mapping[str, Any], fetch: Callable[[str], bytes], *, loads: Loads | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a call from its valid params. `fetch` returns a stored pickle by its
    content id. Raises PermanentError if the pickle cannot be read."""
    if "args" in params:
        return tuple(params["args"]), params.get("kwargs") or {}
    data = fetch(params["stored"]) if "stored" in params else unbase64(params["pickle"])
    found = unpickled(data, "the arguments", loads)
    try:
        args, kwargs = found
        return tuple(args), dict(kwargs)
    except (TypeError, ValueError):
        raise PermanentError(
            f"the arguments are a pickle of {type(found).__name__}, not of (args, kwargs)"
        ) from None


# --- results ---------------------------------------------------------------------------------


def encode_result(
    value: Any, prefix: str, *, dumps: Dumps | None = None
) -> tuple[Any, bytes | None]:
    """Returns the result to record for a value that a call returned, and the bytes to store first
    under the key that it names, or None if there is nothing to store. The key is `prefix` and a
    hash of the bytes: an attempt that has lost its claim cannot replace what another one returned.
    Raises PermanentError if the value cannot be pickled."""
    if not _looks_encoded(value) and exact.fits(value, RESULT_JSON_MAX_BYTES):
        return value, None
    try:
        data = pickled(value, f"the result, of type {type(value).__name__},", dumps)
    except InvalidTask as error:
        raise PermanentError(f"{error}; return something else, such as its data") from error
    if len(data) <= RESULT_PICKLE_MAX_BYTES:
        return {PICKLED: base64.b64encode(data).decode(), "repr": short_repr(value)}, None
    key = f"{prefix}{content_id(data)[:32]}.pickle"
    return {STORED: key, "bytes": len(data), "repr": short_repr(value)}, data


def decode_result(
    result: Any, fetch: Callable[[Mapping[str, Any]], bytes], *, loads: Loads | None = None
) -> Any:
    """Returns the value that a call returned, from its recorded result. `fetch` returns the stored
    pickle of a result that has the key `STORED`, and may use its `url`. Raises PermanentError if
    the pickle cannot be read here."""
    if not _looks_encoded(result):
        return result
    data = unbase64(result[PICKLED]) if PICKLED in result else fetch(result)
    return unpickled(data, "the result", loads)


def encode_error(
    error: BaseException, *, dumps: Dumps | None = None, loads: Loads | None = None
) -> dict[str, Any] | None:
    """Returns the result to record for an exception that a call raised; None if it cannot be
    pickled, or not be read again, or is too large."""
    try:
        data = pickled(error, "the exception", dumps)
        if len(data) > RESULT_PICKLE_MAX_BYTES:
            return None
        if type(unpickled(data, "the exception", loads)) is not type(error):
            return None
    except (InvalidTask, PermanentError):
        return None
    return {PICKLED: base64.b64encode(data).decode(), "repr": short_repr(error)}


def decode_error(
    message: str, result: Any, traceback: str | None, *, loads: Loads | None = None
) -> BaseException:
    """Returns the exception to raise for a failed task, with its traceback as `__cause__`: the
    task's own one if it was recorded and can be read here, else TaskFailed with its message."""
    error: BaseException | None = None
    if isinstance(result, dict) and isinstance(result.get(PICKLED), str):
        try:
            found = unpickled(unbase64(result[PICKLED]), "the exception", loads)
            error = found if isinstance(found, BaseException) else None
        except PermanentError:
            error = None
    if error is None:
        error = TaskFailed(message, result, traceback=traceback)
    if traceback:
        error.__cause__ = RemoteTraceback(traceback)
    return error


def _looks_encoded(value: Any) -> bool:
    return type(value) is dict and (PICKLED in value or STORED in value)
