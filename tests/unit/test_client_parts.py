"""Where one POST of a submission ends and the next begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import InvalidTask
from taskfleet.parts import PART_MAX_BYTES, cut
from taskfleet.submit import MAX_TASKS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
tasks = st.lists(texts | st.dictionaries(texts, st.integers() | texts, max_size=3), max_size=40)


@given(tasks, st.none() | texts, st.integers(300, 900), st.integers(1, 12))
def test_the_parts_hold_every_task_once_in_order_and_none_is_over_a_cap(
    given: list[Any], name: str | None, max_bytes: int, max_tasks: int
) -> None:
    parts = list(
        cut(given, name=name, idempotency_key="k", max_bytes=max_bytes + 400, max_tasks=max_tasks)
    )
    bodies = [json.loads(part.body) for part in parts]
    assert [task for body in bodies for task in body["tasks"]] == given
    assert all(len(part.body) <= max_bytes + 400 for part in parts)
    assert all(len(body["tasks"]) <= max_tasks for body in bodies)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    firsts = [sum(len(body["tasks"]) for body in bodies[:n]) for n in range(len(bodies))]
    assert [part.first_index for part in parts] == firsts
    for part, body in zip(parts, bodies, strict=True):
        assert body["idempotency_key"] == "k"
        assert body.get("name") == name
        wanted = {"number": part.number, "last": part.last} if len(parts) > 1 else None
        assert body.get("part") == wanted


def test_a_submission_that_fits_goes_without_part() -> None:
    (only,) = cut(["sleep 0"] * MAX_TASKS, name=None, idempotency_key="k")
    assert json.loads(only.body).keys() == {"idempotency_key", "tasks"}


def test_one_task_more_than_a_part_takes_makes_a_second_part() -> None:
    parts = list(cut(["sleep 0"] * (MAX_TASKS + 1), name=None, idempotency_key="k"))
    assert [len(json.loads(part.body)["tasks"]) for part in parts] == [MAX_TASKS, 1]


def test_a_part_is_filled_up_to_the_cap_of_bytes() -> None:
    first, second = cut(["x" * 1000] * 6000, name=None, idempotency_key="k")
    assert PART_MAX_BYTES - 1100 < len(first.body) <= PART_MAX_BYTES
    assert second.last


def test_tasks_are_read_no_further_than_the_part_at_hand_needs() -> None:
    read: list[int] = []

    def source() -> Iterator[str]:
        for number in range(100):
            read.append(number)
            yield f"sleep {number}"

    parts = cut(source(), name=None, idempotency_key="k", max_tasks=10)
    next(parts)
    assert len(read) == 11


def test_the_same_tasks_are_always_cut_the_same_way() -> None:
    def bodies() -> list[bytes]:
        source = (f"sleep {n}" for n in range(500))
        return [part.body for part in cut(source, name="n", idempotency_key="k", max_bytes=2000)]

    assert bodies() == bodies()
    assert len(bodies()) > 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"kind": "x", "params": float("nan")}, "JSON"),
        ({"kind": "x", "params": float("inf")}, "JSON"),
        ({"kind": "x", "params": {1, 2}}, "JSON"),
        ("half a character \ud800", "JSON"),
        ({"kind": "\ud800"}, "JSON"),
        ("x" * PART_MAX_BYTES, "do not fit"),
    ],
)
def test_a_task_that_cannot_travel_is_named_by_its_place(bad: Any, why: str) -> None:
    with pytest.raises(InvalidTask, match=f"task 2: .*{why}") as caught:
        list(cut(["sleep 0", "sleep 0", bad], name=None, idempotency_key="k"))
    assert caught.value.index == 2


def test_a_task_without_a_bottom_is_named_by_its_place() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidTask, match="task 0: nested too deeply"):
        list(cut([{"kind": "x", "params": deep}], name=None, idempotency_key="k"))
