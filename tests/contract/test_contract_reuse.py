"""The promises of `TaskMonitor` about results that serve again."""

from __future__ import annotations

from taskfleet.reuse import KeptResult, key
from taskfleet.task import Task


def test_the_first_result_under_a_key_stays(world):
    monitor = world.monitor
    mine = key("alice", Task(0, "square", {"a": 1, "b": 2}))
    assert monitor.kept_results([mine]) == {}
    assert monitor.kept_results([]) == {}
    monitor.keep_result(mine, KeptResult("b/0", {"of": [1, None]}))
    monitor.keep_result(mine, KeptResult("b/1", "another"))
    other = key("alice", Task(0, "square", 2))
    monitor.keep_result(other, KeptResult("b/2", None, "spill/x"))
    assert monitor.kept_results([mine, other, key("bob", Task(0, "square", 2))]) == {
        mine: KeptResult("b/0", {"of": [1, None]}),
        other: KeptResult("b/2", None, "spill/x"),
    }


def test_equal_tasks_of_one_client_share_a_key():
    task = Task(0, "square", {"a": 1, "b": 2})
    assert key("alice", task) == key("alice", Task(7, "square", {"b": 2, "a": 1}))
    others = [
        key("bob", task),
        key("alice", Task(0, "cube", task.params)),
        key("alice", Task(0, "square", {"a": 1})),
    ]
    assert len({key("alice", task), *others}) == 4
