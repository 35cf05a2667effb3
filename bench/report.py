"""Figures as a table on the terminal, a CSV file and a plot. Owns their form; what they say is each
benchmark's own."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from bench.harness import machine_line

OUT = Path(__file__).resolve().parent.parent / "docs" / "bench"
REPEATS = 5
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """What every benchmark can be told."""

    quick: bool
    repeats: int
    latency_ms: float
    out: Path

    def pick(self, full: Any, quick: Any) -> Any:
        return quick if self.quick else full


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    made.add_argument(
        "--repeats", type=int, metavar="N", help=f"runs of which the median counts ({REPEATS})"
    )
    made.add_argument("--latency-ms", type=float, default=0.0, help="put before every AWS call (0)")
    made.add_argument("--out", type=Path, default=OUT, help="folder for CSV and PNG (docs/bench)")
    return made


def parsed(parser: argparse.ArgumentParser) -> tuple[Options, argparse.Namespace]:
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    repeats = given.repeats or (1 if given.quick else REPEATS)
    return Options(given.quick, repeats, given.latency_ms, given.out), given


def options(name: str, description: str | None) -> Options:
    return parsed(parser(name, description))[0]


def named(name: str, options: Options) -> str:
    """Of the files: figures with latency stand beside those without."""
    return f"{name}-{options.latency_ms:g}ms" if options.latency_ms else name


def text(value: Any) -> str:
    """A figure with as many digits as it is worth."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


def show(title: str, rows: Sequence[Row]) -> None:
    table = Table(title=title, caption=machine_line(), title_justify="left")
    for column in rows[0]:
        numeric = any(isinstance(row[column], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(text(value) for value in row.values()))
    console = Console()
    # A file or pipe has no width of its own; folded figures would be of no use there.
    (console if console.is_terminal else Console(width=200)).print(table)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Figures to six digits; the machine stands in a first line that begins with #."""
    with path.open("w", newline="") as file:
        file.write(f"# {machine_line()}\n")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(rows[0].keys())
        for row in rows:
            out.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())


def read_csv(path: Path) -> tuple[str, list[dict[str, str]]]:
    """The machine and the rows."""
    first, *lines = path.read_text().splitlines()
    return first.removeprefix("# "), list(csv.DictReader(lines))


def plot(path: Path, title: str, draw: Callable[[Axes], None]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.grid(True, which="major", linewidth=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def doubling(axes: Axes, label: str, counts: Sequence[int]) -> None:
    """A first axis for 1, 2, 4, ... of something."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel(label)
