"""What surrounds every request and event: the trace of a request is bound to its log lines. Owns
this frame; not the routes (`chalice_app.routes`) nor the handlers (`chalice_app.events`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalice.app import Chalice, Request

from taskfleet import trace
from taskfleet.log import bound

TRACEPARENT = "taskfleet.traceparent"
"""The key in a request's context under which its trace context stands."""


def add_telemetry(app: Chalice, random_bytes: Callable[[int], bytes]) -> None:
    """Adds the frame to the app. `random_bytes` makes the ids of traces that begin here."""

    @app.middleware("http")
    def traced(request: Request, answer: Callable[[Request], Any]) -> Any:
        """Reads the request's trace context, or begins a trace."""
        traceparent = trace.read(_sent(request)) or trace.make(random_bytes)
        request.context[TRACEPARENT] = traceparent
        with bound(trace.trace_id(traceparent)):
            return answer(request)


def traceparent_of(request: Request) -> str:
    """Returns the trace context of a request that is being answered."""
    return str(request.context[TRACEPARENT])


def _sent(request: Request) -> str:
    """Returns the header `traceparent`, or nothing if it was sent more than once, which is invalid
    (section 3.2 of the recommendation)."""
    headers: dict[str, list[str]] | None = request.to_original_event().get("multiValueHeaders")
    if headers is None:  # an event that tells each header once, as of `chalice.test`
        return str(request.headers.get(trace.HEADER, ""))
    sent = [x for name, each in headers.items() if name.lower() == trace.HEADER for x in each]
    return sent[0] if len(sent) == 1 else ""
