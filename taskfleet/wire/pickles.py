"""Pickles, made with cloudpickle: making and reading them, with their errors in words. Owns no
form; those of calls are in `taskfleet.wire.calls`. Imports cloudpickle when a pickle is made, since
the API, which loads the kinds, does not have it.

Reading a pickle runs code that its author chose. A worker reads pickles in runner processes only;
a client reads the results of its own batches.
"""

from __future__ import annotations

import base64
import binascii
import pickle  # nosec B403 - see above
import reprlib
from collections.abc import Callable
from typing import Any

from taskfleet.errors import InvalidTask, PermanentError

REPR_MAX_CHARS = 500
"""Longest text that stands for a pickled result, in characters."""

Dumps = Callable[[Any], bytes]
Loads = Callable[[bytes], Any]


def unpickled(data: bytes, what: str, loads: Loads | None = None) -> Any:
    """Returns what a pickle holds. Runs code that its author chose. Raises PermanentError, naming
    `what` it is, if it cannot be read."""
    try:
        return (loads or pickle.loads)(data)
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"{what} cannot be unpickled without the module {error.name!r}, which is not installed "
            "here"
        ) from error
    except Exception as error:  # a pickle may raise anything
        raise PermanentError(f"{what} cannot be unpickled: {error_text(error)}") from error


def unbase64(text: str) -> bytes:
    """Returns the bytes that a base64 text stands for. Raises PermanentError if it is malformed."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise PermanentError(f"not base64: {error}") from None


def pickled(value: Any, what: str, dumps: Dumps | None = None) -> bytes:
    """Returns the pickle of a value. Raises InvalidTask, naming `what` it is, if it cannot be
    pickled."""
    try:
        return (dumps or cloudpickle().dumps)(value)
    except InvalidTask:
        raise
    except RecursionError as error:
        raise InvalidTask(f"{what} cannot be pickled: it is nested too deeply") from error
    except Exception as error:  # the value's own code may raise anything
        raise InvalidTask(f"{what} cannot be pickled: {error_text(error)}") from error


def cloudpickle() -> Any:
    """Returns the module cloudpickle. Raises InvalidTask if it is not installed."""
    try:
        import cloudpickle as module
    except ImportError:
        raise InvalidTask(
            "cloudpickle is not installed: pip install 'taskfleet[functions]'"
        ) from None
    return module


def _text(error: BaseException, most: int) -> str:
    try:
        return utf8(str(error))[:most]
    except Exception:  # noqa: BLE001 - the error's own code
        return "(the error has no text)"


def utf8(text: str) -> str:
    """Returns the text with half characters, which UTF-8 cannot write, replaced."""
    return text.encode(errors="replace").decode()


def short_repr(value: Any) -> str:
    """Returns a text that stands for a value, at most `REPR_MAX_CHARS` characters. Never raises,
    and does not write out large containers."""
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - it is the value's own code
        text = f"<{type(value).__name__}>"
    text = utf8(text)
    return text if len(text) <= REPR_MAX_CHARS else text[: REPR_MAX_CHARS - 1] + "…"


_repr = reprlib.Repr()
_repr.maxlist = _repr.maxtuple = _repr.maxdict = _repr.maxset = _repr.maxfrozenset = 20
_repr.maxstring = _repr.maxother = REPR_MAX_CHARS
_repr.maxlong = 100


def error_text(error: BaseException, most: int = 500) -> str:
    """Returns an exception in words, such as `ValueError: bad`, with at most `most` characters of
    its own text. Never raises."""
    return f"{type(error).__name__}: {_text(error, most)}".removesuffix(": ")
