"""What the layers of the fault suite tried and found. Owns these numbers, their way from the tests
to the end of the run, and their tables in `docs/bench`.

A pytest plugin, which `tests/conftest.py` loads. A test asks for the fixture `figures`:

    def test_histories(figures):
        found = figures("histories", unit="histories")
        ...
        found.add(tried=1, fired=history.faults)
        found.judge(lost=..., doubled=..., wrong=...)

and fails at its end if anything was lost, doubled or wrong. The run ends with one line a layer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "figures"
"""Name of the property of a test's report that carries its numbers, between processes too."""


@dataclass
class Figures:
    """What one layer tried and found.

    layer: its name, such as `crashes`; its rows are kept in `faults-<layer>.csv`.
    unit: what `tried` counts.
    tried: cases, states or histories.
    fired: faults that took place.
    lost: accepted tasks without a recorded result.
    doubled: tasks with more than one, or counted more than once.
    wrong: tasks with a result that is not theirs, and whatever else contradicts a promise.
    rows: lines of the layer's table, if it has one.
    """

    layer: str
    unit: str
    tried: int = 0
    fired: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *, tried: int = 0, fired: int = 0) -> None:
        """Count cases that were tried and faults that took place."""
        self.tried += tried
        self.fired += fired

    def judge(self, *, lost: int = 0, doubled: int = 0, wrong: int = 0) -> None:
        """Count what was found against the promises."""
        self.lost += lost
        self.doubled += doubled
        self.wrong += wrong

    @property
    def broken(self) -> int:
        """What was lost, doubled or wrong, in all."""
        return self.lost + self.doubled + self.wrong

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.layer,
            self.unit,
            self.tried + other.tried,
            self.fired + other.fired,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.wrong + other.wrong,
            self.seconds + other.seconds,
            self.rows + other.rows,
        )

    def as_row(self) -> dict[str, Any]:
        """Its line in the table of all layers."""
        named = asdict(self)
        del named["rows"]
        return {**named, "seconds": round(self.seconds, 1)}


@pytest.fixture
def figures(record_property: Callable[[str, Any], None]) -> Iterator[Callable[..., Figures]]:
    """Makes the figures of one layer: `figures(layer, unit=...)`. The test fails at its end if
    anything was lost, doubled or wrong."""
    made: list[Figures] = []
    began = time.monotonic()

    def make(layer: str, *, unit: str) -> Figures:
        made.append(Figures(layer, unit))
        return made[-1]

    yield make
    for each in made:
        each.seconds = time.monotonic() - began
        record_property(PROPERTY, asdict(each))
    for each in made:
        assert not each.broken, each.as_row()


@pytest.fixture(scope="session")
def deep(request: pytest.FixtureRequest) -> bool:
    """Whether all of the fault suite is to run, and not the slice that fits `make test`."""
    return bool(request.config.getoption("--deep"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="run all of the fault suite, not a slice")
    parser.addoption(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="write what the fault suite tried and found into FOLDER, as CSV",
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints what each layer tried and found, and writes it if that is asked for."""
    layers = _sums(terminalreporter.stats)
    if not layers:
        return
    from rich.console import Console
    from rich.table import Table

    terminalreporter.section("what the fault suite tried and found")
    table = Table()
    for column in layers[0].as_row():
        table.add_column(column, justify="left" if column in ("layer", "unit") else "right")
    for each in layers:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in each.as_row().values()))
    console = Console(width=100, color_system=None)
    with console.capture() as printed:
        console.print(table)
    terminalreporter.write_line(printed.get())
    folder = config.getoption("--figures")
    if folder is not None:
        _write(folder, layers)


def _sums(stats: dict[str, list[Any]]) -> list[Figures]:
    """Adds up the figures of all tests, by layer. A test tells them with its last report."""
    sums: dict[str, Figures] = {}
    for report in (each for reports in stats.values() for each in reports):
        if getattr(report, "when", None) == "teardown":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    found = Figures(**value)
                    known = sums.get(found.layer)
                    sums[found.layer] = found if known is None else known + found
    return [sums[name] for name in sorted(sums)]


def _write(folder: Path, layers: list[Figures]) -> None:
    """Writes one table of all layers, and one for each layer that has rows. Layers that did not
    run keep theirs."""
    from bench.report import write_csv

    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in layers:
        tables[f"faults-{each.layer}"] += each.rows
        tables["faults"].append(each.as_row())
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        if rows:
            write_csv(folder / f"{name}.csv", rows)
