"""Runner processes under the worker daemon: drain, lost leases, output in the store, and the end of
the worker however it comes. Real processes; queues, table and store in memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskfleet.batch import Tally
from taskfleet.clock import SystemClock
from taskfleet.procfs import children, tree
from taskfleet.registry import Registry
from taskfleet.task import TaskStatus
from tests.functional.test_runner import alive
from tests.functional.test_worker import Fleet
from tests.support import remote
from tests.support.waiting import eventually
from tests.support.worker import Cloud

ROOT = Path(__file__).parents[2]
REGISTRY = Registry.load(["tests.support.poison"])


@pytest.fixture
def fleet():
    one = Fleet()
    one.registry = REGISTRY
    yield one
    one.stop()


def pid_of(fleet, index=0):
    """The process that runs the task of kind `holds`, once it does."""
    return int(eventually(lambda: fleet.cloud.store._objects.get(f"pid/{index}"), 10))


def test_sleeping_workers_start_no_process(fleet):
    before = children(os.getpid())
    fleet.start()
    assert fleet.finished(fleet.submit(["sleep 1"] * 10)).tally == Tally(succeeded=10)
    assert children(os.getpid()) == before


def test_poison_in_a_batch_fails_alone_and_the_output_of_all_is_stored(fleet):
    tasks = [{"kind": "says", "params": each} for each in ["one", "crash", None, "three"]]
    batch_id = fleet.submit([*tasks, *["sleep 1"] * 20, "poison segv"])
    fleet.start()
    assert fleet.finished(batch_id).tally == Tally(succeeded=23, failed=2)
    rows = {
        row.index: row
        for number in range(len(fleet.ports.monitor.bundles([f"{batch_id}:{n}" for n in range(9)])))
        for row in fleet.ports.monitor.bundles([f"{batch_id}:{number}"])[0].results
    }
    assert {row.attempts for row in rows.values()} == {1}
    logs = {}
    for index, row in rows.items():
        if row.log is not None:
            key, offset, length, dropped = row.log
            assert key.startswith(f"logs/{batch_id}/")
            assert dropped == 0
            logs[index] = fleet.ports.store.get(key)[offset : offset + length]
    assert logs == {0: b"one\n", 1: b"crash\n", 3: b"three\n"}


@pytest.mark.parametrize("params", [None, "deaf"])
def test_at_the_drain_time_out_runners_end_and_their_tasks_are_given_back(fleet, params):
    batch_id = fleet.submit([{"kind": "holds", "params": params}])
    worker = fleet.start(drain_timeout_s=0.1)
    pid = pid_of(fleet)
    begun = time.monotonic()
    worker.drain()
    fleet.threads[0].join(20)
    assert time.monotonic() - begun < 5
    assert fleet.ends == [True]
    assert fleet.ports.tasks.depth().backlog == 1
    assert fleet.ports.monitor.bundles([f"{batch_id}:0"])[0].results == []
    assert not alive(pid)


def test_a_lost_lease_ends_the_runner(fleet):
    fleet.submit(["holds"])
    worker = fleet.start()
    pid = pid_of(fleet)
    (claimed,) = worker._workload.in_hand()
    worker._workload.lose(claimed)
    eventually(lambda: not alive(pid), 2)


def strays(pids):
    """Those that lead or are in a session whose leader has ended: no runner, no child of one."""
    return [pid for pid in pids if alive(pid) and not alive(os.getsid(pid))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_the_worker_ends(tmp_path, number):
    tasks = tmp_path / "tasks.txt"
    tasks.write_text("slow_poison bomb\nagain deaf\nagain stray\nwaits 1\n")
    options = ["--local", str(tasks), "--kinds", "tests.support.poison", "--threads", "4"]
    worker = subprocess.Popen(
        [sys.executable, "ec2_worker/run.py", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        below = eventually(
            lambda: (
                (found := list(tree(worker.pid))) and len(found) > 20 and strays(found) and found
            ),
            10,
        )
        os.killpg(worker.pid, number)
        worker.wait(15)
        eventually(lambda: not any(map(alive, below)), 5)
    finally:
        worker.kill()
        worker.wait()


def test_tasks_that_kill_their_whole_worker_fail_and_the_others_succeed():
    """Successors finish. What stands here for machines is a loop that starts the next worker."""
    cloud = Cloud(clock=SystemClock())
    poisons = {17: "poison", 101: "poison_in_thread"}
    kinds = ["poison"] * 100 + ["poison_in_thread"] * 4
    tasks = [
        {"kind": kind, "params": "kill worker" if index in poisons else index}
        for index, kind in enumerate(kinds)
    ] + ["sleep 1"] * 20
    batch_id = cloud.submit(REGISTRY, tasks)
    ends = []
    port = remote.serve(cloud)
    deadline = time.monotonic() + 60
    while not cloud.monitor.batch(batch_id).finished:
        assert time.monotonic() < deadline
        worker = remote.start(port, len(ends))
        try:
            while worker.poll() is None and not cloud.monitor.batch(batch_id).finished:
                cloud.collect(wait_s=0.05)
        finally:
            if worker.poll() is None:
                worker.terminate()
            ends.append(worker.wait(15))
    rows = {row.index: row for row in cloud.rows(REGISTRY, batch_id)}
    failed = {index: row for index, row in rows.items() if row.status is TaskStatus.FAILED}
    assert failed.keys() == poisons.keys()
    for row in failed.values():
        assert re.fullmatch(
            r"gave up after 1 attempt: its worker w-\d was lost while it ran", row.error
        )
    assert {row.status for row in rows.values()} == {TaskStatus.FAILED, TaskStatus.SUCCEEDED}
    assert max(row.attempts for row in rows.values()) <= 2
    assert ends.count(-signal.SIGKILL) <= 6  # each was lost twice before anyone was suspected
