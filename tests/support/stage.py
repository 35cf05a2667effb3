"""A stage of real processes on a local cloud, each of them behind the hop: worker, API, collector,
reader of files and provisioner. They can be killed, stopped and started one by one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.hop import Hop
from tests.support.ports import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
RUN = str(ROOT / "ec2_worker" / "run.py")
ONE_FUNCTION = str(ROOT / "tests" / "e2e" / "one_function.py")
API = "api_handler"
FUNCTIONS = {
    "api": API,
    "collector": "collect_responses",
    "reader": "expand_upload",
    "provisioner": "tick",
}
"""Names of the functions, by their role."""
LEASE_S = 3.0
START_S = 180.0
"""Plenty for a process to start on a busy computer."""
_LAMBDA = "AWS_ENDPOINT_URL_LAMBDA"
_OTHERS = ("AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_EVENTBRIDGE")


@dataclass
class Stage:
    """The processes of a stage by their name: a role, `worker` or one of `FUNCTIONS`, for several
    processes of a role with a number, such as `worker.2`. `cloud` runs none of them itself. The
    process `provisioner` serves Lambda's calls at `lambda_url`."""

    cloud: Any
    hop: Hop
    folder: Path
    url: str = ""
    lambda_url: str = ""
    urls: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _environs: dict[str, dict[str, str]] = field(default_factory=dict)
    _started: int = 0
    _ended: bool = False

    def start(self, name: str, *options: str, **environ: str) -> subprocess.Popen[bytes]:
        """Starts a process and waits until it serves. An API's address is in `urls` then; `url` is
        that of `api`, or of the last one."""
        process, log = self._spawn(name, *options, **environ)
        role = name.partition(".")[0]
        ready = {"worker": "worker_started", "api": "serving http"}.get(role, "pump_started")

        def line() -> str:
            assert process.poll() is None, f"{name} ended: {log.read_text()}"
            return next((each for each in log.read_text().splitlines() if ready in each), "")

        said = eventually(line, START_S, f"{name} serves")
        if role == "api":
            self.urls[name] = said.split()[-1]
            self.url = self.urls.get("api", self.urls[name])
        return process

    def spawn(self, name: str, *options: str, **environ: str) -> subprocess.Popen[bytes]:
        """Starts a process that may be faulted before it serves."""
        return self._spawn(name, *options, **environ)[0]

    def _spawn(
        self, name: str, *options: str, **environ: str
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Starts a process. Returns it and its log."""
        assert not self._ended, "the stage has ended"
        if name not in self._environs:
            known = {**self.cloud.child_environ, _LAMBDA: self.lambda_url}
            self._environs[name] = self.hop.environ(name, known)
        role = name.partition(".")[0]
        script = [RUN, "--threads", "4"]
        if role != "worker":
            script = [ONE_FUNCTION, FUNCTIONS[role], os.devnull]
            if role == "api" and not options:
                options = ("--port", "0")
            if name == "provisioner" and not options:  # it answers the calls of Lambda, too
                options = ("--invoke-port", self.lambda_url.rpartition(":")[2])
        self._started += 1
        log = self.folder / f"{name}-{self._started}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *script, *options],
                cwd=self.folder,
                env={
                    **self._environs[name],
                    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, self.folder))),
                    "TASKFLEET_RECEIVE_WAIT_S": "1",
                    "TASKFLEET_LEASE_S": f"{LEASE_S:g}",
                    **environ,
                },
                stdout=out,
                stderr=out,
                process_group=0,
            )
        self.processes[name] = process
        return process, log

    def kill(self, name: str) -> None:
        """Kills a process and its group with SIGKILL, and waits for its end."""
        process = self.processes.pop(name, None)
        if process is None:  # another thread of the test was faster
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)

    def call(self, method: str, path: str, body: Any = None, name: str = "") -> requests.Response:
        """One call of the API, or of the one `name`, with the cloud's token."""
        headers = {"Authorization": f"Bearer {self.cloud.token}"}
        url = self.urls[name] if name else self.url
        return requests.request(method, url + path, headers=headers, json=body, timeout=60)

    def end(self) -> None:
        """Ends all processes. No other starts after that."""
        self._ended = True
        for name in list(self.processes):
            self.kill(name)


@contextlib.contextmanager
def stage(
    start_cloud: Callable[..., Any],
    folder: Path,
    *options: str,
    kinds: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """A stage without processes yet, on a local cloud of its own with these options.

    kinds: modules of task kinds, as name -> source.
    """
    for name, source in (kinds or {}).items():
        (folder / f"{name}.py").write_text(source)
    named = ("--kinds", ",".join(kinds)) if kinds else ()
    cloud = start_cloud(
        folder / "cloud",
        *("--workers", "0", "--no-provisioner", *named, *options),
        PYTHONPATH=str(folder),
    )
    (pump,) = (pid for pid, line in cloud.processes().items() if "localcloud.pump" in line)
    os.kill(pump, signal.SIGSTOP)
    try:
        time.sleep(1.5)  # the long polls that it left behind are over
        lambda_url = f"http://127.0.0.1:{free_port()}"
        others = [*(cloud.environ[name] for name in _OTHERS), lambda_url]
        with Hop(cloud.environ["AWS_ENDPOINT_URL"], others=others) as hop:
            made = Stage(cloud, hop, folder, lambda_url=lambda_url)
            try:
                yield made
            finally:
                made.end()
    finally:
        os.kill(pump, signal.SIGCONT)
        cloud.stop()
