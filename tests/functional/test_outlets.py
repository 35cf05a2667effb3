"""The worker's outlets: which are open, what they tell, and that none can stop the worker."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ec2_worker import prometheus
from ec2_worker.otel import Exporter
from ec2_worker.outlets import OTLP_ENDPOINT, opened
from ec2_worker.telemetry import Telemetry
from taskfleet import trace
from taskfleet.errors import PermanentError
from taskfleet.log import JsonFormatter
from taskfleet.measure import LEASES_LOST, RUN_SECONDS, TASKS, Recorder
from taskfleet.memory import ManualClock
from taskfleet.registry import Registry, sleep
from taskfleet.settings import Settings
from tests.support.ports import free_port
from tests.support.scheduler import submission
from tests.support.waiting import eventually
from tests.support.worker import LEASE_S, Cloud, HandWorker, thread_kind

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def actions(caplog: pytest.LogCaptureFixture, action: str) -> list[dict[str, Any]]:
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [line for line in lines if line.get("action") == action]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
        return str(answer.read().decode())


# --- lines ----------------------------------------------------------------------------------


def test_nothing_is_open_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with opened(Settings(), recorder, ManualClock(), {}, report_s=0.001) as telemetry:
        telemetry.recorder.count(LEASES_LOST)
        time.sleep(0.02)
    assert telemetry.recorder is recorder
    assert actions(caplog, "metrics") == []


def test_the_worker_tells_its_metrics_again_and_again_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(metrics="emf", stage="prod")
    with opened(settings, Recorder(), ManualClock(), {}, report_s=0.01) as telemetry:
        telemetry.recorder.count(LEASES_LOST)
        eventually(lambda: actions(caplog, "metrics"))
    with opened(settings, Recorder(), ManualClock(), {}, report_s=60) as telemetry:
        telemetry.recorder.count(LEASES_LOST, by=7)
    told = actions(caplog, "metrics")
    assert [(line["Stage"], line["leases_lost"]) for line in told] == [("prod", 1), ("prod", 7)]


# --- Prometheus -----------------------------------------------------------------------------


def test_prometheus_reads_counters_and_histograms() -> None:
    recorder = Recorder()
    recorder.count(TASKS, "sleep", "succeeded", by=3)
    recorder.observe(RUN_SECONDS, [0.2, 0.2, 400.0], 'a "kind"\n')
    with prometheus.served("127.0.0.1", 0, recorder) as port:
        text = scrape(port)
    assert 'taskfleet_tasks_total{kind="sleep",outcome="succeeded"} 3.0' in text
    assert r'taskfleet_run_seconds_bucket{kind="a \"kind\"\n",le="0.25"} 2.0' in text
    assert r'taskfleet_run_seconds_bucket{kind="a \"kind\"\n",le="+Inf"} 3.0' in text
    assert r'taskfleet_run_seconds_sum{kind="a \"kind\"\n"} 400.4' in text
    assert "# HELP taskfleet_leases_lost_total" in text
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_port_that_is_taken_is_logged_and_the_worker_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(metrics_port=taken.getsockname()[1])
        with opened(settings, Recorder(), ManualClock(), {}) as telemetry:
            telemetry.recorder.count(LEASES_LOST)
    (line,) = actions(caplog, "outlet_failed")
    assert "in use" in line["reason"]


def test_the_port_is_open_while_the_worker_works() -> None:
    port = free_port()
    with opened(Settings(metrics_port=port), Recorder(), ManualClock(), {}) as telemetry:
        telemetry.recorder.count(LEASES_LOST)
        assert "taskfleet_leases_lost_total 1.0" in scrape(port)


@pytest.mark.parametrize(
    ("extra", "module", "settings", "environ"),
    [
        ("prometheus", "prometheus_client", Settings(metrics_port=9464), {}),
        ("otel", "opentelemetry", Settings(), {OTLP_ENDPOINT: "http://127.0.0.1:1"}),
    ],
)
def test_a_missing_library_is_named_and_the_worker_goes_on(
    extra: str,
    module: str,
    settings: Settings,
    environ: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"ec2_worker.{extra}", raising=False)
    monkeypatch.delattr(f"ec2_worker.{extra}", raising=False)
    with opened(settings, Recorder(), ManualClock(), environ) as telemetry:
        telemetry.recorder.count(LEASES_LOST)
    (line,) = actions(caplog, "outlet_failed")
    assert f"pip install 'taskfleet[{extra}]'" in line["reason"]


# --- OpenTelemetry --------------------------------------------------------------------------


class Metrics:
    """An exporter that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[MetricsData] = []

    def export(self, metrics_data: MetricsData) -> None:
        self.got.append(metrics_data)


class Traced:
    """A cloud and workers that export spans."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.metrics = Metrics()
        self.exporter = Exporter(self.provider, self.metrics, self.cloud.clock.now)
        self.registry = Registry(
            [sleep, thread_kind("work", self._work), thread_kind("bad", self._bad)]
        )

    def _work(self, params: Any, _context: Any) -> None:
        self.cloud.clock.sleep(params)

    def _bad(self, params: Any, _context: Any) -> None:
        self.cloud.clock.sleep(params)
        raise PermanentError("no such picture")

    def submit(self, tasks: list[Any], traceparent: str | None) -> str:
        made = submission(self.registry, self.cloud.tasks, self.cloud.monitor, self.cloud.clock)
        return made.submit(tasks, client_id="alice", traceparent=traceparent).batch_id

    def worker(self, worker_id: str = "w-1") -> HandWorker:
        telemetry = Telemetry(Recorder(), self.exporter.spans)
        return HandWorker(self.cloud, self.registry, worker_id=worker_id, telemetry=telemetry)

    def spans(self) -> list[Any]:
        return list(self.memory.get_finished_spans())


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


def test_a_bundle_has_one_span_and_only_long_tasks_have_their_own(traced: Traced) -> None:
    tasks = [{"kind": "work", "params": s} for s in (0, 0.25, 0.5, 3)]
    bad = {"kind": "bad", "params": 2}
    batch_id = traced.submit([*tasks, bad], f"00-{TRACE}-{PARENT}-01")
    began = traced.cloud.clock.now()
    traced.worker().work()
    spans = traced.spans()
    bundles = [span for span in spans if span.name == "bundle"]
    parts = [span for span in spans if span.name != "bundle"]
    assert sum(span.attributes["taskfleet.tasks"] for span in bundles) == 5
    assert all(span.attributes["taskfleet.batch_id"] == batch_id for span in bundles)
    assert {span.attributes["taskfleet.end"] for span in bundles} == {"done"}
    assert min(span.start_time for span in bundles) == pytest.approx(began * 1e9)
    assert {f"{span.parent.span_id:016x}" for span in bundles} == {PARENT}
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    assert sorted(span.name for span in parts) == ["task bad", "task work"]
    assert {span.parent.span_id for span in parts} <= {span.context.span_id for span in bundles}
    by_name = {span.name: span for span in parts}
    assert by_name["task work"].end_time - by_name["task work"].start_time == pytest.approx(3e9)
    assert by_name["task work"].status.is_ok
    assert by_name["task bad"].status.description == "no such picture"


def test_many_quick_tasks_make_a_span_for_each_bundle_only(traced: Traced) -> None:
    traced.submit(["sleep 0"] * 10_000, f"00-{TRACE}-{PARENT}-01")
    traced.worker().work()
    assert len(traced.spans()) == 5


def test_a_trace_that_its_client_does_not_sample_has_no_spans(traced: Traced) -> None:
    traced.submit(["sleep 0"], f"00-{TRACE}-{PARENT}-00")
    traced.worker().work()
    assert traced.spans() == []


def test_a_batch_without_a_trace_has_spans_of_their_own(traced: Traced) -> None:
    traced.submit(["sleep 0"], None)
    traced.worker().work()
    (span,) = traced.spans()
    assert span.parent is None


def test_the_span_of_a_lost_bundle_says_so(traced: Traced) -> None:
    traced.submit(["sleep 0"], trace.make(lambda count: bytes(range(count))))
    worker = traced.worker()
    worker.poll()
    traced.cloud.clock.sleep(LEASE_S + 1)
    other = traced.worker("w-2")
    other.poll()
    worker.heartbeat.beat()
    (span,) = traced.spans()
    assert span.attributes["taskfleet.end"] == "lost"
    assert not span.status.is_ok


def test_metrics_are_sent_as_sums_and_histograms(traced: Traced) -> None:
    recorder = Recorder()
    recorder.count(TASKS, "sleep", "succeeded", by=3)
    recorder.observe(RUN_SECONDS, [0.2, 400.0], "sleep")
    traced.exporter.export(recorder.read())
    (got,) = traced.metrics.got
    message = encode_metrics(got)  # what the exporter sends
    tasks, run = message.resource_metrics[0].scope_metrics[0].metrics
    assert (tasks.name, tasks.unit) == ("taskfleet.tasks", "1")
    assert tasks.sum.is_monotonic
    (point,) = tasks.sum.data_points
    assert point.as_int == 3
    assert {a.key: a.value.string_value for a in point.attributes} == {
        "kind": "sleep",
        "outcome": "succeeded",
    }
    (histogram,) = run.histogram.data_points
    assert (histogram.count, histogram.sum) == (2, 400.2)
    assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1
    assert not histogram.HasField("max")


def test_a_collector_that_does_not_answer_delays_the_end_by_little(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(OTLP_ENDPOINT, endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    cloud, registry = Cloud(), Registry([sleep])
    began = time.monotonic()
    with opened(Settings(), Recorder(), cloud.clock, {OTLP_ENDPOINT: endpoint}) as telemetry:
        cloud.submit(registry, ["sleep 0"])
        HandWorker(cloud, registry, telemetry=telemetry).work()
    assert time.monotonic() - began < 8
    assert actions(caplog, "outlet_failed") == []
