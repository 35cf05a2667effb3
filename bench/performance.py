"""`docs/performance.md` from its template and the CSV files: `python -m bench.performance`.

Owns that step alone: in `performance.template.md` a line `{{name: column, column}}` becomes a table
of `name.csv` with these columns, `{{plot name}}` a picture, `{{machine name}}` where it was
measured.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench import report

TEMPLATE = Path(__file__).with_name("performance.template.md")
_MARK = re.compile(r"\{\{(?P<what>[^}:]+)(: (?P<columns>[^}]*))?\}\}")


def write(page: Path, figures: Path) -> None:
    """`figures` holds what the benchmarks wrote."""

    def filled(mark: re.Match[str]) -> str:
        word, _, name = mark["what"].rpartition(" ")
        source = figures / f"{name}.{'png' if word == 'plot' else 'csv'}"
        if not source.exists():
            return f"*Not measured: `{source.name}` is not there.*"
        if word == "plot":
            return f"![{name}]({source.relative_to(page.parent)})"
        machine, rows = report.read_csv(source)
        if word == "machine":
            return machine
        return table(rows, [column.strip() for column in mark["columns"].split(",")])

    page.write_text(_MARK.sub(filled, TEMPLATE.read_text()))


def table(rows: list[dict[str, str]], columns: list[str]) -> str:
    """In Markdown; figures to the right."""
    numeric = {c: all(_is_number(row[c]) for row in rows) for c in columns}
    lines = [columns, ["---:" if numeric[c] else "---" for c in columns]]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(text: str) -> str:
    if not _is_number(text):
        return f"`{text}`" if ": " in text else text
    return report.text(int(text) if text.isdigit() else float(text))


if __name__ == "__main__":
    write(report.OUT.parent / "performance.md", report.OUT)
