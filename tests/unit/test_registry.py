import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import InvalidTask, SettingsError, TaskStopped, UnknownKind
from taskfleet.registry import (
    SLEEP_MAX_MS,
    Registry,
    TaskKind,
    sleep,
    task_kind,
)
from taskfleet.retry import RetryPolicy
from taskfleet.task import Task
from taskfleet.wire.taskfile import kind_and_params
from tests.support.worker import run_nothing

REGISTRY = Registry.load()
HUGE = 10**5000  # too long for Python to convert to text


def kind(name="note", **options):
    return TaskKind(name=name, run=run_nothing, **options)


@pytest.fixture
def module(monkeypatch):
    """Returns a function that makes a module which `Registry.load` can import."""

    def make(name, **values):
        made = types.ModuleType(name)
        vars(made).update(values)
        monkeypatch.setitem(sys.modules, name, made)
        return name

    return make


# --- what a client submits ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "name", "params"),
    [
        ("sleep 1000", "sleep", "1000"),
        ("  sleep   1000  ", "sleep", "1000"),
        ("sleep\t1000", "sleep", "1000"),
        ("sleep", "sleep", None),
        ("sleep ", "sleep", None),
        ("note two  words", "note", "two  words"),
        ({"kind": "note"}, "note", None),
        ({"kind": "note", "params": None}, "note", None),
        ({"kind": "note", "params": {"a": [1]}}, "note", {"a": [1]}),
        ({"kind": "note", "params": " as is "}, "note", " as is "),
    ],
)
def test_a_task_is_text_or_an_object(raw, name, params):
    assert kind_and_params(raw) == (name, params)


BAD_TASKS = [
    ("", "is empty"),
    (" \t\n", "is empty"),
    (None, "must be text like"),
    (5, "must be text like"),
    (True, "must be text like"),
    ([], "must be text like"),
    ([["sleep 1"] * 1_000_000], "must be text like"),
    ({}, "needs a kind"),
    ({"params": 1}, "needs a kind"),
    ({"kind": ""}, "needs a kind"),
    ({"kind": 5}, "needs a kind"),
    ({"kind": None}, "needs a kind"),
    ({"kind": ["sleep"]}, "needs a kind"),
    ({"kind": "sleep", "parms": 1}, "has an unknown field 'parms'"),
    ({"kind": "sleep", "x" * 1_000_000: 1}, "has an unknown field"),
    ("nap 5", "unknown kind 'nap'; known: sleep"),
    ("Sleep 5", "unknown kind"),
    (
        "command ls",
        "unknown kind 'command'; known: sleep; enable it with "
        "TASKFLEET_KINDS=taskfleet.kinds.command",
    ),
    ("x" * 1_000_000, "unknown kind"),
    ({"kind": "x" * 1_000_000}, "unknown kind"),
    ({"kind": "__class__"}, "unknown kind"),
    ("sleep", "sleep needs a number of milliseconds, not None"),
    ("sleep soon", "not 'soon'"),
    ("sleep " + "x" * 1_000_000, "sleep needs a number"),
    ("sleep 1 2", "sleep needs a number"),
    ("sleep 0x10", "sleep needs a number"),
    ("sleep 1_000", "sleep needs a number"),
    ("sleep ٣", "sleep needs a number"),
    ("sleep -1", "sleep -1 is negative"),
    ("sleep -1e-9", "is negative"),
    ("sleep nan", "sleep needs a number"),
    ("sleep inf", "sleep needs a number"),
    ("sleep 1e400", "sleep needs a number"),
    (f"sleep {SLEEP_MAX_MS + 1}", "over the cap of 86400000 ms"),
    ({"kind": "sleep", "params": 10**19}, "over the cap"),
    ({"kind": "sleep", "params": 10**400}, "sleep needs a number"),
    ({"kind": "sleep", "params": HUGE}, "sleep cannot read its params"),
    ({"kind": "sleep", "params": float("nan")}, "sleep needs a number"),
    ({"kind": "sleep", "params": float("inf")}, "sleep needs a number"),
    ({"kind": "sleep", "params": True}, "sleep needs a number"),
    ({"kind": "sleep", "params": [5]}, "sleep needs a number"),
    ({"kind": "sleep", "params": {"ms": 5}}, "sleep needs a number"),
]


def short(value):
    is_huge = isinstance(value, dict) and value.get("params") == HUGE
    return "huge" if is_huge else repr(value)[:30]


@pytest.mark.parametrize(("raw", "reason"), BAD_TASKS, ids=short)
def test_a_bad_task_is_refused_by_its_index_with_a_short_reason(raw, reason):
    with pytest.raises(InvalidTask, match=reason) as caught:
        REGISTRY.parse(raw, 7)
    assert caught.value.index == 7
    assert str(caught.value) == f"task 7: {caught.value.reason}"
    assert len(str(caught.value)) < 160


def test_an_unknown_kind_can_be_told_from_bad_params():
    with pytest.raises(UnknownKind):
        REGISTRY.parse("nap 5", 0)
    with pytest.raises(InvalidTask) as caught:
        REGISTRY.parse("sleep x", 0)
    assert not isinstance(caught.value, UnknownKind)


@pytest.mark.parametrize(
    ("raw", "params"),
    [
        ("sleep 1000", 1000),
        ("sleep 0", 0),
        ("sleep -0", 0),
        ("sleep 1e3", 1000),
        ("sleep 0.5", 0.5),
        (f"sleep {SLEEP_MAX_MS}", SLEEP_MAX_MS),
        ({"kind": "sleep", "params": 5}, 5),
        ({"kind": "sleep", "params": 5.0}, 5),
        ({"kind": "sleep", "params": "5"}, 5),
    ],
)
def test_sleep_takes_milliseconds_in_any_plain_spelling(raw, params):
    task = REGISTRY.parse(raw, 3)
    assert task == Task(3, "sleep", params)
    assert type(task.params) is type(params)


@given(st.one_of(st.integers(0, SLEEP_MAX_MS), st.floats(0, SLEEP_MAX_MS)))
def test_a_parsed_task_stays_the_same_when_parsed_again(ms):
    task = REGISTRY.parse({"kind": "sleep", "params": ms}, 0)
    assert task.params == ms
    assert REGISTRY.revalidate(task) == task
    if len(str(task.params)) <= 20:
        assert REGISTRY.parse(task.submitted_form, 0) == task


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(ANY_JSON | st.builds(lambda p: {"kind": "sleep", "params": p}, ANY_JSON))
def test_any_json_is_a_task_or_an_invalid_task(raw):
    try:
        task = REGISTRY.parse(raw, 0)
    except InvalidTask:
        return
    assert task.kind == "sleep"
    assert 0 <= task.params <= SLEEP_MAX_MS


# --- what is read from the queue ------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Task(4, "nap", 5), "task 4: unknown kind 'nap'"),
        (Task(4, "sleep", -5), "task 4: sleep -5 is negative"),
        (Task(4, "sleep", 10**400), "task 4: sleep needs a number"),
        (Task(4, "sleep", None), "task 4: sleep needs a number"),
    ],
)
def test_a_task_from_the_queue_is_validated_again(task, reason):
    with pytest.raises(InvalidTask, match=reason):
        REGISTRY.revalidate(task)


def test_a_task_of_2014_becomes_canonical():
    assert REGISTRY.revalidate(Task(0, "sleep", "8000")) == Task(0, "sleep", 8000)


@pytest.mark.parametrize(
    ("parse", "params", "reason"),
    [
        (int, "five", "ValueError: invalid literal"),
        (lambda params: params["url"], {}, "KeyError: 'url'"),
        (lambda params: params["url"], None, "TypeError: 'NoneType' object"),
        (lambda params: 1 / params, 0, "ZeroDivisionError"),
    ],
)
def test_any_error_of_a_kind_s_parser_makes_that_task_invalid(parse, params, reason):
    registry = Registry([kind(parse=parse)])
    with pytest.raises(InvalidTask, match=f"task 2: note cannot read its params: {reason}"):
        registry.parse({"kind": "note", "params": params}, 2)
    with pytest.raises(InvalidTask, match=f"task 2: note cannot read its params: {reason}"):
        registry.revalidate(Task(2, "note", params))


# --- kinds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [InvalidTask, ValueError])
def test_the_reason_of_a_kind_is_one_line(error):
    def parse(params):
        raise error(f"unknown field {params}")

    with pytest.raises(InvalidTask) as caught:
        Registry([kind(parse=parse)]).parse({"kind": "note", "params": "a\n\x1b[2J"}, 3)
    assert str(caught.value).isprintable()
    assert r"unknown field a\n\x1b[2J" in str(caught.value)


def test_the_decorator_makes_a_kind_of_a_function():
    @task_kind("echo", retry=RetryPolicy(max_attempts=7))
    def echo(params, context):
        return params

    assert isinstance(echo, TaskKind)
    assert echo.name == "echo"
    assert echo.retry.max_attempts == 7
    assert echo.run("hi", None) == "hi"


def test_the_defaults_of_a_kind():
    registry = Registry([kind()])
    assert registry.parse("note", 0) == Task(0, "note", None)
    assert registry.parse("note a b", 0) == Task(0, "note", "a b")
    assert registry["note"].expected_s("a") is None
    assert registry["note"].max_concurrent() is None
    assert registry["note"].present({"a": 1}, None) == {"a": 1}
    registry["note"].prepare()
    registry["note"].check()


@pytest.mark.parametrize(
    ("task", "estimates", "seconds"),
    [
        (Task(0, "sleep", 1500), {}, 1.5),
        (Task(0, "sleep", 1500), {"sleep": 9.0}, 1.5),
        (Task(0, "sleep", 0), {"sleep": 9.0}, 0.0),
        (Task(0, "note", "x"), {"note": 9.0}, 9.0),
        (Task(0, "note", "x"), {"sleep": 9.0}, None),
    ],
)
def test_a_kind_s_prediction_takes_precedence_over_the_estimate(task, estimates, seconds):
    assert Registry([sleep, kind()]).expected_s([task], estimates) == [seconds]


def test_kinds_are_loaded_from_modules_by_name(module):
    note, other = kind("note"), kind("a.b-c_2")
    loaded = Registry.load([module("kinds_a", note=note, sleep=sleep), module("kinds_b", o=other)])
    assert loaded.names == ["a.b-c_2", "note", "sleep"]
    assert loaded["note"] is note


def test_one_kind_under_two_names_or_in_two_modules_is_one_kind(module):
    note = kind()
    assert Registry.load([module("kinds_a", note=note, again=note)] * 2).names == ["note", "sleep"]


def test_two_kinds_of_one_name_are_refused(module):
    with pytest.raises(SettingsError, match="two task kinds are called 'sleep'"):
        Registry.load([module("kinds_a", nap=kind("sleep"))])


@pytest.mark.parametrize("name", ["", "two words", "a\tb", "a\n", "a/b", "ü", "x" * 65])
def test_a_kind_that_no_client_could_name_is_refused(name):
    with pytest.raises(SettingsError, match="name"):
        Registry([kind(name)])


@pytest.mark.parametrize("name", ["no_such_module", "taskfleet.no_such_module", "", ".relative"])
def test_a_module_that_cannot_be_imported_is_named(name):
    with pytest.raises(SettingsError, match=f"task kinds: cannot import {name!r}"):
        Registry.load([name])


def test_a_module_without_kinds_is_named(module):
    with pytest.raises(SettingsError, match="module 'kinds_a' defines no TaskKind"):
        Registry.load([module("kinds_a", note="no kind", TaskKind=TaskKind)])


# --- sleep ----------------------------------------------------------------------------------


class Context:
    """The part of a TaskContext that `sleep` uses."""

    def __init__(self, stopped=False):
        self.stopped = stopped
        self.slept = []

    def sleep(self, seconds):
        if self.stopped:
            raise TaskStopped("drain")
        self.slept.append(seconds)


@pytest.mark.parametrize(("ms", "slept"), [(1500, [1.5]), (0.5, [0.0005]), (0, [])])
def test_sleep_waits_in_its_context_and_returns_nothing(ms, slept):
    context = Context()
    assert sleep.run(ms, context) is None
    assert context.slept == slept


def test_sleep_ends_when_its_context_does():
    with pytest.raises(TaskStopped):
        sleep.run(1000, Context(stopped=True))


class TestWhereAKindRuns:
    def test_in_a_process_unless_told_otherwise(self):
        echo = task_kind("echo")(run_nothing)
        assert (echo.runs_in, echo.timeout_s, echo.memory_mb) == ("process", None, None)
        assert sleep.runs_in == "thread"

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            ({"runs_in": "fiber"}, "runs_in is 'process' or 'thread', not 'fiber'"),
            ({"timeout_s": 0}, "timeout_s is above 0 and at most 86400, not 0"),
            ({"timeout_s": 86_401}, "timeout_s is above 0 and at most 86400, not 86401"),
            ({"timeout_s": float("nan")}, "timeout_s is above 0"),
            ({"memory_mb": 31}, "memory_mb is at least 32, not 31"),
            (
                {"memory_mb": 64, "runs_in": "thread"},
                "memory_mb is for kinds that run in a process",
            ),
        ],
    )
    def test_limits_that_cannot_be_kept_are_refused(self, options, fault):
        with pytest.raises(SettingsError, match=f"task kind 'k': {fault}"):
            kind("k", **options)
