"""A machine of hypothesis that makes random histories of the whole stage. Each of its rules lets
one process act, with more or less luck. Owns which steps there are, and how likely each is."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from taskfleet.schedule import Missed
from tests.faults.machine_client import Order, Request
from tests.faults.machine_judge import Judge
from tests.faults.machine_kinds import KINDS
from tests.faults.machine_rest import come_to_rest, drain
from tests.faults.machine_world import FUNCTIONS, WORKERS, World

names = st.lists(st.sampled_from(KINDS), min_size=1, max_size=7)
luck = st.integers(0, 10_000)
function = st.integers(0, FUNCTIONS - 1)
worker = st.integers(0, WORKERS - 1)
pick = st.integers(0, 50)
SUBMISSIONS = ("submit", "submit", "high", "once", "file", "file", "faulty", "after", "after")
OTHERS = (
    *("open", "open", "add", "add", "add", "close", "cancel", "retry", "look", "look"),
    *("schedule", "schedule", "unschedule"),
)


class Histories(RuleBasedStateMachine):
    """One history. `played`, `fired` and `found` add up those of all histories."""

    played: ClassVar[int] = 0
    fired: ClassVar[Counter[tuple[str, str]]] = Counter()
    found: ClassVar[Counter[str]] = Counter()

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
        come_to_rest(self.world)
        self.judge.look()
        self.judge.schedules()
        self.check()
        drain(self.world)
        self.judge.look()
        self.judge.batches()
        self.judge.bundles()
        self.check()
        type(self).played += 1
        type(self).fired.update(self.world.fired)
