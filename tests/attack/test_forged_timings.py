"""A response may teach no more than its own tasks: each name of a kind in it is an item that the
collector reads and writes, before the responses of others are counted."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.batch import Tally
from taskfleet.bundle import Response
from taskfleet.pace import Sample
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.collect import collect
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.queues import encode_response
from tests.support.worker import Cloud


def response(batch_id: str, timings: dict[str, Any]) -> str:
    samples = {kind: Sample(*sums) for kind, sums in timings.items()}
    results = [TaskResult(0, TaskStatus.SUCCEEDED)]
    return encode_response(Response(f"{batch_id}:0", "alice", batch_id, results, timings=samples))


@pytest.mark.parametrize(
    "timings",
    [
        {f"kind-{n}": [1, 1.0, 1.0] for n in range(20_000)},
        {"a": [1, 1.0, 1.0], "b": [1, 1.0, 1.0]},
        {f"kind-{n}": [0, 0.0, 0.0] for n in range(20_000)},
        {"a": [1_000_000, 1e9, 1e12]},
    ],
    ids=["many-kinds", "two-of-one", "empty", "a-million-tasks"],
)
def test_timings_of_more_tasks_than_the_response_has_are_refused(timings: dict[str, Any]) -> None:
    cloud = Cloud()
    registry = Registry([sleep])
    forged, good = cloud.submit(registry, ["sleep 0"]), cloud.submit(registry, ["sleep 0"])
    taught: list[str] = []
    cloud.monitor.learn = lambda samples: taught.extend(samples)  # type: ignore[method-assign]
    bodies = {"1": response(forged, timings), "2": response(good, {"note": [1, 1.0, 1.0]})}
    assert collect(bodies, cloud.monitor, cloud.clock) == []
    assert taught == ["note"]
    batch = cloud.monitor.batch(good)
    assert batch is not None
    assert batch.tally == Tally(1)
