"""The task stream in characters: packing, cells, width, colour and legend."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from localcloud.stripes import Ran, axis, executions, fill, picture, rows_of
from taskfleet.wire.http.results import StreamPage, StreamRow


def ran(start_s: float, end_s: float, worker: str = "w", kind: str = "k") -> Ran:
    return Ran(kind, worker, False, start_s, end_s)


def page(*rows: tuple[int, int, int | None, float | None], kinds: str = "ab") -> StreamPage:
    """Returns an answer with rows of (kind, status, started_ms, duration_ms)."""
    made = [
        StreamRow(n, kind, status, started, took, 0, -1)
        for n, (kind, status, started, took) in enumerate(rows)
    ]
    return StreamPage(list(kinds), ["w-1"], [], made, None)


def lines(shown: object, *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    system = "standard" if colour else None
    Console(file=out, width=300, force_terminal=colour, color_system=system).print(shown)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("given", "packed"),
    [
        ([ran(0, 1), ran(1, 2), ran(2, 3)], [3]),
        ([ran(0, 2), ran(1, 3), ran(2, 4), ran(3, 5)], [2, 2]),
        ([ran(0, 9), ran(0, 1), ran(2, 3), ran(4, 5)], [1, 3]),
        ([ran(0, 1.0009), ran(1, 2)], [2]),
        ([ran(0, 1.1), ran(1, 2)], [1, 1]),
        ([ran(0, 0)] * 100, [100]),
        ([ran(0, 1, "x"), ran(0, 1, "a"), ran(1, 2, "x")], [1, 2]),
    ],
)
def test_tasks_are_packed_into_as_few_rows_as_hold_them(
    given: list[Ran], packed: list[int]
) -> None:
    rows = rows_of(given)
    assert [len(row.ran) for row in rows] == packed
    assert [row.worker for row in rows] == sorted(row.worker for row in rows)


def test_rows_never_overlap_and_are_no_more_than_run_at_a_time() -> None:
    given = [ran(n * 0.37 % 10, n * 0.37 % 10 + 1 + n % 3) for n in range(500)]
    given.sort(key=lambda each: each.start_s)
    rows = rows_of(given)
    for row in rows:
        for before, after in zip(row.ran, row.ran[1:], strict=False):
            assert before.end_s <= after.start_s + 0.001
    most = max(sum(o.start_s <= e.start_s < o.end_s for o in given) for e in given)
    assert len(rows) <= most


def test_tasks_that_never_started_are_left_out() -> None:
    found = executions([page((0, 0, 2000, 500.0), (-1, 2, None, None), (1, 1, 1000, None))])
    assert [(each.kind, each.failed, each.start_s, each.end_s) for each in found] == [
        ("b", True, 1.0, 1.0),
        ("a", False, 2.0, 2.5),
    ]


def test_a_cell_has_the_seconds_of_each_kind() -> None:
    cells = fill([ran(0, 1.5, kind="a"), ran(1.5, 2, kind="b"), ran(3, 3, kind="b")], 0, 1, 4)
    assert [cell.kinds for cell in cells] == [{"a": 1.0}, {"a": 0.5, "b": 0.5}, {}, {"b": 0.0}]


def test_without_colour_each_kind_has_a_character_and_a_failure_its_own() -> None:
    shown = picture(
        [page((0, 0, 0, 5000.0), (1, 0, 5000, 4000.0), (1, 1, 9000, 1000.0))], 22, colour=False
    )
    assert lines(shown) == [
        "1 ██████████▓▓▓▓▓▓▓▓××",
        "  0 s           10.0 s",
        "one row a slot:  █ a  ▓ b  × a task failed",
    ]


def test_with_colour_a_cell_is_as_high_as_it_was_filled() -> None:
    shown = picture(
        [page((0, 0, 0, 1000.0), (1, 0, 1000, 500.0), (0, 1, 3000, 1000.0))], 6, colour=True
    )
    first = lines(shown, colour=True)[0]
    assert first == "1 \x1b[36m█\x1b[0m\x1b[32m▄\x1b[0m \x1b[31m█\x1b[0m"


@pytest.mark.parametrize("width", [8, 40, 110, 1000])
def test_it_fits_the_width(width: int) -> None:
    many = [(n % 2, 0, n * 10, 95.0) for n in range(2000)]
    *rows, _ = lines(picture([page(*many)], width, colour=False))
    assert max(map(len, rows)) <= min(width, 203)


def test_several_workers_have_a_line_each_and_names_are_plain() -> None:
    first = StreamPage(["\x1b[2Jx"], ["w-2"], [], [StreamRow(0, 0, 0, 0, 10.0, 0, -1)], None)
    second = StreamPage(["y"], ["w-1"], [], [StreamRow(0, 0, 0, 0, 10.0, 0, -1)], None)
    shown = lines(picture([first, second], 20, colour=False))
    assert [line for line in shown if line.startswith("worker")] == ["worker w-1", "worker w-2"]
    assert not any("\x1b" in line for line in shown)


def test_an_empty_stream_is_told() -> None:
    assert lines(picture([page()], 80, colour=False)) == ["nothing ran"]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (30, "0 s           5.0       10.0 s"),
        (12, "0 s   10.0 s"),
        (5, "0 s  "),
    ],
)
def test_the_axis_has_as_many_times_as_there_is_room_for(columns: int, line: str) -> None:
    assert axis(columns, 10.0) == line
