"""What the functions measure, and that they tell it at the end of each call when asked to."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from taskfleet.log import JsonFormatter
from taskfleet.measure import API_REQUESTS, API_SECONDS, COLLECTOR_LAG_SECONDS, Reading
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.worker import HandWorker

EMF = Settings(bucket="b", stage="prod", metrics="emf")


def reading(front: Frontend) -> Reading:
    return front.services.recorder.read()


def metrics_in(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [line for line in lines if line.get("action") == "metrics"]


def test_requests_count_by_route_and_status_with_their_time() -> None:
    front = Frontend()
    batch_id = front.submit(["sleep 0"])
    front.call("GET", f"/batches/{batch_id}")
    front.call("GET", f"/batches/{batch_id}?wait=1")
    front.call("GET", f"/batches/{'0' * 26}")
    front.call("POST", "/batches", "{")
    read = reading(front)
    assert {labels: n for (metric, labels), n in read.counts.items() if metric is API_REQUESTS} == {
        ("POST /batches", "202"): 1,
        ("POST /batches", "400"): 1,
        ("GET /batches/{batch_id}", "200"): 2,
        ("GET /batches/{batch_id}", "404"): 1,
    }
    held = read.times[API_SECONDS, ("GET /batches/{batch_id}",)]
    assert sum(held.counts) == 3
    assert sum(held.sums) == pytest.approx(1.0)


def test_the_health_route_answers_where_settings_are_missing() -> None:
    front = Frontend()

    def missing() -> None:
        raise RuntimeError("no bucket")

    front.on_services = missing
    assert front.call("GET", "/health").status_code == 200


def test_an_error_of_the_services_is_answered_by_the_view() -> None:
    front = Frontend()
    authorizer_is_done = itertools.count()

    def missing() -> None:
        if next(authorizer_is_done) > 1:
            raise RuntimeError("no bucket")

    front.on_services = missing
    answer = front.call("GET", "/fleet")
    assert (answer.status_code, answer.json_body["Code"]) == (500, "InternalServerError")


def test_the_collectors_lag_is_the_age_of_its_messages() -> None:
    front = Frontend()
    front.submit(["sleep 0"])
    HandWorker(front.cloud, front.registry).work()
    front.cloud.clock.sleep(4)
    front.feed(front.cloud.responses, "collect_responses", 10)
    lag = reading(front).times[COLLECTOR_LAG_SECONDS, ()]
    assert sum(lag.counts) == 1
    assert sum(lag.sums) == pytest.approx(4.0, abs=0.002)  # SQS tells milliseconds


def test_each_call_tells_its_metrics_once(caplog: pytest.LogCaptureFixture) -> None:
    front = Frontend(settings=EMF)
    front.submit(["sleep 0"])
    first = metrics_in(caplog)
    assert {line["Stage"] for line in first} == {"prod"}
    assert [line["api_requests"] for line in first if "api_requests" in line] == [1]
    caplog.clear()
    HandWorker(front.cloud, front.registry).work()
    front.feed(front.cloud.responses, "collect_responses", 10)
    (collected,) = metrics_in(caplog)
    assert len(collected["collector_lag_seconds"]) == 1
    assert "api_requests" not in collected


def test_a_call_that_fails_tells_its_metrics_too(caplog: pytest.LogCaptureFixture) -> None:
    front = Frontend(
        settings=EMF, fault=lambda name: "before" if name == "record_progress" else None
    )
    front.submit(["sleep 0"])
    HandWorker(front.cloud, front.registry).work()
    caplog.clear()
    with pytest.raises(Exception, match="throttled"):
        front.feed(front.cloud.responses, "collect_responses", 10)
    assert len(metrics_in(caplog)) == 1


def test_nothing_is_told_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    front = Frontend()
    front.submit(["sleep 0"])
    front.run()
    assert metrics_in(caplog) == []
