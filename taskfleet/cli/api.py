"""The API that the command line calls. Owns the choice; not the calls (`taskfleet.client`)."""

from __future__ import annotations

from taskfleet.client import Client
from taskfleet.errors import SettingsError


def client_here() -> Client:
    """Returns a client for the API of the environment. Raises SettingsError."""
    try:
        return Client.from_env()
    except ValueError as error:
        raise SettingsError(str(error)) from error
