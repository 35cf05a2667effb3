"""The worker reports itself and learns when to leave; a notice of its machine drains it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ec2_worker.machine import Imds, Notice, watch
from ec2_worker.presence import Presence
from ec2_worker.workload import Census
from taskfleet.memory import ManualClock, MemoryFleetRecords
from tests.support.imds import FakeImds
from tests.support.waiting import eventually
from tests.support.worker import Faulty


class Hands:
    """A worker's workload and intake, whose values the test sets."""

    running: dict[str, int]
    pending: dict[str, int]

    def __init__(self) -> None:
        self.running, self.pending, self.bundles = {}, {}, 0
        self.room = True
        self.last_work_at = 0.0

    def census(self) -> Census:
        return Census(0, self.running, self.pending, self.bundles)

    def has_room(self) -> bool:
        return self.room


class Teller:
    """A worker's presence on memory records and a manual clock. `asked` counts calls of `leave`."""

    def __init__(self, records: Any = None) -> None:
        self.clock = ManualClock()
        self.records = MemoryFleetRecords()
        self.hands: Any = Hands()
        self.asked = 0
        self.presence = Presence(
            records or self.records,
            self.hands,
            self.hands,
            self.clock,
            worker_id="w-1",
            instance_id="i-1",
            slots=16,
            kinds=["sleep"],
            limits={"animoto": 2},
            report_s=15.0,
            leave=self.leave,
        )

    def leave(self) -> None:
        self.asked += 1

    def reports(self, seconds: float) -> int:
        """The number of reports that arrive within so many seconds."""
        count, seen = 0, None
        for _ in range(int(seconds)):
            self.presence.report_if_due()
            (worker,) = self.records.workers()
            count += worker.reported_at != seen
            seen = worker.reported_at
            self.clock.sleep(1.0)
        return count


def test_it_reports_at_once_and_then_every_15_seconds() -> None:
    teller = Teller()
    teller.hands.last_work_at = teller.clock.now() + 10**6
    assert teller.reports(60) == 4
    (worker,) = teller.records.workers()
    assert (worker.worker_id, worker.instance_id, worker.slots) == ("w-1", "i-1", 16)
    assert worker.limits == {"animoto": 2}


def test_a_change_is_reported_soon() -> None:
    teller = Teller()
    teller.presence.report_if_due()
    teller.clock.sleep(3.0)
    teller.hands.running, teller.hands.bundles = {"sleep": 3}, 5
    teller.presence.report_if_due()
    (worker,) = teller.records.workers()
    assert (worker.running, worker.bundles, worker.busy) == ({"sleep": 3}, 5, 3)
    teller.presence.leaving()
    teller.clock.sleep(3.0)
    teller.presence.report_if_due()
    assert teller.records.workers()[0].leaving


def test_it_finds_the_queue_empty_when_it_has_room_and_receives_nothing() -> None:
    teller = Teller()
    teller.hands.last_work_at = teller.clock.now()
    teller.presence.report_if_due()
    assert not teller.records.workers()[0].finds_queue_empty
    teller.clock.sleep(4.0)
    teller.presence.report_if_due()
    assert teller.records.workers()[0].finds_queue_empty
    teller.hands.room = False
    teller.clock.sleep(4.0)
    teller.presence.report_if_due()
    assert not teller.records.workers()[0].finds_queue_empty


def test_it_leaves_when_asked_and_signs_off() -> None:
    teller = Teller()
    teller.presence.report_if_due()
    teller.records.ask_to_leave(["w-1"])
    teller.clock.sleep(15.0)
    teller.presence.report_if_due()
    assert teller.asked == 1
    teller.presence.leaving()
    teller.clock.sleep(15.0)
    teller.presence.report_if_due()
    assert teller.asked == 1
    teller.hands.bundles = 9
    teller.presence.sign_off()
    (last,) = teller.records.workers()
    assert (last.bundles, last.leaving, last.signed_off) == (9, True, True)
    assert not last.finds_queue_empty


def test_a_table_that_does_not_answer_stops_no_worker() -> None:
    down = True
    teller = Teller(Faulty(MemoryFleetRecords(), lambda name: "before" if down else None))
    teller.presence.report_if_due()
    teller.presence.sign_off()
    assert teller.asked == 0


# --- the machine ---


@pytest.fixture
def fake_imds() -> Iterator[FakeImds]:
    with FakeImds().served() as fake:
        yield fake


def test_a_machine_knows_its_id_and_its_end(fake_imds: FakeImds) -> None:
    imds = Imds(fake_imds.url)
    assert imds.instance_id() == "i-0abc"
    assert imds.notice() is None
    assert fake_imds.refused == []
    fake_imds.tokens = {"another"}
    assert imds.instance_id() == "i-0abc", "an expired token is renewed"
    fake_imds.found["meta-data/events/recommendations/rebalance"] = '{"noticeTime": "now"}'
    assert imds.notice() == Notice(
        'EC2 advises to leave the machine: {"noticeTime": "now"}', certain=False
    )
    fake_imds.found["meta-data/spot/instance-action"] = '{"action": "terminate"}'
    assert imds.notice() == Notice(
        'EC2 takes the machine back: {"action": "terminate"}', certain=True
    )
    imds._session.close()


def test_advice_lets_the_worker_leave_when_idle_and_a_notice_drains_it(fake_imds: FakeImds) -> None:
    imds, told = Imds(fake_imds.url), list[str]()
    drain, advise = (lambda: told.append("drain")), (lambda: told.append("advise"))
    thread = threading.Thread(target=watch, args=(imds, threading.Event(), drain, advise, 0.01))
    thread.start()
    fake_imds.found["meta-data/events/recommendations/rebalance"] = '{"noticeTime": "now"}'
    eventually(lambda: told == ["advise"], 5, "the advice")
    given = fake_imds.asked
    eventually(lambda: fake_imds.asked > given + 4, 5, "two more looks")
    assert told == ["advise"], "once"
    fake_imds.found["meta-data/spot/instance-action"] = '{"action": "terminate"}'
    thread.join(5)
    assert not thread.is_alive()
    assert told == ["advise", "drain"]
    imds._session.close()


def test_where_no_metadata_service_is_there_is_no_machine() -> None:
    imds = Imds("http://127.0.0.1:9")
    assert imds.instance_id() is None
    assert imds.notice() is None
    imds._session.close()


def test_a_report_has_the_versions_of_the_worker() -> None:
    teller = Teller()
    teller.presence.report_if_due()
    (record,) = teller.records.workers()
    assert record.versions["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
