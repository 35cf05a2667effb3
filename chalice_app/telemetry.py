"""What surrounds every request and event: the trace of a request is bound to its log lines, the
request is counted, and at the end of each call the function tells what it measured. Owns this
frame; not the routes (`chalice_app.routes`), the handlers (`chalice_app.events`), nor the
authorizer, around which Chalice puts no frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalice.app import Chalice, Request

from chalice_app.services import Services
from taskfleet import trace
from taskfleet.log import bound
from taskfleet.measure import API_REQUESTS, API_SECONDS

TRACEPARENT = "taskfleet.traceparent"
"""The key in a request's context under which its trace context stands."""
UNMEASURED = "/health"
"""The route that needs no services, so that it answers even where settings are missing."""


def add_telemetry(
    app: Chalice, services: Callable[[], Services], random_bytes: Callable[[int], bytes]
) -> None:
    """Adds the frame to the app.

    services: as for `chalice_app.application.create_app`.
    random_bytes: makes the ids of traces that begin here.
    """

    @app.middleware("http")
    def traced(request: Request, answer: Callable[[Request], Any]) -> Any:
        """Reads the request's trace context, or begins a trace."""
        traceparent = trace.read(_sent(request)) or trace.make(random_bytes)
        request.context[TRACEPARENT] = traceparent
        with bound(trace.trace_id(traceparent)):
            return answer(request)

    @app.middleware("http")
    def counted(request: Request, answer: Callable[[Request], Any]) -> Any:
        """Counts the request and takes its time."""
        if request.path == UNMEASURED or (current := _services(services)) is None:
            return answer(request)
        began = current.clock.now()
        response = answer(request)
        route = f"{request.method} {request.path}"
        current.recorder.count(API_REQUESTS, route, str(response.status_code))
        current.recorder.observe(API_SECONDS, [current.clock.now() - began], route)
        current.report()
        return response

    def reported(event: Any, handle: Callable[[Any], Any]) -> Any:
        """Tells what was measured when an event was handled."""
        try:
            return handle(event)
        finally:
            if (current := _services(services)) is not None:
                current.report()

    for kind in ("sqs", "scheduled"):
        app.register_middleware(reported, kind)


def traceparent_of(request: Request) -> str:
    """Returns the trace context of a request that is being answered."""
    return str(request.context[TRACEPARENT])


def _services(services: Callable[[], Services]) -> Services | None:
    """Returns the services, or None if they cannot be had: the handler meets the same error, and
    answers and logs it."""
    try:
        return services()
    except Exception:  # noqa: BLE001 - see above
        return None


def _sent(request: Request) -> str:
    """Returns the header `traceparent`, or nothing if it was sent more than once, which is invalid
    (section 3.2 of the recommendation)."""
    headers: dict[str, list[str]] | None = request.to_original_event().get("multiValueHeaders")
    if headers is None:  # an event that tells each header once, as of `chalice.test`
        return str(request.headers.get(trace.HEADER, ""))
    sent = [x for name, each in headers.items() if name.lower() == trace.HEADER for x in each]
    return sent[0] if len(sent) == 1 else ""
