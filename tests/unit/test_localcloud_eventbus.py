"""EventBridge as the local cloud plays it, called by the project's own adapter, and what the local
cloud does with an event."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import msgspec
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.eventbus import CALL_MAX_BYTES, EventBus
from localcloud.onevent import OnEvent, line_of
from taskfleet.aws import events
from taskfleet.batch import BatchStatus
from taskfleet.wire.events import FinishedBatch
from tests.support.moto_aws import aws_credentials
from tests.support.waiting import eventually

FINISHED = FinishedBatch(
    "b" * 26,
    "night\x1b[2Jly",
    BatchStatus.DONE,
    1_003,
    1_000,
    2,
    1,
    "2030-01-31T03:00:00.000Z",
    "2030-01-31T03:01:00.000Z",
    0.0,
    client_id="alice",
    stage="dev",
)
LINE = (
    f"finished: batch {'b' * 26} (night [2Jly) DONE: "
    "1,000 succeeded, 2 failed, 1 cancelled of 1,003"
)


@pytest.fixture
def bus() -> Iterator[tuple[Any, list[Any]]]:
    """A client, and the events that came."""
    seen: list[Any] = []
    made = EventBus(lambda *event: seen.append(event), "test")
    with aws_credentials():
        client = boto3.client(
            "events", endpoint_url=made.url, config=Config(retries={"total_max_attempts": 1})
        )
    yield client, seen
    client.close()
    made.close()


def test_the_event_of_a_batch_comes_as_it_was_sent(bus: Any) -> None:
    client, seen = bus
    events.EventBus(client).send(FINISHED)
    ((source, detail_type, detail),) = seen
    assert (source, detail_type) == ("taskfleet", "Batch finished")
    assert (detail["batch_id"], detail["client_id"], detail["stage"]) == ("b" * 26, "alice", "dev")
    assert (detail["status"], detail["succeeded"]) == ("DONE", 1_000)


def test_a_caller_that_is_killed_leaves_no_traceback(
    bus: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    client, _ = bus
    to = urlsplit(client.meta.endpoint_url)
    with socket.create_connection((to.hostname, to.port)) as line:
        line.sendall(b"POST / HT")
        eventually(_connections)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: not _connections(), what="the connection is over")
    assert capfd.readouterr().err == ""


def _connections() -> list[threading.Thread]:
    """Threads that serve a connection."""
    return [t for t in threading.enumerate() if "process_request_thread" in t.name]


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"Source": "taskfleet", "DetailType": "x"}, "InvalidArgument"),
        ({"Source": "aws.ec2", "DetailType": "x", "Detail": "{}"}, "NotAuthorizedForSource"),
        ({"Source": "a", "DetailType": "x", "Detail": "[1]"}, "MalformedDetail"),
        ({"Source": "a", "DetailType": "x", "Detail": "{"}, "MalformedDetail"),
    ],
)
def test_an_entry_that_eventbridge_refuses_fails_alone(
    bus: Any, entry: dict[str, str], code: str
) -> None:
    client, seen = bus
    good = {"Source": "a", "DetailType": "x", "Detail": "{}"}
    answer = client.put_events(Entries=[entry, good])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"].startswith(code)
    assert answer["Entries"][1]["EventId"]
    assert seen == [("a", "x", {})]


def test_a_call_that_eventbridge_refuses_is_refused_whole(bus: Any) -> None:
    client, seen = bus
    good = {"Source": "a", "DetailType": "x", "Detail": "{}"}
    large = {**good, "Detail": json.dumps({"x": "y" * CALL_MAX_BYTES})}
    for entries in ([good] * 11, [good, large]):
        with pytest.raises(ClientError, match="ValidationException"):
            client.put_events(Entries=entries)
    with pytest.raises(ClientError, match="UnknownOperationException"):
        client.list_rules()
    url = client.meta.endpoint_url
    assert requests.post(url, json={"Entries": [good]}, timeout=5).status_code == 403
    assert seen == []


def told(lines: list[str], count: int) -> list[str]:
    eventually(lambda: len(lines) >= count, 20, lambda: f"{count} lines: {lines}", poll_s=0.01)
    return lines


def test_a_line_tells_of_the_batch() -> None:
    assert line_of(msgspec.to_builtins(FINISHED)) == LINE
    assert line_of({"batch_id": "b", "name": None, "status": "CANCELLED", "total": 0}) == (
        "finished: batch b CANCELLED: 0 succeeded of 0"
    )


def test_the_command_gets_each_event_in_order_and_its_failures_cost_a_line(tmp_path: Path) -> None:
    lines: list[str] = []
    script = tmp_path / "on_event.py"
    script.write_text(
        "import json, sys\n"
        "event = json.load(sys.stdin)\n"
        f"open({str(tmp_path / 'seen')!r}, 'a').write(event['batch_id'] + '\\n')\n"
        "sys.exit('no\\nsuch \\033[1m table' if event['batch_id'] == 'b1' else 0)\n"
    )
    on_event = OnEvent(lines.append, f"{sys.executable} {script}", {})
    for n in range(3):
        on_event.put("taskfleet", "Batch finished", {"batch_id": f"b{n}", "status": "DONE"})
    assert told(lines, 4) == [
        "finished: batch b0 DONE: 0 succeeded of 0",
        "finished: batch b1 DONE: 0 succeeded of 0",
        "--on-event: the command ended with exit status 1: no such [1m table",
        "finished: batch b2 DONE: 0 succeeded of 0",
    ]
    seen = tmp_path / "seen"
    eventually(lambda: seen.read_text() == "b0\nb1\nb2\n", 20, "all commands ran", poll_s=0.01)
    on_event.close()


def test_a_command_that_hangs_is_ended_and_the_next_event_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    pid = tmp_path / "pid"
    command = f"grep -q b0 || exit 0; sleep 60 & echo $! > {pid}; wait"
    on_event = OnEvent(lines.append, command, {}, command_max_s=0.5)
    on_event.put("taskfleet", "Batch finished", {"batch_id": "b0", "status": "DONE"})
    on_event.put("taskfleet", "Batch finished", {"batch_id": "b1", "status": "DONE"})
    assert told(lines, 3)[1] == "--on-event: the command was ended after 0.5 s"
    assert lines[2].startswith("finished: batch b1")
    eventually(lambda: not alive(pid.read_text().strip()), 20, "its child is ended", poll_s=0.01)
    on_event.close()


def test_a_command_that_runs_is_ended_with_the_cloud(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    on_event = OnEvent([].append, f"sleep 60 & echo $! > {pid}.new; mv {pid}.new {pid}; wait", {})
    on_event.put("taskfleet", "Batch finished", {"batch_id": "b0", "status": "DONE"})
    eventually(pid.exists, 20, "the command runs", poll_s=0.01)
    child = pid.read_text().strip()
    assert alive(child)
    on_event.close()
    eventually(lambda: not alive(child), 20, "its child is ended", poll_s=0.01)


def alive(pid: str) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_events_beyond_the_queue_are_dropped_and_told() -> None:
    lines: list[str] = []
    on_event = OnEvent(lines.append, "sleep 0.2", {}, waiting_max=1)
    for n in range(6):
        on_event.put("taskfleet", "Batch finished", {"batch_id": f"b{n}", "status": "DONE"})
    told(lines, 2)
    assert [line for line in lines if "were dropped: more than could wait" in line]
    on_event.close()


def test_a_reader_of_the_lines_that_is_gone_keeps_no_event_from_the_command(
    tmp_path: Path,
) -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError

    on_event = OnEvent(broken, f"cat > {tmp_path / 'seen'}", {})
    on_event.put("taskfleet", "Batch finished", {"batch_id": "b0", "status": "DONE"})
    seen = tmp_path / "seen"
    eventually(lambda: seen.exists() and seen.read_text(), 20, "the command ran", poll_s=0.01)
    assert json.loads(seen.read_text())["batch_id"] == "b0"
    on_event.close()
