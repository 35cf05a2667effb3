"""Finds the API's URL and the caller's token: in `TASKFLEET_URL` and `TASKFLEET_TOKEN`, or in the
file `.local/env` that a local cloud writes. Owns those two variables; all others belong to
`taskfleet.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.client import envfile
from taskfleet.errors import SettingsError

URL = "TASKFLEET_URL"
"""Name of the variable with the API's URL."""
TOKEN = "TASKFLEET_TOKEN"  # noqa: S105 - not a token
"""Name of the variable with the bearer token."""
ENV_FILE = Path(".local", "env")
"""Path of a local cloud's env file, from the directory in which the cloud was started."""


@dataclass(frozen=True)
class Endpoint:
    """An API's URL and a token for it. `local` is true if they are those of the local cloud that
    was started in a directory, which may have ended since."""

    url: str
    token: str = field(repr=False)
    local: bool = False


def find(environ: Mapping[str, str], directory: Path) -> Endpoint:
    """Returns URL and token from `environ` when it has either of them, otherwise from the env file
    under `directory`. They are never mixed, since a token is for one API only.

    Raises SettingsError when one or both are missing.
    """
    given = {name: environ[name] for name in (URL, TOKEN) if environ.get(name)}
    where, local = "the environment", not given
    if local:
        given, where = variables(directory), str(ENV_FILE)
    missing = [name for name in (URL, TOKEN) if not given.get(name)]
    if len(missing) == 2:
        raise SettingsError(
            f"neither {URL} and {TOKEN} nor {ENV_FILE} say where the API is; set the two "
            "variables, or start a local cloud here: python -m localcloud"
        )
    if missing:
        raise SettingsError(f"{where} has no {missing[0]}; set both {URL} and {TOKEN}")
    return Endpoint(given[URL], given[TOKEN], local)


def variables(directory: Path) -> dict[str, str]:
    """Returns the variables that the env file under `directory` exports; empty without such a file.
    Raises SettingsError when the file cannot be read."""
    try:
        return envfile.read(directory / ENV_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {ENV_FILE}: {error}") from error
