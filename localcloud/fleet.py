"""The machines of the local cloud: a worker process for each instance that EC2 (moto) says is
running, started as the instance's user data would start it. A process of its own:

    python -m localcloud.fleet --threads N --boot-s S --logs FOLDER

Owns that instances and worker processes end together; `taskfleet.provisioner.policy` owns how many
there are.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localcloud import leash
from localcloud.options import ROOT
from taskfleet import log, settings
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.provisioner.ports import (
    Fleet,
)
from taskfleet.provisioner.records import Instance, InstanceState

_log = logging.getLogger(__name__)

POLL_S = 0.4
"""Seconds between two looks at EC2."""
DRAIN_MARGIN_S = 3.0
"""Seconds that a worker gets to end, beyond its drain time-out."""


class Process(Protocol):
    """The part of `subprocess.Popen` that is used here."""

    pid: int

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...


@dataclass
class InstanceWorker:
    """The worker of one instance. Times are those given to `LocalFleet.step`.

    boots_at: when its process starts.
    process: None until then.
    kill_at: when its process is killed; None unless it was told to end.
    """

    instance_id: str
    boots_at: float
    process: Process | None = None
    kill_at: float | None = None


class LocalFleet:
    """Keeps worker processes in step with the instances of `fleet`.

    start: starts the worker of an instance.
    kill: ends a process and all that it started.
    boot_s: seconds from the first sight of an instance to the start of its worker.
    patience_s: seconds that a worker may take to drain when its instance ends.
    """

    def __init__(
        self,
        fleet: Fleet,
        start: Callable[[str], Process],
        kill: Callable[[Process], None],
        *,
        boot_s: float,
        patience_s: float,
    ) -> None:
        self._fleet = fleet
        self._start = start
        self._kill = kill
        self._boot_s = boot_s
        self._patience_s = patience_s
        self._workers: dict[str, InstanceWorker] = {}

    def step(self, now: float) -> None:
        """Looks at EC2 and at the processes once, and starts and ends what must be. `now` is in
        seconds of any clock. Raises TaskfleetError when EC2 cannot be reached."""
        running = {i.instance_id: i for i in self._fleet.instances() if _runs(i)}
        self._end_instances_without_worker(running)
        for instance_id in running:
            if instance_id not in self._workers:
                _log.info(
                    "an instance boots", extra=fields("instance_boots", instance_id=instance_id)
                )
                self._workers[instance_id] = InstanceWorker(instance_id, now + self._boot_s)
        for worker in list(self._workers.values()):
            if worker.instance_id not in running:
                self._stop(worker, now)
            elif worker.process is None and now >= worker.boots_at:
                worker.process = self._start(worker.instance_id)

    def close(self) -> None:
        """Stops every worker: lets them drain for `patience_s` seconds, then kills what is left."""
        processes = [w.process for w in self._workers.values() if w.process is not None]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline and any(p.poll() is None for p in processes):
            time.sleep(0.05)
        for process in processes:
            self._kill(process)

    def _end_instances_without_worker(self, running: dict[str, Instance]) -> None:
        """Terminates the instances whose worker has ended, and removes them from `running`. On AWS
        the machine shuts down when its worker leaves, and EC2 terminates it then."""
        ended = [
            worker
            for worker in self._workers.values()
            if worker.process is not None and worker.process.poll() is not None
        ]
        for worker in ended:
            _log.info(
                "a worker ended, and its instance with it",
                extra=fields("instance_ends", instance_id=worker.instance_id),
            )
        self._fleet.terminate([w.instance_id for w in ended if w.instance_id in running])
        for worker in ended:
            assert worker.process is not None  # noqa: S101 - only those are in the list
            self._kill(worker.process)
            del self._workers[worker.instance_id]
            running.pop(worker.instance_id, None)

    def _stop(self, worker: InstanceWorker, now: float) -> None:
        """Ends the worker of an instance that has ended: asks first, kills `patience_s` later."""
        process = worker.process
        if process is None:
            del self._workers[worker.instance_id]
        elif worker.kill_at is None:
            _log.info(
                "an instance was ended",
                extra=fields("instance_ended", instance_id=worker.instance_id),
            )
            process.terminate()
            worker.kill_at = now + self._patience_s
        elif now >= worker.kill_at:
            self._kill(process)


def _runs(instance: Instance) -> bool:
    return instance.state in (InstanceState.PENDING, InstanceState.RUNNING)


class WorkerLauncher:
    """Starts and kills worker processes. They end with this process, however it ends.

    arguments: `(script, ...)`, the command line of a worker.
    logs: folder for `<instance id>.log`.
    environ: the environment of a worker.
    """

    def __init__(self, arguments: Iterable[str], logs: Path, environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", leash.__name__, *arguments]
        self._logs = logs
        self._environ = environ
        self._leash, self._leash_held = os.pipe()

    def start(self, instance_id: str) -> subprocess.Popen[bytes]:
        """Starts the worker of an instance, in a process group of its own."""
        with (self._logs / f"{instance_id}.log").open("ab") as out:
            return subprocess.Popen(
                self._command,
                env={
                    **self._environ,
                    leash.VARIABLE: str(self._leash),
                    "TASKFLEET_INSTANCE_ID": instance_id,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(self._leash,),
                process_group=0,
            )

    def kill(self, process: Process) -> None:
        """Kills a worker and all that it started; does nothing when they have ended."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def main() -> None:
    """Runs the fleet until SIGTERM or SIGINT, then stops every worker. A step that fails is logged;
    the next may succeed."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.fleet", description=__doc__)
    parser.add_argument("--threads", type=int, required=True, help="tasks a worker runs at a time")
    parser.add_argument(
        "--boot-s", type=float, required=True, help="seconds until an instance's worker starts"
    )
    parser.add_argument("--logs", type=Path, required=True, help="folder for the workers' logs")
    options = parser.parse_args()
    conf = settings.load()
    log.set_up(conf.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    script = (str(ROOT / "ec2_worker" / "run.py"), "--threads", str(options.threads))
    launcher = WorkerLauncher(script, options.logs, dict(os.environ))
    fleet = LocalFleet(
        Aws(conf, SystemClock()).fleet(),
        launcher.start,
        launcher.kill,
        boot_s=options.boot_s,
        patience_s=conf.drain_timeout_s + DRAIN_MARGIN_S,
    )
    _log.info("watching the instances", extra=fields("fleet_started"))
    while not stop.wait(POLL_S):
        try:
            fleet.step(time.monotonic())
        except TaskfleetError as error:
            _log.warning(
                "the instances could not be brought in step",
                extra=fields("step_failed", reason=str(error)),
            )
    fleet.close()


if __name__ == "__main__":
    main()
