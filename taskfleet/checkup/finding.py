"""A finding: what was looked at, what was found, and what to do. Owns its form; the rules are in
the other modules of this package."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Taskfleet works, but for something; or nobody could look."""
    FAULT = "fault"
    """Taskfleet does not work as it should until somebody mends it."""


class Finding(msgspec.Struct, frozen=True):
    """One line of a report.

    subject: what was looked at.
    found: what was found.
    advice: what to do; empty when there is nothing to do.
    """

    level: Level
    subject: str
    found: str
    advice: str = ""

    @property
    def text(self) -> str:
        """The finding without its level."""
        line = f"{self.subject}: {self.found}"
        return f"{line}; {self.advice}" if self.advice else line

    def __str__(self) -> str:
        return f"{self.level:<7}  {self.text}"


def ok(subject: str, found: str) -> Finding:
    """Returns a finding that nothing is wrong."""
    return Finding(Level.OK, subject, found)


def warning(subject: str, found: str, advice: str = "") -> Finding:
    """Returns a finding that does not stop anything."""
    return Finding(Level.WARNING, subject, found, advice)


def fault(subject: str, found: str, advice: str = "") -> Finding:
    """Returns a finding that somebody must mend."""
    return Finding(Level.FAULT, subject, found, advice)


def denied(subject: str, right: str) -> Finding:
    """Returns the finding of a look that the credentials may not take.

    right: the action of IAM that they lack.
    """
    return warning(subject, f"could not look: needs the right {right}")


def faults(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the faults among the findings."""
    return [finding for finding in findings if finding.level is Level.FAULT]
