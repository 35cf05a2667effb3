"""A submission is one POST up to its caps, and a file with the same meaning beyond them."""

from __future__ import annotations

import json
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.client.body import pack
from taskfleet.errors import InvalidTask
from taskfleet.ports import LINE_MAX_BYTES
from taskfleet.wire.http.caps import BODY_MAX_BYTES, MAX_TASKS
from taskfleet.wire.taskfile import (
    kind_and_params,
    read_tasks,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.integers(-(10**15), 10**15)
params = st.none() | texts | numbers | st.dictionaries(texts, numbers | texts)
objects = st.fixed_dictionaries({"kind": texts.filter(bool)}, optional={"params": params})
odd = st.text(st.sampled_from("\ufeff#{ \r\n\tab\x85\u2028"), max_size=6)
lines = (texts | odd | objects).filter(lambda task: not isinstance(task, str) or bool(task.strip()))


def packed(tasks: Any, **options: Any) -> bytes | IO[bytes]:
    return pack(tasks, **{"name": None, "idempotency_key": "k", **options})


def read(file: bytes | IO[bytes]) -> list[bytes]:
    assert not isinstance(file, bytes)
    with file:
        return file.read().split(b"\n")[:-1]


@given(st.lists(lines, max_size=20), st.none() | texts, st.integers(300, 900), st.integers(1, 12))
def test_all_tasks_travel_in_a_body_within_the_caps_or_else_in_a_file(
    tasks: list[Any], name: str | None, max_bytes: int, max_tasks: int
) -> None:
    found = packed(iter(tasks), name=name, max_bytes=max_bytes, max_tasks=max_tasks)
    whole = packed(tasks, name=name, max_bytes=10**6)
    assert isinstance(whole, bytes)
    fits = len(whole) <= max_bytes and len(tasks) <= max_tasks
    assert isinstance(found, bytes) == fits
    if isinstance(found, bytes):
        named = {} if name is None else {"name": name}
        assert json.loads(found) == {"idempotency_key": "k", **named, "tasks": tasks}
        return
    sent = read(found)
    numbered = list(read_tasks(line.decode() for line in sent))
    assert [number for number, _ in numbered] == list(range(1, len(tasks) + 1))
    assert [kind_and_params(task) for _, task in numbered] == [
        kind_and_params(task) for task in tasks
    ]


def test_as_many_tasks_as_the_api_takes_make_a_body() -> None:
    assert isinstance(packed(["sleep 0"] * MAX_TASKS), bytes)
    assert len(read(packed(["sleep 0"] * (MAX_TASKS + 1)))) == MAX_TASKS + 1


def test_a_body_is_filled_up_to_the_cap_of_bytes() -> None:
    room = BODY_MAX_BYTES - len(b'{"idempotency_key":"k","tasks":[""]}')
    assert len(packed(["x" * room])) == BODY_MAX_BYTES  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="task 0: its"):
        packed(["x" * (room + 1)])


@pytest.mark.parametrize("max_tasks", [1, 10])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"kind": "x", "params": float("nan")}, "JSON"),
        ({"kind": "x", "params": float("inf")}, "JSON"),
        ({"kind": "x", "params": {1, 2}}, "JSON"),
        ({"kind": "\ud800"}, "JSON"),
    ],
)
def test_a_task_that_cannot_travel_is_named_by_its_place(
    bad: Any, why: str, max_tasks: int
) -> None:
    with pytest.raises(InvalidTask, match=f"task 2: .*{why}") as caught:
        packed(["sleep 0", "sleep 0", bad], max_tasks=max_tasks)
    assert caught.value.index == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("half a character \ud800", "UTF-8"),
        ("", "is empty"),
        (" \n", "is empty"),
        (5, "must be text"),
        ({"kind": "x", "url": 1}, "unknown field"),
        ("x" * (LINE_MAX_BYTES + 1), "over the cap"),
    ],
)
def test_a_task_that_no_line_can_hold_is_named_by_its_place(bad: Any, why: str) -> None:
    with pytest.raises(InvalidTask, match=f"task 2: .*{why}"):
        packed(["sleep 0", "sleep 0", bad], max_tasks=1)


def test_a_task_that_is_nested_too_deeply_is_named_by_its_place() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidTask, match="task 0: is nested too deeply"):
        packed([{"kind": "x", "params": deep}])
