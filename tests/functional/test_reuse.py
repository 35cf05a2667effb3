"""Results of earlier tasks that serve again, with real workers on memory ports."""

from __future__ import annotations

import pytest

from ec2_worker.attempt import LARGE_RESULT_BYTES
from taskfleet.errors import InvalidTask, PermanentError, TransientError
from taskfleet.options import BatchOptions
from taskfleet.registry import Registry
from tests.functional.test_worker import Fleet
from tests.support.worker import thread_kind


class Counted:
    """A deterministic kind that notes its runs."""

    def __init__(self):
        self.runs = []
        self.kind = thread_kind("square", self.run, deterministic=True, parse=self.parse)
        self.other = thread_kind("cube", self.run)

    @staticmethod
    def parse(raw):
        return int(raw) if isinstance(raw, str) else raw

    def run(self, params, _context):
        self.runs.append(params)
        if params < 0:
            raise PermanentError("negative")
        return {"of": params, "text": "x" * (LARGE_RESULT_BYTES + 1 if params == 9 else 1)}


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def fleet(counted):
    one = Fleet([counted.kind, counted.other])
    one.start()
    yield one
    one.stop()


def ended(fleet, tasks, *, reuse=True, client_id="alice"):
    options = BatchOptions(reuse=True) if reuse else None
    batch_id = fleet.cloud.submit(fleet.registry, tasks, options=options, client_id=client_id)
    batch = fleet.finished(batch_id)
    view = fleet.cloud.results(fleet.registry).results(batch_id, client_id=client_id)
    return batch, view.results


def test_an_equal_task_takes_the_result_and_does_not_run(fleet, counted):
    first, rows = ended(fleet, ["square 3", "square 4"])
    assert [row.reused_from for row in rows] == [None, None]
    batch, again = ended(fleet, [{"kind": "square", "params": 4}, "square 5", "square 3"])
    assert sorted(counted.runs) == [3, 4, 5]
    assert batch.tally.succeeded == 3
    assert [row.result["of"] for row in again] == [4, 5, 3]
    made_by = [row.reused_from for row in again]
    assert made_by == [f"{first.batch_id}/1", None, f"{first.batch_id}/0"]
    assert [row.attempts for row in again] == [0, 1, 0]


def test_a_large_result_serves_again_and_one_that_is_gone_is_made_again(fleet, counted):
    ended(fleet, ["square 9"])
    _, (row,) = ended(fleet, ["square 9"])
    assert row.reused_from
    assert len(row.result["text"]) > LARGE_RESULT_BYTES
    store = fleet.cloud.store
    for key in [key for key in store._objects if key.startswith("spill/")]:
        store.delete(key)
    _, (row,) = ended(fleet, ["square 9"])
    assert row.reused_from is None
    assert len(row.result["text"]) > LARGE_RESULT_BYTES
    assert counted.runs == [9, 9]


def test_nobody_takes_the_results_of_others(fleet, counted):
    ended(fleet, ["square 3"])
    _, (row,) = ended(fleet, ["square 3"], client_id="bob")
    assert row.reused_from is None
    assert counted.runs == [3, 3]


@pytest.mark.parametrize(
    ("tasks", "reuse"),
    [
        (["square 3"], False),  # who does not ask, neither takes nor leaves
        (["cube 3"], True),  # whose kind promises nothing
        (["square -1"], True),  # a failure is no result
    ],
)
def test_what_does_not_serve_again_runs_again(fleet, counted, tasks, reuse):
    ended(fleet, tasks, reuse=reuse)
    ended(fleet, tasks)
    assert len(counted.runs) == 2


def test_a_task_may_ask_by_itself_if_its_kind_is_deterministic(fleet, counted):
    for _ in range(2):
        ended(fleet, [{"kind": "square", "params": 3, "reuse": True}, "square 4"], reuse=False)
    assert sorted(counted.runs) == [3, 4, 4]
    with pytest.raises(InvalidTask, match="task 0: reuse: kind cube is not deterministic"):
        ended(fleet, [{"kind": "cube", "params": 3, "reuse": True}], reuse=False)


@pytest.mark.parametrize("method", ["kept_results", "keep_result"])
def test_a_table_that_does_not_answer_costs_the_reuse_only(fleet, counted, method, monkeypatch):
    def fail(*_arguments):
        raise TransientError("busy")

    monkeypatch.setattr(fleet.cloud.monitor, method, fail)
    for _ in range(2):
        batch, _ = ended(fleet, ["square 3"])
        assert batch.tally.succeeded == 1
    assert counted.runs == [3, 3]


def test_the_kind_of_movies_is_deterministic():
    assert Registry.load(["animoto.kind"])["animoto"].deterministic
