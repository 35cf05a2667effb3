"""One call of a user's function in this process: what it returns, and what becomes of what it
raises. It runs in a runner, or in the interpreter of an environment, which has the standard library
only beside what the user required; so this module needs nothing else. Owns the call; not where
function and arguments come from (`taskfleet.kinds.function`)."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

from taskfleet.errors import PermanentError, TaskFailed
from taskfleet.wire import calls
from taskfleet.wire.pickles import error_text, short_repr, unpickled

MESSAGE_MAX_CHARS = 2_000
"""Most characters of an exception's text in a task's error."""


def function_of(body: bytes, name: str) -> Callable[..., Any]:
    """Returns the function that a pickle holds. Runs code that the pickle's author chose. Raises
    PermanentError with a sentence that says what to do."""
    try:
        function = unpickled(body, f"the function {name}")
    except PermanentError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError):
            raise PermanentError(
                f"the function {name} needs the module {cause.name!r}, which the workers do not "
                f"have: {remedy(cause)}"
            ) from cause
        if isinstance(cause, AttributeError | ImportError):
            raise PermanentError(
                f"{error}; the workers have another module of that name than the client: "
                "cloudpickle.register_pickle_by_value(module) sends the client's along"
            ) from cause
        raise
    if not callable(function):
        raise PermanentError(f"the stored function {name} is no function: {short_repr(function)}")
    return function  # type: ignore[no-any-return]


def remedy(error: ModuleNotFoundError) -> str:
    """Returns what to do about a module that is missing on the workers."""
    module = (error.name or "").partition(".")[0]
    return (
        f"name its package in requirements=[...], or send your own module along by "
        f"cloudpickle.register_pickle_by_value({module})"
    )


def perform(
    function: Callable[..., Any],
    params: Mapping[str, Any],
    fetch: Callable[[str], bytes],
    prefix: str,
) -> tuple[Any, bytes | None]:
    """Call the function with the arguments of valid params. Returns the result to record, and what
    to store first, None for nothing.

    fetch: returns a stored pickle of arguments by its content id.
    prefix: beginning of the key of a result that is stored.

    Raises TaskFailed for what the function raises, whatever it is; PermanentError for arguments and
    results that cannot be pickled.
    """
    try:
        args, kwargs = calls.decode_call(params, fetch)
    except PermanentError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise PermanentError(f"{error}: {remedy(error.__cause__)}") from error.__cause__
        raise
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - whatever a function raises is its failure
        fail(error, skip=1)
    return calls.encode_result(value, prefix)


def fail(error: BaseException, skip: int) -> NoReturn:
    """Raise TaskFailed for an exception that a function raised: with its text, the traceback
    without the first `skip` frames, and the exception itself if it can be pickled."""
    message = error_text(error, MESSAGE_MAX_CHARS)
    if isinstance(error, ModuleNotFoundError):
        message = f"{message}; the workers do not have it: {remedy(error)}"
    frames = error.__traceback__
    for _ in range(skip):
        frames = None if frames is None else frames.tb_next
    raise TaskFailed(
        message, calls.encode_error(error), traceback=_formatted(error, frames)
    ) from None


def _formatted(error: BaseException, frames: TracebackType | None) -> str | None:
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # noqa: BLE001 - the error is the function's own code
        return None
