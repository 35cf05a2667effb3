"""Each protection is missed: the change that removes it still fits the source, and a test fails
without it. All of them run with `--deep`; otherwise those in `SOME`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.mutation import removes
from tests.faults.mutations import ROOT, Run, judged, try_all
from tests.faults.protections import PROTECTIONS

SOME = (
    "an answer is published before its message is deleted",
    "one idempotency key stands for one payload",
)
"""Protections that are tried in `make test`, whose tests take a second each."""


def test_every_change_fits_the_source_and_names_its_tests() -> None:
    """A change of the source takes its protection along, or changes this list with it."""
    for mutation in PROTECTIONS:
        assert mutation.mutated(ROOT)
        assert mutation.tests
        for name in mutation.tests:
            assert (ROOT / name.partition("::")[0]).is_file(), name
    names = [mutation.protection for mutation in PROTECTIONS]
    assert len(set(names)) == len(names)
    assert set(SOME) < set(names)


@pytest.mark.timeout(3_600)
def test_a_protection_that_is_removed_is_missed(figures, deep) -> None:
    found = figures("mutations", unit="protections")
    chosen = [each for each in PROTECTIONS if deep or each.protection in SOME]
    verdicts = try_all(chosen)
    found.rows += [verdict.as_row() for verdict in verdicts]
    survived = [verdict for verdict in verdicts if verdict.survived]
    found.add(tried=len(verdicts), fired=len(verdicts) - len(survived))
    found.judge(wrong=len(survived))
    assert not survived, [(each.mutation.protection, each.fault) for each in survived]


NEVER = removes("it", "rule.py", "x * 2", "x * 3", "test_rule.py::test_two")


@pytest.mark.parametrize(
    ("run", "noticed_by", "fault"),
    [
        (Run(("test_two",), 1, "", 1.0), "test_two", ""),
        (Run(("test_two",), None, "", 1.0), "test_two", ""),
        (Run((), 0, "", 1.0), "", ""),
        (Run((), 2, "no such test", 1.0), "", "pytest ended with 2:\nno such test"),
        (Run((), None, "", 1.0), "", "they did not end"),
    ],
)
def test_only_a_test_that_fails_has_noticed(run: Run, noticed_by: str, fault: str) -> None:
    verdict = judged(NEVER, run)
    assert verdict.noticed_by == noticed_by
    assert verdict.survived == (not noticed_by)
    assert fault in verdict.fault
    assert bool(verdict.fault) == bool(fault)


def test_a_test_that_fails_anyway_has_not_noticed(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("def double(x):\n    return x * 2\n")
    (tmp_path / "test_rule.py").write_text(
        "import rule\n\n\ndef test_two():\n    assert rule.double(2) == 4\n\n\n"
        "def test_three():\n    assert rule.double(3) == 7\n"
    )
    noticed, anyway = try_all(
        [NEVER, replace(NEVER, tests=("test_rule.py::test_three",))], root=tmp_path
    )
    assert (noticed.noticed_by, noticed.fault) == ("test_rule.py::test_two", "")
    assert anyway.survived
    assert "fails on the source as it is" in anyway.fault


@pytest.mark.parametrize("before", ["nothing of the kind", "x"])
def test_a_change_that_does_not_fit_is_refused(tmp_path: Path, before: str) -> None:
    (tmp_path / "rule.py").write_text("x = x_of_two\n")
    with pytest.raises(ValueError, match=r"rule\.py has this text"):
        removes("it", "rule.py", before, "y", "test_rule.py").mutated(tmp_path)
