"""`python tests/faults/notice.py FILE TEST...`: runs tests until one fails, and writes into FILE
the ids of those that failed, one a line. Owns how `tests.faults.mutations` hears of them. Exits as
pytest does: 0 if all passed, 1 if one failed, another number if they could not be run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TEST_MAX_S = 150
"""Seconds after which a test has failed. Without a protection, one may wait for ever."""


class Notice:
    """A plugin of pytest that writes down which tests fail, as soon as they do."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self._failed:
            self._failed.append(report.nodeid)
            self._file.write_text("\n".join(self._failed))


def main(file: str, *tests: str) -> int:
    """Run the tests."""
    options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", f"--timeout={TEST_MAX_S}"]
    return int(pytest.main([*options, *tests], plugins=[Notice(Path(file))]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
