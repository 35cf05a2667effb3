"""Run all benchmarks and write the page of their figures: `python -m bench [--quick]`, or
`make bench` (ARGS passes options on).

A full run takes about an hour and writes `docs/bench/` and the pages of figures. With --quick it
takes a few minutes and writes `build/bench/`, so that published figures are not overwritten.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench import pages, report
from localcloud.options import ROOT

LATENCY = ("--latency-ms", "10")
STEPS: tuple[tuple[str, ...], ...] = (
    ("throughput",),
    ("throughput", *LATENCY),
    ("local",),
    ("runners",),
    ("functions", "--repeats", "3"),
    ("trouble",),
    ("mixed",),
    ("mixed", *LATENCY),
    ("efficiency",),
    ("efficiency", *LATENCY),
    ("upload",),
    ("profile",),
    ("dynamic_vs_static", "--repeats", "3"),
    ("animoto_makespan",),
    ("animoto", "--repeats", "3"),
    ("provisioning",),
    ("quotes",),
    ("deadlines",),
    ("priority",),
    ("stragglers", "--repeats", "3"),
    ("scale",),
    ("middle", "--measure"),
)
"""The modules of this package that run, with their options."""


def main() -> int:
    """Run every step, even after one has failed. Returns the exit code: 1 if any step failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="use small sizes, into build/bench")
    parser.add_argument(
        "--moviepy-python", help="Python of an environment with moviepy, to compare with"
    )
    given = parser.parse_args()
    quick = given.quick
    out = ROOT / "build" / "bench" if quick else report.OUT
    moviepy = ("--moviepy-python", given.moviepy_python) if given.moviepy_python else ()
    steps = [(*step, *moviepy) if step[0] == "animoto" else step for step in STEPS]
    failed = [step for step in steps if not _run(step, quick, out)]
    folder = out if quick else out.parent
    pages.write(out, folder)
    print(f"the pages of figures are in {folder}")
    for step in failed:
        print(f"failed: python -m bench.{' '.join(step)}", file=sys.stderr)
    return 1 if failed else 0


def _run(step: tuple[str, ...], quick: bool, out: Path) -> bool:
    """Run one step in a process of its own. Returns whether it succeeded."""
    name, *options = step
    command = [sys.executable, "-m", f"bench.{name}", *options, "--out", str(out)]
    command += ["--quick"] if quick else []
    print(f"# python -m bench.{' '.join(step)}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
