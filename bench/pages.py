"""Writes the pages of figures, `docs/performance.md` and `docs/reliability.md`, from templates and
the CSV files: `python -m bench.pages`.

In `<page>.template.md`, `{{name: column, column}}` becomes a table of these columns of `name.csv`,
`{{name: *}}` one of all of them, `{{plot name}}` becomes a picture, and `{{machine name}}` names
the machine of the measurement. Owns that step alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench import report

TEMPLATES = sorted(Path(__file__).parent.glob("*.template.md"))
_MARK = re.compile(r"\{\{(?P<source>[^}:]+)(: (?P<columns>[^}]*))?\}\}")


def page(template: str, figures: Path, folder: Path) -> str:
    """Returns the text of a page. `figures` is the folder of the CSV and PNG files, the page's
    `folder` or below it. A line of the page names each file that is missing."""

    def replacement(mark: re.Match[str]) -> str:
        form, _, name = mark["source"].rpartition(" ")
        source = figures / f"{name}.{'png' if form == 'plot' else 'csv'}"
        if not source.exists():
            return f"*Not measured: `{source.name}` is not there.*"
        if form == "plot":
            return f"![{name}]({source.relative_to(folder)})"
        machine, rows = report.read_csv(source)
        if form == "machine":
            return machine
        columns = list(rows[0]) if mark["columns"] == "*" else mark["columns"].split(",")
        return table(rows, [column.strip() for column in columns])

    return _MARK.sub(replacement, template)


def write(figures: Path, folder: Path) -> None:
    """Write every page into `folder`."""
    for template in TEMPLATES:
        text = page(template.read_text(), figures, folder)
        (folder / template.name.replace(".template", "")).write_text(text)


def table(rows: list[dict[str, str]], columns: list[str]) -> str:
    """A Markdown table of some columns. Columns of figures are aligned to the right."""
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
    return report.formatted(int(text) if text.isdigit() else float(text))


if __name__ == "__main__":
    write(report.OUT, report.OUT.parent)
