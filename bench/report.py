"""The command line that benchmarks share, and their figures as a table, a CSV file and a plot. Owns
these forms; each benchmark owns what its figures mean.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table

from bench.machine import machine_line
from localcloud.options import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUT = ROOT / "docs" / "bench"
"""Folder of the figures that the documents show."""
REPEATS = 5
"""Runs of each measurement."""
Row = dict[str, Any]
"""One line of a table: column names and figures. All rows of a table have the same columns."""
Value = TypeVar("Value")


# --- command line -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The options that benchmarks share. `out` is the folder for CSV and PNG files."""

    quick: bool
    repeats: int
    latency_ms: float
    out: Path

    def pick(self, full: Value, quick: Value) -> Value:
        """Return `quick` in a quick run, else `full`."""
        return quick if self.quick else full

    def named(self, name: str) -> str:
        """The name of a benchmark's files. Figures with latency stand beside those without."""
        return f"{name}-{self.latency_ms:g}ms" if self.latency_ms else name


def parser(name: str, description: str | None, *, measured: bool = True) -> argparse.ArgumentParser:
    """The command line of `bench.{name}`. A benchmark that does not measure this machine has
    neither repeats nor latency."""
    made = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="use small sizes, to try it out")
    made.add_argument("--out", type=Path, default=OUT, help="folder for CSV and PNG (docs/bench)")
    if not measured:
        made.set_defaults(repeats=1, latency_ms=0.0)
        return made
    made.add_argument(
        "--repeats", type=int, metavar="N", help=f"runs whose median counts ({REPEATS}; quick: 1)"
    )
    made.add_argument(
        "--latency-ms", type=float, default=0.0, help="delay before every AWS call (0)"
    )
    return made


def parsed(parser: argparse.ArgumentParser) -> tuple[Options, argparse.Namespace]:
    """Parse the command line and create the output folder. Returns the shared options, and all
    arguments for those that are a benchmark's own."""
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    repeats = given.repeats or (1 if given.quick else REPEATS)
    return Options(given.quick, repeats, given.latency_ms, given.out), given


def options(name: str, description: str | None) -> Options:
    """Parse the command line of a benchmark without options of its own."""
    return parsed(parser(name, description))[0]


# --- tables -----------------------------------------------------------------------------------


def publish(options: Options, name: str, title: str, rows: Sequence[Row]) -> None:
    """Print the table and write it to `{name}.csv` in the output folder."""
    show(title, rows)
    write_csv(options.out / f"{name}.csv", rows)


def formatted(value: object) -> str:
    """A figure with as many digits as are significant; a text unchanged."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


def show(title: str, rows: Sequence[Row], *, machine: bool = True) -> None:
    """Print a table, with a line on this machine unless `machine` is False."""
    caption = machine_line() if machine else None
    table = Table(title=title, caption=caption, title_justify="left")
    for column in rows[0]:
        numeric = any(isinstance(row[column], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(formatted(value) for value in row.values()))
    console = Console()
    # A file or a pipe has no width of its own, and a narrow one would fold the figures.
    (console if console.is_terminal else Console(width=200)).print(table)


def write_csv(path: Path, rows: Sequence[Row], *, machine: bool = True, digits: int = 6) -> None:
    """Write a table with so many significant digits. Its first line begins with # and describes
    this machine, unless `machine` is False."""
    with path.open("w", newline="") as file:
        if machine:
            file.write(f"# {machine_line()}\n")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(rows[0].keys())
        for row in rows:
            out.writerow(f"{v:.{digits}g}" if isinstance(v, float) else v for v in row.values())


def read_csv(path: Path) -> tuple[str, list[dict[str, str]]]:
    """Read a table of `write_csv`. Returns the machine's line and the rows."""
    first, *lines = path.read_text().splitlines()
    return first.removeprefix("# "), list(csv.DictReader(lines))


# --- plots ------------------------------------------------------------------------------------


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of so many inches and its axes. Matplotlib is imported here, since
    that takes longer than most programs run that want a table only."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height))
    return figure, axes


def plot(path: Path, title: str, draw: Callable[[Axes], None]) -> None:
    """Write a plot that `draw` fills, with a legend if it has labels."""
    figure, axes = canvas(8, 4.5)
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.grid(True, which="major", linewidth=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure and free it. Equal figures give equal bytes."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def doubling_axis(axes: Axes, label: str, counts: Sequence[int]) -> None:
    """Scale the horizontal axis for counts of 1, 2, 4, ..."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel(label)
