import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from taskfleet.batch import Tally
from taskfleet.bundle import (
    BUNDLE_MAX_S,
    QUICKEST_TASK_S,
    UNKNOWN_TASK_S,
    Bundle,
    LegacyIds,
    Response,
    bundle_number,
    cut,
    depends_on_slots,
    job_id,
    target_s,
)
from taskfleet.errors import Undecodable
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult, TaskStatus, compacted
from taskfleet.wire.queues import (
    LegacyResponseMessage,
    decode_bundle,
    decode_response,
    encode_bundle,
    encode_response,
)

BATCH = "b" * 26
"""Id of a batch."""


SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def tasks_of(count, kind="sleep", params=0):
    return [Task(index, kind, params) for index in range(count)]


def seconds(task):
    return None if task.params is None else task.params / 1000


def validate(name, text):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(text))


# --- cutting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "slots", "sizes"),
    [
        ([0] * 5000, 16, [2000, 2000, 1000]),
        ([1000] * 80, 16, [2] * 40),
        ([1000] * 80, 64, [2] * 40),
        ([250] * 63, 16, [8] * 7 + [7]),
        ([270] * 64, 16, [7] * 9 + [1]),
        ([600] * 8, 16, [3, 3, 2]),
        ([700] * 8, 16, [2] * 4),
        ([1500] * 80, 16, [1] * 80),
        ([8000] * 3, 16, [1, 1, 1]),
        ([None] * 3, 16, [1, 1, 1]),
        ([None] * 2000, 16, [8] * 250),
        ([0, 0, 8000, 0], 1, [2, 1, 1]),
        ([10] * 100, 16, [100]),
        ([100] * 100, 4, [20] * 5),
        ([100] * 640, 160, [20] * 32),
        ([None] * 128, 16, [4] * 32),
        ([None] * 128, 160, [1] * 128),
        ([None, *[170] * 55], 16, [1, *[2] * 27, 1]),  # two are nearer to 0.3 s than one is
        ([], 16, []),
    ],
)
def test_bundles_hold_two_seconds_of_work_and_less_where_durations_are_unknown(
    params, slots, sizes
):
    tasks = [Task(i, "sleep", p) for i, p in enumerate(params)]
    assert [len(run) for run in cut(tasks, [*map(seconds, tasks)], slots=slots)] == sizes


@pytest.mark.parametrize(
    ("params", "depends"),
    [
        ([0] * 10_000, False),
        ([1000] * 400, False),
        ([None] * 32, False),  # 8 s: the most that 32 bundles of the least work hold
        ([None] * 64, True),
        ([None, *[100] * 400], True),
    ],
)
def test_unknown_durations_and_the_work_decide_if_a_cut_depends_on_the_slots(params, depends):
    tasks = [Task(i, "sleep", p) for i, p in enumerate(params)]
    expected_s = [*map(seconds, tasks)]
    total_s = sum(UNKNOWN_TASK_S if s is None else s for s in expected_s)
    assert depends_on_slots(total_s, unknown=None in expected_s) is depends
    # Fleets of at least 16 slots get different bundles if the answer is yes, the same if it is no.
    sizes = {
        tuple(len(run) for run in cut(tasks, expected_s, slots=slots))
        for slots in (16, 64, 160, 16_000)
    }
    assert (len(sizes) > 1) is depends


def test_a_bundle_stays_within_one_billing_chunk_of_sqs():
    tasks = [Task(i, "note", "x" * 500) for i in range(1000)]
    runs = list(cut(tasks, [0.0] * len(tasks)))
    for number, run in enumerate(runs):
        body = encode_bundle(Bundle(job_id("b" * 26, number), "client", "b" * 26, run))
        assert len(body.encode()) <= 64 * 1024
    assert len(runs) == 9


def test_an_oversized_task_gets_a_bundle_of_its_own():
    tasks = [Task(0, "n", ""), Task(1, "n", "x" * 100_000), Task(2, "n", "")]
    assert [len(run) for run in cut(tasks, [0.0] * len(tasks))] == [1, 1, 1]


@given(st.lists(st.one_of(st.none(), st.integers(0, 5000)), max_size=300), st.integers(1, 50))
def test_cutting_keeps_every_task_once_and_in_order_within_the_caps(params, max_tasks):
    tasks = [Task(i, "sleep", p) for i, p in enumerate(params)]
    runs = list(cut(tasks, [*map(seconds, tasks)], max_tasks=max_tasks))
    assert [task for run in runs for task in run] == tasks
    for run in runs:
        assert 1 <= len(run) <= max_tasks
        assert len(run) == 1 or sum(seconds(t) or 0 for t in run) <= BUNDLE_MAX_S + 1e-6
    assert list(cut(tasks, [*map(seconds, tasks)], max_tasks=max_tasks)) == runs


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 5000)), st.integers(0, 30)), max_size=80
    ),
    st.integers(1, 20),
    st.integers(1, 64),
    st.integers(1, 900),
)
def test_a_bundle_ends_where_one_task_after_the_other_would_end_it(drawn, max_tasks, slots, most):
    tasks = [Task(i, "sleep", "x" * chars) for i, (_, chars) in enumerate(drawn)]
    expected = [None if ms is None else ms / 1000 for ms, _ in drawn]
    costs = [UNKNOWN_TASK_S if s is None else max(s, QUICKEST_TASK_S) for s in expected]
    target = target_s(sum(costs), slots, unknown=None in expected)
    sizes, held_s, held_bytes = [], 0.0, 0
    for task, cost in zip(tasks, costs, strict=True):
        size = len(msgspec.json.encode(compacted([task])[0])) + 1
        full = held_s + cost / 2 >= target - 1e-9 or held_s + cost > BUNDLE_MAX_S + 1e-9
        if not sizes or full or sizes[-1] >= max_tasks or held_bytes + size > most:
            sizes.append(0)
            held_s, held_bytes = 0.0, 0
        sizes[-1] += 1
        held_s += cost
        held_bytes += size
    bundles = cut(tasks, expected, slots=slots, max_tasks=max_tasks, max_bytes=most)
    assert [len(run) for run in bundles] == sizes


def message(**fields):
    """A message of `Task_to_process` with some fields replaced."""
    return json.dumps(
        {
            "v": 1,
            "job_id": f"{BATCH}:1",
            "client_id": "c",
            "batch_id": BATCH,
            "tasks": [[0, "s", 1]],
            **fields,
        }
    )


# --- the wire -------------------------------------------------------------------------------


def test_a_bundle_survives_the_wire_and_fits_its_schema():
    bundle = Bundle(
        f"{BATCH}:7", "alice", BATCH, [Task(0, "sleep", 5), Task(1, "x", {"a": [1, None]})]
    )
    text = encode_bundle(bundle)
    assert json.loads(text)["tasks"] == [[0, "sleep", 5], [1, "x", {"a": [1, None]}]]
    assert json.loads(text)["v"] == 1
    assert decode_bundle(text) == bundle
    validate("task_to_process", text)


def test_characters_that_sqs_refuses_are_escaped():
    bundle = Bundle(f"{BATCH}:0", "a", BATCH, [Task(0, "note", "\uffff and \ufffe")])
    text = encode_bundle(bundle)
    assert not {"\uffff", "\ufffe"} & set(text)
    assert decode_bundle(text) == bundle


def test_a_message_of_2014_is_a_bundle_of_one():
    text = '{"clientID": 56783, "jobID": 152, "task": "sleep 8000"}'
    bundle = decode_bundle(text)
    assert bundle.job_id == "56783;152"
    assert bundle.tasks == [Task(0, "sleep", "8000")]
    assert bundle.batch_id == ""
    validate("task_to_process", text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a bundle"),
        ("hello", "not a bundle"),
        ("[1]", "not a bundle"),
        ("{}", "not a bundle"),
        ("[" * 100_000, "not a bundle"),
        (message(v=2), "version 2"),
        (message(tasks=[]), "without tasks"),
        (message(tasks=[[0]]), "not a bundle"),
        (message(tasks=[[0, "s", 1], [0, "s", 1]]), "index twice"),
        (message(tasks=[[-1, "s", 1]]), "index -1"),
        (message(tasks=[[index, "s", 1] for index in range(2_001)]), "2001 tasks"),
        (message(job_id="kind/echo"), "does not belong"),
        (message(job_id="fleet/state", batch_id="fleet/state"), "not the id of a batch"),
        (message(job_id=BATCH), "does not belong"),
        (message(job_id=f"{BATCH}:01"), "does not belong"),
        (message(job_id=f"{BATCH}:" + "9" * 5_000), "does not belong"),
        (message(client_id=""), "not the id of a client"),
        (message(client_id="\nworkers"), "not the id of a client"),
        (message(client_id="x" * 129), "not the id of a client"),
        (message(v="1"), "not a bundle"),
        ('{"clientID": "", "jobID": 1, "task": "sleep 1"}', "not a bundle"),
        ('{"clientID": 1, "jobID": "' + "x" * 129 + '", "task": "sleep 1"}', "not a bundle"),
        ('{"clientID": 1, "jobID": 2, "task": "sleep 1", "v": 1}', "not a bundle"),
        ('{"clientID": 1, "task": "sleep 1"}', "not a bundle"),
        ('{"clientID": 1, "jobID": [], "task": "sleep 1"}', "not a bundle"),
    ],
)
def test_other_messages_are_no_bundles_and_the_error_says_why(text, reason):
    with pytest.raises(Undecodable, match=reason):
        decode_bundle(text)


def test_a_response_survives_the_wire_and_fits_its_schema():
    rows = [
        TaskResult(0, TaskStatus.SUCCEEDED, {"n": 1}, None, 1, 1.5, 0.25, "w-1"),
        TaskResult(1, TaskStatus.FAILED, None, "no", 3),
    ]
    response = Response(
        f"{BATCH}:7", "alice", BATCH, rows, timings={"movie": Sample(1, 0.25, 0.0625)}
    )
    text = encode_response(response)
    assert decode_response(text) == response
    validate("processed_task", text)


def test_the_answer_to_a_message_of_2014_has_the_form_of_2014():
    rows = [TaskResult(0, TaskStatus.FAILED, None, "no such kind", 1)]
    text = encode_response(Response("1;2", "1", "", rows, LegacyIds(1, 2)))
    assert json.loads(text) == {
        "clientID": 1,
        "jobID": 2,
        "status": "FAILED",
        "result": "no such kind",
    }
    assert isinstance(decode_response(text), LegacyResponseMessage)
    validate("processed_task", text)


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"v":9,"job_id":"b:1"}', "[" * 100_000])
def test_other_messages_are_no_responses(text):
    with pytest.raises(Undecodable):
        decode_response(text)


def test_ids():
    assert job_id("b", 12) == "b:12"
    assert bundle_number("b:12") == 12
    with pytest.raises(ValueError, match="invalid literal"):
        bundle_number("56783;152")


def test_a_tally_counts_final_statuses_only():
    rows = [TaskResult(i, status) for i, status in enumerate(TaskStatus)]
    assert Tally.of(rows) == Tally(1, 1, 1)
    assert Tally(1, 2, 3) + Tally(1, 1, 1) == Tally(2, 3, 4)
    assert Tally(1, 2, 3).total == 6


def test_results_on_the_wire_are_arrays():
    assert msgspec.json.encode(TaskResult(3, TaskStatus.SUCCEEDED)).startswith(b'[3,"SUCCEEDED"')
