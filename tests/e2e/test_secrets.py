"""A whole run at the loudest log level: nothing that opens a door is in any log. On the way dead
letters are looked at, and sent back, by the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from taskfleet.wire import token
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]

KINDS = '''
"""A kind whose results are objects in the store, and one that breaks."""
from taskfleet.registry import task_kind

@task_kind("stored")
def stored(params, context):
    key = f"movies/{context.batch_id}/{context.index}.txt"
    context.store.put(key, b"...", content_type="text/plain")
    return {"url": context.store.url(key, expires_s=60)}

@task_kind("broken")
def broken(params, context):
    raise RuntimeError("on purpose")
'''


def test_no_secret_token_or_signature_is_logged_and_dead_letters_can_be_sent_back(
    start_cloud: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "logged_kinds.py").write_text(KINDS)
    cloud = start_cloud(
        tmp_path / ".local",
        "--workers",
        "1",
        "--kinds",
        "logged_kinds",
        PYTHONPATH=str(tmp_path),
        TASKFLEET_LOG_LEVEL="debug",
    )
    secret = cloud.environ["TASKFLEET_TOKEN_SECRET"]
    now = time.time()
    strangers = {
        "expired": token.make(secret, "local", 60, now - 3600),
        "foreign": token.make("of another secret, as long as it takes", "local", 600, now),
        "unsigned": "eyJhbGciOiJub25lIn0.eyJjbGllbnRfaWQiOiJsb2NhbCJ9.",
        "garbled": "no-token-at-all",
    }
    other = token.make(secret, "somebody-else", 600, now)

    batch = cloud.api(
        "POST",
        "/batches",
        json={"tasks": ["sleep 1", {"kind": "stored", "params": 1}, {"kind": "broken"}]},
    ).json()
    path = batch["url"].removeprefix(cloud.url)
    for name, bearer in strangers.items():
        refused = cloud.api("GET", path, headers={"Authorization": f"Bearer {bearer}"})
        assert refused.status_code == 403, name
    assert requests.get(cloud.url + path, timeout=10).status_code == 401
    foreign = cloud.api("GET", path, headers={"Authorization": f"Bearer {other}"})
    assert foreign.status_code == 404
    # Where a token does not belong, it is refused with the rest.
    assert cloud.api("GET", f"{path}?token={other}").status_code == 422

    eventually(lambda: cloud.api("GET", path).json()["status"] == "DONE", what="the batch is done")
    rows = cloud.api("GET", f"{path}/results").json()["results"]
    (signature,) = parse_qs(urlsplit(rows[1]["result"]["url"]).query)["X-Amz-Signature"]

    dead_letters_go_back(cloud, tmp_path)

    assert cloud.stop() == 0
    hidden = {
        "secret": secret,
        "aws": cloud.environ["AWS_SECRET_ACCESS_KEY"],
        "token": cloud.token,
        "signature": signature,
        "other": other,
    }
    hidden |= strangers
    logs = list((tmp_path / ".local" / "logs").glob("*.log"))
    assert {"api.log", "pump.log", "worker-1.log"} <= {log.name for log in logs}
    written = "\n".join([*cloud.lines, *(log.read_text(errors="replace") for log in logs)])
    assert "token_refused" in written
    assert "on purpose" in written
    for name, value in hidden.items():
        assert value not in written, name
        assert value.rpartition(".")[2] == "" or value.rpartition(".")[2] not in written, name
    assert "X-Amz-Signature" not in written
    assert "Bearer ey" not in written


def dead_letters_go_back(cloud: Any, directory: Path) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    dead = sqs.get_queue_url(QueueName="Task_to_process_dead")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="this is no bundle")
    wait_for_dead(sqs, dead, 1)
    for _ in range(2):  # looking changes nothing
        listed = redrive(cloud, directory, "--list")
        assert "this is no bundle" in listed.stdout
        assert "1 dead letters" in listed.stderr
    sent = redrive(cloud, directory)
    assert "1 dead letters moved back" in sent.stderr
    wait_for_dead(sqs, dead, 1)  # it is still no bundle


def redrive(cloud: Any, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in cloud.child_environ.items() if not k.startswith("TASKFLEET_")}
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "redrive", *options],
        cwd=directory,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def wait_for_dead(sqs: Any, url: str, count: int) -> None:
    eventually(
        lambda: depth(sqs, url) == count,
        what=lambda: f"{count} dead letters; there are {depth(sqs, url)}",
    )


def depth(sqs: Any, url: str) -> int:
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(found["Attributes"]["ApproximateNumberOfMessages"])
