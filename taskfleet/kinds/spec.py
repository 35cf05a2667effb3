"""The params of a `command` task: which program runs, on what, and what is kept of it. Owns their
names, limits and canonical form; not the running (`taskfleet.kinds.process`) nor the files
themselves (`taskfleet.kinds.files`). Light to import, because the API imports it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from taskfleet.errors import InvalidTask
from taskfleet.fetch.source import UPLOAD, source_fault
from taskfleet.wire.filenames import name_fault

ARGUMENT_MAX_BYTES = 131_071
"""Most bytes of one argument, of the text for the shell, or of a variable with its value: what
Linux takes (MAX_ARG_STRLEN, execve(2)), less the byte that ends it."""
ARGUMENTS_MAX = 10_000
VARIABLES_MAX = 200
INPUTS_MAX = 1_000
PATTERNS_MAX = 100
OWN_VARIABLES = "TASKFLEET_"
"""First letters of the variables that the worker sets."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The params of one command. Exactly one of `argv` and `shell` is given.

    argv: the program and its arguments.
    shell: text for `/bin/sh -c`.
    env: variables of the program's environment, beside those that every command has.
    stdin: the text on its standard input; it is empty unless given.
    inputs: the files that are in its folder when it starts: name to source, which is a URL or
        `upload:` and the id of an upload.
    outputs: patterns of the files in its folder that are kept (`taskfleet.kinds.pattern`).
    """

    argv: list[str] | None = None
    shell: str | None = None
    env: dict[str, str] = {}
    stdin: str = ""
    inputs: dict[str, str] = {}
    outputs: list[str] = []

    @property
    def words(self) -> list[str]:
        """The program to start and its arguments."""
        return ["/bin/sh", "-c", self.shell or ""] if self.argv is None else self.argv


SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "minLength": 1, "description": "text for /bin/sh -c"},
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "argv": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": ARGUMENTS_MAX,
                    "description": "the program and its arguments",
                },
                "shell": {"type": "string", "description": "text for /bin/sh -c"},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
                "stdin": {"type": "string", "description": "the text on standard input"},
                "inputs": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "maxProperties": INPUTS_MAX,
                    "description": "name in the task's folder to upload:<id> or a URL",
                },
                "outputs": {
                    "type": "array",
                    "items": {"type": "string"},
                    "maxItems": PATTERNS_MAX,
                    "description": "patterns of the files that are kept, such as *.csv",
                },
            },
            "oneOf": [{"required": ["argv"]}, {"required": ["shell"]}],
        },
    ]
}
"""JSON Schema of the params."""


def command(params: Any) -> Command:
    """Returns checked params, as the client sent them or canonical. Raises InvalidTask, which says
    what is wrong, and where."""
    if isinstance(params, str):
        params = {"shell": params}
    if not isinstance(params, dict):
        raise InvalidTask(
            "command needs text for the shell, such as `command ls -l`, or an object with argv or "
            "shell"
        )
    try:
        wanted = msgspec.convert(params, Command)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"command: {_readable(error)}") from None
    if wanted.argv is not None and wanted.shell is not None:
        raise InvalidTask("command: has both argv and shell; give one of them")
    if wanted.argv is None and wanted.shell is None:
        raise InvalidTask("command: needs argv, a list of words, or shell, a text")
    _check_words(wanted)
    _check_variables(wanted.env)
    _check_text(wanted.stdin, "stdin", nul=True)
    _check_inputs(wanted.inputs)
    _check_patterns(wanted.outputs)
    return wanted


def parse(raw: Any) -> Any:
    """Returns the canonical params: the text for the shell if there is nothing else, otherwise an
    object without what is empty. Raises InvalidTask."""
    wanted = command(raw)
    canonical: dict[str, Any] = msgspec.to_builtins(wanted)
    return wanted.shell if list(canonical) == ["shell"] else canonical


def _check_words(wanted: Command) -> None:
    if wanted.shell is not None:
        if not wanted.shell.strip():
            raise InvalidTask("command: shell is empty")
        _check_argument(wanted.shell, "shell")
        return
    argv = wanted.argv or []
    if not argv or not argv[0]:
        raise InvalidTask("command: argv names no program")
    if len(argv) > ARGUMENTS_MAX:
        raise InvalidTask(f"command: argv has {len(argv)} words, over the cap of {ARGUMENTS_MAX}")
    for number, word in enumerate(argv):
        _check_argument(word, f"argv[{number}]")


def _check_argument(text: str, what: str) -> None:
    size = _check_text(text, what)
    if size > ARGUMENT_MAX_BYTES:
        raise InvalidTask(
            f"command: {what} has {size} bytes, over the {ARGUMENT_MAX_BYTES} that the system "
            "takes; send it as stdin or as an input"
        )


def _check_text(text: str, what: str, *, nul: bool = False) -> int:
    """Returns the bytes of a text. Raises InvalidTask if no program could be given it."""
    if "\0" in text and not nul:
        raise InvalidTask(f"command: {what} has a NUL")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidTask(f"command: {what} is not text that UTF-8 can write") from None


def _check_variables(env: dict[str, str]) -> None:
    if len(env) > VARIABLES_MAX:
        raise InvalidTask(f"command: env has {len(env)} variables, over the cap of {VARIABLES_MAX}")
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidTask(
                f"command: env: {name!r:.60} is not the name of a variable: letters, digits and "
                "`_`, no digit first"
            )
        if name.startswith(OWN_VARIABLES):
            raise InvalidTask(f"command: env: {name:.60} is a name that the worker sets itself")
        _check_argument(f"{name}={value}", f"env[{name!r:.60}]")


def _check_inputs(inputs: dict[str, str]) -> None:
    if len(inputs) > INPUTS_MAX:
        raise InvalidTask(f"command: has {len(inputs)} inputs, over the cap of {INPUTS_MAX}")
    for name, source in inputs.items():
        fault = name_fault(name)
        if fault is None and (other := _above(name, inputs)):
            fault = f"lies in {other!r:.60}, which is another input"
        if fault:
            raise InvalidTask(f"command: inputs: the name {name!r:.60} {fault}")
        wrong = source_fault(source)
        if wrong:
            raise InvalidTask(f"command: inputs[{name!r:.60}]: {wrong}; or write {UPLOAD}<id>")


def _above(name: str, inputs: dict[str, str]) -> str | None:
    """Returns the input whose name is that of a folder of `name`, or None."""
    parts = name.split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((folder for folder in above if folder in inputs), None)


def _check_patterns(patterns: list[str]) -> None:
    if len(patterns) > PATTERNS_MAX:
        raise InvalidTask(
            f"command: outputs has {len(patterns)} patterns, over the cap of {PATTERNS_MAX}"
        )
    for number, pattern in enumerate(patterns):
        fault = name_fault(pattern)
        if fault:
            raise InvalidTask(f"command: outputs[{number}]: the pattern {pattern!r:.60} {fault}")


def _readable(error: msgspec.ValidationError) -> str:
    # msgspec writes `$.env` for what the client knows as `env`.
    return str(error).replace("`$.", "`").replace(" - at `$`", "")
