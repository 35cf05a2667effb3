"""What the processes of the model share: the real `MemoryMonitor` and what is on the queues. Owns
the effects of calls, their faults, and the note of what really happened.

Time stands still in the model: a lease lives until a move of its own ends it, and a message is
visible at any time. So every order of expiries is tried, with any skew of the clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.bundle import Bundle
from taskfleet.errors import TaskfleetError
from taskfleet.lease import BundleStatus
from taskfleet.memory import MemoryStore
from taskfleet.memory.monitor import _Item
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry, TaskKind
from taskfleet.retry import RetryPolicy
from taskfleet.wire.queues import decode_bundle
from tests.model.frozen import LEASE_S, NOW, Ghost, Scenario, Shared, still
from tests.model.tape import Call, Reply, Tape, answer
from tests.support.scheduler import submission


class StillClock:
    """A clock that a step sets, and that nobody waits for."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        pass


class World:
    """The shared state while a step is taken. `tape` answers the calls of the step."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = StillClock()
        self.store = MemoryStore(self.clock)
        self.monitor = scenario.monitor(self.clock)
        self.tape = Tape()
        self.killed = False
        self.is_copy = self.is_noted = False
        self.time_out: Callable[[], None] = lambda: None
        self.sent: list[str] = []
        self.witness: Callable[[World, str, Any, Any], None] | None = None
        options = {"retry": RetryPolicy(max_attempts=scenario.max_attempts), "runs_in": "thread"}
        takes_s = 0.001 if scenario.together else 0.05
        self.registry = self._kinds(expected_s=lambda _params: takes_s, **options)
        cut_s = None if scenario.bundles > 1 else 0.001
        made = submission(
            self._kinds(expected_s=lambda _params: cut_s, **options),
            self,  # type: ignore[arg-type]
            self.monitor,
            self.clock,
            lambda size: bytes(size),
        )
        own_kinds = ("timed", "hedged")
        raw = [f"{task if task in own_kinds else 'run'} {task}" for task in scenario.tasks]
        batch_id = made.submit(raw, client_id="alice").batch_id
        self.bodies = list(self.sent)
        self.bundles: list[Bundle] = [decode_bundle(body) for body in self.bodies]
        assert len(self.bundles) == scenario.bundles, self.bundles
        self.jobs = [bundle.job_id for bundle in self.bundles]
        batch = self.monitor.batch(batch_id)
        assert batch is not None
        count = len(scenario.tasks)
        self.first = Shared(
            (None,) * len(self.jobs),
            batch,
            (),
            tuple(range(len(self.jobs))),
            (),
            (),
            (),
            Ghost(
                (0,) * count,
                (0,) * count,
                (0,) * count,
                (False,) * count,
                (0,) * len(self.jobs),
                (False,) * len(self.jobs),
            ),
            scenario.budget,
        )

    def _kinds(self, **options: Any) -> Registry:
        return Registry(
            [
                TaskKind("run", self._run, **options),
                TaskKind("timed", self._run, timeout_s=900.0, retry_timeouts=True, **options),
                TaskKind("hedged", self._run, hedge=True, **options),
            ]
        )

    # --- freezing ------------------------------------------------------------------------------

    def thaw(self, shared: Shared) -> None:
        """Make `shared` the present state."""
        monitor = self.monitor
        monitor._items.clear()
        for job, frozen in zip(self.jobs, shared.items, strict=True):
            self.put(job, frozen)
        batch_id = shared.batch.batch_id
        monitor._batches[batch_id] = shared.batch
        monitor._counted[batch_id] = set(shared.counted)
        self.queue, self.dead = set(shared.queue), set(shared.dead)
        self.responses, self.late = set(shared.responses), list(shared.late)
        self.ghost, self.budget = shared.ghost, shared.budget
        self.clock.time, self.killed = NOW, False

    def freeze(self) -> Shared:
        """Returns the present state. A lease that lives ends at one and the same time."""
        monitor = self.monitor
        items = [self.item(job) for job in self.jobs]
        (batch,) = monitor._batches.values()
        return Shared(
            tuple(items),
            batch,
            tuple(sorted(monitor._counted[batch.batch_id])),
            tuple(sorted(self.queue)),
            tuple(sorted(self.dead)),
            tuple(sorted(self.responses)),
            tuple(self.late),
            self.ghost,
            self.budget,
        )

    def put(self, job: str, frozen: tuple[Any, ...] | None) -> None:
        """Make `frozen` the item of a bundle."""
        self.monitor._items.pop(job, None)
        if frozen is not None:
            item = self.monitor._items[job] = _Item()
            item.status, item.owner, item.attempt, item.expires_at, has_tasks, rows, sealed = frozen
            item.tasks = self.bundles[self.jobs.index(job)].tasks if has_tasks else []
            item.results, item.sealed = list(rows), sealed

    def item(self, job: str) -> tuple[Any, ...] | None:
        """Returns the item of a bundle as a value, None if it has none."""
        item = self.monitor._items.get(job)
        if item is None:
            return None
        expires_at = still(item.expires_at)
        if item.status is not BundleStatus.RUNNING:
            expires_at = 0.0  # nobody reads it
        results = tuple(sorted(item.results, key=lambda row: row.index))
        return (
            *(item.status, item.owner, item.attempt, expires_at),
            *(bool(item.tasks), results, item.sealed),
        )

    def spend(self, name: str) -> None:
        self.budget = self.budget.less(name)

    def count(self, name: str, position: int, by: Any = 1) -> None:
        """Add to a number of the ghost, or set a mark of it."""
        values = list(getattr(self.ghost, name))
        values[position] = by if isinstance(by, bool) else values[position] + by
        self.ghost = self.ghost._replace(**{name: tuple(values)})

    # --- calls ---------------------------------------------------------------------------------

    def call(self, name: str, take_effect: Callable[[], Any], late: Any = None) -> Any:
        """Make a call of a process, with one of its outcomes.

        late: what is kept of it to take effect later; None if it cannot.
        """
        faulty, at = name in self.scenario.faulty, self.clock.time

        def outcomes() -> list[str]:
            if not faulty or not self.budget.errors:
                return ["is answered"]
            some = ["is answered", "is refused", "loses its reply", "is sent twice"]
            if name in ("commit", "release", "renew"):
                some += ["is refused until the lease has ended"]
            return some if late is None else [*some, "takes effect later"]

        def effect(outcome: str) -> Reply:
            self.clock.time = at
            return self._effect(name, outcome, take_effect, late)

        reply = self.tape.ask(Call(name, outcomes, effect, faulty or name in self.scenario.cuts))
        if reply.late:
            self.clock.time = NOW + 10 * LEASE_S
        return answer(reply)

    def _effect(self, name: str, outcome: str, take_effect: Callable[[], Any], late: Any) -> Reply:
        if outcome != "is answered":
            self.spend("errors")
        if outcome == "is refused":
            return Reply(None, "TransientError", f"{name}: throttled")
        if outcome == "is refused until the lease has ended":
            return Reply(None, "TransientError", f"{name}: throttled", late=True)
        if outcome == "takes effect later":
            self.late.append(late)
            return Reply(None, "TransientError", f"{name}: timed out")
        try:
            value = take_effect()
            if outcome == "is sent twice":
                value = take_effect()
        except TaskfleetError as error:
            return Reply(None, type(error).__name__, str(error))
        if outcome == "loses its reply":
            return Reply(None, "TransientError", f"{name}: timed out")
        return Reply(value)

    def _run(self, _params: Any, context: Any) -> Any:
        """The `run` of all kinds."""
        index, nature = context.index, self.scenario.tasks[context.index]
        copy, noted = self.is_copy, self.is_noted

        def effect(outcome: str) -> Reply:
            self.count("starts", index)
            if not noted:
                self.count("charged", index)
            if copy:
                self.count("excused", index)
            if outcome == "ends well":
                self.count("fine", index, True)
                return Reply(f"result {index}")
            if outcome == "ends its worker":
                self.killed = True
                self.ghost = self.ghost._replace(kills=self.ghost.kills + 1)
                return Reply()
            if outcome == "fails for good":
                return Reply(None, "PermanentError", "bad")
            self.count("excused", index)
            if outcome == "fails for a while":
                return Reply(None, "TransientError", "not yet")
            return Reply(None, "TaskStopped", outcome)

        if context.stopped:
            outcomes = ["is stopped", "ends well"]
        elif nature == "hedged" and copy:
            outcomes = ["ends well", "fails for good"]
        else:
            outcomes = {
                "flaky": ["ends well", "fails for a while"],
                "bad": ["fails for good"],
                "killer": ["ends its worker"],
                "timed": ["ends well", "comes to its time-out"],
            }.get(nature, ["ends well"])
        reply = self.tape.ask(Call(f"task {index}", lambda: outcomes, effect, cuts=True))
        if reply.text == "comes to its time-out":
            self.time_out()
        return answer(reply)

    # --- the queues ----------------------------------------------------------------------------

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Take the messages of the submission in."""
        self.sent += [message.body for message in messages]
