"""Schedules that are due while the function that submits their batches crashes: each makes one
batch of its time."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.schedules import DynamoScheduleRecords
from taskfleet.clock import SystemClock
from taskfleet.schedule import ScheduleRecord
from taskfleet.settings import Settings
from tests.faults.crash_lanes import Matrix, Outcome
from tests.faults.crash_load import Load, task
from tests.faults.crash_points import STOP, Cell, cells
from tests.support.waiting import eventually

NAME, OTHER = "provisioner", "provisioner.2"
TASKS = [("square", 9), ("square", 10)]
NO_MACHINES = {"TASKFLEET_MAX_CAPACITY": "0"}


@dataclass
class ScheduleLane:
    """Takes the scheduled function through its cells. It looks once when it starts, and then once
    a minute, so that it is started for each cell."""

    matrix: Matrix
    load: Load

    def __post_init__(self) -> None:
        dynamodb = self.matrix.stage.cloud.client("dynamodb")
        clock = SystemClock()
        backoff = Backoff(clock, random.Random(0))
        table = Settings().monitor_table
        self._records = DynamoScheduleRecords(dynamodb, table, clock=clock, backoff=backoff)

    def cells(self) -> list[Cell]:
        """Runs without a crash, and returns the crashes that there are."""
        name = self._due()
        self.matrix.start(NAME, **NO_MACHINES)
        self._submitted(name)
        self.matrix.stage.kill(NAME)
        found = self.matrix.triggers.seen[NAME]
        return list(cells("provisioner", [(p, 1) for p in dict.fromkeys(found)]))

    def run(self, wanted: list[Cell]) -> None:
        """Goes through crashes, each with a schedule of its own."""
        for cell in wanted:
            began = time.monotonic()
            error = self._try(cell)
            seconds = time.monotonic() - began
            self.matrix.note(Outcome(cell, error is not None, seconds, error or "", "a schedule"))

    def _try(self, cell: Cell) -> str | None:
        """Tries one crash. Returns what went wrong, None if its point was not reached."""
        name = self._due()
        trigger = self.matrix.arm(NAME, cell, self._second)
        self.matrix.spawn(NAME, **NO_MACHINES)
        error: str | None = None
        if trigger.fired.wait(self.matrix.patience_s):
            error = self.matrix.heal(NAME, trigger, **NO_MACHINES)
        self.matrix.triggers.armed.pop(NAME, None)
        try:
            self._submitted(name)
            if cell.signal is STOP and error is not None:
                time.sleep(1.0)  # what the stopped one still does
        finally:
            for each in (NAME, OTHER):
                if each in self.matrix.stage.processes:
                    self.matrix.stage.kill(each)
        batches = self._batches(name)
        if len(batches) != 1:
            return f"{error or ''} the schedule {name} made {len(batches)} batches of one time"
        self.load.take(batches[0], "a schedule", TASKS)
        self.load.call("DELETE", f"/schedules/{name}")
        return error

    def _second(self) -> None:
        """Looks again while the first is stopped, as an event that comes twice makes it."""
        self.matrix.start(OTHER, **NO_MACHINES)

    def _due(self) -> str:
        """Adds a schedule whose time has come. Returns its name."""
        name = uuid.uuid4().hex
        now = float(int(time.time()))
        record = ScheduleRecord(
            "local", name, 1.0, now, [task(*each) for each in TASKS], every_s=86_400
        )
        assert self._records.add(record) is None
        # The index that it is found by may lag.
        eventually(
            lambda: name in [each.name for each in self._records.due(time.time(), limit=100)],
            20,
            "the schedule is due",
        )
        return name

    def _submitted(self, name: str) -> None:
        """Waits until the schedule's time is dealt with."""

        def dealt_with() -> Any:
            found = self.load.call("GET", "/schedules").json()["schedules"]
            return next(each for each in found if each["name"] == name)["last_batch_id"]

        eventually(dealt_with, 60, f"the schedule {name} has its batch")

    def _batches(self, name: str) -> list[str]:
        found = self.load.call("GET", f"/batches?limit=100&name={name}").json()["batches"]
        return [each["batch_id"] for each in found]
