"""Running tasks: results, errors, stops and progress."""

import logging
import time

import pytest

from ec2_worker.attempt import RESULT_MAX_BYTES, describe
from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.execute import Executor
from taskfleet.bundle import Bundle
from taskfleet.errors import PermanentError, TaskFailed, TaskStopped, TransientError
from taskfleet.lease import Lease
from taskfleet.ports import Message
from taskfleet.registry import Registry
from taskfleet.retry import RetryPolicy
from taskfleet.task import Task, TaskStatus
from tests.support.worker import Cloud, thread_kind


@pytest.fixture
def cloud():
    return Cloud()


def bundle(tasks=1):
    todo = [Task(i, "k", {"n": i}) for i in range(tasks)]
    return ClaimedBundle(
        Bundle("b:0", "alice", "b", todo), Message("m", "r", "", 1), Lease("me", 1, 1e12), ()
    )


def run(cloud, function, tasks=1, claimed=None, expected_s=None, **options):
    """Run one chunk of tasks that call `function`, of which so many seconds are expected. Returns
    the bundle and the tasks left."""
    registry = Registry([thread_kind("k", function, **options)])
    claimed = claimed or bundle(tasks)
    began_at = cloud.clock.now()
    ends_at = None if expected_s is None else began_at + expected_s
    chunk = Chunk(claimed, "k", claimed.bundle.tasks, ends_at, began_at)
    rest = Executor(registry, cloud.store, cloud.clock, "w-1").run(chunk)
    return claimed, rest


def raising(error):
    def function(params, context):
        raise error

    return function


def test_a_result_has_value_times_worker_and_attempt(cloud):
    begun = cloud.clock.now()

    def work(params, context):
        cloud.clock.sleep(2.5)
        return {"square": params["n"] ** 2, "id": f"{context.batch_id}/{context.index}"}

    claimed, _ = run(cloud, work)
    row = claimed.results[0]
    assert row.status is TaskStatus.SUCCEEDED
    assert row.result == {"square": 0, "id": "b/0"}
    assert row.started_at == begun
    assert row.duration_s == 2.5
    assert (row.attempts, row.worker_id) == (1, "w-1")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("no"), TaskStatus.FAILED, "ValueError: no"),
        (KeyError(), TaskStatus.FAILED, "KeyError"),
        (PermanentError("picture 3: 404"), TaskStatus.FAILED, "picture 3: 404"),
        (TransientError("503"), TaskStatus.QUEUED, "503"),
        (TimeoutError("slow"), TaskStatus.QUEUED, "TimeoutError: slow"),
        (RecursionError("deep"), TaskStatus.FAILED, "RecursionError: deep"),
    ],
)
def test_an_error_ends_the_task_and_not_the_worker(cloud, error, status, text):
    claimed, _ = run(cloud, raising(error))
    assert (claimed.results[0].status, claimed.results[0].error) == (status, text)
    assert claimed.poison is None


def test_exhausted_attempts_are_poison(cloud):
    claimed, _ = run(cloud, raising(TransientError("503")), retry=RetryPolicy(max_attempts=1))
    assert claimed.results[0].status is TaskStatus.FAILED
    assert claimed.poison == "task 0: out of attempts (1): 503"


def test_a_stopped_task_leaves_no_result(cloud):
    claimed, _ = run(cloud, raising(TaskStopped("drain")))
    assert claimed.results == {}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), "the result is not JSON"),
        ({1, 2}, None),
        (float("nan"), None),
        ("x" * RESULT_MAX_BYTES, "over the cap"),
    ],
)
def test_results_must_be_json_of_a_sensible_size(cloud, value, error):
    claimed, _ = run(cloud, lambda params, context: value)
    row = claimed.results[0]
    if error is None:
        assert row.status is TaskStatus.SUCCEEDED
    else:
        assert row.status is TaskStatus.FAILED
        assert error in row.error


def test_tasks_that_turn_out_long_are_given_back_to_be_shared(cloud):
    claimed, rest = run(cloud, lambda params, context: cloud.clock.sleep(1), tasks=5)
    assert sorted(claimed.results) == [0]
    assert [task.index for task in rest] == [1, 2, 3, 4]


@pytest.mark.parametrize(("each_s", "ran"), [(0.02, 5), (0.06, 4), (0.3, 1)])
def test_a_chunk_may_take_twice_as_long_as_expected(cloud, each_s, ran):
    sleep = cloud.clock.sleep
    claimed, rest = run(cloud, lambda params, context: sleep(each_s), tasks=5, expected_s=0.1)
    assert sorted(claimed.results) == list(range(ran))
    assert len(rest) == 5 - ran


def test_a_stopped_bundle_starts_no_further_task(cloud):
    def stop_all(params, context):
        claimed.stop()

    claimed = bundle(tasks=3)
    _, rest = run(cloud, stop_all, claimed=claimed)
    assert sorted(claimed.results) == [0]
    assert [task.index for task in rest] == [1, 2]


def test_a_sleeping_task_ends_when_it_is_stopped(cloud):
    def nap(params, context):
        context.on_stop(lambda: None)
        claimed.stop()
        context.sleep(3600)

    claimed = bundle()
    run(cloud, nap, claimed=claimed)
    assert claimed.results == {}


def test_progress_is_kept_while_the_task_runs_and_gone_with_it(cloud):
    seen = []

    def work(params, context):
        context.progress(3, 60)
        seen.append(claimed.rows()[0].progress)

    claimed = bundle()
    run(cloud, work, claimed=claimed)
    assert seen == [[3, 60]]
    assert claimed.rows()[0].progress is None


def test_a_failure_may_leave_a_result_and_the_users_frames(cloud):
    left = {"exit_status": 3, "stderr": "no such file"}

    def work(params, context):
        raise TaskFailed("exit status 3", left, traceback="in the user's script")

    claimed, _ = run(cloud, work)
    row = claimed.results[0]
    assert (row.status, row.error, row.result) == (TaskStatus.FAILED, "exit status 3", left)
    assert row.traceback == "in the user's script"


def test_what_a_failure_leaves_is_dropped_when_it_is_no_json(cloud):
    def work(params, context):
        raise TaskFailed("exit status 3", object())

    claimed, _ = run(cloud, work)
    row = claimed.results[0]
    assert (row.status, row.error, row.result) == (TaskStatus.FAILED, "exit status 3", None)


def test_what_comes_before_the_begin_of_the_work_is_not_in_its_duration(cloud):
    def work(params, context):
        cloud.clock.sleep(30)
        context.begin()
        cloud.clock.sleep(2)

    begun = cloud.clock.now()
    claimed, _ = run(cloud, work)
    assert claimed.results[0].started_at == begun + 30
    assert claimed.results[0].duration_s == 2


@pytest.mark.parametrize("milliseconds", [0, 0.001, 0.019, 0.5])
def test_a_short_sleep_lasts_as_long_as_it_says(cloud, milliseconds):
    def work(params, context):
        began = time.perf_counter()
        context.sleep(milliseconds / 1000)
        return time.perf_counter() - began

    claimed, _ = run(cloud, work)
    assert claimed.results[0].result >= milliseconds / 1000


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ValueError("bug"), logging.ERROR),
        (TransientError("later"), logging.INFO),
        (PermanentError("bad picture"), logging.INFO),
    ],
)
def test_only_unexpected_errors_are_logged_as_errors(cloud, caplog, error, level):
    with caplog.at_level(logging.INFO):
        run(cloud, raising(error))
    assert [record.levelno for record in caplog.records] == [level]
    assert caplog.records[0].taskfleet["task_id"] == "b/0"
    assert "test_execute.py" in caplog.records[0].taskfleet["where"]


def test_long_errors_are_shortened():
    assert len(describe(ValueError("x" * 10_000))) == 2_000
