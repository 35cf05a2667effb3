"""Which options of kind, batch and task count, and what of them stands in messages and records."""

import json

import pytest

from taskfleet.batch import BatchRecord
from taskfleet.bundle import Bundle
from taskfleet.errors import InvalidTask, TransientError, Undecodable
from taskfleet.options import Limits, Options, limits
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.retry import RetryDecision, RetryPolicy
from taskfleet.scheduler.record import payload_hash
from taskfleet.task import Task
from taskfleet.wire.queues import decode_bundle, encode_bundle
from tests.unit.test_bundle import BATCH, validate

THREAD = TaskKind("t", run=lambda _params, _context: None, runs_in="thread", timeout_s=8)
KIND = TaskKind("k", run=lambda _params, _context: None)
CAREFUL = TaskKind(
    "careful",
    run=lambda _params, _context: None,
    timeout_s=60,
    memory_mb=256,
    retry_timeouts=True,
    retry=RetryPolicy(max_attempts=7),
)
ALL = Options(timeout_s=2, max_attempts=3, memory_mb=512, retry_timeouts=False)


@pytest.mark.parametrize(
    ("kind", "batch", "task", "counts"),
    [
        (KIND, None, None, Limits(None, 5, None, False)),
        (CAREFUL, None, None, Limits(60, 7, 256, True)),
        (KIND, ALL, None, Limits(2, 3, 512, False)),
        (CAREFUL, ALL, None, Limits(2, 3, 512, False)),
        (CAREFUL, None, ALL, Limits(2, 3, 512, False)),
        (CAREFUL, Options(timeout_s=9, max_attempts=2), ALL, Limits(2, 3, 512, False)),
        (CAREFUL, Options(timeout_s=9), Options(max_attempts=1), Limits(9, 1, 256, True)),
        (
            KIND,
            Options(retry_timeouts=True),
            Options(retry_timeouts=False),
            Limits(None, 5, None, False),
        ),
        (KIND, ALL, Options(), Limits(2, 3, 512, False)),
        (THREAD, ALL, ALL, Limits(2, 3, None, False)),
        (THREAD, Options(memory_mb=64), None, Limits(8, 5, None, False)),
    ],
)
def test_the_nearest_option_counts(kind, batch, task, counts):
    assert limits(kind, batch, task) == counts
    under = kind.under(batch, task)
    assert (
        Limits(under.timeout_s, under.retry.max_attempts, under.memory_mb, under.retry_timeouts)
        == counts
    )


def test_the_retry_decision_follows_the_options():
    decide = KIND.under(ALL, None).retry.decide
    error = TransientError("503")
    assert [decide(error, n) for n in (2, 3)] == [RetryDecision.RETRY, RetryDecision.EXHAUSTED]
    assert KIND.under(None, None) is KIND


# --- what a client submits ------------------------------------------------------------------


def test_a_task_object_may_have_options():
    raw = {"kind": "sleep", "params": 5, "timeout_s": 2, "max_attempts": 3, "retry_timeouts": None}
    task = Registry([sleep]).parse(raw, 4)
    assert task == Task(4, "sleep", 5, Options(timeout_s=2, max_attempts=3))
    assert task.submitted_form == {
        "kind": "sleep",
        "params": 5,
        "timeout_s": 2,
        "max_attempts": 3,
    }
    assert Registry([sleep]).parse(task.submitted_form, 4) == task


def test_options_that_say_nothing_are_none():
    task = Registry([sleep]).parse({"kind": "sleep", "params": 5, "timeout_s": None}, 0)
    assert task == Task(0, "sleep", 5)
    assert task.submitted_form == "sleep 5"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("timeout_s", 0, "timeout_s: Expected `float` > 0"),
        ("timeout_s", -1, "timeout_s: Expected `float` > 0"),
        ("timeout_s", 86_401, "timeout_s: Expected `float` <= 86400"),
        ("timeout_s", "2", "timeout_s: Expected `float | null`, got `str`"),
        ("timeout_s", True, "timeout_s: Expected `float | null`, got `bool`"),
        ("max_attempts", 0, "max_attempts: Expected `int` >= 1"),
        ("max_attempts", 101, "max_attempts: Expected `int` <= 100"),
        ("max_attempts", 1.5, "max_attempts: Expected `int | null`, got `float`"),
        ("memory_mb", 31, "memory_mb: Expected `int` >= 32"),
        ("memory_mb", 10**9, "memory_mb: Expected `int` <= 16777216"),
        ("retry_timeouts", 1, "retry_timeouts: Expected `bool | null`, got `int`"),
        ("memory_mb", 64, "memory_mb: tasks of kind sleep run in a thread"),
        ("retries", 1, "has an unknown field 'retries'"),
    ],
)
def test_a_bad_option_is_named_with_its_task(field, value, reason):
    with pytest.raises(InvalidTask, match=r"^task 3") as caught:
        Registry([sleep]).parse({"kind": "sleep", "params": 5, field: value}, 3)
    assert caught.value.reason.startswith(reason)


def test_the_hash_of_a_payload_has_its_options():
    plain = payload_hash("n", ["sleep 1"])
    assert plain == payload_hash("n", ["sleep 1"], None)
    hashes = {payload_hash("n", ["sleep 1"], Options(timeout_s=s)) for s in (1, 2)}
    assert len(hashes | {plain}) == 3


# --- messages -------------------------------------------------------------------------------


def bundle(*tasks, **fields):
    return Bundle(f"{BATCH}:0", "alice", BATCH, list(tasks), **fields)


def test_a_message_without_options_is_as_before():
    text = encode_bundle(bundle(Task(0, "sleep", 5), Task(1, "noop")))
    assert text == (
        f'{{"v":1,"job_id":"{BATCH}:0","client_id":"alice","batch_id":"{BATCH}",'
        '"tasks":[[0,"sleep",5],[1,"noop",null]]}'
    )
    assert decode_bundle(text) == bundle(Task(0, "sleep", 5), Task(1, "noop"))


def test_a_message_carries_the_options_of_batch_and_tasks():
    sent = bundle(Task(0, "sleep", 5), Task(1, "noop", None, ALL), options=Options(timeout_s=60))
    text = encode_bundle(sent)
    fields = json.loads(text)
    assert fields["options"] == {"timeout_s": 60}
    assert fields["tasks"] == [
        [0, "sleep", 5],
        [
            1,
            "noop",
            None,
            {"timeout_s": 2, "max_attempts": 3, "memory_mb": 512, "retry_timeouts": False},
        ],
    ]
    assert decode_bundle(text) == sent
    validate("task_to_process", text)


@pytest.mark.parametrize(
    "forged",
    [
        {"timeout_s": -1},
        {"timeout_s": 1e9},
        {"max_attempts": 10**6},
        {"memory_mb": 0},
        {"retry_timeouts": "yes"},
        [],
        7,
    ],
)
@pytest.mark.parametrize("where", ["batch", "task"])
def test_forged_options_are_refused(forged, where):
    fields = json.loads(encode_bundle(bundle(Task(0, "sleep", 5))))
    if where == "batch":
        fields["options"] = forged
    else:
        fields["tasks"][0].append(forged)
    with pytest.raises(Undecodable, match="not a bundle"):
        decode_bundle(json.dumps(fields))


def test_a_record_made_before_options_has_none():
    assert BatchRecord("b", "c", None, 0.0, 1, 1, "h", closed=True).options is None
