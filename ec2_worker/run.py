"""The worker's command line.

python ec2_worker/run.py --threads 16 --stage dev        pull the stage's tasks until told to end
python ec2_worker/run.py --local tasks.txt --threads 16  run a file here, with no AWS at all
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    # Started as a file, Python looks for modules beside it; they are one folder up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gc
import os
import random
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.progress import TimeRemainingColumn
from rich.table import Table

from ec2_worker import outlets
from ec2_worker.local import LocalRun, Summary
from ec2_worker.machine import POLL_S, Imds, watch
from ec2_worker.parts import WorkerPorts
from ec2_worker.runner import taskuser
from ec2_worker.worker import Worker
from taskfleet import log, settings
from taskfleet.cli.command import INTERRUPTED, SOME_FAILED, OneLineErrors, complain
from taskfleet.client.progress import Failed, batch_bar
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.registry import Registry
from taskfleet.settings import Settings


@click.command(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--threads",
    type=click.IntRange(1, 512),
    help="Slots: tasks run at a time. TASKFLEET_SLOTS unless given.",
)
@click.option(
    "--stage",
    help="Stage whose tasks to run: TASKFLEET_STAGE or dev unless given. Its other settings are "
    "those of `make deploy`, unless TASKFLEET_BUCKET is set.",
)
@click.option(
    "--kinds",
    multiple=True,
    metavar="MODULE",
    help="Module that defines task kinds, besides those of TASKFLEET_KINDS; repeatable.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long running tasks may go on after SIGTERM before they are given back.",
)
@click.option(
    "--exit-when-idle",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so long without work. On an EC2 instance TASKFLEET_IDLE_S unless given; "
    "elsewhere the worker stays.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve metrics for Prometheus on this port of TASKFLEET_METRICS_HOST; 0 serves none.",
)
@click.option(
    "--local",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="TASKFILE",
    help="Run this file in memory and end; no queue is used.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="With --local: write the results here, as JSON lines.",
)
def main(
    threads: int | None,
    stage: str | None,
    kinds: tuple[str, ...],
    drain_timeout: float | None,
    exit_when_idle: float | None,
    metrics_port: int | None,
    local: Path | None,
    results: Path | None,
) -> int:
    """Execute tasks, each once, in THREADS slots.

    Without --local, needs AWS credentials and a region (AWS_PROFILE, AWS_REGION).
    """
    if results is not None and local is None:
        raise click.UsageError("--results goes with --local")
    if stage is not None and local is not None:
        raise click.UsageError("--local uses no stage")
    sys.path.append(os.getcwd())  # where a user's own kinds usually are
    given: dict[str, Any] = {
        "stage": stage,
        "slots": threads,
        "drain_timeout_s": drain_timeout,
        "metrics_port": metrics_port,
    }
    if local is None:
        _find_stage(given)
    conf = settings.load(**given)
    taskuser.check(conf.task_user)
    registry = Registry.load(dict.fromkeys((*conf.kinds, *kinds)))
    log.set_up("warning" if local else conf.log_level)
    if local is not None:
        return _run_local(local, results, registry, conf, conf.slots)
    return _run_daemon(registry, conf, conf.slots, exit_when_idle)


def _find_stage(given: Mapping[str, Any]) -> None:
    """Completes the environment, where kinds find their settings, too."""
    # Imported here, so that a local run does not load the AWS SDK.
    from taskfleet.aws.stage import environment_of_stage

    os.environ.update(environment_of_stage(os.environ, **given))


def _run_daemon(
    registry: Registry, conf: Settings, threads: int, exit_when_idle_s: float | None
) -> int:
    from ec2_worker.wiring import aws_ports

    ports = aws_ports(conf, threads)
    with outlets.opened(conf, ports.telemetry.recorder, ports.clock, os.environ) as telemetry:
        ports = replace(ports, telemetry=telemetry)
        return _work(ports, registry, conf, threads, exit_when_idle_s)


def _work(
    ports: WorkerPorts,
    registry: Registry,
    conf: Settings,
    threads: int,
    exit_when_idle_s: float | None,
) -> int:
    rng = random.Random()
    imds = Imds(conf.imds_url) if conf.imds_url else None
    instance_id = conf.instance_id or (imds.instance_id() if imds else None)
    if exit_when_idle_s is None and instance_id:
        exit_when_idle_s = conf.idle_s
    worker = Worker(
        ports,
        registry,
        conf,
        threads=threads,
        worker_id=f"w-{rng.getrandbits(32):08x}",
        rng=rng,
        exit_when_idle_s=exit_when_idle_s,
        instance_id=instance_id or None,
    )
    if imds is not None and instance_id:
        drain = partial(worker.drain, patiently=True)
        watcher = (imds, threading.Event(), drain, worker.leave_when_idle, POLL_S)
        threading.Thread(target=watch, args=watcher, name="machine", daemon=True).start()
    signals = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        # Never on the interrupted thread itself: it may hold the very lock that is needed.
        if signals == 1:
            threading.Thread(target=worker.drain).start()
        else:
            # Nothing was acknowledged that is not recorded, so nothing is lost.
            threading.Thread(target=_end_at_once, args=(worker, 128 + number)).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGUSR1, lambda *_: worker.leave_when_idle())  # infra/machine/metadata.py
    gc.freeze()  # a collection then skips what stays as long as the worker
    return 0 if worker.run() else 1


def _end_at_once(worker: Worker, code: int) -> NoReturn:
    worker.stop_tasks()
    os._exit(code)


def _run_local(
    path: Path, results: Path | None, registry: Registry, conf: Settings, threads: int
) -> int:
    from ec2_worker.wiring import memory_ports

    run = LocalRun(memory_ports(), registry, conf, threads=threads)
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=run.cancel).start())
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=run.cancel).start())
    try:
        with batch_bar(Failed(), TimeRemainingColumn(), description="tasks") as show:
            summary = run.run(path, show)
    except InvalidTask as error:
        raise TaskfleetError(f"{path}, {error}") from error
    except UnicodeDecodeError as error:
        raise TaskfleetError(f"{path} is not UTF-8: {error}") from error
    if results is not None:
        encode = msgspec.json.Encoder().encode
        with results.open("wb") as out:
            out.writelines(encode(row) + b"\n" for row in run.results())
    Console().print(_table(summary))
    if summary.batch.finished_at is None:
        complain("run.py", "interrupted: the rest did not run")
        return INTERRUPTED
    return SOME_FAILED if summary.batch.failed else 0


def _table(summary: Summary) -> Table:
    table = Table("tasks", "succeeded", "failed", "seconds", "tasks/s", "efficiency")
    efficiency = summary.efficiency
    table.add_row(
        str(summary.batch.total),
        str(summary.batch.succeeded),
        str(summary.batch.failed),
        f"{summary.seconds:.3f}",
        f"{summary.tasks_per_s:,.0f}",
        "-" if efficiency is None else f"{efficiency:.3f}",
    )
    return table


if __name__ == "__main__":
    main(prog_name="run.py")
