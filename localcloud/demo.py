"""`make demo`: runs the workloads of 2014, a function, a command and a movie on a local cloud of
its own, and shows what ran where. Owns the choice of workloads, the table and what is said at the
end; the pictures are those of `localcloud.stripes` and `localcloud.picture`, and `taskfleet.client`
and `taskfleet.executor` do the rest, as for any user."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import requests
from rich import box
from rich.progress import TimeElapsedColumn
from rich.table import Table

from localcloud.launch import NotStarted, launched
from localcloud.options import ROOT
from localcloud.photographs import publish
from localcloud.picture import write_html
from localcloud.stripes import picture
from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.client import Client, ClientError
from taskfleet.client.endpoint import ENV_FILE
from taskfleet.client.progress import batch_bar
from taskfleet.client.terminal import console_of, wants_colour
from taskfleet.executor import FleetExecutor, FleetFuture
from taskfleet.wire.http.batches import BatchView
from taskfleet.wire.http.results import StreamPage

EXAMPLES = str(ROOT / "examples")
"""Folder of the module `my_tasks`, which defines the kind `wordcount`."""
OPTIONS = (
    "--workers",
    "1",
    "--threads",
    str(DEFAULT_SLOTS),
    "--kinds",
    "my_tasks",
    "--kinds",
    "animoto",
)
"""Options of the local cloud."""
DOWNLOAD_TIMEOUT_S = 40
"""Longest silence of the bucket while the movie is fetched, in seconds."""
MOVIE = ENV_FILE.parent / "demo.mp4"
"""File that the movie is saved to."""
PAGE = ENV_FILE.parent / "demo.html"
"""File with the picture of what ran where."""
NOTES = ("the quick brown fox", "jumps over", "the lazy dog")
"""Texts whose words are counted."""


INPUTS = range(1, 1001)
"""Numbers that the function is called with."""
PICTURES = sorted((ROOT / "examples" / "pictures").glob("*.jpg"))
"""Files that the command reads."""


@dataclass(frozen=True)
class Workload:
    """One batch. `total` is the number of its tasks; `hand_in` submits them and returns the batch's
    id. `ideal_s` is the shortest possible time on the demo's worker, in seconds; None if
    unknown."""

    name: str
    total: int
    hand_in: Callable[[Client], str]
    ideal_s: float | None = None


def _submission(name: str, tasks: list[Any], ideal_s: float | None = None) -> Workload:
    def hand_in(client: Client) -> str:
        return client.submit(tasks, name=name).batch_id

    return Workload(name, len(tasks), hand_in, ideal_s)


def _calls(name: str, calls: Sequence[Callable[[FleetExecutor], FleetFuture[Any]]]) -> Workload:
    def hand_in(client: Client) -> str:
        with FleetExecutor(name=name, client=client) as pool:
            futures = [call(pool) for call in calls]
        for future in futures:
            future.result()
        return pool.batch_id or ""

    return Workload(name, len(calls), hand_in)


def collatz(number: int) -> int:
    """Returns the steps from a number to 1, of which nobody knows whether they always end."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


@dataclass(frozen=True)
class Outcome:
    """How a workload went. `seconds` is its whole time; `errors` counts tasks by their error."""

    workload: Workload
    batch: BatchView
    seconds: float
    errors: Counter[str]
    stream: list[StreamPage]
    """Pages that tell where and when each task ran."""
    movie: dict[str, Any] | None = None
    """The result of the task that makes the movie; None in other workloads."""


def workloads(photographs: list[dict[str, Any]]) -> list[Workload]:
    """Returns the workloads of the 2014 datasheets, one in which every fourth task fails, a
    function over many inputs, a command over files, and a movie of `photographs`
    (`localcloud.photographs.publish`)."""
    movie = {"kind": "animoto", "params": {"images": photographs}}
    notes: list[Any] = [f"wordcount {NOTES[i % 3]}" for i in range(75)]
    wrong = [{"kind": "wordcount", "params": number} for number in range(25)]
    return [
        _submission("sleep 1000", ["sleep 1000"] * 80, ideal_s=80 / DEFAULT_SLOTS),
        _submission("sleep 0", ["sleep 0"] * 10_000),
        _submission("wordcount", notes + wrong),
        _calls("collatz(n)", [partial(_steps, number=number) for number in INPUTS]),
        _calls("sha256sum", [partial(_checksum, path=path) for path in PICTURES]),
        _submission("movie", [movie]),
    ]


def _steps(pool: FleetExecutor, number: int) -> FleetFuture[Any]:
    return pool.submit(collatz, number)


def _checksum(pool: FleetExecutor, path: Path) -> FleetFuture[Any]:
    return pool.command(["sha256sum", path.name], inputs={path.name: path})


def run(client: Client, workload: Workload, on_progress: Callable[[BatchView], None]) -> Outcome:
    """Submits a workload, waits for its end, and reads its results. The time it reports goes from
    the submission to the last result being counted."""
    started = time.perf_counter()
    batch_id = workload.hand_in(client)
    batch = client.wait(batch_id, on_progress=on_progress)
    seconds = time.perf_counter() - started
    rows = list(client.results(batch.batch_id))
    errors = Counter(row.error for row in rows if row.error is not None)
    movie = rows[0].result if workload.name == "movie" else None
    return Outcome(workload, batch, seconds, errors, stream_of(client, batch_id), movie)


def stream_of(client: Client, batch_id: str) -> list[StreamPage]:
    """Returns the whole stream of a batch that has ended."""
    pages = [client.stream(batch_id)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(client.stream(batch_id, cursor))
    return pages


def table(outcomes: list[Outcome]) -> Table:
    """Returns the table of the outcomes, a row each."""
    title = f"One worker of {DEFAULT_SLOTS} threads, over HTTP, queue and table"
    rows = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("workload", no_wrap=True)
    for column in ("tasks", "failed", "seconds", "tasks/s", "efficiency", "calls", "USD"):
        rows.add_column(column, justify="right", no_wrap=True)
    for outcome in outcomes:
        batch, ideal_s = outcome.batch, outcome.workload.ideal_s
        rows.add_row(
            outcome.workload.name,
            f"{batch.total:,}",
            f"{batch.failed:,}",
            f"{outcome.seconds:.2f}",
            f"{batch.total / outcome.seconds:,.0f}",
            "-" if ideal_s is None else f"{ideal_s / outcome.seconds:.3f}",
            f"{batch.aws_calls:,}",
            f"{batch.cost_usd:.6f}",
        )
    return rows


def main() -> None:
    """Runs the demo. Raises NotStarted or ClientError."""
    console = console_of(sys.stdout)
    console.print("Starting a local cloud: queues, table, bucket, API and one worker ...")
    started = time.perf_counter()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-demo-") as folder:
        with launched(Path(folder), *OPTIONS, environ={"PYTHONPATH": EXAMPLES}) as cloud:
            console.print(f"It is ready after {time.perf_counter() - started:.1f} s.")
            env = cloud.variables
            client = Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"])
            for workload in workloads(publish(env)):
                bar = batch_bar(
                    TimeElapsedColumn(),
                    description=workload.name,
                    total=workload.total,
                    console=console,
                )
                with bar as show:
                    outcomes.append(run(client, workload, show))
            movie = outcomes[-1].movie
            if movie is not None:
                _save(movie["url"], MOVIE)
            console.print("Stopping it ...")
        console.print(table(outcomes))
        console.print("calls: calls to SQS, DynamoDB and S3; USD: their price on AWS")
    for outcome in outcomes:
        for error, count in outcome.errors.most_common(3):
            console.print(f"{count} failed: {error}")
    pages = [page for outcome in outcomes for page in outcome.stream]
    colour = wants_colour(sys.stdout, os.environ)
    console.print("\nWhat ran where, over time")
    console.print(picture(pages, console.width, colour=colour))
    PAGE.parent.mkdir(mode=0o700, exist_ok=True)
    write_html(PAGE, "What the demo ran", [msgspec.to_builtins(page) for page in pages])
    console.print(f"\nThe same to look around in: {PAGE}, for any browser", soft_wrap=True)
    if movie is not None:
        console.print(
            f"The movie: {MOVIE}, {movie['pictures']} photographs, {movie['duration_s']:.1f} s, "
            f"{movie['width']}x{movie['height']}, {movie['bytes'] / 1e6:.1f} MB",
            soft_wrap=True,
        )
    console.print("\nTry next, the last two in another shell:")
    for command, what in next_commands():
        console.print(f"  {command:<45}  # {what}", soft_wrap=True)


def next_commands() -> list[tuple[str, str]]:
    """Returns commands to go on with, to be typed in the checkout, each with what it does."""
    program = "taskfleet" if shutil.which("taskfleet") else ".venv/bin/taskfleet"
    return [
        ("make up", "a local cloud with a dashboard, until Ctrl-C"),
        (f"{program} submit examples/tasks.txt", "a batch, with its progress"),
        (f"{program} status", "your batches; --watch goes on"),
    ]


def _save(url: str, path: Path) -> None:
    """Saves what `url` serves to a file."""
    answer = requests.get(url, timeout=DOWNLOAD_TIMEOUT_S)
    answer.raise_for_status()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(answer.content)


def _fail(message: str) -> NoReturn:
    print(f"demo: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except (ClientError, NotStarted) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
