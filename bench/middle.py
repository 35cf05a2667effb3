"""Throughput and cost of the middle: `python -m bench.middle [--quick] [--measure]`.

The middle is what stands between the API and the machines: the collectors of answers, the table,
the tick, and clients that wait. The project's own code runs on a local cloud, each call is recorded
(`bench.middle_calls`), and the services' published rules (`bench.cloud_rules`) tell what the calls
take and cost if each takes 10 ms. Writes `middle-counting.csv`, `middle-steps.csv`,
`middle-waiting.csv` and `middle-idle.csv`.

With --measure it also counts 100,000 bundles of one task through two collectors at a time, each a
process, on the emulated table with 10 ms added to each call; writes `middle-measured.csv`. The
emulator answers only some hundred calls a second, which bounds the speed of that run but not its
calls and units.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3

from bench import cloud_rules as rules
from bench import report
from bench.middle_calls import (
    Recorded,
    Recorder,
    calls_of_collectors,
    claims,
    count_all,
    make_batch,
    services,
    tick,
)
from bench.middle_waiter import Asked, Course, by_hand, by_library
from bench.report import Row
from infra.functions import RATE_PER_S
from localcloud.launch import launched
from localcloud.options import ROOT
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.provisioner.reconcile import IDLE_ROUND_S
from taskfleet.settings import Settings

CALL_S = 0.010
"""Time of a call to a service, in seconds."""
WANTED_PER_S = 5_000
"""Bundles a second that a stage should count."""
TICK_S = 60.0
TICK_LOG_BYTES = 650
"""Bytes that a tick logs: Lambda's three lines and one of its own. Estimated."""
QUIET_TICKS = 20
"""Ticks of an idle stage that are recorded."""
SOFTWARE_GB = 0.1
"""Size of the worker's software and the functions in the bucket, about."""
STORED_GB_USD = 0.023
"""Price of a gigabyte in S3 a month."""
COLLECTORS = 2
"""Collectors of the measured run."""
HOUR = rules.HOUR_S


def function_memory(name: str) -> int:
    """Returns the memory of a function in MB, as `.chalice/config.json` sets it."""
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    function = config["stages"]["dev"]["lambda_functions"][name]
    return int(function.get("lambda_memory_size", config["lambda_memory_size"]))


# --- counting ---------------------------------------------------------------------------------


def counting_row(
    shape: str, answers: int, bundles: int, collector_calls: int, made: Recorded, memory_mb: int
) -> Row:
    """What the collectors' calls took and cost: `bundles` counted in so many calls of a
    collector."""
    waits_s = made.rounds * CALL_S / collector_calls
    seconds = rules.lambda_s(waits_s, made.cpu_s / collector_calls, memory_mb)
    a_call = bundles / collector_calls
    usd = (
        collector_calls * rules.lambda_usd(seconds, memory_mb)
        + rules.table_usd(made.writes, made.reads)
        + 2 * collector_calls * rules.SQS_REQUEST_USD
    )
    return {
        "batches": shape,
        "answers a message": answers,
        "bundles a call": a_call,
        "AWS calls a call": made.total / collector_calls,
        "of them in turn": made.rounds / collector_calls,
        "ms a call": seconds * 1e3,
        "write units a bundle": made.writes / bundles,
        "refused writes": made.refused,
        "bundles/s a collector": a_call / seconds,
        f"collectors for {WANTED_PER_S:,}/s": math.ceil(WANTED_PER_S * seconds / a_call),
        "$ a million bundles": usd / bundles * 1e6,
    }


SHAPES: tuple[tuple[str, int, int, int], ...] = (
    ("one large", 1, 10_000, 10),
    ("one large", 1, 4_000, 2),
    ("one large", 1, 4_000, 1),
    ("50 bundles each", 80, 50, 10),
    ("50 bundles each", 40, 50, 1),
    ("one bundle each", 400, 1, 1),
)
"""Batches at a time: their name, number and bundles, and the answers that share a message."""


def counting(aws: Aws, recorder: Recorder, *, part: int = 1) -> list[Row]:
    """Counts batches of each shape, a `part`-th of each, and returns the table."""
    rows = []
    memory_mb = function_memory("collect_responses")
    for shape, batches, bundles, answers in SHAPES:
        batches, bundles = max(1, batches // part), max(1, bundles // part)
        made = [make_batch(aws, number, bundles) for number in range(batches)]
        calls = list(calls_of_collectors(made, bundles, answers, random.Random(1)))
        with recorder.recording() as recorded:
            number = count_all(aws, iter(calls), recorder.call_ends)
        rows.append(counting_row(shape, answers, batches * bundles, number, recorded, memory_mb))
    return rows


def step_rows(aws: Aws, recorder: Recorder, counted: float) -> list[Row]:
    """The write units of a bundle, step by step. Claim and commit are the worker's, counting is the
    middle's."""
    rows = []
    for tasks in (1, 100):
        with recorder.recording() as recorded:
            claims(aws, tasks)
        whole = recorded.writes + counted
        rows.append(
            {
                "tasks a bundle": tasks,
                "claim and commit": recorded.writes,
                "counting": counted,
                "write units a bundle": whole,
                "bundles/s of one table": rules.TABLE_WRITE_UNITS / whole,
                f"units/s for {WANTED_PER_S:,} bundles/s": WANTED_PER_S * whole,
            }
        )
    return rows


# --- waiting ----------------------------------------------------------------------------------

COURSES: tuple[tuple[str, Course], ...] = (
    ("one task of 0.05 s", Course(1, 0.05)),
    ("one task of 1 s", Course(1, 1.0)),
    ("one task of 1 min", Course(1, 60.0)),
    ("1,000 tasks in 1 min", Course(1_000, 60.0, items=5)),
    ("one task of 1 h", Course(1, HOUR)),
    ("100,000 tasks in 1 h", Course(100_000, HOUR, items=21)),
    ("the last of 1,000 tasks hangs", Course(1_000, 600.0, hangs=True)),
)


def waiting_row(who: str, what: str, asked: Asked, course: Course) -> Row:
    """What one client costs while it waits. A cost an hour of a short wait says little, so it is
    shown for waits of at least an hour."""
    rate = asked.calls / asked.seconds
    return {
        "client": who,
        "batch": what,
        "waits s": asked.seconds,
        "calls": asked.calls,
        "functions s": asked.function_s,
        "sees the end after s": "never" if asked.late_s is None else f"{asked.late_s:.2g}",
        "$": asked.usd(course.items),
        "$ an hour": asked.usd_an_hour(course.items) if asked.seconds >= HOUR else "",
        f"such clients at {RATE_PER_S} calls/s": int(RATE_PER_S / rate),
    }


def waiting() -> list[Row]:
    """The library's client on each course, and loops around `?wait=25`."""
    rows = [
        waiting_row("library", name, by_library(course, 2 * HOUR), course)
        for name, course in COURSES
    ]
    for pause_s in (0.0, 8.0):
        name, course = COURSES[-2]
        who = f"?wait=25, then a pause of {pause_s:g} s"
        rows.append(waiting_row(who, name, by_hand(course, HOUR, pause_s=pause_s), course))
    return rows


# --- the idle stage ---------------------------------------------------------------------------


def idle_rows(quiet: Recorded, whole: Recorded, memory_mb: int, quiet_ticks: int) -> list[Row]:
    """The parts of an idle stage's bill, a month. `quiet` are so many ticks that find nothing new,
    `whole` is one that reads everything and records it."""
    ticks = rules.MONTH_S / TICK_S
    signs = rules.MONTH_S / IDLE_ROUND_S
    calls, cpu_s, reads = (each / quiet_ticks for each in (quiet.total, quiet.cpu_s, quiet.reads))
    seconds = rules.lambda_s(calls * CALL_S, cpu_s, memory_mb)
    sqs_calls = quiet.calls["GetQueueAttributes"] / quiet_ticks
    stack = (ROOT / "infra" / "stack.yaml").read_text()
    alarms = stack.count("Type: AWS::CloudWatch::Alarm")
    parts = {
        "Lambda's pollers of two queues": rules.pollers_usd(2),
        f"tick: {memory_mb} MB for {seconds * 1e3:.0f} ms a minute": ticks
        * rules.lambda_usd(seconds, memory_mb),
        "tick: depth of the queue": ticks * sqs_calls * rules.SQS_REQUEST_USD,
        f"tick: {reads:g} read units": ticks * rules.table_usd(quiet.writes / quiet_ticks, reads),
        "tick: a whole round in half an hour": signs * rules.table_usd(whole.writes, whole.reads),
        "logs of the tick": ticks * TICK_LOG_BYTES / 1e9 * rules.LOG_GB_USD,
        f"{alarms} alarms (ten are free)": rules.alarms_usd(alarms),
        "dashboard (three are free), parameter of the secret": 0.0,
        "software in the bucket": SOFTWARE_GB * STORED_GB_USD,
    }
    parts["all"] = sum(parts.values())
    return [{"part": name, "$ a month": usd} for name, usd in parts.items()]


def idle(aws: Aws, recorder: Recorder) -> list[Row]:
    """Makes the ticks of an idle stage and returns its bill."""
    made = services(aws)
    with recorder.recording() as whole:
        tick(made)
    tick(made)
    with recorder.recording() as quiet:  # connections are open and code is loaded
        for _ in range(QUIET_TICKS):
            tick(made)
    return idle_rows(quiet, whole, function_memory("tick"), QUIET_TICKS)


# --- the measured run -------------------------------------------------------------------------


def _collector(environ: Mapping[str, str], calls: Sequence[dict[str, str]], out: object) -> None:
    """Counts its calls, in a process of its own, and tells what it took."""
    os.environ.update(environ)
    aws = Aws(_settings(environ, CALL_S), SystemClock(), rng=random.Random(os.getpid()))
    began = time.perf_counter()
    cpu = time.process_time()
    count_all(aws, iter(calls))
    took = time.perf_counter() - began, time.process_time() - cpu
    out.put((*took, sum(aws.meter.counts().values())))  # type: ignore[attr-defined]


def measured(environ: Mapping[str, str], aws: Aws, bundles: int, answers: int) -> Row:
    """Counts one batch of so many bundles through `COLLECTORS` processes at a time. Each call is
    given to one of them in turn, so they work on the same pages all the time."""
    batch_id = make_batch(aws, 1, bundles)
    calls = list(calls_of_collectors([batch_id], bundles, answers, random.Random(1)))
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [
        context.Process(target=_collector, args=(environ, calls[n::COLLECTORS], out))
        for n in range(COLLECTORS)
    ]
    for process in processes:
        process.start()
    told = [out.get(timeout=900) for _ in processes]
    for process in processes:
        process.join()
    batch = aws.monitor().batch(batch_id)
    assert batch is not None
    if not batch.finished or batch.tally.succeeded != bundles:
        raise SystemExit(f"{batch.tally} of {bundles} bundles are counted")
    seconds = max(took_s for took_s, _, _ in told)
    made = sum(count for _, _, count in told)
    return {
        "bundles": bundles,
        "answers a message": answers,
        "collectors": COLLECTORS,
        "latency ms": CALL_S * 1e3,
        "seconds": seconds,
        "bundles/s": bundles / seconds,
        "AWS calls a bundle": made / bundles,
        "AWS calls/s": made / seconds,
        "ms a call": 1e3 * seconds * COLLECTORS / made,
        "CPU ms a call": 1e3 * sum(cpu_s for _, cpu_s, _ in told) / made,
    }


# --- the command ------------------------------------------------------------------------------


def _settings(environ: Mapping[str, str], latency_s: float = 0.0) -> Settings:
    names = {k.removeprefix("TASKFLEET_").lower(): v for k, v in environ.items()}
    return Settings(
        bucket=names["bucket"],
        stage=names["stage"],
        region=names["region"],
        aws_latency_ms=latency_s * 1e3,
    )


@contextmanager
def cloud() -> Iterator[Mapping[str, str]]:
    """Runs a local cloud whose own functions have nothing to do. Yields its variables."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
        options = ("--workers", "0", "--no-provisioner")
        with launched(Path(folder), *options, environ=kept) as made:
            yield made.variables


def looker(aws: Aws) -> object:
    """A client of the table that nobody watches."""
    return boto3.client("dynamodb", region_name=aws.client("dynamodb").meta.region_name)


def main() -> None:
    parser = report.parser("middle", __doc__, measured=False)
    parser.add_argument("--measure", action="store_true", help="count 100,000 bundles, too")
    options, given = report.parsed(parser)
    publish = partial(report.publish, options)
    publish("middle-waiting", "A client that waits (computed)", waiting())
    with cloud() as variables:
        os.environ.update(variables)
        aws = Aws(_settings(variables), SystemClock(), rng=random.Random(1))
        recorder = Recorder(aws, looker(aws))
        publish("middle-idle", "An idle stage, $ a month (computed)", idle(aws, recorder))
        counted = counting(aws, recorder, part=options.pick(1, 10))
        publish("middle-counting", "Counting answers (computed from recorded calls)", counted)
        units = max(row["write units a bundle"] for row in counted)
        steps = step_rows(aws, recorder, units)
        publish("middle-steps", "Write units of a bundle, at most (recorded)", steps)
        if given.measure:
            sizes = options.pick(((100_000, 10), (20_000, 1)), ((5_000, 10), (500, 1)))
            rows = [measured(variables, aws, *size) for size in sizes]
            title = (
                "One batch through two collectors on an emulated table, 10 ms added to each call"
            )
            publish("middle-measured", title, rows)


if __name__ == "__main__":
    main()
