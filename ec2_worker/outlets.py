"""Where the worker's measurements go: lines of the log for CloudWatch, a port for Prometheus, an
OpenTelemetry collector. Owns which of them are open and when they are fed; not their forms
(`taskfleet.emf`, `ec2_worker.prometheus`, `ec2_worker.otel`).

None is open unless asked for, and none can stop the worker: what cannot be opened or fed is logged.
The libraries of the latter two are extras of the package, and loaded only when they are asked for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from ec2_worker.telemetry import Spans, Telemetry
from taskfleet.emf import EmfLog
from taskfleet.log import fields
from taskfleet.measure import Reading, Recorder
from taskfleet.ports import Clock
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)

REPORT_S = 60.0
"""Seconds between two reports: the finest resolution of CloudWatch's standard metrics."""
GRACE_S = 5.0
"""Seconds for the last report when the worker ends."""
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own variable with the URL of a collector ("OpenTelemetry Protocol Exporter",
OpenTelemetry Specification). Its SDK reads further ones."""

Outlet = Callable[[Reading], None]
"""Takes all that was recorded since the process began."""


@contextlib.contextmanager
def opened(
    settings: Settings,
    recorder: Recorder,
    clock: Clock,
    environ: Mapping[str, str],
    *,
    report_s: float = REPORT_S,
) -> Iterator[Telemetry]:
    """A context in which the outlets that are asked for are open, fed every `report_s` seconds and
    once more at the end. Yields the worker's telemetry."""
    outlets: list[Outlet] = []
    with contextlib.ExitStack() as stack:
        spans: Spans = lambda _claimed, _at, _end: None  # noqa: E731
        if settings.metrics == "emf":
            outlets.append(EmfLog(settings.stage, clock.now).write)
        if settings.metrics_port:
            with _optional("prometheus"):
                from ec2_worker import prometheus

                stack.enter_context(
                    prometheus.served(settings.metrics_host, settings.metrics_port, recorder)
                )
        if environ.get(OTLP_ENDPOINT):
            with _optional("otel"):
                from ec2_worker import otel

                exporter = stack.enter_context(otel.connected(clock))
                outlets.append(exporter.export)
                spans = exporter.spans
        if outlets:
            stack.enter_context(_fed(outlets, recorder, report_s))
        yield Telemetry(recorder, spans)


@contextlib.contextmanager
def _optional(extra: str) -> Iterator[None]:
    """Logs why an outlet cannot be opened."""
    try:
        yield
    except ImportError as error:
        reason = f"{error}; install it with: pip install 'taskfleet[{extra}]'"
        _log.error("no metrics here", extra=fields("outlet_failed", outlet=extra, reason=reason))
    except Exception as error:  # noqa: BLE001 - such as a port that is taken
        reason = f"{type(error).__name__}: {error}"
        _log.error("no metrics here", extra=fields("outlet_failed", outlet=extra, reason=reason))


@contextlib.contextmanager
def _fed(outlets: list[Outlet], recorder: Recorder, report_s: float) -> Iterator[None]:
    ended = threading.Event()

    def feed() -> None:
        last = False
        while not last:
            last = ended.wait(report_s)
            for outlet in outlets:
                try:
                    outlet(recorder.read())
                except Exception:  # noqa: BLE001 - the others and the next report go on
                    _log.exception("metrics were not told", extra=fields("report_failed"))

    thread = threading.Thread(target=feed, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(GRACE_S)
