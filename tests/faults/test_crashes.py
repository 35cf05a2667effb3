"""Crashes of real processes at each point between two of their effects: by SIGKILL, by SIGTERM, and
by SIGSTOP past two leases. Nothing is lost, doubled or wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crash_lanes import Lanes, Matrix
from tests.faults.crash_load import MODULE, SOURCE, Found, Given, Judge, Load
from tests.faults.crash_points import AFTER, BEFORE, KILL, STOP, TERM, Cell, cells
from tests.faults.crash_report import report
from tests.faults.crash_requests import ApiLane, Requests
from tests.faults.crash_schedules import ScheduleLane
from tests.support.stage import stage
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

HEALTHY = ("worker", "api", "collector", "reader")
QUEUES = ("Task_to_process", "Task_to_process_high", "Processed_Task", "Upload_to_expand")
UNDER_WAY = 5
"""Most batches of the load that have not ended, in the deep run; a slice has two."""
SLICE: dict[str, list[Cell]] = {
    "worker.1": [
        Cell("worker", "UpdateItem bundle done", BEFORE, STOP),  # the fence
        Cell("worker", "UpdateItem bundle done", AFTER, KILL),  # the answer is lost with it
        Cell("worker", "UpdateItem bundle claims", AFTER, TERM),
    ],
    "collector.1": [Cell("collector", "UpdateItem batch counts", AFTER, KILL)],
    "reader.1": [Cell("reader", "UpdateItem batch grows", AFTER, KILL)],
}
"""Cells of `make test`: each role, each signal, and the places where most would go wrong."""
SLICE_OF_API = [
    ("submit", Cell("api", "PutItem batch", AFTER, KILL)),
    ("submit", Cell("api", "SendMessageBatch Task_to_process", BEFORE, STOP)),
]
SLICE_OF_SCHEDULES = [Cell("provisioner", "PutItem batch", AFTER, KILL)]


class Trial:
    """A stage with its load, judge and lanes."""

    def __init__(self, made: Any, folder: Path, seed: int, *, rich: bool) -> None:
        self.matrix = Matrix(made)
        self.load = Load(made.call, random.Random(seed), rich)
        self.judge = Judge(
            made.call, folder / "runs", folder, lambda at: self.matrix.crashes_since("worker", at)
        )
        self.found: list[Found] = []
        self._judged = 0
        self._under_way: list[Future[Found]] = []

    def start(self, *names: str) -> None:
        """Starts processes side by side."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.matrix.start, names))

    def work(self, going_on: Callable[[], bool]) -> None:
        """Submits batches of all forms and judges all, while `going_on`, and to their end."""
        forms: list[Callable[[], Any]] = [self.load.batch, self.load.upload, self.load.chain]
        if self.load.rich:  # its bundles come by a queue of their own
            forms.append(lambda: self.load.batch(priority="high"))
        turn, most = 0, UNDER_WAY if self.load.rich else 2
        with ThreadPoolExecutor(12) as pool:
            while going_on():
                self._hand_over(pool)
                if sum(1 for each in self._under_way if not each.done()) < most:
                    forms[turn % len(forms)]()
                    turn += 1
                    if self.load.rich and turn % 7 == 0:
                        self._garbage()
                time.sleep(0.2)
            self._hand_over(pool)
        self.found += [each.result() for each in self._under_way]

    def _hand_over(self, pool: ThreadPoolExecutor) -> None:
        new: list[Given] = self.load.given[self._judged :]
        self._judged += len(new)
        self._under_way += [pool.submit(self._judge, each) for each in new]

    def _judge(self, given: Given) -> Found:
        found = self.judge.judge(given)
        if found:
            print(found, flush=True)
        return found

    def _garbage(self) -> None:
        """Sends a message that is no bundle."""
        sqs = self.matrix.stage.cloud.client("sqs")
        url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="no bundle")

    def depth(self) -> dict[str, int]:
        """Returns the messages on the queues, those in flight among them."""
        sqs = self.matrix.stage.cloud.client("sqs")
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        found: Counter[str] = Counter()
        for queue in QUEUES:
            url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
            found[queue] = sum(int(answer["Attributes"][name]) for name in names)
        return {name: count for name, count in found.items() if count}

    def points(self, role: str) -> list[tuple[str, int]]:
        """Returns the points that processes of a role were seen at."""
        seen = self.matrix.triggers.seen
        names = [name for name in seen if name.partition(".")[0] == role]
        return [(p, 1) for p in sorted({point for name in names for point in seen[name]})]


def divided(wanted: list[Cell], lanes: int) -> list[list[Cell]]:
    """Deals cells out to so many lanes."""
    return [wanted[start::lanes] for start in range(lanes)]


def deep_lanes(trial: Trial, lanes: Lanes, rng: random.Random) -> None:
    """Begins the lanes of all cells, which a run without crashes has found."""
    schedules = ScheduleLane(trial.matrix, trial.load)
    requests = Requests(trial.load)
    apis = [ApiLane(trial.matrix, trial.load, requests, f"api.{n}") for n in (1, 2, 3)]
    names = {"worker": 3, "collector": 2, "reader": 2}
    trial.start(
        *(f"{role}.{n + 1}" for role, count in names.items() for n in range(count)),
        *(lane.name for lane in apis),
    )
    begun = time.monotonic()
    quiet = Lanes()
    of_api: list[tuple[str, Cell]] = []
    of_schedules: list[Cell] = []
    quiet.add(
        lambda: of_api.extend(
            (name, cell) for name in Requests.NAMES for cell in apis[0].cells(name)
        )
    )
    quiet.add(lambda: of_schedules.extend(schedules.cells()))
    trial.work(lambda: quiet.running or time.monotonic() < begun + 20.0)
    quiet.join()
    for role, count in names.items():
        found = list(cells(role, trial.points(role)))
        rng.shuffle(found)
        print(f"{len(found)} cells of the {role}", flush=True)
        for number, some in enumerate(divided(found, count)):
            lanes.add(trial.matrix.run, f"{role}.{number + 1}", some)
    rng.shuffle(of_api)
    print(f"{len(of_api)} cells of the API, {len(of_schedules)} of schedules", flush=True)
    for number, lane in enumerate(apis):
        lanes.add(lane.run, of_api[number :: len(apis)])
    lanes.add(schedules.run, of_schedules)


def slice_lanes(trial: Trial, lanes: Lanes) -> None:
    """Begins the lanes of some telling cells."""
    trial.start(*SLICE, "api.1")
    for name, some in SLICE.items():
        lanes.add(trial.matrix.run, name, some)
    api = ApiLane(trial.matrix, trial.load, Requests(trial.load), "api.1")
    lanes.add(api.run, SLICE_OF_API)
    lanes.add(ScheduleLane(trial.matrix, trial.load).run, SLICE_OF_SCHEDULES)


def test_a_crash_at_any_point_loses_and_doubles_nothing(
    start_cloud: Any, tmp_path: Path, figures: Any, deep: bool
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    found = figures("crashes", unit="cells")
    (tmp_path / "runs").mkdir()
    source = SOURCE.format(runs=str(tmp_path / "runs"))
    with stage(start_cloud, tmp_path, kinds={MODULE: source}) as made:
        trial = Trial(made, tmp_path, seed, rich=deep)
        # Beside the processes that crash, since others must take over from a worker and an API.
        trial.start(*(HEALTHY if deep else HEALTHY[:2]))
        lanes = Lanes()
        if deep:
            deep_lanes(trial, lanes, random.Random(seed))
        else:
            slice_lanes(trial, lanes)
        trial.work(lambda: lanes.running)
        lanes.join()
        drained = eventually(lambda: not trial.depth(), 60, lambda: f"drained: {trial.depth()}")
        assert drained
    report(trial.matrix.outcomes, trial.found, found)
