"""The pump: messages that a handler takes are deleted, all others come again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from chalice import Chalice, Rate

from localcloud.events import sqs_events
from localcloud.handler import Context
from localcloud.pump import sources
from localcloud.queue_source import QueueSource
from localcloud.schedule_source import ScheduleSource
from taskfleet.settings import Settings
from taskfleet.wire.payload import EVENT_MAX_BYTES
from tests.support.moto_aws import moto_account

QUEUE = "Processed_Task"


@pytest.fixture
def sqs() -> Iterator[Any]:
    with moto_account():
        client = boto3.client("sqs", region_name="us-east-1")
        client.create_queue(QueueName=QUEUE, Attributes={"VisibilityTimeout": "600"})
        yield client


def fill(sqs: Any, count: int) -> str:
    url: str = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    for number in range(count):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    return url


def depth(sqs: Any, url: str) -> tuple[int, int]:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


class Handler:
    """A handler that gives the answer of a function and notes the bodies of each call."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.calls: list[list[str]] = []
        self._answer = answer

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        assert 0 < context.get_remaining_time_in_millis() <= 60_000
        self.calls.append([record["body"] for record in event["Records"]])
        return self._answer(event)


def visibility_changes(sqs: Any) -> list[dict[str, Any]]:
    """Returns a list that fills with the visibility changes that reach SQS."""
    changes: list[dict[str, Any]] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibilityBatch",
        lambda params, **_: changes.extend(params["Entries"]),
    )
    return changes


def test_messages_that_the_handler_takes_are_deleted(sqs: Any) -> None:
    url = fill(sqs, 3)
    handler = Handler(lambda event: None)
    source = QueueSource(sqs, QUEUE, "collect", handler, batch_size=10)
    source.deliver(source.receive())
    assert [sorted(call) for call in handler.calls] == [["0", "1", "2"]]
    assert depth(sqs, url) == (0, 0)


def test_a_batch_larger_than_one_receive_is_delivered_and_deleted_whole(sqs: Any) -> None:
    url = fill(sqs, 27)
    handler = Handler(lambda event: None)
    source = QueueSource(sqs, QUEUE, "collect", handler, batch_size=25)
    source.deliver(source.receive())
    assert [len(call) for call in handler.calls] == [25]
    assert depth(sqs, url) == (2, 0)


def test_messages_that_the_handler_names_as_failed_stay(sqs: Any) -> None:
    url = fill(sqs, 3)
    changes = visibility_changes(sqs)
    handler = Handler(
        lambda event: {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]}
                for record in event["Records"]
                if record["body"] == "1"
            ]
        }
    )
    source = QueueSource(sqs, QUEUE, "collect", handler, batch_size=10)
    source.deliver(source.receive())
    assert depth(sqs, url) == (0, 1)
    assert [change["VisibilityTimeout"] for change in changes] == [1]


def test_a_handler_that_raises_leaves_the_whole_batch(
    sqs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_event: Any) -> None:
        raise RuntimeError("the table is away")

    url = fill(sqs, 12)
    changes = visibility_changes(sqs)
    source = QueueSource(sqs, QUEUE, "collect", Handler(broken), batch_size=12)
    source.deliver(source.receive())
    assert depth(sqs, url) == (0, 12)
    assert [change["VisibilityTimeout"] for change in changes] == [1] * 12
    assert "the table is away" in caplog.text


def test_a_message_that_stays_is_delayed_longer_at_each_delivery(sqs: Any) -> None:
    url = fill(sqs, 1)
    changes = visibility_changes(sqs)
    source = QueueSource(
        sqs,
        QUEUE,
        "collect",
        Handler(
            lambda event: {
                "batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]
            }
        ),
        batch_size=10,
    )
    for _ in range(3):
        messages = source.receive()
        source.deliver(messages)
        sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"], VisibilityTimeout=0
        )
    assert [change["VisibilityTimeout"] for change in changes] == [1, 2, 4]


def test_the_pump_does_not_poll_long_while_messages_for_another_reader_wait(sqs: Any) -> None:
    fill(sqs, 1)
    waits: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.ReceiveMessage",
        lambda params, **_: waits.append(params["WaitTimeSeconds"]),
    )
    clock = SimpleNamespace(now=100.0)
    takes_none = {"batchItemFailures": [{"itemIdentifier": None}]}
    source = QueueSource(
        sqs,
        QUEUE,
        "collect",
        Handler(lambda event: takes_none),
        batch_size=10,
        wait_s=1,
        now=lambda: float(clock.now),
    )
    source.deliver(source.receive())
    source.receive()
    clock.now += 3.5
    fill(sqs, 1)  # so that moto waits for none
    source.receive()
    assert waits == [1, 0, 1]


def test_finishing_waits_for_the_call_that_runs_and_no_other_begins(sqs: Any) -> None:
    url = fill(sqs, 2)
    entered, go_on, stop, finished = (threading.Event() for _ in range(4))

    def slow(_event: Any) -> None:
        entered.set()
        assert go_on.wait(5)

    handler = Handler(slow)
    source = QueueSource(sqs, QUEUE, "collect", handler, batch_size=1)
    running = threading.Thread(target=source.run, args=(stop,))
    running.start()
    assert entered.wait(5)
    stop.set()

    def finish() -> None:
        source.finish()
        finished.set()

    finishing = threading.Thread(target=finish)
    finishing.start()
    assert not finished.wait(0.05)
    go_on.set()
    assert finished.wait(5)
    for thread in (running, finishing):
        thread.join(5)
    assert len(handler.calls) == 1
    assert depth(sqs, url) == (1, 0)


def test_a_schedule_survives_a_handler_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    events: list[dict[str, Any]] = []

    def handler(event: dict[str, Any], _context: Any) -> None:
        events.append(event)
        if len(events) == 2:
            stop.set()
        raise RuntimeError("no capacity")

    ScheduleSource("tick", 0.0, handler, "us-east-1").run(stop)
    assert [event["detail-type"] for event in events] == ["Scheduled Event"] * 2
    assert "no capacity" in caplog.text


@pytest.mark.parametrize(
    ("body", "calls"), [("x" * 1_000_000, [6, 4]), ('"' * 1_000_000, [3, 3, 3, 1]), ("x", [10])]
)
def test_an_event_has_no_more_than_lambda_takes(body: str, calls: list[int]) -> None:
    messages: list[Any] = [
        {"MessageId": str(n), "ReceiptHandle": "r", "Body": body, "MD5OfBody": "m"}
        for n in range(10)
    ]
    events = list(sqs_events(messages, "arn:aws:sqs:eu-west-1:000000000000:q"))
    assert [len(event["Records"]) for event in events] == calls
    assert [r["messageId"] for e in events for r in e["Records"]] == [str(n) for n in range(10)]
    for event in events:
        assert len(json.dumps(event, ensure_ascii=False).encode()) <= EVENT_MAX_BYTES


def test_each_call_of_a_batch_in_parts_settles_its_own_messages(
    sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localcloud.events.EVENT_MAX_BYTES", 2_000)
    url = fill(sqs, 10)

    def second_fails(event: dict[str, Any]) -> None:
        if len(handler.calls) == 2:
            raise RuntimeError("no")

    handler = Handler(second_fails)
    source = QueueSource(sqs, QUEUE, "collect", handler, batch_size=10)
    source.deliver(source.receive())
    assert len(handler.calls) > 2
    assert depth(sqs, url) == (0, len(handler.calls[1]))


def test_an_answer_that_is_not_json_leaves_the_whole_batch(sqs: Any) -> None:
    url = fill(sqs, 2)
    source = QueueSource(sqs, QUEUE, "collect", Handler(lambda event: {1, 2}), batch_size=10)
    source.deliver(source.receive())
    assert depth(sqs, url) == (0, 2)


@pytest.mark.parametrize(
    ("function", "seconds"), [("api_handler", 29), ("tick", 75), ("expand_upload", 300)]
)
def test_a_function_is_told_its_own_time_out(function: str, seconds: float) -> None:
    left = Context.of(function).get_remaining_time_in_millis()
    assert seconds * 1000 - 1000 < left <= seconds * 1000


def chalice_app() -> SimpleNamespace:
    app = Chalice("sample")

    @app.on_sqs_message(queue=QUEUE, batch_size=7)
    def collect(event: Any) -> None:
        """Never called."""

    @app.schedule(Rate(2, unit=Rate.HOURS))
    def tick(event: Any) -> None:
        """Never called."""

    return SimpleNamespace(app=app, collect=collect, tick=tick)


def test_the_sources_are_those_that_the_app_declares(sqs: Any) -> None:
    queue, schedule = sources(chalice_app(), Settings(region="us-east-1"))  # type: ignore[arg-type]
    assert isinstance(queue, QueueSource)
    assert isinstance(schedule, ScheduleSource)
    assert (queue.name, schedule.name, schedule.every_s) == ("collect", "tick", 7200.0)
    fill(sqs, 9)
    assert len(queue.receive()) == 7


def test_an_event_source_of_another_kind_is_refused() -> None:
    app = Chalice("sample")

    @app.on_sns_message(topic="news")
    def news(event: Any) -> None:
        """Never called."""

    with pytest.raises(SystemExit, match=r"cannot feed app\.news"):
        list(sources(SimpleNamespace(app=app, news=news), Settings(region="us-east-1")))  # type: ignore[arg-type]
