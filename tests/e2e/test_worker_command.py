"""`python ec2_worker/run.py` as a person or systemd starts and stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "ec2_worker" / "run.py")]


def clean_environ() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    return kept | {"AWS_CONFIG_FILE": os.devnull}


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments],
        cwd=cwd,
        env={**clean_environ(), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "complaint"),
    [
        (["--bogus"], {}, "No such option '--bogus'; see run.py --help"),
        (["--threads", "0"], {}, "Invalid value for '--threads': 0 is not in the range"),
        (["--local", "missing.txt"], {}, "File 'missing.txt' does not exist"),
        (["--results", "x"], {}, "--results goes with --local"),
        (["--kinds", "nope"], {"TASKFLEET_BUCKET": "b"}, "task kinds: cannot import 'nope'"),
        (["--local", "bad.txt"], {}, "bad.txt, line 3: sleep -4 is negative"),
        (["--local", "options.txt"], {}, "options.txt, line 2: max_attempts: Expected `int` >= 1"),
        (["--local", "binary.txt"], {}, "binary.txt is not UTF-8"),
        (["--local", "empty.txt"], {}, "a batch needs at least one task"),
        (["--stage", "dev"], {}, "no AWS region: set AWS_REGION or AWS_DEFAULT_REGION"),
        (["--stage", "Dev"], {}, "stage='Dev'"),
        ([], {"TASKFLEET_LEASE_S": "soon"}, "TASKFLEET_LEASE_S='soon'"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(tmp_path, arguments, environ, complaint):
    (tmp_path / "bad.txt").write_text("sleep 0\n# a comment\nsleep -4\n")
    bad = '{"kind": "sleep", "params": 1, "max_attempts": 0}'
    (tmp_path / "options.txt").write_text(f"sleep 0\n{bad}\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text("\n")
    ended = run(*arguments, cwd=tmp_path, **environ)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert ended.stderr.startswith("run.py: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


def test_a_file_runs_without_any_cloud(tmp_path):
    first = {"kind": "sleep", "params": 30, "timeout_s": 5, "max_attempts": 2}
    (tmp_path / "tasks.txt").write_text(json.dumps(first) + "\nsleep 10\n" + "sleep 0\n" * 2000)
    ended = run("--local", "tasks.txt", "--results", "out.jsonl", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(2002))
    assert {row["status"] for row in rows} == {"SUCCEEDED"}
    assert rows[0]["task"] == first
    assert "2002" in ended.stdout


def test_kinds_are_found_in_the_folder_it_is_started_in(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from taskfleet.registry import task_kind\n"
        "@task_kind('double')\n"
        "def double(params, context):\n"
        "    return int(params) * 2\n"
    )
    (tmp_path / "tasks.txt").write_text("double 21\ndouble two\n")
    ended = run("--local", "tasks.txt", "--kinds", "mine", "--results", "o", cwd=tmp_path)
    assert ended.returncode == 1  # one of them failed
    first, second = (json.loads(line) for line in (tmp_path / "o").read_text().splitlines())
    assert (first["result"], second["status"]) == (42, "FAILED")
    assert second["error"].startswith("ValueError: invalid literal")


class Daemon:
    def __init__(self, cloud: Any, cwd: Path, *arguments: str, **environ: str) -> None:
        self._log = (cwd / "worker.log").open("w+")
        self.process = subprocess.Popen(
            [*RUN, "--threads", "2", *arguments],
            cwd=cwd,
            env={
                **cloud.child_environ,
                "TASKFLEET_RECEIVE_WAIT_S": "1",
                "TASKFLEET_LEASE_S": "3",
                **environ,
            },
            stderr=self._log,
        )
        self.wait_for("worker_started")

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def wait_for(self, action: str) -> None:
        eventually(lambda: f'"action": "{action}"' in self.log(), what=self.log)

    def end(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_it(cloud, tmp_path, number):
    daemon = Daemon(cloud, tmp_path)
    begun = time.monotonic()
    daemon.process.send_signal(number)
    assert daemon.end() == 0
    assert time.monotonic() - begun < 20


def test_a_second_signal_ends_it_at_once_and_the_tasks_are_run_by_others(cloud, tmp_path):
    daemon = Daemon(cloud, tmp_path, "--drain-timeout", "600")
    answer = cloud.api("POST", "/batches", json={"tasks": ["sleep 10000"] * 40})
    batch_id = answer.json()["batch_id"]
    path = f"/batches/{batch_id}"
    eventually(lambda: cloud.api("GET", path).json()["status"] == "RUNNING", what="tasks run")
    # Two of one number would count as one for a process that is too busy to take the first.
    begun = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.end() in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert time.monotonic() - begun < 7, "it waited for its tasks"
    cloud.api("DELETE", f"/batches/{batch_id}")
    batch: dict[str, Any] = {}

    def finished() -> bool:
        batch.update(cloud.api("GET", f"/batches/{batch_id}?wait=5").json())
        return batch["finished_at"] is not None

    eventually(finished, 90, lambda: f"the batch is finished: {batch}")
    assert batch["succeeded"] + batch["cancelled"] == 40


class Collector(BaseHTTPRequestHandler):
    """A stand-in for an OpenTelemetry collector: keeps the paths that it is sent something to."""

    paths: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.paths.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_it_tells_its_metrics_in_all_ways_that_it_is_asked_for(cloud, tmp_path):
    port = free_port()
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, args=(0.02,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    daemon = Daemon(
        *(cloud, tmp_path, "--metrics-port", str(port)),
        TASKFLEET_METRICS="emf",
        TASKFLEET_LOG_LEVEL="info",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
    )
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert 'taskfleet_aws_calls_total{operation="GetQueueUrl",service="sqs"}' in text
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(60)
    lines = [json.loads(line) for line in daemon.log().splitlines() if '"_aws"' in line]
    assert daemon.end() == 0
    collector.shutdown()
    collector.server_close()
    assert "sqs" in {line.get("Service") for line in lines}
    assert "/v1/metrics" in Collector.paths
