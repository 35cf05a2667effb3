"""EC2 takes a machine back: the worker drains, and another one goes on. EC2 advises to leave it:
the worker does when it is idle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.imds import FakeImds
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
TASKS = 300
END = "meta-data/spot/instance-action"
ADVICE = "meta-data/events/recommendations/rebalance"
DRAIN_TIMEOUT_S = 2
WITHIN_S = 30.0
"""From the notice to the worker's end: 5 s until it is seen, the drain time-out, and plenty for a
busy computer. EC2 gives 120 s."""
KIND = '''
"""A kind that tells which process began and ended a task; "hold" ends only when let go."""
import os
from pathlib import Path
from taskfleet.registry import task_kind

@task_kind("noted", runs_in="thread")  # so that its process is the worker
def noted(params, context):
    notes = Path(os.environ["NOTES"]) / context.batch_id
    def note(what):
        with notes.open("a") as file:
            file.write(f"{what} {context.index} {os.getpid()}\\n")
    note("begun")
    if params == "hold":
        while not notes.with_suffix(".let-go").exists():
            context.sleep(0.05)
    else:
        context.sleep(0.2)
    note("ended")
'''


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the kind, and of its notes."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "noted_kind.py").write_text(KIND)
    return folder


@pytest.fixture(scope="module")
def cloud(start_cloud: Any, kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cloud in which only the tests start workers."""
    return start_cloud(
        tmp_path_factory.mktemp("cloud"),
        *("--workers", "0", "--no-provisioner", "--kinds", "noted_kind"),
        PYTHONPATH=f"{ROOT}{os.pathsep}{kinds}",
    )


@contextlib.contextmanager
def worker(cloud: Any, kinds: Path, log: Path, *arguments: str, imds: str = "") -> Iterator[Any]:
    """A worker on a machine with that metadata service."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "ec2_worker" / "run.py"), *arguments],
            cwd=kinds,
            env={
                **cloud.child_environ,
                "NOTES": str(kinds),
                "TASKFLEET_IMDS_URL": imds,
                "TASKFLEET_RECEIVE_WAIT_S": "1",
                "TASKFLEET_LEASE_S": "9",
            },
            stderr=out,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Batch:
    def __init__(self, cloud: Any, kinds: Path, tasks: list[Any]) -> None:
        self._cloud, self._kinds = cloud, kinds
        answer = cloud.api("POST", "/batches", json={"tasks": tasks})
        assert answer.status_code == 202, answer.text
        self._id = str(answer.json()["batch_id"])

    def status(self) -> dict[str, Any]:
        return dict(self._cloud.api("GET", f"/batches/{self._id}").json())

    def rows(self) -> list[dict[str, Any]]:
        page = self._cloud.api("GET", f"/batches/{self._id}/results?limit=5000").json()
        assert page["cursor"] is None
        return list(page["results"])

    def noted(self, what: str, pid: int | None = None) -> Counter[int]:
        """How often each task was begun or ended, by that process or by any."""
        file = self._kinds / self._id
        lines = file.read_text().splitlines() if file.exists() else []
        notes = [line.split() for line in lines]
        return Counter(int(n) for word, n, by in notes if word == what and pid in (None, int(by)))

    def let_go(self) -> None:
        (self._kinds / self._id).with_suffix(".let-go").touch()


def messages_left(cloud: Any) -> int:
    """In all queues of the cloud, hidden ones and dead letters among them."""
    sqs = cloud.client("sqs")
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(
        int(count)
        for url in sqs.list_queues()["QueueUrls"]
        for count in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)[
            "Attributes"
        ].values()
    )


def test_on_advice_a_worker_finishes_all_that_waits_and_then_leaves(
    cloud: Any, kinds: Path, tmp_path: Path
) -> None:
    with FakeImds().served() as imds:
        imds.found[ADVICE] = '{"noticeTime": "2099-01-01T00:00:00Z"}'
        batch = Batch(cloud, kinds, ["noted"] * 200)  # ten seconds of work
        options = ("--threads", "4", "--drain-timeout", "0")
        log = tmp_path / "advised.log"
        with worker(cloud, kinds, log, *options, imds=imds.url) as advised:
            assert advised.wait(60) == 0, "it leaves, with no other word"
    assert '"action": "machine_notice"' in log.read_text()
    assert batch.noted("ended", advised.pid) == dict.fromkeys(range(200), 1)
    assert {row["status"] for row in batch.rows()} == {"SUCCEEDED"}


def test_on_a_notice_a_worker_commits_what_is_finished_and_leaves_the_rest_to_others(
    cloud: Any, kinds: Path, tmp_path: Path
) -> None:
    with FakeImds().served() as imds:
        options = ("--threads", "4", "--drain-timeout", str(DRAIN_TIMEOUT_S))
        log = tmp_path / "first.log"
        with worker(cloud, kinds, log, *options, imds=imds.url) as first:
            batch = Batch(cloud, kinds, [{"kind": "noted", "params": "hold"}] + ["noted"] * TASKS)
            eventually(
                lambda: batch.noted("ended").total() >= 20, 60, "the first worker is at work"
            )
            imds.found[END] = '{"action": "terminate", "time": "2099-01-01T00:02:00Z"}'
            noticed_at = time.monotonic()
            assert first.wait(WITHIN_S) == 0
        took_s = time.monotonic() - noticed_at
        assert (imds.given, imds.refused) == (1, []), "one token, asked for before all else"
    assert '"action": "machine_notice"' in log.read_text()
    print(f"\nthe worker ended {took_s:.1f} s after the notice")

    finished = batch.noted("ended", first.pid)
    assert 20 <= finished.total() < TASKS
    assert batch.noted("begun", first.pid) - finished == {0: 1}, "only what held on was cut short"
    # With nobody there any more, all that is finished is on record, and nothing else.
    on_record = [row["index"] for row in batch.rows() if row["status"] == "SUCCEEDED"]
    assert on_record == sorted(finished)
    assert batch.status()["status"] == "RUNNING"

    batch.let_go()
    with worker(cloud, kinds, tmp_path / "second.log", "--threads", "16") as second:
        eventually(lambda: batch.status()["status"] == "DONE", 90, "the batch is done")
        status, rows = batch.status(), batch.rows()
        counts = tuple(status[name] for name in ("total", "succeeded", "failed", "cancelled"))
        assert counts == (TASKS + 1, TASKS + 1, 0, 0)
        assert [row["index"] for row in rows] == list(range(TASKS + 1))
        assert {row["status"] for row in rows} == {"SUCCEEDED"}
        assert batch.noted("ended") == dict.fromkeys(range(TASKS + 1), 1), "each ran once"
        assert batch.noted("begun") - batch.noted("ended") == {0: 1}
        by_first = {row["worker_id"] for row in rows if row["index"] in finished}
        by_second = {row["worker_id"] for row in rows if row["index"] not in finished}
        assert len(by_first) == len(by_second) == 1
        assert by_first != by_second
        assert rows[0]["attempts"] == 1, "being handed back spends no attempt"
        eventually(lambda: messages_left(cloud) == 0, 60, "the queues are empty")
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
