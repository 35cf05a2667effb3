"""Options of batches and tasks on real runner processes, and what a client sees of such tasks."""

from __future__ import annotations

import pytest

from taskfleet.options import BatchOptions
from taskfleet.registry import Registry
from taskfleet.scheduler.tasks import TaskViews
from tests.functional.test_worker import Fleet

REGISTRY = Registry.load(["tests.support.poison"])


@pytest.fixture
def fleet():
    one = Fleet()
    one.registry = REGISTRY
    yield one
    one.stop()


@pytest.fixture
def views(fleet):
    cloud = fleet.cloud
    return TaskViews(REGISTRY, cloud.results(REGISTRY), cloud.monitor, cloud.store, cloud.clock)


def ended(fleet, tasks, **options):
    batch_id = fleet.cloud.submit(
        REGISTRY, tasks, options=BatchOptions(**options) if options else None
    )
    fleet.start()
    assert fleet.finished(batch_id)
    return batch_id, fleet.cloud.rows(REGISTRY, batch_id)


def poison(params, kind="poison", **options):
    return {"kind": kind, "params": params, **options}


def test_each_task_has_its_own_time_out(fleet):
    tasks = [
        poison(1),
        poison("deaf", timeout_s=0.2),
        poison(2),
        poison("deaf", timeout_s=0.4),
        poison("deaf", kind="slow_poison"),
    ]
    _, rows = ended(fleet, tasks)
    assert [row.error for row in rows] == [
        None,
        "timed out after 0.2 s",
        None,
        "timed out after 0.4 s",
        "timed out after 0.3 s",
    ]


@pytest.mark.parametrize("kind", ["waits", "waits_in_thread"])
def test_the_time_out_of_a_batch_counts_before_that_of_a_kind(fleet, kind):
    tasks = [poison(1, kind), poison("wait", kind), poison("wait", kind, timeout_s=0.3)]
    _, rows = ended(fleet, tasks, timeout_s=0.1)
    assert [row.error for row in rows] == [None, "timed out after 0.1 s", "timed out after 0.3 s"]


def test_attempts_and_timeouts_are_as_asked_for_and_all_are_shown(fleet, views):
    tasks = [
        poison("exit", kind="again"),
        poison("exit", kind="again", max_attempts=1),
        poison("wait", kind="waits", retry_timeouts=True, max_attempts=2),
    ]
    batch_id, rows = ended(fleet, tasks, max_attempts=2)
    assert [row.attempts for row in rows] == [2, 1, 2]
    view = views.view(batch_id, 2, client_id="alice")
    assert [(each.attempt, each.outcome, each.error) for each in view.history] == [
        (1, "FAILED", "timed out after 0.2 s"),
        (2, "FAILED", "timed out after 0.2 s"),
    ]
    assert view.history[0].ended_at < view.history[1].started_at
    assert view.limits.max_attempts == 2


def test_a_batch_limits_the_memory_of_its_tasks(fleet):
    _, rows = ended(fleet, [poison("memory"), poison(1), "sleep 1"], memory_mb=150)
    assert rows[0].error.startswith("used ")
    assert rows[0].error.endswith("over its 150 MB")
    assert [row.status for row in rows[1:]] == ["SUCCEEDED"] * 2


def test_what_a_task_printed_and_where_it_failed_is_shown(fleet, views):
    batch_id, _ = ended(fleet, [poison("print"), poison("error"), poison(1)])
    assert views.view(batch_id, 0, client_id="alice").log_tail == "from a child\n"
    assert views.log(batch_id, 0, client_id="alice").text == "from a child\n"
    failed = views.view(batch_id, 1, client_id="alice")
    assert "ZeroDivisionError" in failed.traceback
    assert failed.why == "nothing: it is done"
