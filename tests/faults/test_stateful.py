"""Random histories of the whole stage: the real API services, readers of files, collectors, ticks
and workers on memory adapters and a virtual clock. Each step lets one process act, and says which
of its calls meet which fault; hypothesis looks for the steps and shortens what fails.

A history that fails is printed step by step, and is the same each time it is played.
"""

from __future__ import annotations

import logging
from collections import Counter
from itertools import product
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

from taskfleet.schedule import Missed
from tests.faults.machine_client import KINDS, Order
from tests.faults.machine_judge import Judge
from tests.faults.machine_ports import FAULTS
from tests.faults.machine_world import FUNCTIONS, WORKERS, World

STEPS = 60
SLICE, DEEP = 300, 5_000
"""Histories in `make test` and in `make faults`."""

names = st.lists(st.sampled_from(KINDS), min_size=1, max_size=7)
fates = st.lists(st.sampled_from(list(product(range(8), FAULTS))), max_size=3).map(dict)
"""Which calls of a step meet which fault."""
function = st.integers(0, FUNCTIONS - 1)
worker = st.integers(0, WORKERS - 1)
pick = st.integers(0, 50)
likely = st.sampled_from([True, True, True, False])
rarely = st.sampled_from([False, False, False, True])


class Histories(RuleBasedStateMachine):
    """One history. `played`, `fired` and `found` add up those of all histories."""

    played = 0
    fired: Counter[tuple[str, str]] = Counter()
    reached: Counter[str] = Counter()
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
            raise AssertionError("\n".join(f"{kind}: {words}" for kind, words in self.world.faults))

    def ask(self, request: Any, by: int, fates: dict[int, str]) -> None:
        self.world.ask(self.world.functions[by], request, fates)
        self.after_step()

    # --- the client ---

    @rule(names=names, high=rarely, by=function, fates=fates, patient=likely)
    def submit(self, names: Any, high: bool, by: int, fates: Any, patient: bool) -> None:
        request = self.client.submit(names, high=high, after=[], run_anyway=False, patient=patient)
        self.ask(request, by, fates)

    @rule(names=names, by=function, fates=fates)
    def submit_once(self, names: Any, by: int, fates: Any) -> None:
        self.ask(self.client.submit_once(names), by, fates)

    @rule(names=names, faulty=rarely, by=function, fates=fates, patient=likely)
    def submit_file(self, names: Any, faulty: bool, by: int, fates: Any, patient: bool) -> None:
        self.ask(self.client.submit_file(names, faulty=faulty, patient=patient), by, fates)

    @precondition(lambda self: self.orders())
    @rule(
        names=names,
        of=st.lists(pick, min_size=1, max_size=2),
        run_anyway=st.booleans(),
        by=function,
        fates=fates,
        patient=likely,
    )
    def submit_after(
        self, names: Any, of: list[int], run_anyway: bool, by: int, fates: Any, patient: bool
    ) -> None:
        known = self.orders()
        before = [known[-1 - each % len(known)] for each in of]
        request = self.client.submit(
            names, high=False, after=before, run_anyway=run_anyway, patient=patient
        )
        self.ask(request, by, fates)

    @rule(names=names, empty=rarely, by=function, fates=fates, patient=likely)
    def open(self, names: Any, empty: bool, by: int, fates: Any, patient: bool) -> None:
        self.ask(self.client.open([] if empty else names, patient=patient), by, fates)

    def growing(self) -> list[Order]:
        """The open batches whose client waits for no answer."""
        asked = [each.order for each in self.client.unanswered]
        return [
            each
            for each in self.orders()
            if each.is_open and not each.given_up and each not in asked
        ]

    @precondition(lambda self: self.growing())
    @rule(names=names, of=pick, close=rarely, by=function, fates=fates, patient=likely)
    def add(self, names: Any, of: int, close: bool, by: int, fates: Any, patient: bool) -> None:
        order = self.growing()[of % len(self.growing())]
        self.ask(self.client.add(order, names, close=close, patient=patient), by, fates)

    @precondition(lambda self: self.growing())
    @rule(of=pick, by=function, fates=fates)
    def close(self, of: int, by: int, fates: Any) -> None:
        order = self.growing()[of % len(self.growing())]
        self.ask(self.client.close(order, patient=True), by, fates)

    @precondition(lambda self: self.orders())
    @rule(of=pick, by=function, fates=fates, patient=likely)
    def cancel(self, of: int, by: int, fates: Any, patient: bool) -> None:
        order = self.orders()[of % len(self.orders())]
        self.ask(self.client.cancel(order, patient=patient), by, fates)

    @precondition(lambda self: self.orders())
    @rule(of=pick, by=function, fates=fates, patient=likely)
    def retry(self, of: int, by: int, fates: Any, patient: bool) -> None:
        order = self.orders()[of % len(self.orders())]
        self.ask(self.client.retry(order, patient=patient), by, fates)

    @rule(names=names, missed=st.sampled_from(Missed), by=function, fates=fates)
    def schedule(self, names: Any, missed: Missed, by: int, fates: Any) -> None:
        if len(self.client.schedules) < 2:
            self.ask(self.client.schedule(names, missed, patient=True), by, fates)

    @precondition(lambda self: self.client.schedules)
    @rule(of=pick, by=function, fates=fates)
    def unschedule(self, of: int, by: int, fates: Any) -> None:
        name = list(self.client.schedules)[of % len(self.client.schedules)]
        self.ask(self.client.unschedule(name, patient=True), by, fates)

    @precondition(lambda self: self.client.unanswered)
    @rule(of=pick, by=function, fates=fates)
    def repeat(self, of: int, by: int, fates: Any) -> None:
        self.ask(self.client.unanswered[of % len(self.client.unanswered)], by, fates)

    @precondition(lambda self: self.client.orders)
    @rule(of=pick, by=function, fates=fates)
    def look(self, of: int, by: int, fates: Any) -> None:
        order = self.orders(accepted=False)[of % len(self.client.orders)]
        self.world.look(self.world.functions[by], order.batch_id, fates)
        self.after_step()

    # --- the processes ---

    @rule(
        by=worker,
        what=st.sampled_from(
            ["poll", "start", "finish", "settle", "flush", "beat", "work", "drain"]
        ),
        fates=fates,
    )
    def step(self, by: int, what: str, fates: Any) -> None:
        self.world.step_worker(self.world.workers[by], what, fates)
        self.after_step()

    @precondition(lambda self: self.waits("tasks", "high"))
    @rule(by=worker, fates=fates)
    def work(self, by: int, fates: Any) -> None:
        self.world.work(self.world.workers[by], fates)
        self.after_step()

    @precondition(lambda self: self.waits("tasks", "high"))
    @rule(by=worker, fates=fates)
    def begin_work(self, by: int, fates: Any) -> None:
        self.world.step_worker(self.world.workers[by], "poll", fates)
        self.world.step_worker(self.world.workers[by], "start", {})
        self.after_step()

    @precondition(lambda self: self.holders())
    @rule(of=pick, fates=fates)
    def end_work(self, of: int, fates: Any) -> None:
        self.world.step_worker(self.holders()[of % len(self.holders())], "end", fates)
        self.after_step()

    @precondition(lambda self: self.holders())
    @rule(by=worker)
    def overtake(self, by: int) -> None:
        """The leases of all that is held end, and a worker takes what comes again."""
        self.world.cloud.clock.sleep(61)
        self.world.work(self.world.workers[by], {})
        self.after_step()

    def holders(self) -> list[Any]:
        """The workers whose slots have something."""
        return [each for each in self.world.workers if each.slots]

    @precondition(lambda self: self.waits("responses"))
    @rule(by=function, fates=fates)
    def collect(self, by: int, fates: Any) -> None:
        self.world.collect(self.world.functions[by], fates)
        self.after_step()

    @precondition(lambda self: self.waits("uploads"))
    @rule(by=function, fates=fates, whole=st.booleans())
    def read(self, by: int, fates: Any, whole: bool) -> None:
        self.world.read(self.world.functions[by], fates, 99.0 if whole else 1.0)
        self.after_step()

    @precondition(lambda self: self.client.schedules)
    @rule(by=function, fates=fates)
    def tick(self, by: int, fates: Any) -> None:
        self.world.tick(self.world.functions[by], fates)
        self.after_step()

    # --- what happens to them ---

    @rule(seconds=st.sampled_from([1, 5, 9, 35, 70]))
    def pass_time(self, seconds: int) -> None:
        self.world.cloud.clock.sleep(seconds)

    @rule(queue=st.sampled_from(["tasks", "high", "responses", "uploads"]), choice=pick)
    def deliver_again(self, queue: str, choice: int) -> None:
        getattr(self.world.cloud, queue).deliver_again(choice)

    @precondition(lambda self: self.world.late)
    @rule(count=st.integers(1, 3))
    def arrive(self, count: int) -> None:
        self.world.arrive(count)
        self.after_step()

    @rule(by=worker)
    def kill(self, by: int) -> None:
        self.world.bury(self.world.workers[by].process)

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


def test_histories(figures: Any, deep: bool, tmp_path: Any) -> None:
    """No history loses a task, counts one twice or gives it a wrong result."""
    set_hypothesis_home_dir(tmp_path)  # which leaves no folder here
    logging.disable()  # a million warnings say what is told by the steps
    found = figures("histories", unit="histories")
    profile = settings(
        max_examples=DEEP if deep else SLICE,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=not deep,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink] if deep else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Histories, settings=profile)
    finally:
        logging.disable(logging.NOTSET)
        found.add(tried=Histories.played, fired=sum(Histories.fired.values()))
        found.judge(**{each: Histories.found[each] for each in ("lost", "doubled", "wrong")})
