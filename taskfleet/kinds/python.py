"""The task kind `python`: one call of a function that a client pickled. `FleetExecutor` makes such
tasks; nobody writes them by hand. Owns what Taskfleet sees of the kind: params, result, retries;
not the forms (`taskfleet.wire.calls`) nor the call itself (`taskfleet.kinds.call`).

The API loads this module to validate params, so it imports no cloudpickle. The function runs in a
runner process, or, if it has requirements, in a child of one (`taskfleet.kinds.environment`); no
pickle is read anywhere else in a worker, and none in the API.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from taskfleet.errors import InvalidTask, PermanentError
from taskfleet.kinds.call import function_of, perform
from taskfleet.kinds.environment import Environment, Environments, default_folder, key_of
from taskfleet.kinds.function import Functions, StoredFunction, fetch, memory_file
from taskfleet.kinds.interpreter import Interpreter
from taskfleet.kinds.patience import patiently
from taskfleet.kinds.scratch import Scratch
from taskfleet.ports import ObjectStore
from taskfleet.registry import PACE_MAX_CHARS, TaskContext, TaskKind
from taskfleet.retry import RetryPolicy
from taskfleet.settings import Settings, load
from taskfleet.wire import calls

PREFIX = "results/"
"""Prefix of the keys of stored results; the batch's id follows."""
PUT_FILE_BYTES = 1_000_000
"""Size of a result from which on it goes to the worker as a file, in pieces."""
INTERPRETERS_MAX = 2
"""Most interpreters of environments that a runner keeps; each is a process with its imports."""
_ID = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"results/[0-9a-z-]{1,64}/[0-9]{1,9}/[0-9a-f]{32}\.pickle")
_PICKLE_MAX_CHARS = (calls.ARGS_MAX_BYTES + 2) // 3 * 4
_FORMS = ("args", "pickle", "stored")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One call of a stored function; use FleetExecutor. Exactly one of args, pickle "
    "and stored holds the arguments.",
    "properties": {
        "function": {"type": "string", "minLength": 1, "maxLength": calls.NAME_MAX_CHARS},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "args": {"type": "array"},
        "kwargs": {"type": "object"},
        "pickle": {"type": "string", "maxLength": _PICKLE_MAX_CHARS},
        "stored": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "required": ["function", "sha256"],
    "additionalProperties": False,
}
"""JSON Schema of the params."""


def parse(raw: Any) -> dict[str, Any]:
    """Returns the params of a call. Raises InvalidTask. Reads no pickle."""
    if type(raw) is not dict:
        raise InvalidTask("python needs an object of params; FleetExecutor makes them")
    name, function_id = raw.get("function"), raw.get("sha256")
    if type(name) is not str or not 0 < len(name) <= calls.NAME_MAX_CHARS:
        raise InvalidTask(f"function: a name of 1 to {calls.NAME_MAX_CHARS} characters")
    if type(function_id) is not str or not _ID.fullmatch(function_id):
        raise InvalidTask("sha256: 64 hexadecimal digits, the id of an upload by content")
    given = [form for form in _FORMS if form in raw]
    if len(given) != 1:
        raise InvalidTask(
            f"exactly one of args, pickle and stored, not {' and '.join(given) or 'none'}"
        )
    known = 3
    if given[0] == "args":
        if type(raw["args"]) is not list:
            raise InvalidTask("args: a list")
        if "kwargs" in raw:
            known = 4
            if type(raw["kwargs"]) is not dict:
                raise InvalidTask("kwargs: an object")
    elif given[0] == "stored":
        if type(raw["stored"]) is not str or not _ID.fullmatch(raw["stored"]):
            raise InvalidTask("stored: 64 hexadecimal digits, the id of an upload by content")
    else:
        _check_base64(raw["pickle"])
    if len(raw) != known:
        unknown = sorted(set(raw) - {"function", "sha256", given[0]})
        raise InvalidTask(f"{unknown[0]!r:.60} is no param of python with {given[0]}")
    return raw


def _check_base64(text: Any) -> None:
    if type(text) is not str or len(text) > _PICKLE_MAX_CHARS:
        raise InvalidTask(f"pickle: a text of at most {_PICKLE_MAX_CHARS} characters in base64")
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidTask(f"pickle: not base64: {error}") from None


def result_prefix(batch_id: str, index: int) -> str:
    """Returns the beginning of the key of a task's result in the object store, for one that is too
    large for its row."""
    return f"{PREFIX}{batch_id}/{index}/"


class Caller:
    """Makes the calls of one process. Keeps the functions that it fetched, and the interpreters of
    the environments that were used last."""

    def __init__(self) -> None:
        self._functions = Functions()
        self._scratch = Scratch()
        self._environments: Environments | None = None
        self._interpreters: OrderedDict[str, tuple[Environment, Interpreter]] = OrderedDict()

    def run(self, params: Mapping[str, Any], context: TaskContext) -> Any:
        """Make the call, and return the result to record. Raises TaskFailed for what the function
        raises, PermanentError for what cannot be called."""
        function = self._functions.get(params["sha256"], params["function"], context)
        if function.made is None and not function.checked:
            check_versions(function, params["function"])
            function.checked = True
        cwd = self._scratch.enter()
        try:
            result, data = self._perform(function, params, cwd, context)
        finally:
            self._scratch.clean()
        if data is not None:
            _store(result[calls.STORED], data, context)
        return result

    def _perform(
        self, function: StoredFunction, params: Mapping[str, Any], cwd: str, context: TaskContext
    ) -> tuple[Any, bytes | None]:
        prefix = result_prefix(context.batch_id, context.index)
        if function.header.requirements:
            stored = _arguments(params["stored"], context) if "stored" in params else b""
            interpreter = self._interpreter(function.header.requirements, context)
            return interpreter.call(function.body, params, stored, prefix, cwd, context)
        if function.made is None:
            function.made = function_of(function.body, params["function"])
            function.body = b""
            context.begin()
        return perform(function.made, params, partial(_arguments, context=context), prefix)

    def _interpreter(self, requirements: Sequence[str], context: TaskContext) -> Interpreter:
        """The interpreter of an environment, started unless there is one that can be used."""
        name = key_of(requirements)
        environment, interpreter = self._interpreters.pop(name, (None, None))
        if environment is not None and interpreter is not None and not interpreter.usable:
            _end(environment, interpreter)
            interpreter = None
        if environment is None or interpreter is None:
            environment = self._place().use(requirements, context)
            try:
                interpreter = Interpreter(environment.python, environment.environ())
            except PermanentError:
                environment.spoil()
                environment.close()
                raise
            context.begin()
        self._interpreters[name] = environment, interpreter
        while len(self._interpreters) > INTERPRETERS_MAX:
            _, oldest = self._interpreters.popitem(last=False)
            _end(*oldest)
        return interpreter

    def _place(self) -> Environments:
        if self._environments is None:
            self._environments = environments()
        return self._environments

    def prepare(self) -> None:
        """Delete environments that a killed process left half-built."""
        self._place().sweep()


def environments() -> Environments:
    """Returns the environments by this process's settings."""
    conf = process_settings()
    folder = Path(conf.cache_dir) / "environments" if conf.cache_dir else default_folder()
    return Environments(folder, conf.environments_max_mb * 1_000_000)


def _end(environment: Environment, interpreter: Interpreter) -> None:
    interpreter.close()
    environment.close()


def _arguments(content: str, context: TaskContext) -> bytes:
    return fetch(content, "the pickle of the arguments", context)


def check_versions(function: StoredFunction, name: str) -> None:
    """Raise PermanentError for a function that this Python or this cloudpickle cannot read."""
    header = function.header
    fault = calls.version_fault(
        header.python, header.cloudpickle, calls.python_version(), calls.cloudpickle_version()
    )
    if fault is not None:
        raise PermanentError(f"the function {name} cannot run here: {fault}")


def _store(key: str, data: bytes, context: TaskContext) -> None:
    kind = "application/octet-stream"
    if len(data) < PUT_FILE_BYTES:
        patiently(lambda: context.store.put(key, data, content_type=kind), context)
        return
    with memory_file() as file:
        file.write(data)
        file.flush()

        def put() -> None:
            file.seek(0)
            context.store.put_file(key, os.dup(file.fileno()), content_type=kind)

        patiently(put, context)


def present(result: Any, store: ObjectStore) -> Any:
    """Returns the result as clients see it: a stored one with a URL, which is never recorded."""
    if type(result) is not dict or calls.STORED not in result:
        return result
    key = result[calls.STORED]
    if type(key) is not str or not _KEY.fullmatch(key):
        return result
    return {**result, "url": store.url(key, expires_s=process_settings().result_url_s)}


@functools.cache
def process_settings() -> Settings:
    """Returns the settings of this process, read from the environment at the first call. Raises
    SettingsError."""
    return load()


def preload() -> None:
    """Import cloudpickle, if it is installed."""
    with contextlib.suppress(InvalidTask):
        calls.cloudpickle_version()


def check() -> None:
    """Raises PermanentError on a worker without cloudpickle, saying what to install."""
    try:
        calls.cloudpickle_version()
    except InvalidTask as error:
        raise PermanentError(f"functions need taskfleet[functions] installed: {error}") from None


_caller = Caller()
python = TaskKind(
    name="python",
    run=_caller.run,
    runs_client_code=True,
    prepare=_caller.prepare,
    parse=parse,
    schema=SCHEMA,
    pace=lambda params: str(params["sha256"])[:PACE_MAX_CHARS],
    retry=RetryPolicy(max_attempts=1, transient=(Exception,)),
    preload=preload,
    check=check,
    present=present,
)
