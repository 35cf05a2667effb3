"""Spans and metrics of the worker for an OpenTelemetry collector, by OTLP over HTTP. Owns which
spans there are and the translation of metrics; not what is measured (`taskfleet.measure`). Needs
the extra `otel`; the SDK's own variables, `OTEL_*`, say where the collector is.

A bundle has one span, from its claim until it is settled, as a child of the span that submitted the
batch. A task has one only if it ran for `TASK_SPAN_S` or longer: a million quick tasks would make a
million spans that tell nothing. All are made when the bundle is settled, from what was recorded, so
that running a task costs nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from ec2_worker.claimed import ClaimedBundle
from taskfleet import __version__
from taskfleet.measure import BOUNDS_S, Labels, Metric, Reading
from taskfleet.ports import Clock
from taskfleet.task import Task, TaskResult, TaskStatus, task_id

TASK_SPAN_S = 1.0
"""Least run time in seconds of a task that has a span of its own."""
FLUSH_MS = 5_000
"""Milliseconds in which the last spans are sent when the worker ends."""
SERVICE = "taskfleet-worker"
"""Name of the service, unless `OTEL_SERVICE_NAME` gives another."""
PREFIX = "taskfleet."
"""Prefix of the names of metrics and attributes."""


class MetricExporter(Protocol):
    """What `Exporter` needs of an exporter of metrics."""

    def export(self, metrics_data: sdk.MetricsData) -> Any:
        """Send the metrics."""
        ...


@contextlib.contextmanager
def connected(clock: Clock) -> Iterator[Exporter]:
    """A context with an exporter to the collector that the variables name. At its end the last
    spans are sent."""
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Exporter(provider, OTLPMetricExporter(), clock.now)
    finally:
        provider.force_flush(FLUSH_MS)
        provider.shutdown()


class Exporter:
    """Makes spans and sends metrics.

    provider: has the resource, and takes the spans.
    metrics: takes the metrics.
    now: returns the time in epoch seconds.
    """

    def __init__(
        self, provider: TracerProvider, metrics: MetricExporter, now: Callable[[], float]
    ) -> None:
        self._tracer = provider.get_tracer("taskfleet", __version__)
        self._resource = provider.resource
        self._metrics = metrics
        self._now = now
        self._began_at = now()

    # --- spans -------------------------------------------------------------------------------

    def spans(self, claimed: ClaimedBundle, at: float, end: str) -> None:
        """Make the spans of a bundle that left the worker's hand (`ec2_worker.telemetry.Spans`)."""
        bundle = claimed.bundle
        span = self._tracer.start_span(
            "bundle",
            _parent(bundle.traceparent),
            SpanKind.CONSUMER,
            {
                f"{PREFIX}batch_id": bundle.batch_id,
                f"{PREFIX}job_id": bundle.job_id,
                f"{PREFIX}attempt": claimed.lease.attempt,
                f"{PREFIX}tasks": len(bundle.tasks),
                f"{PREFIX}end": end,
            },
            start_time=_ns(claimed.claimed_at),
        )
        if end == "lost":
            span.set_status(Status(StatusCode.ERROR, "the lease was lost"))
        context = trace.set_span_in_context(span, Context())
        for task in bundle.tasks if span.is_recording() else ():
            row = claimed.results.get(task.index)
            if row is not None and claimed.prior.get(task.index) is not row:
                self._task_span(context, bundle.batch_id, task, row)
        span.end(_ns(at))

    def _task_span(self, context: Context, batch_id: str, task: Task, row: TaskResult) -> None:
        if row.started_at is None or (row.duration_s or 0.0) < TASK_SPAN_S:
            return
        span = self._tracer.start_span(
            f"task {task.kind}",
            context,
            SpanKind.INTERNAL,
            {
                f"{PREFIX}task_id": task_id(batch_id, task.index),
                f"{PREFIX}kind": task.kind,
                f"{PREFIX}status": row.status.value,
                f"{PREFIX}attempt": row.attempts,
            },
            start_time=_ns(row.started_at),
        )
        if row.status is not TaskStatus.SUCCEEDED:
            span.set_status(Status(StatusCode.ERROR, row.error))
        span.end(_ns(row.started_at + (row.duration_s or 0.0)))

    # --- metrics -----------------------------------------------------------------------------

    def export(self, reading: Reading) -> None:
        """Send all that was recorded since the worker began."""
        began, now = _ns(self._began_at), _ns(self._now())
        points: dict[Metric, list[Any]] = {}
        for (metric, labels), count in reading.counts.items():
            attributes = _attributes(metric, labels)
            point = sdk.NumberDataPoint(attributes, began, now, count)
            points.setdefault(metric, []).append(point)
        for (metric, labels), time in reading.times.items():
            points.setdefault(metric, []).append(
                sdk.HistogramDataPoint(
                    _attributes(metric, labels),
                    began,
                    now,
                    count=sum(time.counts),
                    sum=sum(time.sums),
                    bucket_counts=time.counts,
                    explicit_bounds=BOUNDS_S,
                    # They are optional on the wire, and not recorded.
                    min=None,  # type: ignore[arg-type]
                    max=None,  # type: ignore[arg-type]
                )
            )
        metrics = [_metric(metric, found) for metric, found in points.items()]
        scope = sdk.ScopeMetrics(InstrumentationScope("taskfleet", __version__), metrics, "")
        if metrics:
            self._metrics.export(
                sdk.MetricsData([sdk.ResourceMetrics(self._resource, [scope], "")])
            )


def _metric(metric: Metric, points: list[Any]) -> sdk.Metric:
    cumulative = sdk.AggregationTemporality.CUMULATIVE
    name = PREFIX + metric.name
    if metric.is_time:
        return sdk.Metric(name, metric.about, "s", sdk.Histogram(points, cumulative))
    return sdk.Metric(name, metric.about, "1", sdk.Sum(points, cumulative, is_monotonic=True))


def _attributes(metric: Metric, labels: Labels) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))


def _parent(traceparent: str | None) -> Context:
    """Returns the context of a remote parent; an empty one, in which a trace begins, without."""
    if traceparent is None:
        return Context()
    _, trace_id, parent_id, flags = traceparent.split("-")
    remote = SpanContext(
        int(trace_id, 16),
        int(parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _ns(at: float) -> int:
    """Returns a time in epoch seconds as nanoseconds."""
    return int(at * 1e9)
