"""The form of an env file: lines `export NAME=value` that a shell can source. `parse` is the
inverse of `render`. Owns the form; `taskfleet.client.endpoint` owns where a local cloud's file is,
`localcloud.environment` which variables are in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path


def render(variables: Mapping[str, str]) -> str:
    """Returns the text that exports `variables`, each value quoted for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def parse(text: str) -> dict[str, str]:
    """Returns the variables that `text` exports. Comments and other commands are ignored.

    Raises ValueError, which names the line, when a quoted value does not end.
    """
    variables: dict[str, str] = {}
    command: list[str] = []
    fault = ""
    # Not splitlines(): to a shell, only "\n" ends a line.
    for number, line in enumerate(text.split("\n"), start=1):
        command.append(line)
        try:
            words = shlex.split("\n".join(command), comments=True)
        except ValueError as error:  # a quoted value may continue on the next line
            fault = f"line {number - len(command) + 1}: {error}"
            continue
        command.clear()
        if words[:1] == ["export"]:
            assignments = (word.partition("=") for word in words[1:])
            variables |= {name: value for name, _, value in assignments}
    if command:
        raise ValueError(fault)
    return variables


def read(path: Path) -> dict[str, str]:
    """Returns the variables that a file exports. Raises OSError, or ValueError as `parse` does."""
    # Not read_text(): it would turn "\r\n" inside a value into "\n".
    return parse(path.read_bytes().decode("utf-8"))
