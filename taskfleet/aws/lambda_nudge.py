"""`Nudge` through Lambda: an asynchronous call of the provisioner's function. Source: "Invoke", AWS
Lambda API Reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class LambdaNudge:
    """Implements `taskfleet.provisioner.ports.Nudge`. Safe for any number of threads."""

    def __init__(self, client: LambdaClient, function: str) -> None:
        self._client = client
        self._function = function

    def nudge(self) -> None:
        with translated("call", f"function {self._function}"):
            self._client.invoke(FunctionName=self._function, InvocationType="Event", Payload=b"{}")
