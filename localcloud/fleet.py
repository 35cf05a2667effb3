"""The machines of the local cloud: for each instance that EC2 (moto) says is running, a worker
process, started as its user data would. A process of its own:

    python -m localcloud.fleet --threads N --boot-s S --logs FOLDER

Owns that each instance has its process and each process its instance: one that ends takes the
other with it. How many there are to be is the provisioner's.
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


class Process(Protocol):
    """Of `subprocess.Popen`, as far as it is used."""

    pid: int

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...


@dataclass
class Machine:
    """`process` is None while it boots; `kill_at` is set once it was told to stop."""

    instance_id: str
    boots_at: float
    process: Process | None = None
    kill_at: float | None = None


class LocalFleet:
    """`step` brings instances and processes in line, once.

    start: starts the worker of an instance. kill: ends a process and all that it started.
    patience_s: how long a worker may drain when its instance was ended.
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
        self._machines: dict[str, Machine] = {}

    def step(self, now: float) -> None:
        running = {i.instance_id: i for i in self._fleet.instances() if _runs(i)}
        self._end_those_whose_worker_ended(running)
        for name in running:
            if name not in self._machines:
                _log.info("an instance boots", extra=fields("instance_boots", instance_id=name))
                self._machines[name] = Machine(name, now + self._boot_s)
        for machine in list(self._machines.values()):
            if machine.instance_id not in running:
                self._stop(machine, now)
            elif machine.process is None and now >= machine.boots_at:
                machine.process = self._start(machine.instance_id)

    def close(self) -> None:
        """Stop every worker, drained if it can be in time."""
        processes = [m.process for m in self._machines.values() if m.process is not None]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline and any(p.poll() is None for p in processes):
            time.sleep(0.05)
        for process in processes:
            self._kill(process)

    def _end_those_whose_worker_ended(self, running: dict[str, Instance]) -> None:
        """As `shutdown -h` does on a machine that EC2 terminates on shutdown; they are `running`
        no more."""
        ended = [
            machine
            for machine in self._machines.values()
            if machine.process is not None and machine.process.poll() is not None
        ]
        for machine in ended:
            _log.info(
                "a worker ended, and its instance with it",
                extra=fields("instance_ends", instance_id=machine.instance_id),
            )
        self._fleet.terminate([m.instance_id for m in ended if m.instance_id in running])
        for machine in ended:
            assert machine.process is not None  # noqa: S101 - chosen for it
            self._kill(machine.process)
            del self._machines[machine.instance_id]
            running.pop(machine.instance_id, None)

    def _stop(self, machine: Machine, now: float) -> None:
        """Its instance is gone: the worker is told, and killed if it does not listen."""
        process = machine.process
        if process is None:
            del self._machines[machine.instance_id]
        elif machine.kill_at is None:
            _log.info(
                "an instance was ended",
                extra=fields("instance_ended", instance_id=machine.instance_id),
            )
            process.terminate()
            machine.kill_at = now + self._patience_s
        elif now >= machine.kill_at:
            self._kill(process)


def _runs(instance: Instance) -> bool:
    return instance.state in (InstanceState.PENDING, InstanceState.RUNNING)


class Workers:
    """Starts and kills worker processes. They end with this process, however it ends."""

    def __init__(self, arguments: Iterable[str], logs: Path, environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", leash.__name__, *arguments]
        self._logs = logs
        self._environ = environ
        self._leash, self._leash_held = os.pipe()

    def start(self, instance_id: str) -> subprocess.Popen[bytes]:
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
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m localcloud.fleet", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--boot-s", type=float, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    options = parser.parse_args()
    conf = settings.load()
    log.set_up(conf.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    worker = (str(ROOT / "ec2_worker" / "run.py"), "--threads", str(options.threads))
    workers = Workers(
        (*worker, "--exit-when-idle", str(conf.idle_s)), options.logs, dict(os.environ)
    )
    fleet = LocalFleet(
        Aws(conf, SystemClock()).fleet(),
        workers.start,
        workers.kill,
        boot_s=options.boot_s,
        patience_s=conf.drain_timeout_s + 3.0,
    )
    _log.info("machines are looked after", extra=fields("fleet_started"))
    while not stop.wait(POLL_S):
        try:
            fleet.step(time.monotonic())
        except TaskfleetError as error:
            _log.warning("EC2 not looked at", extra=fields("step_failed", reason=str(error)))
    fleet.close()


if __name__ == "__main__":
    main()
