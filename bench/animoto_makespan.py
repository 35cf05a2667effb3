"""Movies over 1 to 16 workers: `python -m bench.animoto_makespan [--quick] [--jobs 160]`.

2014's datasheet: 160 jobs of 60 pictures each over 1 to 16 workers. Here pictures are small
(320 x 240, made from a seed), come over loopback after a wait of their own, as from a distant
server, and become movies of 720p. A worker makes as many movies at a time as the machine has cores.

All workers share this machine's cores, which 2014's did not. So computing is measured apart from
waiting: "encode s" is the CPU time of workers and ffmpeg, "floor s" the makespan that no number of
workers gets below here, encode time over cores, and "waiting" how much longer it took.
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from matplotlib.axes import Axes
from PIL import Image

from bench import report
from bench.harness import Bench, Run, bench_cloud

WORKERS = (1, 2, 4, 8, 16)
JOBS = 160
PICTURES = 60
DISTINCT = 20
SIZE = (320, 240)
WAIT_S = 0.05
"""Before a picture comes."""


def main() -> None:
    parser = report.parser("animoto_makespan", __doc__)
    parser.add_argument("--jobs", type=int, help=f"movies ({JOBS}; 4 with --quick)")
    options, given = report.parsed(parser)
    jobs = given.jobs or options.pick(JOBS, 4)
    rows: list[dict[str, Any]] = []
    with pictures() as urls, bench_cloud(latency_ms=options.latency_ms) as bench:
        tasks = [movie(urls, job) for job in range(jobs)]
        for workers in options.pick(WORKERS, (1, 2)):
            rows.append(row(measured(bench, workers, tasks), workers, options))  # noqa: PERF401
    name = report.named("animoto-makespan", options)
    report.show(f"{jobs} movies of {PICTURES} pictures each", rows)
    report.write_csv(options.out / f"{name}.csv", rows)
    report.plot(options.out / f"{name}.png", f"{jobs} movies", lambda axes: draw(axes, rows))


def movie(urls: list[str], job: int) -> dict[str, Any]:
    rng = random.Random(job)
    return {"kind": "animoto", "params": {"images": [rng.choice(urls) for _ in range(PICTURES)]}}


def measured(bench: Bench, workers: int, tasks: list[Any]) -> Run:
    with bench.workers(workers):
        bench.measure(["sleep 0"] * 100)  # connections are made, code is loaded
        return bench.measure(tasks)


def row(run: Run, workers: int, options: report.Options) -> dict[str, Any]:
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


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    counts = [row["workers"] for row in rows]
    axes.plot(counts, [row["makespan s"] for row in rows], "o-", label="makespan")
    axes.plot(counts, [row["floor s"] for row in rows], "--", label="CPU time over cores")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("seconds")
    report.doubling(axes, "workers (processes on this machine's cores)", counts)


# --- pictures ---------------------------------------------------------------------------------


@contextmanager
def pictures() -> Iterator[list[str]]:
    """URLs of pictures that a server on loopback hands out, each after its wait."""
    bodies = [jpeg(number) for number in range(DISTINCT)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(WAIT_S)
            body = bodies[int(self.path.strip("/").partition(".")[0])]
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield [f"http://127.0.0.1:{server.server_port}/{n}.jpg" for n in range(DISTINCT)]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def jpeg(number: int) -> bytes:
    """A picture with something to encode: coarse noise, scaled up."""
    grain = random.Random(number).randbytes(16 * 12 * 3)
    image = Image.frombytes("RGB", (16, 12), grain).resize(SIZE, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


if __name__ == "__main__":
    main()
