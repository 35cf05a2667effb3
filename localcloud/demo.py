"""`make demo`: the workloads of 2014 on a local cloud of their own, which ends with it. Owns the
choice of workloads and the table; all else is the client any user has."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from localcloud.launch import NotStarted, launched
from localcloud.options import ROOT
from taskfleet.client import Client, ClientError
from taskfleet.results import BatchView

THREADS = 16
EXAMPLES = str(ROOT / "examples")
OPTIONS = ("--workers", "1", "--threads", str(THREADS), "--kinds", "my_tasks")
NOTES = ("the quick brown fox", "jumps over", "the lazy dog")


@dataclass(frozen=True)
class Workload:
    """`ideal_s` is the shortest possible time on the demo's worker, where it is known."""

    name: str
    tasks: list[Any]
    ideal_s: float | None = None


@dataclass(frozen=True)
class Outcome:
    workload: Workload
    batch: BatchView
    seconds: float
    errors: Counter[str]


def workloads() -> list[Workload]:
    """Those of the 2014 datasheets, and one in which every fourth task fails."""
    notes: list[Any] = [f"wordcount {NOTES[i % 3]}" for i in range(75)]
    wrong = [{"kind": "wordcount", "params": number} for number in range(25)]
    return [
        Workload("sleep 1000", ["sleep 1000"] * 80, ideal_s=80 / THREADS),
        Workload("sleep 0", ["sleep 0"] * 10_000),
        Workload("wordcount", notes + wrong),
    ]


def run(client: Client, workload: Workload, on_progress: Callable[[BatchView], None]) -> Outcome:
    """From the first byte of the submission to the last result being counted."""
    started = time.perf_counter()
    accepted = client.submit(workload.tasks, name=workload.name)
    batch = client.wait(accepted.batch_id, on_progress=on_progress)
    seconds = time.perf_counter() - started
    errors = Counter(row.error for row in client.results(batch.batch_id) if row.error is not None)
    return Outcome(workload, batch, seconds, errors)


def table(outcomes: list[Outcome]) -> Table:
    made = Table(title=f"One worker of {THREADS} threads, over HTTP, queue and table")
    made.add_column("workload", no_wrap=True)
    for column in ("tasks", "failed", "seconds", "tasks/s", "efficiency"):
        made.add_column(column, justify="right", no_wrap=True)
    made.add_column("AWS calls\na task", justify="right")
    made.add_column("$ a million\ntasks", justify="right")
    for outcome in outcomes:
        batch, ideal_s = outcome.batch, outcome.workload.ideal_s
        made.add_row(
            outcome.workload.name,
            f"{batch.total:,}",
            f"{batch.failed:,}",
            f"{outcome.seconds:.2f}",
            f"{batch.total / outcome.seconds:,.0f}",
            "-" if ideal_s is None else f"{ideal_s / outcome.seconds:.3f}",
            f"{batch.aws_calls / batch.total:.3f}",
            f"{batch.cost_usd / batch.total * 1e6:.3f}",
        )
    return made


def main() -> None:
    console = Console()
    console.print("Starting a local cloud: queues, table, bucket, API and one worker ...")
    started = time.perf_counter()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-demo-") as folder:
        with launched(Path(folder), *OPTIONS, environ={"PYTHONPATH": EXAMPLES}) as cloud:
            console.print(f"It serves after {time.perf_counter() - started:.1f} s.")
            env = cloud.variables
            client = Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"])
            for workload in workloads():
                with _bar(console, workload) as show:
                    outcomes.append(run(client, workload, show))
            console.print("Stopping it ...")
        console.print(table(outcomes))
    for outcome in outcomes:
        for error, count in outcome.errors.most_common(3):
            console.print(f"{count} failed: {error}", highlight=False)


@contextmanager
def _bar(console: Console, workload: Workload) -> Iterator[Callable[[BatchView], None]]:
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(workload.name, total=len(workload.tasks))

        def show(view: BatchView) -> None:
            progress.update(bar, completed=view.succeeded + view.failed + view.cancelled)

        yield show


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
