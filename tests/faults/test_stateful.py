"""Random histories of the whole stage: the real API services, readers of files, collectors, ticks
and workers on memory adapters and a virtual clock. Each step lets one process act, and says which
of its calls meet which fault; hypothesis looks for the steps and shortens what fails.

A history that fails is printed step by step, and is the same each time it is played.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskfleet.memory import MemoryMonitor
from taskfleet.schedule import Missed
from taskfleet.scheduler.after import Precedence, Turn
from taskfleet.scheduler.enqueue import Enqueuer
from tests.faults.machine_client import KINDS, Order, Request
from tests.faults.machine_judge import Judge
from tests.faults.machine_ports import FAULTS
from tests.faults.machine_world import FUNCTIONS, WORKERS, World

pytestmark = pytest.mark.timeout(3_600)

STEPS = 60
SLICE, DEEP = 300, 5_000
"""Histories in `make test` and in `make faults`."""

names = st.lists(st.sampled_from(KINDS), min_size=1, max_size=7)
luck = st.integers(0, 10_000)
function = st.integers(0, FUNCTIONS - 1)
worker = st.integers(0, WORKERS - 1)
pick = st.integers(0, 50)
EFFECTS = set(
    "monitor.claim monitor.commit responses.send tasks.delete tasks.send monitor.create_batch "
    "monitor.record_enqueued monitor.add_part uploads.send monitor.record_progress "
    "monitor.note_follower monitor.cancel_batch".split()
)
"""Calls of which each must have met a fault in some history."""
SUBMISSIONS = ("submit", "submit", "high", "once", "file", "file", "faulty", "after", "after")
OTHERS = (
    *("open", "open", "add", "add", "add", "close", "cancel", "retry", "look", "look"),
    *("schedule", "schedule", "unschedule"),
)


class Histories(RuleBasedStateMachine):
    """One history. `played`, `fired` and `found` add up those of all histories."""

    played = 0
    fired: Counter[tuple[str, str]] = Counter()
    found: Counter[str] = Counter()

    @initialize(
        seed=st.integers(0, 2**32),
        offsets_s=st.lists(
            st.sampled_from([0.0, 15.0, -15.0]),
            min_size=FUNCTIONS + WORKERS,
            max_size=FUNCTIONS + WORKERS,
        ),
    )
    def begin(self, seed: int, offsets_s: list[float]) -> None:
        self.world = World(seed, offsets_s)
        self.judge = Judge(self.world)
        self.client = self.world.client

    def orders(self, *, accepted: bool = True) -> list[Order]:
        return [each for each in self.client.orders.values() if each.accepted or not accepted]

    def after_step(self) -> None:
        self.judge.look()
        self.check()

    def check(self) -> None:
        if self.world.faults:
            type(self).found = Counter(kind for kind, _ in self.world.faults)
            found = [f"{kind}: {words}" for kind, words in self.world.faults]
            raise AssertionError("\n".join([*found, "after:", *self.world.told]))

    def ask(self, request: Any, by: int, luck: int) -> None:
        self.world.ask(self.world.functions[by], request, luck)
        self.after_step()

    # --- the client ---

    @rule(
        what=st.sampled_from(SUBMISSIONS),
        names=names,
        of=pick,
        by=function,
        luck=luck,
        patient=st.sampled_from([True, True, True, False]),
    )
    def submit(
        self, what: str, names: list[str], of: int, by: int, luck: int, patient: bool
    ) -> None:
        client, known = self.client, self.orders()
        if what == "once":
            request = client.submit_once(names)
        elif what in ("file", "faulty"):
            request = client.submit_file(names, faulty=what == "faulty", patient=patient)
        else:
            before = known[-1 - of % len(known) :][:2] if known and what == "after" else []
            request = client.submit(
                names,
                high=what == "high",
                after=before,
                run_anyway=of % 2 == 0,
                patient=patient,
            )
        self.ask(request, by, luck)

    @rule(
        what=st.sampled_from(OTHERS),
        names=names,
        of=pick,
        by=function,
        luck=luck,
        patient=st.sampled_from([True, True, True, False]),
    )
    def request(
        self, what: str, names: list[str], of: int, by: int, luck: int, patient: bool
    ) -> None:
        client, known, growing = self.client, self.orders(), self.growing()
        schedules = list(client.schedules)
        request: Request | None = None
        if what == "look" and client.orders:
            order = self.orders(accepted=False)[of % len(client.orders)]
            self.world.look(self.world.functions[by], order.batch_id, luck)
            self.after_step()
        elif what == "open" or (what in ("add", "close") and not growing):
            request = client.open(names[of % 2 :], patient=patient)
        elif what == "add":
            order = growing[of % len(growing)]
            request = client.add(order, names, close=of % 5 == 0, patient=patient)
        elif what == "close":
            request = client.close(growing[of % len(growing)], patient=True)
        elif what == "cancel" and known:
            request = client.cancel(known[of % len(known)], patient=patient)
        elif what == "retry" and known:
            request = client.retry(known[of % len(known)], patient=patient)
        elif what == "schedule" and len(schedules) < 2:
            request = client.schedule(names, list(Missed)[of % 2], patient=True)
        elif what == "unschedule" and schedules:
            request = client.unschedule(schedules[of % len(schedules)], patient=True)
        if request is not None:
            self.ask(request, by, luck)

    def growing(self) -> list[Order]:
        """The open batches whose client waits for no answer."""
        asked = [each.order for each in self.client.unanswered]
        return [
            each
            for each in self.orders()
            if each.is_open and not each.given_up and each not in asked
        ]

    @precondition(lambda self: self.client.unanswered)
    @rule(of=pick, by=function, luck=luck)
    def repeat(self, of: int, by: int, luck: int) -> None:
        self.ask(self.client.unanswered[of % len(self.client.unanswered)], by, luck)

    # --- the processes ---

    @rule(
        by=worker,
        what=st.sampled_from(
            ["poll", "start", "finish", "settle", "flush", "beat", "work", "drain"]
        ),
        luck=luck,
    )
    def step(self, by: int, what: str, luck: int) -> None:
        self.world.step_worker(self.world.workers[by], what, luck)
        self.after_step()

    @precondition(lambda self: self.waits("tasks", "high"))
    @rule(by=worker, luck=luck)
    def work(self, by: int, luck: int) -> None:
        self.world.work(self.world.workers[by], luck)
        self.after_step()

    @precondition(lambda self: self.waits("tasks", "high"))
    @rule(by=worker, luck=luck)
    def begin_work(self, by: int, luck: int) -> None:
        self.world.step_worker(self.world.workers[by], "poll", luck)
        self.world.step_worker(self.world.workers[by], "start", 0)
        self.after_step()

    @precondition(lambda self: self.holders())
    @rule(of=pick, what=st.sampled_from(["end", "end", "beat", "drain"]), luck=luck)
    def end_work(self, of: int, what: str, luck: int) -> None:
        self.world.step_worker(self.holders()[of % len(self.holders())], what, luck)
        self.after_step()

    @precondition(lambda self: self.holders())
    @rule(by=worker, what=st.sampled_from(["poll", "work"]))
    def overtake(self, by: int, what: str) -> None:
        """The leases of all that is held end, and a worker takes what comes again."""
        self.world.cloud.clock.sleep(61)
        self.world.step_worker(self.world.workers[by], what, 0)
        self.world.step_worker(self.world.workers[by], "start", 0)
        self.after_step()

    def holders(self) -> list[Any]:
        """The workers whose slots have something."""
        return [each for each in self.world.workers if each.slots]

    @precondition(lambda self: self.waits("responses"))
    @rule(by=function, luck=luck)
    def collect(self, by: int, luck: int) -> None:
        self.world.collect(self.world.functions[by], luck)
        self.after_step()

    @precondition(lambda self: self.waits("uploads"))
    @rule(by=function, luck=luck, whole=st.booleans())
    def read(self, by: int, luck: int, whole: bool) -> None:
        self.world.read(self.world.functions[by], luck, 99.0 if whole else 1.0)
        self.after_step()

    @precondition(lambda self: self.client.schedules)
    @rule(by=function, luck=luck)
    def tick(self, by: int, luck: int) -> None:
        self.world.tick(self.world.functions[by], luck)
        self.after_step()

    # --- what happens to them ---

    @rule(
        what=st.sampled_from(
            ["time", "time", "tasks", "high", "responses", "uploads", "late", "kill"]
        ),
        choice=pick,
    )
    def meanwhile(self, what: str, choice: int) -> None:
        if what == "time":
            self.world.cloud.clock.sleep([1, 5, 9, 35, 70][choice % 5])
        elif what == "late":
            self.world.arrive(1 + choice % 3)
        elif what == "kill":
            self.world.bury(self.world.workers[choice % WORKERS].process)
        else:
            getattr(self.world.cloud, what).deliver_again(choice)
        self.after_step()

    def waits(self, *queues: str) -> bool:
        return any(getattr(self.world.cloud, each)._ready for each in queues)

    # --- the end ---

    def teardown(self) -> None:
        if not hasattr(self, "world") or self.world.faults:
            return
        self.world.come_to_rest()
        self.judge.look()
        self.judge.schedules()
        self.check()
        self.world.drain()
        self.judge.look()
        self.judge.batches()
        self.judge.bundles()
        self.check()
        type(self).played += 1
        type(self).fired.update(self.world.fired)


def play(machine: type[Histories], profile: settings, folder: Path) -> None:
    """Play histories. `folder` is where hypothesis may keep something, so that it does not here."""
    set_hypothesis_home_dir(folder)
    logging.disable()  # the steps tell what a million warnings would
    try:
        run_state_machine_as_test(machine, settings=profile)
    finally:
        logging.disable(logging.NOTSET)


def profile_of(histories: int, **more: Any) -> settings:
    return settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def test_histories(
    figures: Any, deep: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No history loses a task, counts one twice or gives it a wrong result. The slice is the same
    each time. The deep run takes another seed, which it prints, or that of `--hypothesis-seed`."""
    found = figures("histories", unit="histories")
    machine = type("Histories", (Histories,), {"fired": Counter(), "found": Counter()})
    if deep:
        number = int(request.config.getoption("--hypothesis-seed") or time.time())
        print(f"to play the same histories again: --hypothesis-seed={number}")
        machine = hypothesis.seed(number)(machine)
        profile = profile_of(DEEP)
    else:
        profile = profile_of(SLICE, derandomize=True, phases=[Phase.generate])
    try:
        play(machine, profile, tmp_path)
    finally:
        met = {name: count for name, count in machine.fired.items() if name[1]}
        found.add(tried=machine.played, fired=sum(met.values()))
        found.judge(**{each: machine.found[each] for each in ("lost", "doubled", "wrong")})
        for call in sorted({name for name, _ in machine.fired}):
            counts = {fault: machine.fired[call, fault] for fault in FAULTS}
            found.rows.append({"call": call, "without": machine.fired[call, ""], **counts})
    assert {name for name, fault in met} >= EFFECTS, "calls that met no fault"


def count_again(monitor: MemoryMonitor, batch_id: str, *args: Any, **options: Any) -> Any:
    """Count responses of a batch, whether they are counted or not."""
    monitor._counted.get(batch_id, set()).clear()
    return record_progress(monitor, batch_id, *args, **options)


def enqueue_late(enqueuer: Enqueuer, batch: Any, *args: Any) -> None:
    """Record that bundles are on the queue, and then put them there."""
    enqueuer._monitor.record_enqueued(batch.batch_id, batch.total)
    enqueue(enqueuer, batch, *args)


record_progress, enqueue = MemoryMonitor.record_progress, Enqueuer.enqueue


@pytest.mark.parametrize(
    ("owner", "name", "broken", "kind"),
    [
        (MemoryMonitor, "record_progress", count_again, "doubled"),
        (Enqueuer, "enqueue", enqueue_late, "lost"),
        (Precedence, "turn", lambda *_: Turn(), "wrong"),
    ],
)
def test_histories_find_what_is_broken(
    owner: Any, name: str, broken: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protection is taken away. Some history of the first ones shows it."""
    monkeypatch.setattr(owner, name, broken)
    machine = type("Histories", (Histories,), {"fired": Counter(), "found": Counter()})
    with pytest.raises(AssertionError, match=f"^{kind}: "):
        play(machine, profile_of(60, derandomize=True, phases=[Phase.generate]), tmp_path)
