"""The provisioner: look, decide, record, act, record what came of it. Owns that order. It
reconciles from what it sees and never from an event, so a look that is lost, late, doubled or cut
short costs time and nothing else.

A decision is recorded before it is acted upon, on condition that nobody else recorded one since it
was looked: of two looks at once one does nothing. A launch is recorded with its token before it is
asked for; when its outcome is not recorded, the next look asks for the very same launch again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from taskfleet.errors import PermanentError, TaskfleetError, TransientError
from taskfleet.log import fields
from taskfleet.ports import Clock, TaskMonitor, TaskQueue
from taskfleet.provisioner.observe import Sight, observe
from taskfleet.provisioner.policy import (
    Decision,
    MachineState,
    Observation,
    Policy,
    by_threshold,
    by_work,
    decide,
)
from taskfleet.provisioner.ports import (
    Fleet,
    FleetRecords,
)
from taskfleet.provisioner.records import FleetState, Group, Intent, Launch, Look, Shortage, Trouble
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)

DECISIONS_KEPT = 20
BACKOFF_S = {
    Shortage.NO_CAPACITY: (15.0, 60.0),
    Shortage.QUOTA: (30.0, 300.0),
    Shortage.REFUSED: (30.0, 300.0),
    Shortage.NO_ANSWER: (0.0, 0.0),
}
"""First and longest pause after a launch that fell short."""
PEEK_S = 3.0
"""Between two looks demand alone is read so often, to notice a batch early."""
SUDDEN_MESSAGES = 16
FORGOTTEN_S = 3_600.0


@dataclass(frozen=True)
class Ports:
    """What the provisioner is wired to."""

    tasks: TaskQueue
    monitor: TaskMonitor
    records: FleetRecords
    fleet: Fleet
    clock: Clock


def policy_of(conf: Settings) -> Policy:
    return by_threshold(conf.threshold) if conf.policy == "threshold" else by_work


class Provisioner:
    """`look` reconciles once; `run` looks for a while, as a scheduled function does."""

    def __init__(self, ports: Ports, settings: Settings) -> None:
        self._ports = ports
        self._conf = settings
        self._policy = policy_of(settings)

    def run(self, remaining_s: Callable[[], float]) -> None:
        """Look every `look_s` while there is time for another look and something to look after;
        sooner when a batch comes. What goes wrong in a look is logged, and the next one may do."""
        while True:
            active, messages = True, None
            try:
                state = self.look()
                active = state is None or state.machines > 0 or state.wanted > 0
                messages = state.history[-1].demand.messages if state else None
            except TaskfleetError as error:
                _log.error("a look failed", extra=fields("look_failed", reason=str(error)))
            if not active or not self._wait(messages, remaining_s):
                return

    def _wait(self, messages: int | None, remaining_s: Callable[[], float]) -> bool:
        """Until the next look is due; False when there is no time for it."""
        left_s = self._conf.look_s
        while left_s > 0:
            pause_s = min(PEEK_S, left_s)
            if remaining_s() < left_s:
                return False
            self._ports.clock.sleep(pause_s)
            left_s -= pause_s
            if messages is not None and left_s > 0 and self._came(messages) >= SUDDEN_MESSAGES:
                return True
        return True

    def _came(self, messages: int) -> int:
        try:
            return self._ports.records.demand().messages - messages
        except TaskfleetError as error:
            _log.warning("demand not read", extra=fields("peek_failed", reason=str(error)))
            return 0

    def look(self) -> FleetState | None:
        """One round; the state it recorded, None when another look was faster. Raises
        TaskfleetError, with nothing launched or ended that is not recorded."""
        before = self._ports.records.state()
        seen, state = observe(self._see(), before, self._conf)
        decision = decide(self._policy, seen)
        intent = self._intent(before, seen, decision)
        state = self._decided(state, seen, decision, intent)
        if not self._ports.records.save_state(state):
            _log.info("another look was faster", extra=fields("look_overtaken"))
            return None
        state = replace(state, revision=state.revision + 1)
        done = self._act(state, decision, intent)
        if done is not state and self._ports.records.save_state(done):
            done = replace(done, revision=done.revision + 1)
        noted = done.machines, self._slots(done)
        if noted != (before.machines, self._slots(before)) or not before.looked_at:
            self._ports.records.note_machines(*noted)
        _log.info(
            "looked",
            extra=fields(
                "provisioner_looked",
                desired=decision.desired,
                machines=done.machines,
                launched=done.decisions[-1].launched,
                reason=done.decisions[-1].reason,
            ),
        )
        return done

    def _slots(self, state: FleetState) -> int:
        """Those that are there to stay, or on their way."""
        staying = (MachineState.BOOTING, MachineState.LIVE)
        machines = sum(state.groups[name].count for name in staying if name in state.groups)
        return state.static_slots + machines * self._conf.slots

    def _see(self) -> Sight:
        ports = self._ports
        depth = ports.tasks.depth()  # first: what it counts is then in the demand, too, mostly
        demand = ports.records.demand()
        unknown = [name for name, kind in demand.kinds.items() if kind.known < kind.tasks]
        paces = ports.monitor.paces(unknown) if unknown else {}
        now = ports.clock.now()
        # Dead workers stay listed for a day; their machines, if any, have had their strikes.
        workers = [w for w in ports.records.workers() if now - w.beat_at < FORGOTTEN_S]
        instances = ports.fleet.instances()
        return Sight(
            now,
            depth,
            demand,
            workers,
            instances,
            {kind: pace.mean_s for kind, pace in paces.items()},
        )

    def _intent(self, before: FleetState, seen: Observation, decision: Decision) -> Intent | None:
        """The launch to ask for, if any: an earlier one whose outcome nobody knows goes first."""
        if not decision.launch:
            return None
        now = self._ports.clock.now()
        if before.trouble is not None and now < before.trouble.retry_at:
            return None
        open_one = before.intent
        if open_one is not None and open_one.count <= seen.limits.affordable - len(seen.machines):
            age_s = now - open_one.at
            # A machine younger than it shows that it happened.
            if age_s < 3600 and all(m.age_s > age_s + 1.0 for m in seen.machines):
                return open_one
        text = f"{self._conf.stage}/{before.revision}/{now:.0f}/{decision.desired}"
        return Intent(hashlib.sha256(text.encode()).hexdigest()[:32], decision.launch, now)

    def _decided(
        self, state: FleetState, seen: Observation, decision: Decision, intent: Intent | None
    ) -> FleetState:
        now = self._ports.clock.now()
        reason = decision.reason
        if decision.launch and intent is None and state.trouble is not None:
            wait_s = state.trouble.retry_at - now
            reason += f"; {state.trouble.shortage} at the last launch, next try in {wait_s:.0f} s"
        look = Look(now, decision.desired, 0, decision.end, decision.retire, reason)
        surplus_since = None
        if decision.surplus:
            surplus_since = now if state.surplus_since is None else state.surplus_since
        return replace(
            state,
            desired=decision.desired,
            wanted=decision.wanted,
            over_budget=decision.wanted > seen.limits.affordable < seen.limits.max_capacity,
            surplus_since=surplus_since,
            intent=intent,
            decisions=_with(state.decisions, look),
        )

    # --- acting ----------------------------------------------------------------------------------

    def _act(self, state: FleetState, decision: Decision, intent: Intent | None) -> FleetState:
        fleet, now = self._ports.fleet, self._ports.clock.now()
        if decision.mark:
            self._try("marked: no beat", decision.mark, lambda ids: fleet.mark(ids, now))
        if decision.end:
            self._try("ended: never a beat", decision.end, fleet.terminate)
        if decision.retire:
            self._try("asked to leave", decision.retire, self._retire)
        if intent is None:
            return state
        try:
            launch = fleet.launch(intent.count, token=intent.token)
        except TransientError as error:
            launch = Launch([], Shortage.NO_ANSWER, str(error))
        except PermanentError as error:
            launch = Launch([], Shortage.REFUSED, str(error))
        return self._launched(state, intent, launch)

    def _try(self, what: str, ids: list[str], act: Callable[[list[str]], None]) -> None:
        """What fails here is decided anew at the next look, and keeps no launch from happening."""
        _log.warning(f"machines {what}", extra=fields("machines_told", instance_ids=ids))
        try:
            act(ids)
        except TaskfleetError as error:
            _log.error(
                "machines could not be told",
                extra=fields("tell_failed", instance_ids=ids, reason=str(error)),
            )

    def _retire(self, instance_ids: list[str]) -> None:
        workers = self._ports.records.workers()
        chosen = [w.worker_id for w in workers if w.instance_id in instance_ids]
        self._ports.records.ask_to_leave(chosen)

    def _launched(self, state: FleetState, intent: Intent, launch: Launch) -> FleetState:
        now = self._ports.clock.now()
        look = replace(state.decisions[-1], launched=len(launch.instance_ids))
        trouble = None
        if launch.shortage is not None:
            failures = 1 if state.trouble is None else state.trouble.failures + 1
            first_s, longest_s = BACKOFF_S[launch.shortage]
            retry_at = now + min(longest_s, first_s * 2 ** min(failures - 1, 10))
            trouble = Trouble(launch.shortage, launch.detail, now, failures, retry_at)
            look = replace(look, reason=f"{look.reason}; {launch.shortage}: {launch.detail}")
            _log.warning(
                "a launch fell short",
                extra=fields(
                    "launch_short",
                    asked=intent.count,
                    came=len(launch.instance_ids),
                    reason=launch.detail,
                ),
            )
        return replace(
            state,
            intent=intent if launch.shortage is Shortage.NO_ANSWER else None,
            trouble=trouble,
            fresh={**state.fresh, **dict.fromkeys(launch.instance_ids, now)},
            groups=_grown(state, len(launch.instance_ids), now),
            usd_per_hour=state.usd_per_hour
            + len(launch.instance_ids) * self._conf.instance_usd_per_hour,
            decisions=[*state.decisions[:-1], look],
        )


def _grown(state: FleetState, count: int, now: float) -> dict[str, Group]:
    if not count:
        return state.groups
    known = state.groups.get(MachineState.BOOTING, Group(0, now, now))
    return {
        **state.groups,
        MachineState.BOOTING: Group(known.count + count, known.oldest_at, now),
    }


def _with(decisions: list[Look], look: Look) -> list[Look]:
    """The newest look in place of an earlier one that said and did the same."""
    if decisions and _same(decisions[-1], look):
        decisions = decisions[:-1]
    return [*decisions, look][-DECISIONS_KEPT:]


def _same(one: Look, other: Look) -> bool:
    return replace(one, at=other.at) == other
