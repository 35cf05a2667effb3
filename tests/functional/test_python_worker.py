"""Functions under the worker daemon: real threads and runner processes, ports in memory."""

from __future__ import annotations

import sys

import cloudpickle
import pytest

from taskfleet.batch import Tally, upload_key
from taskfleet.registry import Registry
from taskfleet.wire import calls
from tests.functional.test_worker import Fleet

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def fleet():
    one = Fleet()
    one.registry = Registry.load(["taskfleet.kinds.python"])
    yield one
    one.stop()


def quick(x):
    return x


def slow(x):
    import time

    time.sleep(0.05)
    return x


def fails(x):
    raise ValueError(x)


def tasks(fleet, function, count):
    data = calls.encode_function(function)
    content = calls.content_id(data)
    fleet.ports.store.put(upload_key("alice", content), data, content_type="x")
    return [
        {
            "kind": "python",
            "params": calls.params("f", content, calls.encode_call([i], {})[0]),
        }
        for i in range(count)
    ]


def test_durations_are_learned_for_each_function_and_for_the_kind(fleet):
    both = [*tasks(fleet, quick, 200), *tasks(fleet, slow, 8)]
    batch_id = fleet.submit(both)
    fleet.start()
    assert fleet.finished(batch_id).tally == Tally(succeeded=208)
    names = [f"python:{both[i]['params']['sha256'][:16]}" for i in (0, -1)]
    paces = fleet.ports.monitor.paces(["python", *names])
    assert [paces[name].tasks for name in ("python", *names)] == [208, 200, 8]
    assert paces[names[0]].mean_s < 0.02 < 0.05 <= paces[names[1]].mean_s


def test_a_failing_function_is_an_answer_and_no_dead_letter(fleet):
    batch_id = fleet.submit([*tasks(fleet, fails, 3), *tasks(fleet, quick, 3)])
    fleet.start()
    assert fleet.finished(batch_id).tally == Tally(succeeded=3, failed=3)
    assert fleet.cloud.dead.receive(10, wait_s=0, visibility_s=1) == []
