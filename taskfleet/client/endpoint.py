"""Finds the API's URL and the caller's token: in `TASKFLEET_URL` and `TASKFLEET_TOKEN`, or in the
file `.local/env` that a local cloud writes. Owns those two variables; all others belong to
`taskfleet.settings`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.errors import SettingsError

URL = "TASKFLEET_URL"
"""Name of the variable with the API's URL."""
TOKEN = "TASKFLEET_TOKEN"  # noqa: S105 - not a token
"""Name of the variable with the bearer token."""
ENV_FILE = Path(".local", "env")
"""Path of a local cloud's env file, from the directory in which the cloud was started."""


@dataclass(frozen=True)
class Endpoint:
    """An API's URL and a token for it."""

    url: str
    token: str = field(repr=False)


def find(environ: Mapping[str, str], directory: Path) -> Endpoint:
    """Returns URL and token from `environ` when it has either of them, otherwise from the env file
    under `directory`. They are never mixed, since a token is for one API only.

    Raises SettingsError when one or both are missing.
    """
    given = {name: environ[name] for name in (URL, TOKEN) if environ.get(name)}
    where = "the environment"
    if not given:
        given, where = variables(directory), str(ENV_FILE)
    missing = [name for name in (URL, TOKEN) if not given.get(name)]
    if len(missing) == 2:
        raise SettingsError(
            f"neither {URL} and {TOKEN} nor {ENV_FILE} say where the API is; set the two "
            "variables, or start a local cloud here: python -m localcloud"
        )
    if missing:
        raise SettingsError(f"{where} has no {missing[0]}; set both {URL} and {TOKEN}")
    return Endpoint(given[URL], given[TOKEN])


def variables(directory: Path) -> dict[str, str]:
    """Returns the variables that the env file under `directory` exports, in lines
    `export NAME=value`; none when there is no such file. Raises SettingsError when the file cannot
    be read."""
    path = directory / ENV_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {ENV_FILE}: {error}") from error
    exported: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise SettingsError(f"{ENV_FILE}, line {number}: {error}") from error
        if words[:1] == ["export"]:
            pairs = (word.partition("=") for word in words[1:])
            exported |= {name: value for name, _, value in pairs}
    return exported
