"""Where the API is and who calls it: `TASKFLEET_URL` and `TASKFLEET_TOKEN`, or the `.local/env`
that a local cloud writes. Owns those two names; all others belong to `taskfleet.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.client import envfile
from taskfleet.errors import SettingsError

URL = "TASKFLEET_URL"
TOKEN = "TASKFLEET_TOKEN"  # noqa: S105 - the name of a variable
ENV_FILE = Path(".local", "env")


@dataclass(frozen=True)
class Endpoint:
    url: str
    token: str = field(repr=False)


def find(environ: Mapping[str, str], directory: Path) -> Endpoint:
    """From `environ`, when it has either of the two, else from the env file under `directory`.
    Never one of each: a token is not for any other URL. SettingsError says what is missing."""
    given = {name: environ[name] for name in (URL, TOKEN) if environ.get(name)}
    where = "the environment"
    if not given:
        given, where = variables(directory), str(ENV_FILE)
    missing = [name for name in (URL, TOKEN) if not given.get(name)]
    if len(missing) == 2:
        raise SettingsError(
            f"neither {URL} and {TOKEN} nor {ENV_FILE} say where the API is; set the two, or "
            "start a local cloud here: python -m localcloud"
        )
    if missing:
        raise SettingsError(f"{where} has no {missing[0]}; it needs both {URL} and {TOKEN}")
    return Endpoint(given[URL], given[TOKEN])


def variables(directory: Path) -> dict[str, str]:
    """Returns the variables that the env file under `directory` exports; empty without such a file.
    Raises SettingsError when the file cannot be read."""
    try:
        return envfile.read(directory / ENV_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {ENV_FILE}: {error}") from error
