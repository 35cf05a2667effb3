"""The forms of calls: what travels as JSON, what as a pickle, and that both come back the same."""

from __future__ import annotations

import enum
import functools
import math
import socket
import struct
import subprocess
import sys
import time
from collections import OrderedDict, namedtuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import InvalidTask, PermanentError, TaskFailed
from taskfleet.wire import calls, exact, pickles, strictjson


class Text(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


Point = namedtuple("Point", "x y")
twice: list[int] = []
circle: list[object] = []
circle.append(circle)


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def doubling(depth):
    value: object = 1
    for _ in range(depth):
        value = [value, value]
    return value


EXACT = [
    *(None, True, False, 0, 1, -1, 2**53, -(2**53), 0.0, -0.0, 1.0, 1e22, 5e-324, 1.7e308),
    *("", "x", "é", "\U0001f600", "\x00\x1f\x7f", "\ufffe\uffff", '"\\'),
    *([], {}, [1, [2.5, None]], {"b": 1, "a": {"": []}}, nested(exact.EXACT_MAX_DEPTH - 2)),
    {"$pickle": 1},
]
INEXACT = [
    *(2**53 + 1, -(2**53) - 1, 10**30, math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}),
    *((), (1, 2), Text("x"), Number.ONE, Point(1, 2), OrderedDict(a=1), {1: 2}, {None: 1}, {1}),
    *(b"x", bytearray(b"x"), 1j, range(3), int, [(1,)], {"a": {2: 3}}, [Text("x")], {Text("k"): 1}),
    *([twice, twice], circle, nested(exact.EXACT_MAX_DEPTH + 1), doubling(100)),
]


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_what_json_gives_back_exactly_travels_as_json(value):
    part, upload = calls.encode_call([value], {"k": 1})
    assert upload is None
    assert list(part) == ["args", "kwargs"]
    for decode in (strictjson.loads, msgspec.json.decode):
        args, kwargs = calls.decode_call(decode(msgspec.json.encode(part)), None)
        assert (repr(args), kwargs) == (repr((value,)), {"k": 1})


@pytest.mark.parametrize("value", INEXACT, ids=lambda value: type(value).__name__)
def test_what_json_would_change_travels_as_a_pickle(value):
    assert not exact.is_exact(value)
    part, upload = calls.encode_call([value], {})
    assert (list(part), upload) == (["pickle"], None)
    (back,), kwargs = calls.decode_call(part, None)
    assert (type(back), kwargs) == (type(value), {})
    if value is not circle and value is not INEXACT[-1]:
        assert repr(back) == repr(value)


def test_a_list_given_twice_is_one_list_for_the_function():
    shared = [1]
    part, _ = calls.encode_call([shared, {"in": shared}], {})
    (first, second), _ = calls.decode_call(part, None)
    assert second["in"] is first


def bits(value):
    """A form of a value that is equal for equal types and bits only."""
    if type(value) is float:
        return struct.pack("d", value)
    if type(value) in (list, tuple):
        return (type(value), [bits(each) for each in value])
    if type(value) is dict:
        return [(bits(key), bits(each)) for key, each in value.items()]
    return (type(value), value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
def test_arguments_come_back_with_types_and_bits(args, kwargs):
    part, upload = calls.encode_call(args, kwargs)
    read = strictjson.loads(msgspec.json.encode(part))
    back_args, back_kwargs = calls.decode_call(read, lambda _: upload)
    assert bits(list(back_args)) == bits(args)
    assert bits(back_kwargs) == bits(kwargs)


@given(VALUES)
def test_results_come_back_with_types_and_bits(value):
    result, stored = calls.encode_result(value, "key")
    read = msgspec.json.decode(msgspec.json.encode(result))
    assert bits(calls.decode_result(read, lambda _: stored)) == bits(value)
    # A reader who sees the result as JSON is not misled.
    assert exact.is_exact(value) == (type(read) is not dict or "$pickle" not in read)


# --- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("x" * 99_000, "args"),
        ("x" * 101_000, "stored"),
        ("\x01" * 16_000, "args"),
        ("\x01" * 30_000, "pickle"),
        ("é" * 49_000, "args"),
        ("é" * 50_500, "stored"),
        (list(range(10_000)), "args"),
        ([2**53] * 6_000, "pickle"),
        ([0.1] * 200_000, "stored"),
        (b"x" * 99_000, "pickle"),
        (b"x" * 100_001, "stored"),
    ],
    ids=range(11),
)
def test_large_arguments_are_stored(value, form):
    part, upload = calls.encode_call([value], {})
    assert list(part) == [form]
    assert len(msgspec.json.encode(part)) <= 140_000
    stored = {} if upload is None else {calls.content_id(upload): upload}
    assert calls.decode_call(part, stored.__getitem__) == ((value,), {})


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("x" * 249_000, str),
        ("x" * 251_000, "$stored"),
        (b"x" * 21_900, "$pickle"),
        (b"x" * 22_001, "$stored"),
        ({"$pickle": 1}, "$pickle"),
        ({"$stored": "results/b/0.pickle", "bytes": 1}, "$pickle"),
        ([{"$pickle": 1}], list),
    ],
    ids=range(7),
)
def test_results_by_size_and_form(value, form):
    result, stored = calls.encode_result(value, "results/b/1/")
    assert form in (type(result), *(result if type(result) is dict else ()))
    assert (stored is not None) == (form == "$stored")
    if stored is not None:
        key = f"results/b/1/{calls.content_id(stored)[:32]}.pickle"
        assert (result["$stored"], result["bytes"]) == (key, len(stored))
        assert len(result["repr"]) <= pickles.REPR_MAX_CHARS
    assert calls.decode_result(result, lambda _: stored) == value


# --- functions -------------------------------------------------------------------------------


def test_a_function_with_its_header():
    factor = 3
    data = calls.encode_function(lambda x: x * factor, ["numpy>=2"])
    header, body = calls.decode_header(data, "f")
    assert header.v == 1
    assert header.name.endswith("<lambda>")
    assert (header.python, header.requirements) == (calls.python_version(), ["numpy>=2"])
    assert pickles.unpickled(body, "it")(14) == 42


def test_a_large_function_keeps_all_its_bytes():
    big = b"\n" * 200_000
    _, body = calls.decode_header(calls.encode_function(lambda: big), "f")
    assert pickles.unpickled(body, "it")() == big


def test_a_function_that_holds_a_socket_says_so():
    with socket.socket() as held, pytest.raises(InvalidTask) as caught:
        calls.encode_function(lambda: held)
    assert "cannot be pickled: TypeError: cannot pickle 'socket' object" in str(caught.value)


@pytest.mark.parametrize("bad", [[""], ["x" * 501], ["x"] * 201, [3], "numpy", ["-r x"], ["a\n"]])
def test_malformed_requirements_are_refused(bad):
    with pytest.raises(InvalidTask, match="requirements"):
        calls.encode_function(len, bad)


def test_names_for_people():
    class Callable:
        def __call__(self):
            """Nothing."""

    assert calls.function_name(functools.partial(functools.partial(len))) == "len"
    assert calls.function_name(Callable()).endswith("Callable")
    assert calls.short_name("x" * 60) == "x" * 60
    assert calls.short_name("y" + "x" * 60) == "…" + "x" * 59


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it has no header"),
        (b"sleep 1000\nsleep 1000\n", "no stored function"),
        (b'{"v":1}\n', "missing 3 required"),
        (b"{" * 70_000 + b"\n", "no stored function"),
        (b"[]\n", "no stored function"),
        (b"{" + b" " * 1_000_001 + b"}\n", "it has no header"),
        (b'{"v":2,"name":"f","python":"3.11","cloudpickle":"3.1.1"}\n', "form 2"),
        (b'{"v":1,"name":"f","python":"3.11; rm","cloudpickle":"3.1.1"}\n', "is no version"),
    ],
    ids=range(8),
)
def test_other_uploads_are_no_functions(data, says):
    with pytest.raises(PermanentError, match=says):
        calls.decode_header(data, "f")


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (("3.11", "3.1.1"), ("3.11", "3.1.3"), None),
        (("3.12", "3.1.1"), ("3.11", "3.1.1"), "run the client with Python 3.11"),
        (("3.11", "3.0.0"), ("3.11", "3.1.3"), r"install cloudpickle==3\.1\.\*"),
        (("3.11", "2.1.0"), ("3.11", "3.1.3"), r"pickled by cloudpickle 2\.1\.0"),
    ],
)
def test_versions_are_compared(theirs, ours, says):
    fault = calls.version_fault(*theirs, *ours)
    if says is None:
        assert fault is None
    else:
        with pytest.raises(PermanentError, match=says):
            raise PermanentError(fault)


# --- what goes wrong ---------------------------------------------------------------------------


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __reduce__(self):
        return (eval, ("1/0",))


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("\ud800 keep out")


def test_pickles_that_raise_say_what_they_raised():
    result, _ = calls.encode_result(Hostile(), "key")
    assert result["repr"].startswith("<Hostile instance")
    with pytest.raises(PermanentError, match="result cannot be unpickled: ZeroDivisionError"):
        calls.decode_result(result, None)
    with pytest.raises(InvalidTask, match=r"arguments cannot be pickled: RuntimeError: \? keep"):
        calls.encode_call([Unpicklable()], {})
    with pytest.raises(PermanentError, match=r"result, of type Unpicklable, .* return something"):
        calls.encode_result(Unpicklable(), "key")


@pytest.mark.parametrize("text", ["!", "é", "YQ", "YQ==\n"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(PermanentError, match="not base64"):
        calls.decode_call({"pickle": text}, None)


def test_a_pickle_of_something_else_is_no_call():
    part = {"pickle": calls.encode_result({1}, "k")[0]["$pickle"]}
    with pytest.raises(PermanentError, match=r"a pickle of set, not of \(args, kwargs\)"):
        calls.decode_call(part, None)


def test_a_module_that_is_missing_here_is_named():
    with pytest.raises(PermanentError, match="unpickled without the module 'nowhere_at_all'"):
        pickles.unpickled(b"cnowhere_at_all\nf\n.", "the function f")


class Strict(Exception):
    """An exception that pickles and cannot be read again."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


class Noted(ValueError):
    """An exception of the user's own."""


def test_an_exception_comes_back_with_the_traceback_as_its_cause():
    error = Noted("bad", 3)
    error.add_note("a note")
    back = calls.decode_error("Noted: bad", calls.encode_error(error), "Traceback: line 1")
    assert (type(back), back.args, back.__notes__) == (Noted, ("bad", 3), ["a note"])
    assert "Traceback: line 1" in str(back.__cause__)


@pytest.mark.parametrize(
    "error",
    [Strict(1, 2), ValueError(i for i in ()), ValueError("x" * 30_000), Exception(Unpicklable())],
)
def test_an_exception_that_cannot_travel_leaves_its_message(error):
    encoded = calls.encode_error(error)
    assert encoded is None
    back = calls.decode_error("Strict: 1 2", encoded, None)
    assert (type(back), str(back), back.__cause__) == (TaskFailed, "Strict: 1 2", None)


@pytest.mark.parametrize("result", [{"$pickle": "!"}, {"$pickle": 3}, {"exit_status": 3}, [1]])
def test_a_failure_of_another_form_is_task_failed_with_its_result(result):
    back = calls.decode_error("exit status 3", result, "x")
    assert (type(back), back.result, str(back)) == (TaskFailed, result, "exit status 3")


# --- cost --------------------------------------------------------------------------------------


def test_encoding_and_decoding_a_small_call_is_cheap():
    def best(do):
        times = []
        for _ in range(5):
            begun = time.process_time()
            for i in range(2_000):
                do(i)
            times.append((time.process_time() - begun) / 2_000)
        return min(times)

    part, _ = calls.encode_call([1], {})
    assert best(lambda i: calls.encode_call([i], {})) < 10e-6
    assert best(lambda i: calls.decode_call(part, None)) < 10e-6
    assert best(lambda i: calls.encode_result(i, "k")) < 10e-6


def test_a_huge_value_is_not_walked_to_its_end():
    big = [0] * 3_000_000
    begun = time.process_time()
    assert not exact.fits(big, calls.ARGS_MAX_BYTES)
    assert time.process_time() - begun < 0.05


def test_the_module_needs_the_standard_library_only():
    # The API has no cloudpickle, an environment of requirements has no msgspec.
    code = "import sys, taskfleet.wire.calls; print({'cloudpickle', 'msgspec'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == b"set()\n"
