"""The HTTP client. `Client` and the errors of its methods can be imported from here."""

from taskfleet.client.answers import ApiError, ClientError, Unreachable
from taskfleet.client.client import Client, NotFinished

__all__ = ["ApiError", "Client", "ClientError", "NotFinished", "Unreachable"]
