"""The local cloud starts, says so, heals, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


OWN_KIND = """
from taskfleet.registry import task_kind

@task_kind("double")
def double(params, context):
    return 2 * params["n"]
"""


def alive(pid: int) -> bool:
    """A zombie counts as ended: where nobody reaps orphans it stays in the table."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(found) and not found.startswith("Z")


def listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname or "", address.port or 0)) == 0


def done(cloud: Any, batch_id: str) -> bool:
    answer = cloud.api("GET", f"/batches/{batch_id}?wait=5").json()
    return bool(answer["status"] == "DONE")


def refused(*arguments: str, cwd: Path = ROOT) -> tuple[int, str]:
    """Exit code and standard error of a local cloud that cannot serve."""
    ended = subprocess.run(
        [sys.executable, "-m", "localcloud", "--aws-port", "0", "--workers", "0", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout in ("", "a part failed: stopping the others\n")
    return ended.returncode, ended.stderr


def test_it_says_when_it_serves_runs_and_leaves_no_process_when_told_to_end(
    start_cloud: Any, tmp_path: Path
) -> None:
    (tmp_path / "my_tasks.py").write_text(OWN_KIND)
    cloud = start_cloud(tmp_path / "my cloud", "--kinds", "my_tasks", cwd=tmp_path)
    assert cloud.lines[0].startswith(f"ready {cloud.url} ")
    assert requests.get(cloud.url + "/health", timeout=10).status_code == 200
    assert cloud.client("sqs").get_queue_url(QueueName="Task_to_process")

    env_file = tmp_path / "my cloud" / "env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    sourced = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$TASKFLEET_TOKEN"', "sh", str(env_file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sourced.stdout == cloud.token

    # A kind of a user's own is found from the folder that the cloud is started in.
    tasks = [{"kind": "double", "params": {"n": n}} for n in range(3)]
    batch_id = cloud.api("POST", "/batches", json={"tasks": tasks}).json()["batch_id"]
    eventually(lambda: done(cloud, batch_id), what="the batch is done")
    rows = cloud.api("GET", f"/batches/{batch_id}/results").json()["results"]
    assert sorted(row["result"] for row in rows) == [0, 2, 4]

    parts = cloud.processes()
    for part in ("ministack", "localcloud.moto", "localcloud.serve", "localcloud.pump", "run.py"):
        assert any(part in command for command in parts.values()), part
    assert cloud.stop(signal.SIGINT) == 0
    assert [command for pid, command in parts.items() if alive(pid)] == []
    assert not env_file.exists()
    for url in (
        cloud.url,
        cloud.environ["AWS_ENDPOINT_URL"],
        cloud.environ["AWS_ENDPOINT_URL_EC2"],
    ):
        assert not listens(url)


def test_its_state_survives_a_stop_and_a_start_when_asked_to_keep_it_and_only_then(
    start_cloud: Any, tmp_path: Path
) -> None:
    first = start_cloud(tmp_path, "--workers", "0", "--keep")
    posted = first.api(
        "POST", "/batches", data="sleep 1\nsleep 2", headers={"Content-Type": "text/plain"}
    )
    assert posted.status_code == 202, posted.text
    batch_id = posted.json()["batch_id"]
    s3 = first.client("s3")
    s3.put_object(Bucket=first.environ["TASKFLEET_BUCKET"], Key="kept/file", Body=b"here")
    assert first.stop() == 0

    second = start_cloud(tmp_path, "--workers", "1", "--keep")
    eventually(lambda: done(second, batch_id), what="the kept batch is done")
    kept = second.client("s3").get_object(Bucket=first.environ["TASKFLEET_BUCKET"], Key="kept/file")
    assert kept["Body"].read() == b"here"
    # A token outlives the restart.
    second.environ["TASKFLEET_TOKEN"] = first.token
    assert second.api("GET", f"/batches/{batch_id}").json()["succeeded"] == 2
    assert second.stop() == 0

    third = start_cloud(tmp_path, "--workers", "0")
    assert third.api("GET", f"/batches/{batch_id}").status_code == 404
    assert third.stop() == 0


def test_killed_parts_are_started_again_and_none_outlives_a_supervisor_that_is_killed(
    start_cloud: Any, tmp_path: Path
) -> None:
    on_event = f"cat > {tmp_path / 'event.json'}; echo no such table >&2; exit 3"
    options = ("--workers", "2", "--on-event", on_event)
    cloud = start_cloud(tmp_path, *options, TASKFLEET_RECEIVE_WAIT_S="1")
    before = cloud.processes()
    for pid, command in before.items():
        if "run.py" in command or "localcloud.pump" in command:
            os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        new = [command for pid, command in cloud.processes().items() if pid not in before]
        names = ("run.py", "localcloud.pump")
        return [sum(name in command for command in new) for name in names] == [2, 1]

    eventually(replaced, 30, "workers and pump run again")
    # The emulator still serves the dead worker's long poll: what it would take comes again only
    # after its visibility time-out.
    time.sleep(1.0)
    posted = cloud.api("POST", "/batches", json={"tasks": ["sleep 1"] * 20})
    batch_id = posted.json()["batch_id"]
    eventually(lambda: done(cloud, batch_id), what="the batch is done")
    # Its end is told, and the command that fails at it harms nothing.
    failed = "--on-event: the command ended with exit status 3: no such table"
    eventually(lambda: failed in cloud.lines, 20, lambda: f"its end is told: {cloud.lines}")
    assert f"finished: batch {batch_id} DONE: 20 succeeded of 20" in cloud.lines
    event = json.loads((tmp_path / "event.json").read_text())
    assert (event["batch_id"], event["client_id"], event["stage"]) == (batch_id, "local", "dev")
    for number in (1, 2):
        told = f"worker-{number} ended with SIGKILL; starting it again"
        assert any(told in line for line in cloud.lines)

    parts = cloud.processes()
    assert len(parts) >= 6
    assert cloud.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(alive(pid) for pid in parts), 30, "all parts have ended")
    # What it left in its folder is no obstacle.
    again = start_cloud(tmp_path, "--workers", "0")
    assert again.api("GET", "/batches").status_code == 200
    assert again.stop() == 0


def test_the_end_of_the_api_is_the_end_of_all(start_cloud: Any, tmp_path: Path) -> None:
    cloud = start_cloud(tmp_path, "--workers", "1")
    parts = cloud.processes()
    os.kill(next(pid for pid, c in parts.items() if "localcloud.serve" in c), signal.SIGKILL)
    assert cloud.process.wait(60) == 1
    eventually(
        lambda: cloud.lines[-1].startswith("localcloud: api ended with SIGKILL"),
        what=lambda: f"the end of the API is told: {cloud.lines}",
    )
    assert not any(alive(pid) for pid in parts)
    assert not (tmp_path / "env").exists()


def test_a_second_signal_ends_it_at_once_although_a_task_runs(
    start_cloud: Any, tmp_path: Path
) -> None:
    cloud = start_cloud(tmp_path, "--workers", "1", TASKFLEET_DRAIN_TIMEOUT_S="60")
    parts = cloud.processes()
    began = tmp_path / "began"
    work = f"command touch {began}; sleep 50"
    assert cloud.api("POST", "/batches", json={"tasks": [work]}).status_code == 202
    eventually(began.exists, what="the task runs")
    cloud.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        cloud.process.wait(1.5)  # it waits for the task
    started = time.monotonic()
    while cloud.process.poll() is None:  # those that come while it ends change nothing
        cloud.process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    assert cloud.process.returncode == 0
    assert time.monotonic() - started < 5
    eventually(lambda: not any(alive(pid) for pid in parts), 30, "all parts have ended")


def test_a_port_in_use_is_bad_usage_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        code, error = refused("--api-port", str(port), "--dir", str(tmp_path))
    assert code == 2
    assert error.count("\n") == 1
    assert f"port {port}" in error
    assert "--api-port" in error


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--kinds", "no_such_module"], "no_such_module"),
        (["--workers", "many"], "many"),
        (["--api-port", "70000"], "--api-port"),
        (["--colour"], "--colour"),
        (["--quota", "api_rate=fast"], "api_rate=fast"),
    ],
)
def test_bad_usage_is_told_in_one_line(arguments: list[str], word: str, tmp_path: Path) -> None:
    code, error = refused("--api-port", "0", "--dir", str(tmp_path), *arguments)
    assert code == 2
    assert error.count("\n") == 1
    assert word in error


def test_settings_that_cannot_work_are_bad_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLEET_LEASE_S", "0.1")
    code, error = refused("--api-port", "0", "--dir", str(tmp_path))
    assert (code, error.count("\n")) == (2, 1)
    assert "TASKFLEET_LEASE_S" in error


def test_two_clouds_cannot_share_a_folder(cloud: Any) -> None:
    code, error = refused("--api-port", "0", "--dir", str(cloud.directory))
    assert (code, error.count("\n")) == (2, 1)
    assert str(cloud.directory) in error
    assert cloud.api("GET", "/batches").status_code == 200


def test_a_part_that_dies_at_the_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "broken_kinds.py").write_text("raise RuntimeError('this module is broken')\n")
    code, error = refused(
        "--api-port", "0", "--dir", "here", "--kinds", "broken_kinds", cwd=tmp_path
    )
    assert code == 1
    assert error.count("\n") == 1
    assert "this module is broken" in error
    assert str(Path("here") / "logs") in error


def test_a_program_of_2014_gets_its_answer_although_the_pump_reads_the_same_queue(
    cloud: Any,
) -> None:
    sqs = cloud.client("sqs")
    tasks, answers = (
        sqs.get_queue_url(QueueName=name)["QueueUrl"]
        for name in ("Task_to_process", "Processed_Task")
    )
    sqs.send_message(
        QueueUrl=tasks, MessageBody='{"clientID": 56783, "jobID": 152, "task": "sleep 8"}'
    )
    time.sleep(1.0)  # the pump has had it first

    def receive() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=answers, WaitTimeSeconds=5)
        messages: list[dict[str, Any]] = found.get("Messages", [])
        return messages

    (message,) = eventually(receive, what="the answer is on Processed_Task")
    sqs.delete_message(QueueUrl=answers, ReceiptHandle=message["ReceiptHandle"])
    answer = json.loads(message["Body"])
    assert (answer["clientID"], answer["jobID"], answer["status"]) == (56783, 152, "SUCCEEDED")


def test_quotas_reach_the_parts(start_cloud: Any, tmp_path: Path) -> None:
    quotas = ("--quota", "api_rate=3", "--quota", "messages_in_flight=0")
    cloud = start_cloud(tmp_path, *quotas, "--workers", "0", "--max-capacity", "0")
    statuses = [requests.get(f"{cloud.url}/health", timeout=5).status_code for _ in range(9)]
    assert 429 in statuses
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    with pytest.raises(sqs.exceptions.OverLimit):
        sqs.receive_message(QueueUrl=url)
