import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.task import Task, TaskResult, TaskStatus, task_id
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
