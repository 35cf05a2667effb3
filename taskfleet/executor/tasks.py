"""Tasks as they are sent: of calls of functions, and of commands. Owns what goes into a task and
what is stored beside it; the form of a call is `taskfleet.wire.calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

import msgspec

from taskfleet.errors import InvalidTask, NotFound
from taskfleet.executor.functions import Blob, Functions
from taskfleet.registry import TASK_MAX_BYTES
from taskfleet.wire import calls

PYTHON = "python"
COMMAND = "command"
_encode = msgspec.json.Encoder().encode


class Order(msgspec.Struct, frozen=True, gc=False):
    """A task to be sent.

    kind: its kind.
    task: the task as JSON.
    needs: what must be stored before.
    pace: what its duration depends on: the function, or the kind.
    weight: bytes of the task and of what is stored for it alone.
    """

    kind: str
    task: bytes
    needs: tuple[Blob, ...]
    pace: str
    weight: int


def call_order(
    functions: Functions,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Order:
    """Returns the order for a call. Raises TypeError for what cannot be pickled."""
    pickled = functions.pickled(function)
    try:
        part, data = calls.encode_call(args, kwargs)
    except InvalidTask as error:
        raise TypeError(f"cannot send a call of {pickled.name}: {error}") from error
    task = b"".join((pickled.head, _encode(part)[1:], b"}"))
    if data is None:
        return Order(PYTHON, task, pickled.needs, pickled.blob.sha256, len(task))
    needs = (pickled.blob, Blob(part["stored"], data))
    return Order(PYTHON, task, needs, pickled.blob.sha256, len(task) + len(data))


def command_order(
    command: str | Sequence[str | Path],
    *,
    inputs: Mapping[str, str | Path | bytes],
    outputs: Sequence[str],
    env: Mapping[str, str],
    stdin: str | None,
) -> Order:
    """Returns the order for a command; see `FleetExecutor.command`. Raises OSError for an input
    that cannot be read, ValueError for a command that is too large for a task."""
    params: dict[str, Any] = (
        {"shell": command} if isinstance(command, str) else {"argv": [str(w) for w in command]}
    )
    needs: list[Blob] = []
    given: dict[str, str] = {}
    for name, source in inputs.items():
        if isinstance(source, str) and source.startswith(("upload:", "https://")):
            given[name] = source
            continue
        blob = Blob.of(source) if isinstance(source, bytes) else _file(Path(source))
        needs.append(blob)
        given[name] = f"upload:{blob.sha256}"
    more = {"inputs": given, "outputs": list(outputs), "env": dict(env)}
    params |= {key: value for key, value in more.items() if value}
    if stdin is not None:
        params["stdin"] = stdin
    task = _encode({"kind": COMMAND, "params": params})
    if len(task) > TASK_MAX_BYTES:
        raise ValueError(
            f"the command has {len(task)} bytes, over the cap of {TASK_MAX_BYTES}; give what is "
            "large, such as stdin, as an input file"
        )
    stored = sum(len(blob.data) for blob in needs if isinstance(blob.data, bytes))
    return Order(COMMAND, task, tuple(needs), COMMAND, len(task) + stored)


def _file(path: Path) -> Blob:
    with path.open("rb") as file:
        return Blob(file_digest(file, "sha256").hexdigest(), path)


def difference(sent: bytes, recorded: Any) -> str | None:
    """Returns what differs between a task of this run and the one that an earlier run recorded in
    its place; None when they are the same call. The function's code is not compared: its pickle
    differs with every line that is added above it."""
    mine = msgspec.json.decode(sent)
    if not isinstance(recorded, dict) or recorded.get("kind") != mine["kind"]:
        kind = recorded.get("kind") if isinstance(recorded, dict) else recorded
        return f"it was {kind!s:.60} then and is of kind {mine['kind']} now"
    before, now = recorded.get("params"), mine["params"]
    if mine["kind"] != PYTHON or not isinstance(before, dict):
        same = before == now or _contains(before, now)
        return None if same else f"it was {before!r:.120} then and is {now!r:.120} now"
    if before.get("function") != now.get("function"):
        return f"it called {before.get('function')} then and calls {now.get('function')} now"
    if _arguments(before) == _arguments(now) or _equal_pickles(before, now):
        return None
    return (
        f"{now.get('function')} had the arguments {_shown(before)} then and has {_shown(now)} now"
    )


def _contains(before: Any, now: Any) -> bool:
    """Returns whether a kind's normal form has all that was sent."""
    return (
        isinstance(before, dict)
        and isinstance(now, dict)
        and all(key in before and before[key] == value for key, value in now.items())
    )


def _arguments(params: dict[str, Any]) -> Any:
    kept = {key: params[key] for key in ("args", "kwargs", "pickle", "stored") if params.get(key)}
    return kept if "pickle" in kept or "stored" in kept else {"args": [], **kept}


def _equal_pickles(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Returns whether two pickles that differ hold equal arguments: sets, for one, are pickled in
    another order by each process."""
    if not before.get("pickle") or not now.get("pickle"):
        return False
    try:
        return bool(calls.decode_call(before, _nothing) == calls.decode_call(now, _nothing))
    except Exception:  # noqa: BLE001 - any object's own code, such as the truth of an array
        return False


def _nothing(content_id: str) -> bytes:
    """Stored arguments are not fetched to be compared: their SHA-256 is."""
    raise NotFound(content_id)


def _shown(params: dict[str, Any]) -> str:
    try:
        args, kwargs = calls.decode_call(params, _nothing)
        words = [repr(each) for each in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        return f"({', '.join(words)})"[:120]
    except Exception:  # noqa: BLE001 - any object's own code
        return "(another pickle)"
