"""`Nudge` through Lambda: an asynchronous call of the provisioner's function. It hands over the
event that the function's schedule does, since Chalice's handler takes no other. Source: "Invoke",
AWS Lambda API Reference."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from taskfleet.aws.errors import translated
from taskfleet.ports import Clock
from taskfleet.wire.schedule import schedule_event

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


NUDGE_SUFFIX = "-nudge"
"""Suffix of the function's name in the name of the rule that a nudge's event gives, so that the
function's log tells nudges from its schedule."""


class LambdaNudge:
    """Implements `taskfleet.provisioner.ports.Nudge`. Safe for any number of threads.

    function: name of the provisioner's function.
    clock: tells the time that the event names.
    """

    def __init__(self, client: LambdaClient, function: str, clock: Clock) -> None:
        self._client = client
        self._function = function
        self._clock = clock

    def nudge(self) -> None:
        event = schedule_event(
            f"{self._function}{NUDGE_SUFFIX}",
            str(uuid.uuid4()),
            self._client.meta.region_name,
            self._clock.now(),
        )
        with translated("call", f"function {self._function}"):
            self._client.invoke(
                FunctionName=self._function,
                InvocationType="Event",
                Payload=json.dumps(event).encode(),
            )
