"""The page of figures: it shows what the benchmarks wrote and names the files that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import performance, report


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    template = tmp_path / "template.md"
    template.write_text(
        "on {{machine fast}}\n{{fast: part, tasks/s}}\n{{plot fast}}\n{{slow: x}}\n"
    )
    monkeypatch.setattr(performance, "TEMPLATE", template)
    return tmp_path / "page.md"


def test_tables_pictures_and_missing_files(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = page.parent / "figures"
    figures.mkdir()
    monkeypatch.setattr(report, "machine_line", lambda: "a machine")
    rows = [
        {"part": "small", "tasks": 5, "tasks/s": 12345.6},
        {"part": "a: b", "tasks": 1, "tasks/s": 0.5},
    ]
    report.write_csv(figures / "fast.csv", rows)
    (figures / "fast.png").touch()
    performance.write(page, figures)
    assert page.read_text().splitlines() == [
        "on a machine",
        "| part | tasks/s |",
        "| --- | ---: |",
        "| small | 12,346 |",
        "| `a: b` | 0.500 |",
        "![fast](figures/fast.png)",
        "*Not measured: `slow.csv` is not there.*",
    ]


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
