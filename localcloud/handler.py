"""The form of a Lambda handler and its second argument, the context. `localcloud.events` owns the
form of the first, the event."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from localcloud import functions

Handler = Callable[[Any, Any], Any]
"""A Lambda handler: from an event and a context to an answer."""


@dataclass(frozen=True)
class Context:
    """The context of one call.

    deadline: end of the function's time-out, on the monotonic clock. Nothing ends a handler that
        takes longer.
    """

    function_name: str
    deadline: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "128"

    @classmethod
    def of(cls, function: str) -> Context:
        """Returns the context of a call of `function` that begins now."""
        return cls(function, time.monotonic() + functions.timeout_s(function))

    def get_remaining_time_in_millis(self) -> int:
        """Returns the milliseconds until the deadline, at least 0."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))
