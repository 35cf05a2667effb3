"""Lines with metrics, by the rules of "Specification: Embedded metric format", Amazon CloudWatch
User Guide."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet.emf import EmfLog, documents, some_values
from taskfleet.log import JsonFormatter
from taskfleet.measure import (
    API_REQUESTS,
    AWS_CALLS,
    METRICS,
    NOTHING,
    QUEUE_SECONDS,
    RUN_SECONDS,
    TASKS,
    Distribution,
    Recorder,
)

UNITS = {"Seconds", "Count"}
NOW = 1_700_000_000.5


def check(document: dict[str, Any]) -> None:
    """Fails unless the document has the form that CloudWatch reads."""
    assert len(json.dumps(document)) <= 256_000
    metadata = document["_aws"]
    assert set(metadata) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(metadata["Timestamp"], int)  # milliseconds since the epoch
    (directive,) = metadata["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 1024
    assert directive["Dimensions"]
    for names in directive["Dimensions"]:
        assert len(names) <= 30
        for name in names:
            assert 1 <= len(name) <= 250
            assert isinstance(document[name], str)
            assert 1 <= len(document[name]) <= 1024
    assert 1 <= len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert set(metric) == {"Name", "Unit"}
        assert metric["Unit"] in UNITS
        assert 1 <= len(metric["Name"]) <= 1024
        value = document[metric["Name"]]
        values = value if isinstance(value, list) else [value]
        assert 1 <= len(values) <= 100
        assert all(isinstance(each, int | float) for each in values)


def full() -> Recorder:
    """A recorder with everything in it, in large numbers."""
    recorder = Recorder(lambda: {("sqs", "SendMessageBatch"): 10**9, ("sqs", "ReceiveMessage"): 1})
    for metric in METRICS:
        for number in range(150 if metric.labels else 1):
            labels = [f"{name} {number} {'x' * 60}" for name in metric.labels]
            if metric.is_time:
                recorder.observe(metric, [x / 7 for x in range(500)], *labels)
            elif metric is not AWS_CALLS:
                recorder.count(metric, *labels, by=10**9)
    return recorder


def test_every_document_has_the_form_of_the_specification() -> None:
    found = list(documents(full().read(), "prod", NOW))
    assert len(found) > 100
    for document in found:
        check(document)
        assert document["Stage"] == "prod"
        assert document["_aws"]["Timestamp"] == 1_700_000_000_500


@pytest.fixture
def quiet() -> Iterator[None]:
    """A process that logs errors only."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    yield
    root.setLevel(level)


@pytest.mark.usefixtures("quiet")
def test_a_line_of_the_log_is_the_document_uncut(caplog: pytest.LogCaptureFixture) -> None:
    log = EmfLog("prod", lambda: NOW)
    reading = full().read()
    log.write(reading)
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    for line, document in zip(lines, documents(reading, "prod", NOW), strict=True):
        assert {name: line[name] for name in document} == document
        assert line["action"] == "metrics"
        check(line)
    caplog.clear()
    log.write(reading)
    assert not caplog.records  # nothing came since


def test_metrics_with_the_same_dimensions_share_a_document() -> None:
    recorder = Recorder()
    recorder.count(TASKS, "sleep", "succeeded", by=2)
    recorder.observe(RUN_SECONDS, [0.5, 1.5], "sleep")
    recorder.observe(QUEUE_SECONDS, [3.0])
    recorder.count(API_REQUESTS, "GET /fleet", "200")
    found = {
        tuple(document["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]): document
        for document in documents(recorder.read() - NOTHING, "dev", NOW)
    }
    assert found["Stage", "Kind", "Outcome"]["tasks"] == 2
    assert found["Stage", "Kind"]["run_seconds"] == [0.5, 1.5]
    assert found["Stage",]["queue_seconds"] == [3.0]
    assert found["Stage", "Route", "Status"]["Route"] == "GET /fleet"


def test_cloudwatch_gets_calls_by_service_only() -> None:
    recorder = Recorder(lambda: {("sqs", "A"): 2, ("sqs", "B"): 3, ("s3", "C"): 1})
    found = [
        (document["Service"], document["aws_calls"])
        for document in documents(recorder.read(), "dev", NOW)
    ]
    assert sorted(found) == [("s3", 1), ("sqs", 5)]


def test_few_values_are_told_one_by_one_with_their_sum() -> None:
    time = Distribution()
    time.add([0.2, 0.21, 4.0])
    assert some_values(time) == [0.205, 0.205, 4.0]


def test_many_values_are_told_in_proportion() -> None:
    time = Distribution()
    time.add([0.02] * 900_000 + [2.0] * 90_000 + [20.0] * 10_000)
    values = some_values(time)
    assert len(values) == 100
    assert [values.count(x) for x in (0.02, 2.0, 20.0)] == [90, 9, 1]
