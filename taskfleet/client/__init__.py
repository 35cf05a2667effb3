"""The HTTP client. `Client` and the errors of its methods can be imported from here."""

from taskfleet.client.client import Client, NotFinished
from taskfleet.client.transport import ApiError, ClientError, Unreachable

__all__ = ["ApiError", "Client", "ClientError", "NotFinished", "Unreachable"]
