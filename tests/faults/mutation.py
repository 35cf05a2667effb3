"""A protection, and the change of the source that removes it. Owns how a change is applied to a
copy of the source and taken back; not which protections there are (`tests.faults.protections`) nor
the running of tests (`tests.faults.mutations`)."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_versions = itertools.count(1)


@dataclass(frozen=True)
class Edit:
    """A change of one file: the text `before`, which occurs in it once, becomes `after`.

    file: its path from the root of the source.
    """

    file: str
    before: str
    after: str

    def applied(self, text: str) -> str:
        """Returns the text of the file after the change. Raises ValueError unless the text to be
        changed occurs exactly once."""
        found = text.count(self.before)
        if found != 1:
            raise ValueError(f"{self.file} has this text {found} times, not once:\n{self.before}")
        return text.replace(self.before, self.after)


@dataclass(frozen=True)
class Mutation:
    """A protection without which a promise does not hold.

    protection: what it does, in words.
    edits: the changes that remove it.
    tests: files of tests, or single tests, of which one must fail without it.
    """

    protection: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    @property
    def files(self) -> str:
        """The files that are changed."""
        return ", ".join(dict.fromkeys(edit.file for edit in self.edits))

    def mutated(self, root: Path) -> dict[str, str]:
        """Returns the text of each changed file after the change, by its path. Raises ValueError as
        `Edit.applied` does, SyntaxError if a file is no Python any more."""
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or (root / edit.file).read_text()
            texts[edit.file] = edit.applied(text)
        for file, text in texts.items():
            compile(text, file, "exec")
        return texts

    @contextmanager
    def in_tree(self, root: Path) -> Iterator[None]:
        """Context manager within which the copy of the source under `root` lacks the protection."""
        originals = {file: (root / file).read_text() for file in self.mutated(root)}
        try:
            for file, text in self.mutated(root).items():
                _write(root / file, text)
            yield
        finally:
            for file, text in originals.items():
                _write(root / file, text)


def removes(
    protection: str, file: str, before: str, after: str, *tests: str, also: tuple[Edit, ...] = ()
) -> Mutation:
    """Returns the mutation that makes one change, and the changes `also`."""
    return Mutation(protection, (Edit(file, before, after), *also), tests)


def _write(path: Path, text: str) -> None:
    """Write a module. Its compiled form is told from an earlier one by the time and the size of the
    source, so each version gets a time of its own."""
    path.write_text(text)
    time = path.stat().st_mtime_ns + next(_versions) * 2_000_000_000
    os.utime(path, ns=(time, time))
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
