"""Tasks in runner processes: what they return, and that a task which does its worst costs the
others nothing. Real processes, a store in memory."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.execute import Executor, Ways
from ec2_worker.output import punch
from ec2_worker.runner import taskuser
from ec2_worker.timed import SlotGivenUp
from taskfleet.bundle import Bundle
from taskfleet.clock import SystemClock
from taskfleet.lease import Lease
from taskfleet.memory import MemoryStore
from taskfleet.ports import Message
from taskfleet.procfs import tree
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskStatus
from tests.support.waiting import eventually

USER = os.environ.get("TEST_TASK_USER", "")
"""User of the runner processes. `test_task_user` runs this module's tests as root with one."""
REGISTRY = Registry.load(["tests.support.poison"])
F, S, Q = TaskStatus.FAILED, TaskStatus.SUCCEEDED, TaskStatus.QUEUED


class Slot:
    """One slot of a worker, without the worker."""

    def __init__(self, **options):
        self.store = MemoryStore()
        self.given_up = []
        user = taskuser.find(USER)
        if user is not None:
            taskuser.clear_ambient()
        ways = Ways(lambda *told: self.given_up.append(told), task_user=user, **options)
        self.executor = Executor(REGISTRY, self.store, SystemClock(), "w-1", ways)

    def bundle(self, kind, params):
        tasks = [Task(i, kind, each) for i, each in enumerate(params)]
        bundle = Bundle("b:0", "alice", "b", tasks)
        return ClaimedBundle(bundle, Message("m", "r", "", 1), Lease("me", 1, 1e12), ())

    def run(self, kind, params, claimed=None):
        """Run all tasks, chunk after chunk. Returns the claimed bundle."""
        claimed = claimed or self.bundle(kind, params)
        todo, chunks = claimed.bundle.tasks, 0
        while todo and not claimed.stopped.is_set():
            todo = self.executor.run(Chunk(claimed, kind, todo))
            chunks += 1
            assert chunks < 50
        return claimed

    def processes(self):
        """The fork server and all below it."""
        return list(tree(self.executor._pool._server._process.pid))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Deaf tasks are killed after a shorter wait than elsewhere."""
    monkeypatch.setattr("ec2_worker.runner.handle.GRACE_S", 0.3)


@pytest.fixture(scope="module")
def shared():
    slot = Slot()
    yield slot
    slot.executor.close()


@pytest.fixture
def slot():
    slot = Slot()
    yield slot
    slot.executor.close()


@pytest.fixture
def runs():
    """A file to which tasks of any user may append."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "runs")
        path.touch()
        path.chmod(0o666)
        yield path


POISON = [
    ("poison", "exit", "its process died: exit status 3"),
    ("poison", "segv", "its process died: SIGSEGV"),
    ("poison", "kill", "its process died: SIGKILL"),
    ("poison", "close", "it closed or replaced the descriptors of its process"),
    ("poison", "close output", "it closed or replaced the descriptors of its process"),
    ("poison", "garbage", "it wrote to its process's pipe"),
    ("poison", "orphan", "its process died: exit status 9"),
    ("poison", "sys.exit", "SystemExit: 4"),
    ("poison", "interrupt", "KeyboardInterrupt"),
    ("poison", "deep", "RecursionError: maximum recursion depth exceeded"),
    ("poison", "object", "the result is not JSON: Encoding objects of type object is unsupported"),
    ("poison", "nested", "the result is not JSON: maximum recursion depth exceeded"),
    ("slow_poison", "re", "timed out after 0.3 s"),
    ("slow_poison", "deaf", "timed out after 0.3 s"),
    ("slow_poison", "bomb", "timed out after 0.3 s"),
    ("waits", "wait", "timed out after 0.2 s"),
]


@pytest.mark.parametrize(("kind", "deed", "error"), POISON, ids=[deed for _, deed, _ in POISON])
def test_one_poison_among_a_thousand_fails_alone(shared, kind, deed, error):
    params = [*range(500), deed, *range(501, 1000)]
    begun = time.monotonic()
    claimed = shared.run(kind, params)
    rows = claimed.results
    failed = [row for row in rows.values() if row.status is not S]
    assert [(row.index, row.status) for row in failed] == [(500, F)]
    assert failed[0].error.startswith(error)
    assert failed[0].attempts == 1
    assert [rows[i].result for i in range(1000) if i != 500] == [
        each for each in params if each != deed
    ]
    assert time.monotonic() - begun < 5


def test_no_task_runs_again_for_one_that_ended_their_process(shared, runs):
    words = ["exit" if i % 40 == 39 else i for i in range(400)]
    claimed = shared.run("counted", [[str(runs), word] for word in words])
    assert [claimed.results[i].result for i in range(400) if words[i] != "exit"] == [
        word for word in words if word != "exit"
    ]
    assert sorted(runs.read_text().split()) == sorted(map(str, words))


def test_what_a_dead_runner_had_no_room_to_keep_was_told(shared, runs):
    words = [str(i) * 9_000 for i in range(10)] + ["exit"]
    claimed = shared.run("counted", [[str(runs), word] for word in words])
    assert [claimed.results[i].result for i in range(10)] == words[:10]
    assert len(runs.read_text().split()) == 11


def test_nothing_that_a_dead_runner_left_lives_on(slot):
    slot.run("poison", ["orphan"])
    slot.run("slow_poison", ["bomb"])
    assert slot.run("poison", [1]).results[0].result == 1
    eventually(lambda: len(slot.processes()) == 2, 5, "the fork server and one runner")


def test_a_runner_over_its_memory_is_ended_and_says_what_it_used(shared):
    claimed = shared.run("hungry", [1, "memory", 2])
    words = claimed.results[1].error.split()
    assert claimed.results[1].status is F
    assert (words[0], words[2:]) == ("used", ["MB,", "over", "its", "150", "MB"])
    assert 150 < int(words[1]) < 3000
    assert [claimed.results[i].result for i in (0, 2)] == [1, 2]


def test_a_dead_process_is_an_attempt_that_is_tried_again_until_the_last(shared):
    claimed = shared.run("again", ["exit", 1])
    row = claimed.results[0]
    assert (row.status, row.attempts, claimed.poison) == (Q, 1, None)
    second = ClaimedBundle(claimed.bundle, claimed.message, Lease("me", 1, 1e12), [row])
    shared.run("again", [], second)
    assert (second.results[0].status, second.results[0].attempts) == (F, 2)
    assert second.poison == "task 0: out of attempts (2): its process died: exit status 3"


def test_a_time_out_is_tried_again_only_when_the_kind_says_so(shared):
    assert shared.run("patient", ["deaf"]).results[0].status is Q
    assert shared.run("waits", ["wait"]).results[0].status is F


def test_a_task_that_kills_the_fork_server_costs_nobody_anything(slot):
    claimed = slot.run("poison", [1, "kill parent", 2])
    assert [row.status for row in claimed.results.values()] == [S, S, S]
    assert slot.run("poison", ["exit", 3]).results[1].result == 3
    assert slot.run("poison", [4]).results[0].result == 4


def test_the_store_works_from_a_runner(shared):
    result = shared.run("stores", [500_000]).results[0].result
    assert result == [
        [14, 2_000_000],
        ["NotFound", "TooLarge"],
        ["line 2\n"],
        None,
        "memory://b",
    ]
    assert shared.store.get("b") == b"file" * 500_000


def test_a_large_result_is_stored_and_one_too_large_fails(shared):
    claimed = shared.run("large", [100_000, 2_000_000])
    assert claimed.results[0].stored.startswith("spill/")
    assert claimed.results[1].error.startswith("the result has 2000002 bytes")


def test_a_failure_shows_the_frames_of_the_task(shared):
    row = shared.run("poison", ["error"]).results[0]
    assert row.error == "ZeroDivisionError: division by zero"
    assert "poison.py" in row.traceback
    assert "attempt.py" not in row.traceback
    assert len(row.traceback) < 2000


def test_a_runner_sees_no_credentials_and_no_settings(slot, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TASKFLEET_TOKEN_SECRET", "secret" * 8)
    monkeypatch.setenv("TASKFLEET_CORES", "1")
    monkeypatch.setenv("MINE", "kept")
    seen = slot.run("environ", [None]).results[0].result
    assert not any(name.startswith("AWS_") for name in seen)
    settings = {name for name in seen if name.startswith("TASKFLEET_")} - {"TASKFLEET_CACHE_DIR"}
    assert settings == {"TASKFLEET_CORES"}
    assert (seen["MINE"], seen["PATH"]) == ("kept", os.environ["PATH"])


@pytest.mark.parametrize(("deed", "within_s"), [(None, 0.25), ("deaf", 1.0)])
def test_a_stopped_bundle_ends_its_runner_and_charges_nobody(shared, deed, within_s):
    import threading

    shared.store.delete("pid/0")
    claimed = shared.bundle("holds", [deed, None])
    thread = threading.Thread(target=shared.run, args=("holds", [], claimed))
    thread.start()
    pid = int(eventually(lambda: shared.store._objects.get("pid/0"), 10))
    if deed is None:
        eventually(lambda: claimed.rows() and claimed.rows()[0].progress == [1, 2], 5)
    begun = time.monotonic()
    claimed.stop()
    thread.join(10)
    assert time.monotonic() - begun < within_s
    assert claimed.results == {}
    eventually(lambda: not alive(pid), 3)


def test_runners_are_kept_and_replaced_when_they_have_run_enough_tasks(slot):
    first, second = slot.run("who", [1]).results[0].result, slot.run("who", [1]).results[0].result
    assert first == second
    frugal = Slot(runner_max_tasks=2)
    pids = [frugal.run("who", [1]).results[0].result for _ in range(4)]
    frugal.executor.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_runner_that_grew_is_replaced():
    frugal = Slot(runner_max_mb=100)
    pids = [frugal.run("who", [size]).results[0].result for size in (1, 1, 200_000_000, 1)]
    frugal.executor.close()
    assert pids[0] == pids[1] == pids[2] != pids[3]


def test_children_that_a_task_forks_are_ordinary_processes(shared):
    """They end by SIGTERM, which does not reach the runner, and answer for no task."""
    claimed = shared.run("poison", ["pool", "fork", 1])
    assert [claimed.results[i].result for i in range(3)] == [[0, 1, 4], None, 1]


def test_an_idle_runner_that_died_charges_nobody(slot):
    pid = slot.run("who", [1]).results[0].result
    os.kill(pid, 9)
    row = slot.run("who", [1]).results[0]
    assert (row.status, row.attempts) == (S, 1)
    assert row.result != pid


def test_runners_that_nobody_needs_end_but_one(slot, monkeypatch):
    pool = slot.executor._pool
    runners = [pool.take() for _ in range(3)]
    for runner in runners:
        pool.give(runner)
    slot.executor.tidy()
    assert len(slot.processes()) == 4  # with the fork server: none has been idle for long
    monkeypatch.setattr("ec2_worker.runner.pool.IDLE_S", 0.0)
    slot.executor.tidy()
    eventually(lambda: len(slot.processes()) == 2, 5)
    assert slot.run("who", [1]).results[0].result == runners[-1].pid


class TestThreads:
    def test_a_time_out_stops_that_task_only(self, shared):
        claimed = shared.run("waits_in_thread", [1, "wait", 2])
        rows = claimed.results
        assert (rows[1].status, rows[1].error) == (F, "timed out after 0.2 s")
        assert 0.2 <= rows[1].duration_s < 1
        assert (rows[0].result, rows[2].result) == (1, 2)
        assert not claimed.stopped.is_set()

    def test_a_thread_that_does_not_listen_is_given_up(self, slot, monkeypatch):
        monkeypatch.setattr("ec2_worker.timed.GRACE_S", 0.2)
        claimed = slot.bundle("waits_in_thread", ["deaf", 1])
        chunk = Chunk(claimed, "waits_in_thread", claimed.bundle.tasks)
        with pytest.raises(SlotGivenUp):
            slot.executor.run(chunk)
        ((told, rest, seconds),) = slot.given_up
        assert told is chunk
        assert [task.index for task in rest] == [1]
        assert 0.4 <= seconds < 0.8
        assert claimed.results[0].error == "timed out after 0.2 s"
        assert claimed.results[0].status is F


class TestOutput:
    def outputs(self, claimed):
        return {i: claimed.output.read(i, 10_000_000) for i in claimed.output.places}

    def test_what_a_task_and_its_children_print_is_kept_for_it_alone(self, shared):
        claimed = shared.run("says", ["one", None, "child", "crash", "three"])
        assert self.outputs(claimed) == {
            0: b"one\n",
            2: b"child\nfrom a child\n",
            3: b"crash\n",
            4: b"three\n",
        }

    def test_the_first_megabyte_is_kept_and_the_rest_counted(self, shared):
        claimed = shared.run("says", ["before", 10_000_000, "after"])
        assert claimed.output.places[1] == (7, 1_000_000, 9_000_001)
        assert claimed.output.read(2, 100) == b"after\n"

    def test_a_task_that_empties_its_output_keeps_what_it_printed_afterwards(self, shared):
        claimed = shared.run("says", ["x" * 100, "cut", "after"])
        assert self.outputs(claimed) == {1: b"rest\n", 2: b"after\n"}
        assert {place.dropped for place in claimed.output.places.values()} == {0}

    def test_a_flood_does_not_fill_the_disk(self, shared, monkeypatch):
        monkeypatch.setattr("ec2_worker.runner.chunk.LOOK_S", 0.05)
        freed = []

        def punched(fd, start, end):
            punch(fd, start, end)
            freed.append(start)

        monkeypatch.setattr("ec2_worker.runner.chunk.punch", punched)
        claimed = shared.run("says", ["before", 100_000_000, "after"])
        assert claimed.output.places[1] == (7, 1_000_000, 99_000_001)
        assert set(freed) == {1_000_007}
        assert self.outputs(claimed)[2] == b"after\n"

    def test_output_of_ten_thousand_tasks(self, shared):
        begun = time.monotonic()
        claimed = shared.run("says", [10_000] * 1000)
        assert {place.length for place in claimed.output.places.values()} == {10_001}
        assert len(claimed.output.places) == 1000
        assert time.monotonic() - begun < 3
