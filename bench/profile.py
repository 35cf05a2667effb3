"""Where CPU time goes in worker, API and collector: `python -m bench.profile [--quick]`.

While batches of 100,000 no-ops run, py-spy samples each process 200 times a second and counts which
function holds the interpreter's lock. py-spy must be allowed to read processes that it did not
start: on Linux that takes root or `kernel.yama.ptrace_scope=0`.
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

from bench import report
from bench.harness import API, COLLECTOR, Bench, BenchFailed, bench_cloud, process_of
from bench.report import Row

BATCHES = 5
TOP = 12
"""Functions listed for each process."""
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^:()]*)(:\d+)?\)")


def main() -> None:
    options = report.options("profile", __doc__)
    tasks = ["sleep 0"] * options.pick(100_000, 10_000)
    rows: list[Row] = []
    with bench_cloud() as bench, bench.workers(1):
        bench.warm_up(1000)
        with sampled(bench) as files:
            for _ in range(BATCHES):
                bench.measure(tasks)
        for role, path in files.items():
            rows += top(role, path.read_text().splitlines())
    title = "Which functions hold the interpreter's lock, as a share of the process's samples"
    report.publish(options, "profile", title, rows)


@contextmanager
def sampled(bench: Bench) -> Iterator[dict[str, Path]]:
    """Profile each process during the block. Yields the file of each process's samples; the files
    are complete after the block. Raises BenchFailed if py-spy fails."""
    processes = {
        "worker": bench.running_workers[0],
        "API": process_of(bench.cloud, API),
        "collector": process_of(bench.cloud, COLLECTOR),
    }
    files = {role: bench.directory / f"{role}.samples" for role in processes}
    profilers = [
        subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "py-spy"), "record", "--gil"),
                *("--rate", "200", "--format", "raw", "--duration", "unlimited"),
                *("--output", str(files[role]), "--pid", str(process.pid)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role, process in processes.items()
    ]
    try:
        yield files
    finally:
        for profiler in profilers:
            profiler.send_signal(signal.SIGINT)
        for profiler in profilers:
            _, output = profiler.communicate()
            if profiler.returncode:
                raise BenchFailed(f"py-spy: {output.strip()[-300:]}")


def top(role: str, lines: list[str]) -> list[Row]:
    """The functions that held the lock most, from the raw samples of py-spy. A line is a stack, its
    frames separated by semicolons, and the number of its samples."""
    own: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        total += int(count)
        own[_function(stack.split(";")[-1])] += int(count)
    return [
        {"process": role, "function": name, "share": count / total}
        for name, count in own.most_common(TOP)
    ]


def _function(frame: str) -> str:
    """`file: function`, where the file's path begins with its package."""
    parts = _FRAME.fullmatch(frame)
    if parts is None:
        return frame
    return f"{parts['file'].rpartition('site-packages/')[2]}: {parts['function']}"


if __name__ == "__main__":
    main()
