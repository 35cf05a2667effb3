"""Local clouds of real processes, for tests that look at the system from outside."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

from taskfleet.client import envfile
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
LOCALCLOUD = (sys.executable, "-m", "localcloud")
PORTS = ("--api-port", "--aws-port", "--ec2-port", "--lambda-port")
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0


def clean_environ() -> dict[str, str]:
    """The caller's, without what would change how Taskfleet behaves."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}


@dataclass
class Cloud:
    """A local cloud that serves. `environ` is what its file `env` sets; `lines` is what it
    printed so far, standard error among it."""

    process: subprocess.Popen[str]
    directory: Path
    lines: list[str]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.environ["TASKFLEET_URL"]

    @property
    def token(self) -> str:
        return self.environ["TASKFLEET_TOKEN"]

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment for a process that is to use this cloud."""
        return {**clean_environ(), **self.environ}

    def client(self, service: str) -> Any:
        """A boto3 client of the cloud's AWS."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            region_name=self.environ["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environ["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}),
        )

    def api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One call of the API with the cloud's token."""
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **arguments)

    def processes(self) -> dict[int, str]:
        """Process id -> command line of everything that descends from the supervisor."""
        table = subprocess.run(
            ["ps", "-Aww", "-o", "pid=,ppid=,args="], check=True, capture_output=True, text=True
        ).stdout
        children: dict[int, dict[int, str]] = {}
        for line in table.splitlines():
            pid, parent, *command = line.split(None, 2)
            children.setdefault(int(parent), {})[int(pid)] = " ".join(command)
        # From parent to child: process ids start again at the system's limit, so that a child may
        # have a smaller one than its parent.
        descendants: dict[int, str] = {}
        parents = [self.process.pid]
        while parents:
            found = children.get(parents.pop(), {})
            descendants |= found
            parents += found
        return descendants

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)


StartCloud = Callable[..., Cloud]


@pytest.fixture(scope="module")
def start_cloud() -> Iterator[StartCloud]:
    """A function (directory, *options, **environment) that starts a local cloud on free ports and
    returns once it serves. What still runs at the end of the module is stopped: a cloud without
    work still polls its queues, which would slow down the rest of the tests."""
    with _clouds() as start:
        yield start


@contextlib.contextmanager
def _clouds() -> Iterator[StartCloud]:
    """The function of `start_cloud`, for the time of the block."""
    started: list[Cloud] = []

    def start(directory: Path, *options: str, cwd: Path = ROOT, **environ: str) -> Cloud:
        ports = [word for option in PORTS for word in (option, str(free_port()))]
        process = subprocess.Popen(
            [*LOCALCLOUD, *ports, "--dir", str(directory), *options],
            cwd=cwd,
            env={**clean_environ(), "PYTHONPATH": str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        cloud = Cloud(process, directory, [])
        threading.Thread(target=_listen, args=(cloud, ready), daemon=True).start()
        started.append(cloud)
        try:
            is_ready = ready.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            is_ready = False
        assert is_ready, f"the local cloud did not start: {cloud.lines}"
        cloud.environ |= envfile.read(directory / "env")
        return cloud

    try:
        yield start
    finally:
        for cloud in started:
            if cloud.process.poll() is None:
                cloud.process.send_signal(signal.SIGTERM)
        for cloud in started:
            cloud.process.wait(STOP_TIMEOUT_S)
            assert cloud.process.stdout is not None
            cloud.process.stdout.close()


def _listen(cloud: Cloud, ready: queue.SimpleQueue[bool]) -> None:
    assert cloud.process.stdout is not None
    for line in cloud.process.stdout:
        cloud.lines.append(line.rstrip("\n"))
        if line.startswith("ready"):
            ready.put(True)
    ready.put(False)


@pytest.fixture(scope="package")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One local cloud with one worker of 16 threads, shared by all tests of the folder: leave it as
    it was. It is stopped before the tests of other folders run."""
    with _clouds() as start:
        made = start(tmp_path_factory.mktemp("cloud"), "--workers", "1", "--threads", "16")
        _shared.append(made)
        yield made
        _shared.remove(made)


_shared: list[Cloud] = []
"""The shared cloud, from when a test has asked for it until it is stopped."""


@pytest.fixture(scope="module", autouse=True)
def no_work_is_left() -> Iterator[None]:
    """Cancels the work that a module leaves on the shared cloud: the next one must not wait for
    it. All batches that have ended must balance."""
    yield
    for cloud in _shared:
        for status in ("WAITING", "QUEUED", "RUNNING"):
            for batch_id in _batches(cloud, status):
                cloud.api("DELETE", f"/batches/{batch_id}")
        for batch_id in _batches(cloud, "DONE"):
            if batch_id not in _audited:
                _audited.add(batch_id)
                receipt = cloud.api("GET", f"/batches/{batch_id}/audit").json()
                assert receipt["balanced"], receipt


_audited: set[str] = set()
"""The batches of the shared cloud that were found to balance."""


def _batches(cloud: Cloud, status: str) -> list[str]:
    """Returns the ids of the newest batches of this status."""
    found = cloud.api("GET", "/batches", params={"status": status, "limit": 100}).json()
    return [batch["batch_id"] for batch in found["batches"]]
