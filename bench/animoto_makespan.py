"""The makespan of movies on 1 to 16 workers:
`python -m bench.animoto_makespan [--quick] [--jobs 160]`.

2014's datasheet ran 160 jobs of 60 pictures each on 1 to 16 workers. Here the pictures are small
(320 x 240, generated from a seed), come over loopback after a delay, as from a distant server, and
become movies of 720p. A worker makes as many movies at a time as the machine has cores.

All workers share the cores of this machine, which those of 2014 did not. The table therefore
separates computing from waiting: "encode s" is the CPU time of workers and ffmpeg; "floor s" is
that time over the number of cores, the shortest makespan that this machine allows; "waiting" is how
much longer the run took, as a fraction of the floor.
"""

from __future__ import annotations

import io
import os
import random
from typing import Any

from matplotlib.axes import Axes
from PIL import Image

from bench import report
from bench.harness import Bench, Run, bench_cloud
from bench.picture_server import serve_pictures
from bench.report import Row

WORKERS = (1, 2, 4, 8, 16)
JOBS = 160
PICTURES = 60
"""Pictures of one movie."""
DISTINCT = 20
"""Number of different pictures."""
SIZE = (320, 240)
LATENCY_S = 0.05
"""Delay of each download, in seconds."""


def main() -> None:
    parser = report.parser("animoto_makespan", __doc__)
    parser.add_argument("--jobs", type=int, help=f"number of movies ({JOBS}; 4 with --quick)")
    options, given = report.parsed(parser)
    jobs = given.jobs or options.pick(JOBS, 4)
    pictures = {f"{number}.jpg": jpeg(number) for number in range(DISTINCT)}
    with (
        serve_pictures(pictures.__getitem__, LATENCY_S) as url,
        bench_cloud(latency_ms=options.latency_ms) as bench,
    ):
        urls = [f"{url}/{name}" for name in pictures]
        tasks = [movie(urls, job) for job in range(jobs)]
        rows = [
            row(measured(bench, workers, tasks), workers, options)
            for workers in options.pick(WORKERS, (1, 2))
        ]
    name = options.named("animoto-makespan")
    report.publish(options, name, f"{jobs} movies of {PICTURES} pictures each", rows)
    report.plot(options.out / f"{name}.png", f"{jobs} movies", lambda axes: draw(axes, rows))


def movie(urls: list[str], job: int) -> dict[str, Any]:
    """The task of one movie of random pictures."""
    rng = random.Random(job)
    return {"kind": "animoto", "params": {"images": [rng.choice(urls) for _ in range(PICTURES)]}}


def measured(bench: Bench, workers: int, tasks: list[Any]) -> Run:
    with bench.workers(workers):
        bench.warm_up()
        return bench.measure(tasks)


def row(run: Run, workers: int, options: report.Options) -> Row:
    floor_s = run.worker_cpu_s / (os.cpu_count() or 1)
    return {
        "workers": workers,
        "movies": run.tasks,
        "latency ms": options.latency_ms,
        "makespan s": run.seconds,
        "encode s": run.worker_cpu_s,
        "encode s a movie": run.worker_cpu_s / run.tasks,
        "floor s": floor_s,
        "waiting": run.seconds / floor_s - 1,
        **run.cost_columns(),
    }


def draw(axes: Axes, rows: list[Row]) -> None:
    counts = [row["workers"] for row in rows]
    axes.plot(counts, [row["makespan s"] for row in rows], "o-", label="makespan")
    axes.plot(counts, [row["floor s"] for row in rows], "--", label="CPU time over cores")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("seconds")
    report.doubling_axis(axes, "workers (processes on this machine's cores)", counts)


def jpeg(number: int) -> bytes:
    """A picture that is not trivial to encode: coarse noise, scaled up."""
    grain = random.Random(number).randbytes(16 * 12 * 3)
    image = Image.frombytes("RGB", (16, 12), grain).resize(SIZE, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


if __name__ == "__main__":
    main()
