"""The pages of figures: they show what the benchmarks wrote and name the files that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import pages, report

TEMPLATE = "on {{machine fast}}\n{{fast: part, tasks/s}}\n{{plot fast}}\n{{slow: x}}\n"


def test_tables_pictures_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    monkeypatch.setattr(report, "machine_line", lambda: "a machine")
    rows = [
        {"part": "small", "tasks": 5, "tasks/s": 12345.6},
        {"part": "a: b", "tasks": 1, "tasks/s": 0.5},
    ]
    report.write_csv(figures / "fast.csv", rows)
    (figures / "fast.png").touch()
    assert pages.page(TEMPLATE, figures, tmp_path).splitlines() == [
        "on a machine",
        "| part | tasks/s |",
        "| --- | ---: |",
        "| small | 12,346 |",
        "| `a: b` | 0.500 |",
        "![fast](figures/fast.png)",
        "*Not measured: `slow.csv` is not there.*",
    ]


def test_a_star_stands_for_all_columns(tmp_path: Path) -> None:
    report.write_csv(tmp_path / "all.csv", [{"a": "x", "b": 2}])
    assert pages.page("{{all: *}}", tmp_path, tmp_path).splitlines()[0] == "| a | b |"


@pytest.mark.parametrize("template", pages.TEMPLATES, ids=lambda path: path.name)
def test_no_page_is_stale(template: Path) -> None:
    """Each page shows the figures that are committed."""
    written = report.OUT.parent / template.name.replace(".template", "")
    text = pages.page(template.read_text(), report.OUT, report.OUT.parent)
    assert written.read_text() == text, "run python -m bench.pages"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.00712, "0.0071"),
        (0.9876, "0.988"),
        (42.26, "42.3"),
        (48_350.4, "48,350"),
        (100_000, "100,000"),
        ("threads", "threads"),
    ],
)
def test_figures_have_their_significant_digits(value: object, shown: str) -> None:
    assert report.formatted(value) == shown
