"""The worker's metrics for Prometheus. Owns their form and the port; not what is measured
(`taskfleet.measure`). Needs the extra `prometheus`.

The port has no guard against pages of other sites, as the local cloud's ports have: it only tells,
and a browser shows no foreign page what it tells, since it sends no header that allows that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet.measure import BOUNDS_S, METRICS, Recorder

PREFIX = "taskfleet_"


@contextlib.contextmanager
def served(host: str, port: int, recorder: Recorder) -> Iterator[int]:
    """A context in which the metrics are served under `/metrics`. Yields the port, which is a free
    one for 0. Raises OSError if the address cannot be had."""
    registry = CollectorRegistry()
    registry.register(RecorderCollector(recorder))
    server, thread = start_http_server(port, host, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RecorderCollector(Collector):
    """Reads the recorder at each scrape."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        """Yields every metric, also one that has no series yet."""
        reading = self._recorder.read()
        for metric in METRICS:
            name = PREFIX + metric.name
            if not metric.is_time:
                counter = CounterMetricFamily(name, metric.about, labels=metric.labels)
                for (counted, labels), count in reading.counts.items():
                    if counted is metric:
                        counter.add_metric(labels, count)
                yield counter
                continue
            histogram = HistogramMetricFamily(name, metric.about, labels=metric.labels)
            for (timed, labels), time in reading.times.items():
                if timed is metric:
                    histogram.add_metric(labels, _buckets(time.counts), sum(time.sums))
            yield histogram


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    """Returns the cumulative buckets, with their upper bounds as text."""
    below = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], counts, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets
