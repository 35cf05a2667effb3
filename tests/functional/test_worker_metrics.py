"""What the worker counts of its bundles: each recorded result once, whichever way it took."""

from __future__ import annotations

from typing import Any

import pytest

from ec2_worker.telemetry import Telemetry
from taskfleet.errors import PermanentError, TransientError
from taskfleet.measure import (
    DUPLICATES,
    LEASES_LOST,
    QUEUE_SECONDS,
    RETRIES,
    RUN_SECONDS,
    TASKS,
    Metric,
)
from taskfleet.registry import Registry, sleep
from taskfleet.retry import RetryPolicy
from tests.support.worker import LEASE_S, Cloud, HandWorker, failing_kind


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def registry() -> Registry:
    return Registry(
        [
            sleep,
            failing_kind("gone", lambda: PermanentError("404"), expected_s=lambda _params: 0.0),
            failing_kind("flaky", lambda: TransientError("503"), retry=RetryPolicy(max_attempts=2)),
        ]
    )


def counts(telemetry: Telemetry, metric: Metric) -> dict[tuple[str, ...], int]:
    return {
        labels: count
        for (counted, labels), count in telemetry.recorder.read().counts.items()
        if counted is metric
    }


def times(telemetry: Telemetry, metric: Metric, *labels: str) -> tuple[int, float]:
    """The number and the sum of the values."""
    time = telemetry.recorder.read().times[metric, labels]
    return sum(time.counts), sum(time.sums)


def test_tasks_count_by_kind_and_outcome(cloud: Cloud, registry: Registry) -> None:
    cloud.submit(registry, ["sleep 0"] * 2500 + ["gone"] * 3)
    worker = HandWorker(cloud, registry)
    worker.work()
    assert counts(worker.telemetry, TASKS) == {
        ("sleep", "succeeded"): 2500,
        ("gone", "failed"): 3,
    }
    assert times(worker.telemetry, RUN_SECONDS, "sleep")[0] == 2500
    assert counts(worker.telemetry, RETRIES) == {}


def test_cancelled_tasks_count_as_such(cloud: Cloud, registry: Registry) -> None:
    batch_id = cloud.submit(registry, ["sleep 0"] * 5)
    cloud.monitor.cancel_batch(batch_id, cloud.clock.now())
    worker = HandWorker(cloud, registry)
    worker.work()
    assert counts(worker.telemetry, TASKS) == {("sleep", "cancelled"): 5}
    assert (RUN_SECONDS, ("sleep",)) not in worker.telemetry.recorder.read().times


def test_a_retry_counts_apart_from_the_outcome(cloud: Cloud, registry: Registry) -> None:
    cloud.submit(registry, ["flaky", "gone"])
    worker = HandWorker(cloud, registry)
    for _ in range(5):
        worker.work()
        cloud.clock.sleep(30)
    assert counts(worker.telemetry, RETRIES) == {("flaky",): 1}
    assert counts(worker.telemetry, TASKS) == {("flaky", "failed"): 1, ("gone", "failed"): 1}
    assert times(worker.telemetry, RUN_SECONDS, "flaky")[0] == 2


def test_a_release_that_is_repeated_counts_once(cloud: Cloud, registry: Registry) -> None:
    failures = iter(["after"])

    def fault(name: str) -> str | None:
        """The first reply about visibility is lost, so the release is made again."""
        return next(failures, None) if name == "change_visibility" else None

    cloud.submit(registry, ["flaky"])
    worker = HandWorker(cloud, registry, fault=fault)
    worker.work()
    assert counts(worker.telemetry, RETRIES) == {("flaky",): 1}


def test_time_in_the_queue_is_that_before_the_first_claim(cloud: Cloud, registry: Registry) -> None:
    cloud.submit(registry, ["flaky"])
    cloud.clock.sleep(7)
    worker = HandWorker(cloud, registry)
    for _ in range(5):
        worker.work()
        cloud.clock.sleep(30)
    assert times(worker.telemetry, QUEUE_SECONDS) == (1, pytest.approx(7.0))


def test_duplicates_count_by_what_suppressed_them(cloud: Cloud, registry: Registry) -> None:
    cloud.submit(registry, ["sleep 5"])
    worker, other = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")

    def again(by: HandWorker) -> None:
        (message,) = [c.message for c in worker.workload.in_hand()]
        cloud.tasks.change_visibility([(message, 0)])
        by.poll()

    worker.poll()
    again(worker)
    assert counts(worker.telemetry, DUPLICATES) == {("in_hand",): 1}
    again(other)
    assert counts(other.telemetry, DUPLICATES) == {("held",): 1}
    worker.work()
    cloud.clock.sleep(2 * LEASE_S)
    other.work()
    assert counts(other.telemetry, DUPLICATES) == {("held",): 1, ("done",): 1}
    assert counts(other.telemetry, TASKS) == {}


def test_a_lost_lease_counts_and_its_results_do_not(cloud: Cloud, registry: Registry) -> None:
    cloud.submit(registry, ["sleep 0"] * 3)
    worker, other = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")
    worker.poll()
    cloud.clock.sleep(LEASE_S + 1)
    other.work()
    worker.work()
    assert worker.lost
    assert counts(worker.telemetry, LEASES_LOST) == {(): 1}
    assert counts(worker.telemetry, TASKS) == {}
    assert counts(other.telemetry, TASKS) == {("sleep", "succeeded"): 3}


def test_a_lease_that_the_heartbeat_finds_lost_counts_once(
    cloud: Cloud, registry: Registry
) -> None:
    cloud.submit(registry, ["sleep 0"])
    worker, other = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")
    worker.poll()
    chunk: Any = worker.take()
    cloud.clock.sleep(LEASE_S + 1)
    other.poll()
    worker.heartbeat.beat()
    worker.finish(chunk)
    worker.settle()
    assert counts(worker.telemetry, LEASES_LOST) == {(): 1}
