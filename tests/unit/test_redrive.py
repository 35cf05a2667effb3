"""Dead letters: they are shown, and moved back to their queue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskfleet.cli.redrive import open_queue
from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import OutgoingMessage
from taskfleet.scheduler.redrive import peek, redrive


def queue_with_dead(count: int) -> MemoryQueue:
    clock = ManualClock()
    queue = MemoryQueue(clock, dead=MemoryQueue(clock, name="dead"))
    queue.send([OutgoingMessage(f"body {number}") for number in range(count)])
    while messages := queue.receive(10, wait_s=0, visibility_s=30):
        for message in messages:
            queue.dead_letter(message, f"why {message.body}")
    return queue


def bodies(queue: object) -> set[str]:
    found = set()
    while messages := queue.receive(10, wait_s=0, visibility_s=30):  # type: ignore[attr-defined]
        found |= {message.body for message in messages}
    return found


def test_looking_tells_the_reason_and_leaves_all_in_place() -> None:
    queue = queue_with_dead(25)
    for _ in range(2):
        seen = list(peek(queue, 100))
        assert {m.attributes["reason"] for m in seen} == {f"why body {n}" for n in range(25)}
    assert queue.depth().backlog == 0
    assert queue.dead_letters().depth().backlog == 25


def test_all_go_back_once() -> None:
    queue = queue_with_dead(25)
    assert len(list(redrive(queue, 100))) == 25
    assert bodies(queue) == {f"body {n}" for n in range(25)}
    assert bodies(queue.dead_letters()) == set()


def test_no_more_than_the_limit_go_back() -> None:
    queue = queue_with_dead(25)
    assert len(list(redrive(queue, 12))) == 12
    assert queue.depth().backlog == 12
    assert queue.dead_letters().depth().backlog == 13


def test_what_is_not_wanted_stays_and_can_be_seen_again() -> None:
    queue = queue_with_dead(25)
    moved = redrive(queue, 100, lambda message: message.body.endswith("3"))
    assert {message.body for message in moved} == {"body 3", "body 13", "body 23"}
    assert len(bodies(queue.dead_letters())) == 22


def test_what_cannot_be_sent_stays_dead() -> None:
    queue = queue_with_dead(3)
    working = queue.send

    def broken(_messages: object) -> None:
        raise ConnectionError("no network")

    queue.send = broken  # type: ignore[assignment]
    try:
        list(redrive(queue, 10))
    except ConnectionError:
        pass
    else:
        raise AssertionError("the fault was swallowed")
    queue.send = working  # type: ignore[method-assign]
    queue._clock.sleep(61)
    assert len(list(redrive(queue, 10))) == 3
    assert bodies(queue) == {"body 0", "body 1", "body 2"}


def test_what_dies_again_meanwhile_does_not_go_round_for_ever() -> None:
    queue = queue_with_dead(3)
    dead = queue.dead_letters()
    moved = []
    for message in redrive(queue, 100):
        moved.append(message.body)
        for returned in queue.receive(10, wait_s=0, visibility_s=30):
            queue.dead_letter(returned, "again")
    assert sorted(moved) == ["body 0", "body 1", "body 2"]
    assert dead.depth().backlog == 3


# --- the queue that the command opens ---------------------------------------------------------


@pytest.fixture
def real_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without a local cloud, and the credentials of a real account."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("AWS_", "TASKFLEET_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setattr("taskfleet.aws.stage.read_settings", lambda *_: {"TASKFLEET_BUCKET": "b"})


def client_of(queue: object) -> tuple[str, str, str | None]:
    """The endpoint, the access key and the session token that a queue uses."""
    client = getattr(queue, "_normal", queue)._client  # that of bundles has two queues
    credentials = client._request_signer._credentials
    return client.meta.endpoint_url, credentials.access_key, credentials.token


@pytest.mark.usefixtures("real_account")
def test_without_a_url_the_local_clouds_queue_is_opened_and_the_environment_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").write_text(
        "export TASKFLEET_STAGE=test TASKFLEET_BUCKET=b AWS_ENDPOINT_URL=http://127.0.0.1:9\n"
        "export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=eu-west-1\n"
    )
    before = dict(os.environ)
    queue = open_queue("uploads")
    assert dict(os.environ) == before
    assert client_of(queue) == ("http://127.0.0.1:9", "local", None)
    assert queue._name == "Upload_to_expand-test"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("real_account")
def test_without_a_local_cloud_the_account_of_the_environment_is_used() -> None:
    url, key, session_token = client_of(open_queue("tasks"))
    assert (url, key, session_token) == ("https://sqs.eu-central-1.amazonaws.com", "real", "real")


@pytest.mark.usefixtures("real_account")
def test_a_stage_that_is_named_goes_before_the_local_cloud(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").write_text(
        "export TASKFLEET_BUCKET=b AWS_ENDPOINT_URL=http://x\n"
    )
    queue = open_queue("tasks", "prod")
    assert client_of(queue)[0] == "https://sqs.eu-central-1.amazonaws.com"
    names = queue._normal._name, queue._high._name  # type: ignore[attr-defined]
    assert names == ("Task_to_process-prod", "Task_to_process-prod_high")
