"""Calls of pickled functions in runner processes. Real processes, a store in memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types

import cloudpickle
import pytest

from taskfleet.batch import upload_key
from taskfleet.errors import TaskFailed
from taskfleet.options import Options
from taskfleet.task import TaskStatus
from taskfleet.wire import calls
from tests.support.calls import REGISTRY, Calls

F, S, Q = TaskStatus.FAILED, TaskStatus.SUCCEEDED, TaskStatus.QUEUED
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def shared():
    made = Calls()
    yield made
    made.executor.close()


@pytest.fixture
def fresh():
    made = Calls()
    yield made
    made.executor.close()


class Point:
    """A class of the client's own, sent along by value."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

    __hash__ = None


class Mine(Exception):
    """An exception of the client's own."""


def test_a_function_with_what_it_closes_over(shared):
    factor = 3
    rows = shared.run([shared.params(lambda x: x * factor, i) for i in range(5)])
    assert [row.result for row in rows] == [0, 3, 6, 9, 12]
    assert {row.status for row in rows} == {S}


@pytest.mark.parametrize(
    "value",
    [None, True, 1.0, "é", [1, {"a": []}], (1, 2), {3}, b"x", 10**30, float("inf"), {"$pickle": 1}],
    ids=repr,
)
def test_values_come_and_go_the_same(shared, value):
    def same(value, key=None):
        assert value == key
        return value

    back = shared.call(same, value, key=value)
    assert (type(back), back) == (type(value), value)


def test_objects_of_the_clients_own_classes(shared):
    back = shared.call(lambda point: Point(point.x + 1), Point(1))
    assert back == Point(2)


def test_large_arguments_and_results_go_through_the_store(shared):
    data = os.urandom(3_000_000)
    row = shared.run([shared.params(lambda data: data[::-1], data)])[0]
    assert row.result["$stored"].startswith("results/b/0/")
    assert row.result["bytes"] > 3_000_000
    assert shared.outcome(row) == data[::-1]
    shown = REGISTRY["python"].present(row.result, shared.store)
    assert shown["url"] == "memory://" + row.result["$stored"]


def test_a_thousand_calls_fetch_their_function_once(fresh):
    function = calls.encode_function(lambda x: (x, os.getpid()))
    rows = fresh.run([fresh.params(function, i) for i in range(1000)])
    values = [fresh.outcome(row) for row in rows]
    assert [x for x, _ in values] == list(range(1000))
    processes = {pid for _, pid in values}
    assert os.getpid() not in processes
    assert len(fresh.store.reads) == len(processes) == 1


def test_functions_of_two_clients_are_not_mixed(fresh):
    params = fresh.params(lambda: "of alice")
    assert fresh.run([params])[0].result == "of alice"
    row = fresh.run([params], client="mallory")[0]
    assert row.status is F
    assert row.error.startswith("the function f is not in the store: uploads expire")


def test_trouble_with_the_store_is_waited_out(fresh):
    params = fresh.params(lambda: 1)
    fresh.store.trouble = 3
    row = fresh.run([params])[0]
    assert (row.status, row.attempts) == (S, 1)
    assert len(fresh.store.reads) == 4


# --- failures --------------------------------------------------------------------------------


def test_what_the_function_raises_comes_back(shared):
    def inner():
        raise Mine("bad", 3)

    def outer():
        inner()

    row = shared.run([shared.params(outer)])[0]
    assert (row.status, row.attempts) == (F, 1)
    assert row.error == "Mine: ('bad', 3)"
    assert [line.split(", in ")[-1] for line in row.traceback.splitlines() if "File" in line] == [
        "outer",
        "inner",
    ]
    with pytest.raises(Mine) as caught:
        shared.outcome(row)
    assert caught.value.args == ("bad", 3)
    assert ", in inner" in str(caught.value.__cause__)
    assert shared.claimed.poison is None  # it is an answer, and no dead letter


def ends():
    sys.exit(4)


def interrupts():
    signal.raise_signal(signal.SIGINT)


def deep():
    return deep()


class Hidden(Exception):
    """An exception that cannot be read again."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")

    def __str__(self):
        raise RuntimeError("no text")


def hides():
    raise Hidden(1, 2)


def missing():
    import nowhere_at_all  # noqa: F401


@pytest.mark.parametrize(
    ("function", "error", "cls"),
    [
        (ends, "SystemExit: 4", SystemExit),
        (interrupts, "KeyboardInterrupt", KeyboardInterrupt),
        (deep, "RecursionError: maximum recursion depth exceeded", RecursionError),
        (hides, "Hidden: (the error has no text)", TaskFailed),
        (
            missing,
            "ModuleNotFoundError: No module named 'nowhere_at_all'; the workers do not have "
            "it: name its package in requirements=[...], or",
            ModuleNotFoundError,
        ),
    ],
)
def test_every_exception_is_the_calls_failure(shared, function, error, cls):
    rows = shared.run([shared.params(function), shared.params(abs, -1)])
    assert rows[0].error.startswith(error)
    assert f", in {function.__name__}" in rows[0].traceback
    with pytest.raises(cls):
        shared.outcome(rows[0])
    assert rows[1].result == 1


def foreign(name="client_only"):
    """A function of a module that the workers do not have."""
    module = types.ModuleType(name)
    exec("def f():\n    return 1", module.__dict__)
    module.f.__module__ = name
    sys.modules[name] = module
    try:
        return calls.encode_function(module.f)
    finally:
        del sys.modules[name]


class Explodes:
    def __reduce__(self):
        return (eval, ("1/0",))


def with_header(**changes):
    header = {"v": 1, "name": "f", "python": calls.python_version(), "cloudpickle": "3.1.3"}
    import json

    return json.dumps({**header, **changes}).encode() + b"\n" + cloudpickle.dumps(abs)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (
            lambda c: c.params(foreign()),
            "the function f needs the module 'client_only', which the "
            "workers do not have: name its package in requirements=[...], or send your own module "
            "along by cloudpickle.register_pickle_by_value(client_only)",
        ),
        (
            lambda c: c.params(abs, Explodes()),
            "the arguments cannot be unpickled: ZeroDivisionError: division by zero",
        ),
        (lambda c: c.params(lambda: Explodes), None),
        (
            lambda c: c.params(threading.Lock),
            "the result, of type lock, cannot be pickled: "
            "TypeError: cannot pickle '_thread.lock' object; return something else",
        ),
        (lambda c: c.params(lambda: (i for i in ())), "the result, of type generator, cannot be"),
        (
            lambda c: c.params(with_header(python="3.99")),
            "the function f cannot run here: it was "
            "pickled by Python 3.99, and the workers have Python",
        ),
        (
            lambda c: c.params(with_header(cloudpickle="2.0")),
            "the function f cannot run here: it "
            "was pickled by cloudpickle 2.0, and the workers have",
        ),
        (lambda c: c.params(b"sleep 1000\n"), "the upload is no stored function f"),
        (lambda c: c.params(calls.encode_function(3)), "the stored function f is no function: 3"),
        (lambda c: {**c.params(abs, 1), "sha256": "0" * 64}, "the function f is not in the store"),
        (
            lambda c: (
                {**c.params(abs), "args": [], "x": 1}
                and {"function": "f", "sha256": c.params(abs)["sha256"], "stored": "1" * 64}
            ),
            "the pickle of the arguments is not in the store",
        ),
    ],
    ids=range(11),
)
def test_what_users_do_wrong_is_told_in_a_sentence(shared, made, error):
    row = shared.run([made(shared)])[0]
    if error is None:
        assert row.status is S
        return
    assert row.status is F
    assert row.error.startswith(error)
    assert "\n" not in row.error


def test_an_object_with_another_content_is_not_read(fresh):
    params = fresh.params(abs, -1)
    evil = calls.encode_function(lambda x: os.write(1, b"it ran"))
    fresh.store.put(upload_key("alice", params["sha256"]), evil, content_type="x")
    row = fresh.run([params])[0]
    assert row.error.startswith("the function f does not match its SHA-256")
    assert fresh.claimed.output.read(0, 100) == b""


def test_a_call_is_tried_again_only_when_the_batch_asks(shared):
    def fails():
        raise ValueError("x")

    row = shared.run([shared.params(fails)], options=Options(max_attempts=3))[0]
    assert (row.status, row.attempts) == (Q, 1)
    row = shared.run([shared.params(fails)])[0]
    assert (row.status, row.attempts) == (F, 1)


def test_a_crash_costs_one_call(fresh):
    def crash(x):
        if x == 3:
            os._exit(7)
        return x

    rows = fresh.run([fresh.params(crash, i) for i in range(6)])
    assert [row.result for row in rows] == [0, 1, 2, None, 4, 5]
    assert rows[3].error == "its process died: exit status 7"


def test_a_call_that_hangs_ends_at_its_time_out(fresh):
    options = Options(timeout_s=0.3)
    begun = time.monotonic()
    row = fresh.run([fresh.params(time.sleep, 60)], options=options)[0]
    assert row.error == "timed out after 0.3 s"
    assert time.monotonic() - begun < 5


def test_what_a_call_prints_is_its_output(fresh):
    def says(x):
        print("said", x)
        print("and", x, file=sys.stderr)

    fresh.run([fresh.params(says, i) for i in range(3)])
    output = fresh.claimed.output
    assert [output.read(i, 100) for i in range(3)] == [
        b"said %d\nand %d\n" % (i, i) for i in range(3)
    ]


def leaves(deed):
    """Returns what there is in the current folder, and leaves something there."""
    found = os.listdir(), os.path.basename(os.getcwd())
    match deed:
        case "file":
            with open("file", "w") as file:
                file.write("x")
        case "folders":
            os.makedirs("a/b/c")
            os.chmod("a", 0)
        case "gone":
            os.rmdir(os.getcwd())
        case "file instead":
            here = os.getcwd()
            os.rmdir(here)
            with open(here, "w"):
                pass
        case "elsewhere":
            os.chdir("/")
    return found


def test_each_call_starts_in_an_empty_folder_of_its_own(fresh):
    deeds = ["file", "folders", "gone", "file instead", "elsewhere", "nothing", "file", "nothing"]
    rows = fresh.run([fresh.params(leaves, deed) for deed in deeds])
    assert [fresh.outcome(row) for row in rows] == [([], "work")] * len(deeds)


def test_the_folder_of_a_killed_runner_is_deleted_by_the_next(fresh):
    def where(then):
        here = os.getcwd()
        with open("left", "w") as file:
            file.write(here)
        print(here)
        if then == "die":
            os._exit(1)
        return here

    fresh.run([fresh.params(where, "die")])
    first = fresh.claimed.output.read(0, 500).decode().strip()
    assert os.path.exists(first)
    second = fresh.call(where, "live")
    assert second != first
    assert not os.path.exists(first)
    assert os.listdir(second) == []


# --- clients among each other ------------------------------------------------------------------


def tampers(mark):
    """Leave a mark where another task of this process would see it, and return the marks there."""
    import builtins

    found = getattr(builtins, "marks", [])
    builtins.marks = [*found, mark]
    return found, os.getpid()


def test_a_process_that_ran_a_clients_code_serves_no_other(fresh):
    params = fresh.params(tampers, "of alice")
    fresh.put(calls.encode_function(tampers), client="bob")
    clients = ["alice", "bob", "alice", "bob"]
    seen = [fresh.outcome(fresh.run([params], client=client)[0]) for client in clients]
    assert [len(marks) for marks, _ in seen] == [0, 0, 1, 1]
    assert len({pid for _, pid in seen}) == 2


def reads_all(keys):
    """Read objects through whatever the process has, as code that means harm would."""
    import gc

    from ec2_worker.runner.remotestore import RemoteStore

    store = next(each for each in gc.get_objects() if type(each) is RemoteStore)
    answers = []
    for key in keys:
        for call in (
            lambda: store.get(key),  # noqa: B023
            lambda: store.get_range(key, 0, 3),  # noqa: B023
            lambda: store.url(key, expires_s=60),  # noqa: B023
            lambda: store.put(key, b"evil", content_type="x"),  # noqa: B023
            lambda: store.delete(key),  # noqa: B023
        ):
            try:
                answers.append(call() is not None)
            except Exception as error:  # noqa: BLE001
                answers.append(str(error)[:30])
    return answers


def test_code_of_a_client_reaches_no_object_of_another(fresh):
    secret = fresh.put(b"secret", client="bob")
    keys = [
        upload_key("bob", secret),
        "uploads/alice/../bob/" + secret,
        "results/b2/0/x.pickle",
        "spill/" + secret,
        "logs/b/0/me",
        "movies/b2/0.mp4",
    ]
    for key in keys:
        fresh.store.put(key, b"secret", content_type="x")
    answers = fresh.call(reads_all, keys)
    assert set(answers) == {"the task may not use the object"[:30]}
    assert {fresh.store.get(key) for key in keys} == {b"secret"}
    own = fresh.call(reads_all, ["results/b/0/x"])
    assert own[-2:] == [False, False]  # written and deleted
