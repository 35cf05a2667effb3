import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.task import (
    HISTORY_ERROR_CHARS,
    HISTORY_MAX,
    Attempt,
    Task,
    TaskResult,
    TaskStatus,
    task_id,
)
from taskfleet.wire.taskfile import kind_and_params


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (TaskStatus.QUEUED, False),
        (TaskStatus.RUNNING, False),
        (TaskStatus.SUCCEEDED, True),
        (TaskStatus.FAILED, True),
        (TaskStatus.CANCELLED, True),
    ],
)
def test_three_statuses_are_final(status, final):
    assert status.final is final


def test_a_task_id_names_the_batch_and_the_index():
    assert task_id("b1", 7) == "b1/7"


@pytest.mark.parametrize(
    ("kind", "params", "form"),
    [
        ("sleep", 1000, "sleep 1000"),
        ("sleep", 0, "sleep 0"),
        ("sleep", 0.5, "sleep 0.5"),
        ("note", "two words", "note two words"),
        ("noop", None, "noop"),
        ("flag", True, {"kind": "flag", "params": True}),
        ("flag", False, {"kind": "flag", "params": False}),
        ("list", [], {"kind": "list", "params": []}),
        ("obj", {"a": 1}, {"kind": "obj", "params": {"a": 1}}),
        ("note", "", {"kind": "note", "params": ""}),
        ("note", " padded ", {"kind": "note", "params": " padded "}),
    ],
)
def test_a_task_is_shown_as_a_client_would_write_it(kind, params, form):
    assert Task(0, kind, params).submitted_form == form


@given(st.from_regex(r"\A[A-Za-z0-9_.-]+\Z"), st.none() | st.text() | st.lists(st.integers()))
def test_the_submitted_form_reads_back_as_the_same_task(kind, params):
    assert kind_and_params(Task(3, kind, params).submitted_form) == (kind, params)


@given(
    st.builds(
        TaskResult,
        index=st.integers(0, 2**31),
        status=st.sampled_from(TaskStatus),
        result=st.none() | st.integers(0, 9) | st.text() | st.lists(st.booleans()),
        error=st.none() | st.text(),
        attempts=st.integers(0, 99),
        started_at=st.none() | st.floats(0, 4e9),
        duration_s=st.none() | st.floats(0, 1e6),
        worker_id=st.none() | st.text(),
        progress=st.none() | st.just([3, 10]),
    )
)
def test_a_result_survives_its_wire_form(row):
    assert msgspec.json.decode(msgspec.json.encode(row), type=TaskResult) == row


@pytest.mark.parametrize("text", ["[0]", '["0","sleep",1]', '{"index":0,"kind":"sleep"}', "[]"])
def test_other_json_is_no_task(text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Task)


# --- earlier attempts -------------------------------------------------------------------------


def failed(number, **fields):
    return TaskResult(
        3,
        TaskStatus.QUEUED,
        error=f"oh {number}",
        attempts=number,
        started_at=100.0 * number,
        duration_s=1.0,
        worker_id=f"w-{number}",
        **fields,
    )


def test_the_first_attempt_has_no_earlier_ones():
    row = failed(1)
    assert row.following(None) is row
    assert row.following(TaskResult(3, TaskStatus.RUNNING, started_at=1.0)) is row


def test_a_row_keeps_the_attempts_before_it():
    second = failed(2).following(failed(1, log=("logs/b/0/x", 0, 5, 0)))
    assert second.earlier == [Attempt(1, "w-1", 100.0, 1.0, "oh 1", ("logs/b/0/x", 0, 5, 0))]
    third = failed(3).following(second)
    assert [each.number for each in third.earlier] == [1, 2]


def test_a_row_without_an_attempt_of_its_own_keeps_those_before():
    given_back = TaskResult(3, TaskStatus.QUEUED, attempts=2).following(failed(1))
    gave_up = TaskResult(3, TaskStatus.FAILED, attempts=3).following(given_back)
    assert [each.number for each in gave_up.earlier] == [1]


def test_the_history_is_bounded():
    row = failed(1)
    for number in range(2, 100):
        row = TaskResult(
            3, TaskStatus.QUEUED, error="x" * 5000, attempts=number, duration_s=1.0
        ).following(row)
    assert [each.number for each in row.earlier] == list(range(99 - HISTORY_MAX, 99))
    assert all(len(each.error) <= HISTORY_ERROR_CHARS for each in row.earlier)
    assert msgspec.json.decode(msgspec.json.encode(row), type=TaskResult) == row


def test_rows_of_earlier_versions_are_read():
    old = b'[3,"FAILED",null,"oh",2,1.5,0.5,"w-1",null,null]'
    row = msgspec.json.decode(old, type=TaskResult)
    assert (row.traceback, row.log, row.earlier) == (None, None, None)
