"""What the API sees of the kind `python`: its params, its schema, and how a result is shown."""

from __future__ import annotations

import subprocess
import sys

import jsonschema
import pytest

from taskfleet.errors import InvalidTask
from taskfleet.kinds import python
from taskfleet.memory import MemoryStore
from taskfleet.wire import calls

SHA = "0123456789abcdef" * 4
BASE = {"function": "f", "sha256": SHA}
VALID = [
    {**BASE, "args": []},
    {**BASE, "args": [1, {"a": [None]}], "kwargs": {"k": 1.5}},
    {**BASE, "pickle": "YQ=="},
    {**BASE, "stored": SHA},
    {**BASE, "function": "x" * 60, "args": []},
]
INVALID = [
    (None, "needs an object"),
    ("f 1", "needs an object"),
    ([], "needs an object"),
    ({}, "function: a name"),
    ({**BASE, "function": "", "args": []}, "function: a name"),
    ({**BASE, "function": "x" * 61, "args": []}, "function: a name"),
    ({**BASE, "function": 3, "args": []}, "function: a name"),
    ({"function": "f", "args": []}, "sha256: 64"),
    ({**BASE, "sha256": SHA.upper(), "args": []}, "sha256: 64"),
    ({**BASE, "sha256": SHA + "\n", "args": []}, "sha256: 64"),
    ({**BASE, "sha256": "../" + SHA[3:], "args": []}, "sha256: 64"),
    (BASE, "exactly one of args, pickle and stored, not none"),
    ({**BASE, "args": [], "stored": SHA}, "not args and stored"),
    ({**BASE, "args": {}}, "args: a list"),
    ({**BASE, "args": [], "kwargs": []}, "kwargs: an object"),
    ({**BASE, "args": [], "more": 1}, "'more' is no param of python with args"),
    ({**BASE, "stored": SHA, "kwargs": {}}, "'kwargs' is no param of python with stored"),
    ({**BASE, "stored": "x"}, "stored: 64"),
    ({**BASE, "pickle": 3}, "pickle: a text"),
    ({**BASE, "pickle": "YQ"}, "pickle: not base64"),
    ({**BASE, "pickle": "YQ==\n"}, "pickle: not base64"),
    ({**BASE, "pickle": "é"}, "pickle: not base64"),
    ({**BASE, "pickle": "A" * 133_340}, "pickle: a text of at most"),
]


@pytest.mark.parametrize("params", VALID, ids=range(len(VALID)))
def test_valid_params_are_canonical(params):
    assert python.parse(params) == params
    jsonschema.validate(params, python.SCHEMA)


@pytest.mark.parametrize(("params", "says"), INVALID, ids=range(len(INVALID)))
def test_other_params_are_refused_in_a_sentence(params, says):
    with pytest.raises(InvalidTask) as caught:
        python.parse(params)
    assert says in str(caught.value)


def test_every_encoded_call_is_valid():
    for args in ([1], [(1,)], [b"x" * 100_000], [b"x" * 99_950]):
        part, _ = calls.encode_call(args, {"k": 1})
        params = calls.params("g" * 100, SHA, part)
        assert python.parse(params) is params


@pytest.mark.parametrize(
    "result",
    [
        None,
        3,
        {"a": 1},
        {"$pickle": "YQ==", "repr": "b'a'"},
        {"$stored": "results/b/0.pickle", "bytes": 1, "repr": "x"},
        {"$stored": "uploads/alice/secret", "bytes": 1, "repr": "x"},
        {
            "$stored": "results/../uploads/alice/0123456789abcdef0123456789abcdef.pickle",
            "bytes": 1,
            "repr": "x",
        },
        {"$stored": 3},
    ],
    ids=repr,
)
def test_only_stored_results_get_a_url(result):
    assert python.present(result, MemoryStore()) == result


def test_a_stored_result_gets_a_url():
    key = python.result_prefix("b-1", 3) + SHA[:32] + ".pickle"
    shown = python.present({"$stored": key, "bytes": 9, "repr": "x"}, MemoryStore())
    assert shown == {"$stored": key, "bytes": 9, "repr": "x", "url": f"memory://{key}"}


def test_the_api_loads_the_kind_without_what_only_workers_have():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('cloudpickle', 'uv', 'joblib')))\n"
        "from taskfleet.registry import Registry\n"
        "kind = Registry.load(['taskfleet.kinds.python'])['python']\n"
        f"kind.parse({VALID[2]!r})\n"
        "try: kind.check()\n"
        "except Exception as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout.startswith("functions need taskfleet[functions] installed: ")
