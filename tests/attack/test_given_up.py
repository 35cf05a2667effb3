"""What the worker gives up still ends: a bundle that meets an unexpected error at every delivery,
and a response that can never be published (DESIGN.md, section 3: the tasks are FAILED with their
error before the message becomes a dead letter)."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from msgspec.structs import replace

from ec2_worker.asides import SET_ASIDE_DELIVERIES
from taskfleet.errors import LeaseLost, TooLarge, TransientError
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.attack.test_two_clients import REGISTRY, Broken, Bug, Nasty, work_on
from tests.support.worker import Cloud, HandWorker


def dead(cloud: Cloud) -> Any:
    (letter,) = cloud.dead.receive(10, wait_s=0, visibility_s=1)
    return letter


def fails(cloud: Cloud, step: str, applies: Any, error: Exception = Bug("never seen")) -> None:  # noqa: B008
    cloud.monitor = Broken(cloud.monitor, step, applies, error)  # type: ignore[assignment]


class Unreadable(Registry):
    """A registry that meets a bug at the validation of every task."""

    def revalidate(self, _task: Task) -> Task:
        raise Bug("never seen")


BROKEN = Unreadable([REGISTRY[name] for name in REGISTRY.names])


def test_a_bundle_that_breaks_its_validation_ends_failed_with_the_reason() -> None:
    """The lease is taken before the error: giving up must not find it held by itself."""
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"] * 3)
    work_on(cloud, HandWorker(cloud, BROKEN))
    assert cloud.monitor.batch(batch).finished
    assert cloud.monitor.batch(batch).tally.failed == 3
    for row in cloud.rows(REGISTRY, batch):
        assert (row.status, row.error) == ("FAILED", "unexpected error: Bug: never seen")
    assert dead(cloud).attributes["reason"] == "unexpected error: Bug: never seen"


@pytest.mark.parametrize("error", [Nasty(), ValueError("\ud800 half a character"), ValueError()])
def test_an_error_of_any_text_is_given_up_like_others(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest-xdist cannot send half a character in a report

    class Odd(Registry):
        def revalidate(self, _task: Task) -> Task:
            raise error

    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    work_on(cloud, HandWorker(cloud, Odd([REGISTRY[name] for name in REGISTRY.names])))
    (row,) = cloud.rows(REGISTRY, batch)
    assert row.error.startswith(f"unexpected error: {type(error).__name__}")


def test_results_that_cannot_be_recorded_leave_their_tasks_failed() -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"] * 3)

    def has_results(*_: Any, results: list[TaskResult], **__: Any) -> bool:
        return any(row.status is TaskStatus.SUCCEEDED for row in results)

    for step in ("renew", "commit", "release"):
        fails(cloud, step, has_results)
    work_on(cloud, HandWorker(cloud, REGISTRY))
    assert cloud.monitor.batch(batch).finished
    assert cloud.monitor.batch(batch).tally.failed == 3
    assert dead(cloud).attributes["reason"].startswith("unexpected error: Bug")


def test_a_bundle_that_is_redriven_is_answered_again_and_does_not_run() -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    work_on(cloud, HandWorker(cloud, BROKEN))
    assert cloud.monitor.batch(batch).tally.failed == 1
    cloud.tasks.send([OutgoingMessage(dead(cloud).body)])
    work_on(cloud, HandWorker(cloud, REGISTRY), 120)
    assert [row.status for row in cloud.rows(REGISTRY, batch)] == ["FAILED"]
    assert cloud.monitor.batch(batch).tally.total == 1


@pytest.mark.parametrize("error", [TransientError("throttled"), LeaseLost("gone")])
def test_trouble_while_giving_up_is_not_the_end_of_the_bundle(error: Exception) -> None:
    """A throttle says nothing of the bundle: it is given up at a later delivery."""
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    throttled = iter([True] * 3)
    fails(cloud, "commit", lambda *_a, **_o: next(throttled, False), error)
    work_on(cloud, HandWorker(cloud, BROKEN), 40_000)
    assert cloud.monitor.batch(batch).tally.failed == 1
    assert "never seen" in dead(cloud).attributes["reason"]


def test_when_the_table_itself_fails_the_message_becomes_a_dead_letter_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    fails(cloud, "claim", lambda *_a, **_o: True)
    work_on(cloud, HandWorker(cloud, REGISTRY))
    assert dead(cloud).attributes["reason"] == "unexpected error: Bug: never seen"
    assert not cloud.monitor.batch(batch).finished
    actions = [record.taskfleet["action"] for record in caplog.records]  # type: ignore[attr-defined]
    assert actions.count("give_up_failed") == 1


def broken_send(cloud: Cloud, applies: Any, error: Exception) -> None:
    cloud.responses = Broken(  # type: ignore[assignment]
        cloud.responses, "send", lambda sent: any(applies(m.body) for m in sent), error
    )


@pytest.mark.parametrize("error", [TooLarge("over the cap"), Bug("not JSON")])
def test_a_response_that_cannot_be_published_is_published_without_results(
    error: Exception,
) -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    broken_send(cloud, lambda body: "abridged" not in json.loads(body), error)
    work_on(cloud, HandWorker(cloud, REGISTRY), 1_000)
    assert cloud.monitor.batch(batch).finished
    assert [row.result for row in cloud.rows(REGISTRY, batch)] == ["loud"]
    assert cloud.dead.depth().backlog == 0
    assert cloud.tasks.depth().backlog + cloud.tasks.depth().in_flight == 0


def test_a_response_of_2014_that_cannot_be_published_is_published_without_its_result() -> None:
    cloud = Cloud()
    cloud.tasks.send([OutgoingMessage('{"clientID": 1, "jobID": 2, "task": "sleep 0"}')])
    broken_send(cloud, lambda body: "note" not in json.loads(body), Bug("no"))
    worker = HandWorker(cloud, REGISTRY)
    worker.work()
    (answer,) = cloud.responses.receive(10, wait_s=0, visibility_s=1)
    assert json.loads(answer.body)["status"] == "SUCCEEDED"
    assert cloud.dead.depth().backlog == 0


def test_a_claim_that_cannot_be_taken_back_is_given_up_under_its_own_lease() -> None:
    """The bundle is held by the very delivery that is given up."""
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    fails(cloud, "unclaim", lambda *_a, **_o: True, TransientError("throttled"))
    work_on(cloud, HandWorker(cloud, BROKEN), 40_000)
    assert cloud.monitor.batch(batch).tally.failed == 1
    assert "never seen" in dead(cloud).attributes["reason"]


def test_a_bundle_that_another_worker_has_is_not_given_up() -> None:
    cloud = Cloud()
    batch = cloud.submit(REGISTRY, ["shout"])
    holder, other = HandWorker(cloud, REGISTRY), HandWorker(cloud, REGISTRY, worker_id="w-2")
    assert holder.poll()
    (claimed,) = holder.workload.in_hand()
    message = replace(claimed.message, receive_count=SET_ASIDE_DELIVERIES)
    other.asides.put(message, Bug("never seen"))
    assert other.outbox.pending() == 0
    holder.work()
    cloud.collect()
    assert cloud.monitor.batch(batch).tally.succeeded == 1
    assert cloud.dead.depth().backlog == 0
