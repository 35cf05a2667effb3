"""Where the time goes: `python -m bench.profile [--quick]`.

py-spy looks at worker, API and collector while batches of 100,000 no-ops run, two hundred times a
second, and counts who holds the interpreter's lock. py-spy must be allowed to look at processes
that it did not start: on Linux that takes root or `kernel.yama.ptrace_scope=0`.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench import report
from bench.harness import Bench, BenchFailed, bench_cloud

BATCHES = 5
TOP = 12
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^:()]*)(:\d+)?\)")


def main() -> None:
    options = report.options("profile", __doc__)
    tasks = ["sleep 0"] * options.pick(100_000, 10_000)
    rows: list[dict[str, Any]] = []
    with bench_cloud() as bench, bench.workers(1):
        bench.measure(tasks[:1000])
        with samples(bench) as taken:
            for _ in range(BATCHES):
                bench.measure(tasks)
        for part, path in taken.items():
            rows += top(part, path.read_text().splitlines())
    report.show("Who holds the interpreter's lock, of a process's samples", rows)
    report.write_csv(options.out / "profile.csv", rows)


@contextmanager
def samples(bench: Bench) -> Iterator[dict[str, Path]]:
    """Profiles each process meanwhile; yields the files that hold the samples afterwards."""
    processes = {"worker": bench.workers_running[0].pid, **_parts(bench)}
    files = {part: bench.directory / f"{part}.samples" for part in processes}
    watchers = [
        subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "py-spy"), "record", "--gil"),
                *("--rate", "200", "--format", "raw", "--duration", "unlimited"),
                *("--output", str(files[part]), "--pid", str(pid)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part, pid in processes.items()
    ]
    try:
        yield files
    finally:
        for watcher in watchers:
            watcher.send_signal(signal.SIGINT)
        for watcher in watchers:
            _, said = watcher.communicate()
            if watcher.returncode:
                raise BenchFailed(f"py-spy: {said.strip()[-300:]}")


def _parts(bench: Bench) -> dict[str, int]:
    names = {"localcloud.serve": "API", "localcloud.pump": "collector"}
    found = {}
    for process in psutil.Process(bench.cloud.process.pid).children(recursive=True):
        for word in process.cmdline():
            if word in names:
                found[names[word]] = process.pid
    return found


def top(part: str, lines: list[str]) -> list[dict[str, Any]]:
    """The functions of py-spy's raw samples that held the lock most, and those of Taskfleet under
    which most was spent."""
    own: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        total += int(count)
        own[_function(stack.split(";")[-1])] += int(count)
    return [
        {"process": part, "function": name, "share": count / total}
        for name, count in own.most_common(TOP)
    ]


def _function(frame: str) -> str:
    """`file: function`, the file from its package on."""
    found = _FRAME.fullmatch(frame)
    if found is None:
        return frame
    return f"{found['file'].rpartition('site-packages/')[2]}: {found['function']}"


if __name__ == "__main__":
    main()
