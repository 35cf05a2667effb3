"""The pages of the project: their links have targets, the files that they name exist, and the
decisions have their form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.ext.pages import completed

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if "_build" not in path.parts
)
GUIDES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/howto/*.md")),
    *sorted(ROOT.glob("docs/concepts/*.md")),
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "provisioning.md",
    ROOT / "docs" / "settings.md",
]
"""Pages that name files of the sources; these files must exist."""
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
NOT_OF_THE_CHECKOUT = {
    ".local/env",
    "docs/_build/html",
    "docs/_build/html/index.html",
    "movies/",
    "spill/",
}
"""Paths of a running local cloud and of the site that `make docs` builds, and keys of the
bucket."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, generated ones among them, in the form that the
    repository's host gives them."""
    headings = re.findall(r"^#+ (.*)$", completed(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_file_that_a_guide_names_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`(\.?[\w-]+/[\w./*-]*)`", text):
        if name not in NOT_OF_THE_CHECKOUT:
            assert any(ROOT.glob(name.rstrip("/"))), f"{name_of(page)} names {name}"


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_module_that_a_guide_names_exists(page: Path) -> None:
    for name in re.findall(
        r"`((?:taskfleet|ec2_worker|chalice_app|localcloud)\.[a-z_.]+)`", page.read_text()
    ):
        module = ROOT / name.replace(".", "/")
        known = [module.with_suffix(".py"), module, module.parent.with_suffix(".py"), module.parent]
        assert any(path.exists() for path in known), f"{name_of(page)} names {name}"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_form(page: Path) -> None:
    text = page.read_text()
    number = int(page.name[:4])
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 60, "a decision is one page"


def test_the_decisions_are_numbered_in_order_of_time_and_listed() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    rows = []
    for page in DECISIONS:
        text = page.read_text()
        number, title = re.findall(r"^# (\d+)\. (.*)$", text, re.MULTILINE)[0]
        (date,) = re.findall(r"^Date: (.*)$", text, re.MULTILINE)
        rows.append((date, f"| {number} | [{title}]({page.name}) | {date} |"))
    assert rows == sorted(rows, key=lambda row: row[0])
    index = (DECISIONS[0].parent / "README.md").read_text()
    assert re.findall(r"^\| \d.*$", index, re.MULTILINE) == [row for _, row in rows]


def test_the_licence_is_named_wherever_it_should_be() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in licence
    assert "Copyright 2026 The Taskfleet authors" in licence
    assert "[LICENSE](LICENSE)" in (ROOT / "README.md").read_text()
