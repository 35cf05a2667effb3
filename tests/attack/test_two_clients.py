"""Trouble of one client's bundles costs nothing but those bundles: the worker lives, other clients'
batches end, and the bundle in trouble becomes a dead letter with its reason."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ec2_worker.asides import SET_ASIDE_DELIVERIES
from taskfleet.errors import TooLarge
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry, sleep
from tests.support.worker import Cloud, HandWorker, thread_kind


class Bug(Exception):
    """An error that nobody foresaw."""


class Broken:
    """A port whose method fails with `error` when `applies` says so of its arguments."""

    def __init__(self, port: Any, method: str, applies: Any, error: Exception) -> None:
        self._port, self._method, self._applies, self._error = port, method, applies, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name != self._method:
            return real

        def call(*args: Any, **options: Any) -> Any:
            if self._applies(*args, **options):
                raise self._error
            return real(*args, **options)

        return call


def shout(_params: Any, context: Any) -> str:
    context.progress(1, 2)
    return "loud"


REGISTRY = Registry([sleep, thread_kind("shout", shout, expected_s=lambda _params: 1e-6)])


def work_on(cloud: Cloud, worker: HandWorker, seconds: float = 20_000.0) -> None:
    """Let the worker do all there is to do for so long, whatever must be waited for."""
    end = cloud.clock.now() + seconds
    while cloud.clock.now() < end:
        worker.work()
        worker.heartbeat.beat()
        cloud.collect()
        cloud.clock.sleep(60)


@pytest.mark.parametrize("step", ["claim", "commit", "start_batch"])
def test_a_bug_in_one_bundle_ends_neither_the_worker_nor_another_clients_batch(step: str) -> None:
    cloud = Cloud()
    bad = cloud.submit(REGISTRY, ["shout"] * 3)
    cloud.monitor = Broken(  # type: ignore[assignment]
        cloud.monitor, step, lambda name, *_a, **_o: name.startswith(bad), Bug("never seen")
    )
    worker = HandWorker(cloud, REGISTRY, rng=random.Random(1))
    good = cloud.submit(REGISTRY, ["shout"] * 3)
    work_on(cloud, worker, 60)
    assert cloud.monitor.batch(good).finished
    work_on(cloud, worker)
    assert cloud.tasks.depth().backlog + cloud.tasks.depth().in_flight == 0
    (letter,) = cloud.dead.receive(10, wait_s=0, visibility_s=1)
    assert bad in letter.body
    assert letter.attributes["reason"].startswith("unexpected error: Bug: never seen")
    assert letter.receive_count == 1


def test_a_message_is_given_several_tries_before_it_is_a_dead_letter() -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    fails = iter([True] * (SET_ASIDE_DELIVERIES - 1))
    cloud.monitor = Broken(  # type: ignore[assignment]
        cloud.monitor, "claim", lambda *_a, **_o: next(fails, False), Bug("a passing one")
    )
    work_on(cloud, HandWorker(cloud, REGISTRY))
    assert cloud.monitor.batch(batch).finished
    assert cloud.dead.depth().backlog == 0


@pytest.mark.parametrize("error", [TooLarge("over the cap"), Bug("not JSON")])
def test_a_response_that_cannot_be_published_holds_up_no_other(error: Exception) -> None:
    cloud = Cloud()
    bad = cloud.submit(REGISTRY, ["shout"])
    good = cloud.submit(REGISTRY, ["shout"])
    cloud.responses = Broken(  # type: ignore[assignment]
        cloud.responses, "send", lambda sent: any(bad in m.body for m in sent), error
    )
    work_on(cloud, HandWorker(cloud, REGISTRY))
    assert cloud.monitor.batch(good).finished
    (letter,) = cloud.dead.receive(10, wait_s=0, visibility_s=1)
    assert bad in letter.body
    assert "its response cannot be published" in letter.attributes["reason"]
    # The results are recorded: once the cause is mended, a redrive publishes them.
    cloud.responses = cloud.responses._port  # type: ignore[attr-defined]
    cloud.tasks.send([OutgoingMessage(letter.body)])
    work_on(cloud, HandWorker(cloud, REGISTRY), 120)
    assert cloud.monitor.batch(bad).finished


def test_a_lease_that_cannot_be_renewed_costs_only_its_own_bundle() -> None:
    cloud = Cloud()
    bad = cloud.submit(REGISTRY, ["sleep 0"])
    good = cloud.submit(REGISTRY, ["sleep 0"])
    cloud.monitor = Broken(  # type: ignore[assignment]
        cloud.monitor, "renew", lambda job_id, *_a, **_o: job_id.startswith(bad), Bug("no")
    )
    worker = HandWorker(cloud, REGISTRY)
    worker.poll()
    assert worker.take()
    assert worker.take()  # both run
    cloud.clock.sleep(11)
    worker.heartbeat.beat()
    leases = {c.bundle.batch_id: c.lease.expires_at for c in worker.workload.in_hand()}
    assert leases[good] > cloud.clock.now() + 25
    cloud.clock.sleep(25)
    worker.heartbeat.beat()
    assert [c.bundle.batch_id for c in worker.workload.in_hand()] == [good]


@pytest.mark.parametrize("code", ["sys.exit(3)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_a_task_that_tries_to_end_its_thread_fails_alone(code: str) -> None:
    def run(params: Any, _context: Any) -> None:
        exec(params, {"sys": __import__("sys")})

    registry = Registry([sleep, thread_kind("run", run, expected_s=lambda _params: 1e-6)])
    cloud = Cloud()
    batch = cloud.submit(registry, [{"kind": "run", "params": code}, "sleep 0"])
    work_on(cloud, HandWorker(cloud, registry), 120)
    failed, fine = cloud.rows(registry, batch)
    assert (failed.status, fine.status) == ("FAILED", "SUCCEEDED")


class Nasty(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")


@pytest.mark.parametrize("error", [Nasty(), ValueError("\ud800 half a character"), ValueError()])
def test_whatever_a_task_raises_is_its_error(error: Exception) -> None:
    def run(_params: Any, _context: Any) -> None:
        raise error

    registry = Registry([sleep, thread_kind("run", run, expected_s=lambda _params: 1e-6)])
    cloud = Cloud()
    batch = cloud.submit(registry, ["run", "sleep 0"])
    work_on(cloud, HandWorker(cloud, registry), 120)
    failed, fine = cloud.rows(registry, batch)
    assert failed.error.startswith(type(error).__name__)
    assert fine.status == "SUCCEEDED"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 10**400, "half", [1], None], ids=lambda v: repr(v)[:9]
)
def test_progress_that_is_no_number_fails_its_task_alone(value: Any) -> None:
    def run(_params: Any, context: Any) -> None:
        context.progress(value, 2)

    registry = Registry([sleep, thread_kind("run", run, expected_s=lambda _params: 1e-6)])
    cloud = Cloud()
    batch = cloud.submit(registry, ["run", "sleep 0"])
    work_on(cloud, HandWorker(cloud, registry), 120)
    failed, fine = cloud.rows(registry, batch)
    assert "progress takes two numbers" in failed.error
    assert fine.status == "SUCCEEDED"


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [64, 65, 990, 100_000])
def test_results_are_as_deep_as_readers_can_follow_or_refused(depth: int) -> None:
    def run(_params: Any, _context: Any) -> Any:
        return nested(depth)

    registry = Registry([sleep, thread_kind("run", run, expected_s=lambda _params: 1e-6)])
    cloud = Cloud()
    batch = cloud.submit(registry, ["run", "sleep 0"])
    work_on(cloud, HandWorker(cloud, registry), 120)
    row, fine = cloud.rows(registry, batch)
    assert row.status == ("SUCCEEDED" if depth <= 64 else "FAILED")
    assert fine.status == "SUCCEEDED"
