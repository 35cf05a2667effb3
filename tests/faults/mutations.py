"""Removes one protection at a time from a copy of the source and shows which test notices. Owns
the copies, the running of the tests and the table; the protections are those of
`tests.faults.protections`.

A protection whose removal no test notices is a hole in the suite: the run then ends with exit
status 1. So that no test counts that fails anyway, every test that noticed is run once more on the
source as it is, and must pass.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from tests.faults.mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
NOTICE = Path(__file__).with_name("notice.py")
JOBS = 2
"""Mutations that are tried at a time."""
RUN_MAX_S = 600.0
"""Seconds after which the tests of one mutation are ended."""
LEFT_OUT = (".git", ".venv", ".local", "_build", "build", "__pycache__", "*.egg-info")
"""What the copies of the source do not have, beside caches of tools."""
ALL_PASSED = 0
"""Exit status of pytest."""


@dataclass(frozen=True)
class Run:
    """What became of tests: the ids of those that failed, the exit status of pytest, None if they
    had to be ended, what they printed, and their seconds."""

    failed: tuple[str, ...]
    status: int | None
    printed: str
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """What became of one mutation.

    noticed_by: the id of the first test that failed; empty if none did.
    said: the first line of its error.
    fault: why nothing can be said; empty if something can.
    """

    mutation: Mutation
    noticed_by: str
    seconds: float
    fault: str = ""
    said: str = ""

    @property
    def survived(self) -> bool:
        """Returns whether no test noticed."""
        return not self.noticed_by

    def as_row(self) -> dict[str, str]:
        """Its line in the table."""
        noticed_by = self.noticed_by or "none"
        row = (self.mutation.protection, self.mutation.files, noticed_by)
        return dict(zip(("protection", "removed_from", "noticed_by"), row, strict=True))


@contextmanager
def copies(count: int, root: Path) -> Iterator[list[Path]]:
    """Context manager that gives so many copies of the source."""
    caches = (name for name in os.listdir(root) if name.endswith(("_cache", ".hypothesis")))
    ignored = shutil.ignore_patterns(*LEFT_OUT, *caches)
    with tempfile.TemporaryDirectory(prefix="taskfleet-mutations-") as folder:
        trees = [Path(folder) / f"tree{number}" for number in range(count)]
        for tree in trees:
            shutil.copytree(root, tree, symlinks=True, ignore=ignored)
        yield trees


def run_tests(
    tree: Path, tests: Iterable[str], running: set[subprocess.Popen[bytes]] | None = None
) -> Run:
    """Run the tests on the source under `tree` until one fails. Their process is in `running`
    meanwhile, so that somebody else may end it."""
    running = set() if running is None else running
    began = time.monotonic()
    inherited = ("PYTEST_", "TASKFLEET_", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    with tempfile.NamedTemporaryFile("r") as failed, tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, "-P", NOTICE, failed.name, *tests],
            cwd=tree,
            env={**environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running.add(process)
        try:
            status: int | None = process.wait(RUN_MAX_S)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            running.discard(process)
            _end(process)
        printed.seek(0)
        names = tuple(Path(failed.name).read_text().split("\n"))
        return Run(tuple(filter(None, names)), status, printed.read(), time.monotonic() - began)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End tests that still run, with all processes that they started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def judged(mutation: Mutation, run: Run) -> Verdict:
    """Returns the verdict that a run gives. Tests that could not be run say nothing."""
    if run.failed:
        errors = (line[1:].strip() for line in run.printed.splitlines() if line.startswith("E  "))
        return Verdict(mutation, run.failed[0], run.seconds, said=next(errors, ""))
    if run.status == ALL_PASSED:
        return Verdict(mutation, "", run.seconds)
    end = "\n".join(run.printed.splitlines()[-15:])
    how = "they did not end" if run.status is None else f"pytest ended with {run.status}"
    return Verdict(mutation, "", run.seconds, f"the tests could not be run, {how}:\n{end}")


def try_all(
    mutations: Sequence[Mutation],
    *,
    jobs: int = JOBS,
    root: Path = ROOT,
    tell: Callable[[Verdict], None] = lambda _verdict: None,
) -> list[Verdict]:
    """Try each mutation of the source under `root`, `jobs` at a time. `tell` is called with each
    verdict as it comes. A test that fails without any mutation, too, does not count as one that
    noticed."""
    free: SimpleQueue[Path] = SimpleQueue()
    running: set[subprocess.Popen[bytes]] = set()

    def attempt(mutation: Mutation) -> Verdict:
        tree = free.get()
        try:
            with mutation.in_tree(tree):
                verdict = judged(mutation, run_tests(tree, mutation.tests, running))
        finally:
            free.put(tree)
        tell(verdict)
        return verdict

    with copies(min(jobs, len(mutations)), root) as trees, ThreadPoolExecutor(jobs) as pool:
        for tree in trees:
            free.put(tree)
        try:
            verdicts = list(pool.map(attempt, mutations))
        except BaseException:  # such as Ctrl-C, of which the tests do not hear
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                _end(process)
            raise
        return _confirmed(trees[0], verdicts)


def _confirmed(tree: Path, verdicts: list[Verdict]) -> list[Verdict]:
    """Returns the verdicts, of which those have a fault whose test fails on the source as it is."""
    names = list(dict.fromkeys(v.noticed_by for v in verdicts if v.noticed_by))
    broken: dict[str, str] = {}
    while left := [name for name in names if name not in broken]:
        run = run_tests(tree, left)
        if run.status == ALL_PASSED:
            break
        if not run.failed:
            raise RuntimeError(f"the tests cannot be run on the source as it is:\n{run.printed}")
        if not set(run.failed) & set(left):
            raise RuntimeError(f"tests have other names when they run again: {run.failed}")
        broken |= dict.fromkeys(run.failed, "it fails on the source as it is, too")
    return [
        Verdict(v.mutation, "", v.seconds, f"{v.noticed_by}: {broken[v.noticed_by]}")
        if v.noticed_by in broken
        else v
        for v in verdicts
    ]


def main() -> int:
    """Run the command."""
    from tests.faults.protections import PROTECTIONS

    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("words", nargs="*", help="try those with these words in name or file only")
    parser.add_argument("--jobs", type=int, default=JOBS, help="mutations tried at a time")
    parser.add_argument("--list", action="store_true", help="list the protections and try none")
    parser.add_argument("--tests", nargs="+", help="run these tests, not those that are named")
    options = parser.parse_args()
    chosen = [
        each
        for each in PROTECTIONS
        if not options.words or any(w in f"{each.protection} {each.files}" for w in options.words)
    ]
    if not chosen:
        parser.error("no protection has these words")
    if options.list:
        for each in chosen:
            print(f"{each.protection}  [{each.files}]")
        return 0
    if options.tests:
        chosen = [replace(each, tests=tuple(options.tests)) for each in chosen]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    try:
        verdicts = try_all(chosen, jobs=options.jobs, tell=_tell)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    _show(verdicts, time.monotonic() - began)
    return int(any(verdict.survived for verdict in verdicts))


def _tell(verdict: Verdict) -> None:
    state = verdict.noticed_by or ("cannot be told" if verdict.fault else "SURVIVED")
    print(f"{verdict.seconds:6.1f} s  {verdict.mutation.protection}: {state}", flush=True)
    if verdict.said:
        print(f"          {verdict.said:.150}", flush=True)


def _show(verdicts: Sequence[Verdict], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("protection", "removed from", "noticed by")
    for verdict in verdicts:
        table.add_row(*verdict.as_row().values())
    Console().print(table)
    for verdict in verdicts:
        if verdict.survived:
            print(f"{verdict.mutation.protection}: {verdict.fault or 'no test noticed'}")
    noticed = sum(not verdict.survived for verdict in verdicts)
    print(f"{noticed} of {len(verdicts)} removed protections were noticed, in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
