"""The measured figures that pages show, from the CSV files of `make bench` in `docs/bench`."""

from __future__ import annotations

from pathlib import Path

from bench import report
from docs.ext.prose import line, table

BENCH = Path(__file__).resolve().parent.parent / "bench"


def measured() -> dict[str, str]:
    """The name of each figure that a page can show as `{{ name }}`, and its text."""
    no_ops = row("throughput", tasks="100000")
    waits = row("efficiency", part="threads", tasks="1280")
    calls = row("functions", pool="FleetExecutor")
    dask, ray = (row("functions", pool=name) for name in ("dask.distributed", "ray"))
    return {
        "tasks_per_s": f"{_rounded(float(no_ops['tasks/s'])):,}",
        "cents_a_million": f"{100 * float(no_ops['$ a million']):.1f}",
        "efficiency": f"{100 * float(waits['efficiency']):.1f} %",
        "calls_per_s": f"{_rounded(float(calls['calls/s'])):,}",
        "dask_per_s": f"{_rounded(float(dask['calls/s'])):,}",
        "ray_per_s": f"{_rounded(float(ray['calls/s'])):,}",
        "fleet_one_ms": f"{_rounded(float(calls['one call ms']))}",
        "fleet_cpu": f"{100 * float(calls['64 x 0.25 s CPU efficiency']):.0f} %",
        "measured_on": report.read_csv(BENCH / "throughput.csv")[0].split(";")[0],
    }


def trouble() -> str:
    """What becomes of the calls of each pool under trouble, as Markdown."""
    machine, rows = report.read_csv(BENCH / "trouble.csv")
    cells = [[line(cell) for cell in found.values()] for found in rows]
    return f"On {machine.split(';')[0]}:\n\n{table(list(rows[0]), cells)}"


def row(name: str, **wanted: str) -> dict[str, str]:
    """Returns the first row of `docs/bench/<name>.csv` with these values."""
    _, rows = report.read_csv(BENCH / f"{name}.csv")
    return next(
        row for row in rows if all(row[column] == value for column, value in wanted.items())
    )


def _rounded(value: float) -> int:
    """Returns a value with two digits that count."""
    unit: int = 10 ** max(0, len(str(int(value))) - 2)
    return round(value / unit) * unit
