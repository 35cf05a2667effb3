"""The provisioner: read, decide, record, act, record the outcome. Owns that order.

It reconciles from what it reads and never from an event. So a round that is lost, late, doubled or
cut short costs time and nothing else.

In an idle stage, where nothing waits, runs or comes, a round ends after four reads, but for one
every `IDLE_ROUND_S`.

A decision is recorded before it is acted upon, on condition that nobody else recorded one since the
reading: of two rounds at once, one does nothing. A launch is recorded with its token before EC2 is
asked for it. When its outcome is not recorded, the next round asks for the same launch again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from taskfleet.errors import PermanentError, TaskfleetError, TransientError
from taskfleet.log import fields
from taskfleet.ports import QueueDepth
from taskfleet.provisioner.boots import complaint, is_broken
from taskfleet.provisioner.goals import steer
from taskfleet.provisioner.noting import is_news, note_of, ready_slots, work_ahead_s
from taskfleet.provisioner.observe import forgettable, grown, is_alive, observe
from taskfleet.provisioner.points import is_due, point
from taskfleet.provisioner.policy import (
    Decision,
    Observation,
    policy_of,
)
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.records import (
    BootFailures,
    Demand,
    FleetState,
    Intent,
    Launch,
    Reading,
    Round,
    Shortage,
    Watched,
    with_round,
)
from taskfleet.provisioner.shortages import trouble_after
from taskfleet.provisioner.supply import Reaction
from taskfleet.provisioner.watch import Watch, follow
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)

FAILED_ROUNDS = 3
"""Failed rounds in a row that make a whole run a failure."""
PEEK_S = 3.0
"""Between two rounds, demand alone is read this often, to notice a batch early."""
SUDDEN_MESSAGES = 16
"""New messages that start the next round early; so does a batch to watch."""
IDLE_ROUND_S = 1_800.0
"""In an idle stage a whole round is made, and recorded, this often. It finds machines that nobody
recorded. One a minute would cost more than all else that the tick does."""
FORGOTTEN_S = 3_600.0
"""Workers that have not reported for this long are left out."""
TOKEN_VALID_S = 3_600.0
"""How long EC2 takes a repeated launch token for the same launch."""


class Provisioner:
    """Keeps the number of machines as it should be. `round` reconciles once; `run` does so for a
    while, as a scheduled function does."""

    def __init__(self, ports: ProvisionerPorts, settings: Settings) -> None:
        self._ports = ports
        self._conf = settings
        self._policy = policy_of(settings)
        self._watch = Watch(ports.records, ports.monitor)
        self._reaction = Reaction(settings.look_s, settings.beat_s, settings.drain_timeout_s)

    def run(self, remaining_s: Callable[[], float], depth: QueueDepth | None = None) -> None:
        """Make a round every `look_s` seconds, sooner when a batch comes, while there is work or a
        machine and `remaining_s` leaves time for another round. A failed round is logged; the next
        may succeed.

        depth: the depth of the normal queue, for the first round, when the caller has just read it.

        Raises TaskfleetError at the end, so that whoever schedules this counts an error, when all
        rounds failed or `FAILED_ROUNDS` in a row, and while launches pause since machines boot in
        vain.
        """
        state, error = None, None
        rounds = in_a_row = worst = 0
        while True:
            rounds += 1
            active, seen = True, None
            try:
                state = self.round(depth)
                active = state is None or state.machines > 0 or state.wanted > 0
                seen = state.history[-1].demand if state else None
                in_a_row = 0
            except TaskfleetError as failure:
                _log.error("a round failed", extra=fields("look_failed", reason=str(failure)))
                error, in_a_row = failure, in_a_row + 1
                worst = max(worst, in_a_row)
            depth = None
            if not active or not self._wait(seen, remaining_s):
                break
        if error is not None and worst >= min(rounds, FAILED_ROUNDS):
            raise error
        if state is not None and state.wanted > 0 and is_broken(state.boot_failures):
            raise PermanentError(complaint(state.boot_failures, self._ports.clock.now()))

    def _wait(self, seen: Demand | None, remaining_s: Callable[[], float]) -> bool:
        """Wait until the next round is due. Returns False when there is no time for it."""
        left_s = self._conf.look_s
        while left_s > 0:
            pause_s = min(PEEK_S, left_s)
            if remaining_s() < left_s:
                return False
            self._ports.clock.sleep(pause_s)
            left_s -= pause_s
            if seen is not None and left_s > 0 and self._is_sudden(seen):
                return True
        return True

    def _is_sudden(self, seen: Demand) -> bool:
        """Returns whether so much came since the totals were `seen`, or a batch to watch, that the
        next round is made at once."""
        try:
            came = self._ports.records.demand().since(seen)
        except TaskfleetError as error:
            _log.warning("demand not read", extra=fields("peek_failed", reason=str(error)))
            return False
        return came.messages >= SUDDEN_MESSAGES or came.watched > 0

    def round(self, depth: QueueDepth | None = None) -> FleetState | None:
        """Reconcile once. Returns the recorded state, None when another round was faster. Raises
        TaskfleetError, and then nothing was launched or ended that is not recorded.

        depth: the depth of the normal queue, when the caller has just read it.
        """
        before = self._ports.records.state()
        # The depth is first, so that demand includes nearly all it counts.
        depth = self._ports.tasks.depth() if depth is None else depth
        demand = self._ports.records.demand()
        if demand.high and self._ports.high is not None:
            depth += self._ports.high.depth()  # a stage that never uses it need not ask
        if self._is_quiet(before, depth, demand):
            return before
        watched = self._watch.known(before, demand)
        reading = self._read(depth, demand, watched)
        seen, state = observe(reading, before, self._conf)
        state = replace(state, boot_failures=self._explained(before, state.boot_failures))
        batches = self._watch.batches(watched)
        spent_usd = state.cost_usd - before.cost_usd
        followed = follow(watched, batches, reading, seen.loads, before, spent_usd)
        decision, risks = steer(self._policy, seen, followed.goals, followed.others, self._reaction)
        state = replace(
            state,
            watched={
                batch_id: replace(each, at_risk=risks.get(batch_id, ""))
                for batch_id, each in followed.watched.items()
            },
            watched_to=demand.watched,
            other_tasks=followed.other_tasks,
        )
        intent = self._intent(before, seen, decision)
        state = self._decided(state, seen, decision, intent)
        due, ended = is_due(before, reading.at), state.ended_since
        if due:
            state = replace(state, ended_since=0, pointed_at=reading.at)
        ahead_s = work_ahead_s(seen)
        news = is_news(before, ahead_s, ready_slots(state, self._conf.slots), reading.at)
        if news:
            state = replace(state, ahead_s=ahead_s, ahead_at=reading.at)
        if not self._ports.records.save_state(state):
            _log.info("another round was faster", extra=fields("look_overtaken"))
            return None
        state = replace(state, revision=state.revision + 1)
        self._watch.forget([batch_id for batch_id in watched if batch_id not in state.watched])
        done = self._act(state, decision, intent)
        if done is not state and self._ports.records.save_state(done):
            done = replace(done, revision=done.revision + 1)
        noted, earlier = note_of(done, self._conf.slots), note_of(before, self._conf.slots)
        same = (noted.machines, noted.slots, noted.ready, noted.limits)
        if (
            news
            or same != (earlier.machines, earlier.slots, earlier.ready, earlier.limits)
            or not before.last_round_at
        ):
            self._ports.records.note(noted)
        if due:
            self._add_point(done, reading, ended)
        self._ports.records.forget(forgettable(reading, done.unlisted))
        _log.info(
            "a round of the provisioner",
            extra=fields(
                "provisioner_looked",
                desired=done.desired,
                machines=done.machines,
                launched=done.decisions[-1].launched,
                reason=done.decisions[-1].reason,
            ),
        )
        return done

    def _add_point(self, state: FleetState, reading: Reading, ended: int) -> None:
        """Add the round to the history. A failure is logged only: it is one point of a chart."""
        alive = [w for w in reading.workers if is_alive(w, reading.at, self._conf.beat_s)]
        try:
            self._ports.records.add_point(point(state, reading.depth, alive, ended))
        except TaskfleetError as error:
            _log.warning("history not kept", extra=fields("point_lost", reason=str(error)))

    def _is_quiet(self, before: FleetState, depth: QueueDepth, demand: Demand) -> bool:
        """Whether nothing has come since the last round found neither work nor a machine. Workers
        that run elsewhere report, and make rounds whole."""
        return (
            before.is_idle
            and bool(before.history)
            and demand == before.history[-1].demand
            and depth.backlog + depth.in_flight == 0
            and self._ports.clock.now() - before.last_round_at < IDLE_ROUND_S
            and not self._ports.records.workers()
        )

    def _read(self, depth: QueueDepth, demand: Demand, watched: Mapping[str, Watched]) -> Reading:
        ports = self._ports
        kinds = [demand.kinds, *(each.kinds for each in watched.values())]
        names = {name for of in kinds for name, kind in of.items() if kind.known < kind.tasks}
        unknown = sorted(names)
        paces = ports.monitor.paces(unknown) if unknown else {}
        now = ports.clock.now()
        # Dead workers stay listed for a day. Their machines, if any, have been ended.
        workers = [
            w for w in ports.records.workers() if w.signed_off or now - w.reported_at < FORGOTTEN_S
        ]
        instances = ports.fleet.instances()
        return Reading(
            now,
            depth,
            demand,
            workers,
            instances,
            {kind: pace.mean_s for kind, pace in paces.items()},
            paces,
        )

    def _explained(self, before: FleetState, failures: BootFailures) -> BootFailures:
        """The failures, with what the machine that failed last tells of its boot."""
        if failures.newest in ("", before.boot_failures.newest):
            return failures
        try:
            step = self._ports.fleet.boot_step(failures.newest)
        except TaskfleetError as error:
            step = ""
            _log.warning("console not read", extra=fields("console_failed", reason=str(error)))
        _log.error(
            "a machine never reported",
            extra=fields(
                "boot_failed", instance_id=failures.newest, in_a_row=failures.count, step=step
            ),
        )
        return replace(failures, last_step=step)

    def _intent(self, before: FleetState, seen: Observation, decision: Decision) -> Intent | None:
        """The launch to ask for, if any. An earlier one whose outcome is unknown goes first."""
        if not decision.launch:
            return None
        now = self._ports.clock.now()
        if before.trouble is not None and now < before.trouble.retry_at:
            return None
        earlier = before.intent
        if earlier is not None and earlier.count <= seen.limits.affordable - len(seen.machines):
            age_s = now - earlier.at
            # A machine younger than the intent shows that the launch happened.
            if age_s < TOKEN_VALID_S and all(m.age_s > age_s + 1.0 for m in seen.machines):
                return earlier
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
        made = Round(now, decision.desired, 0, decision.end, decision.retire, reason)
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
            decisions=with_round(state.decisions, made),
        )

    # --- acting ----------------------------------------------------------------------------------

    def _act(self, state: FleetState, decision: Decision, intent: Intent | None) -> FleetState:
        fleet, now = self._ports.fleet, self._ports.clock.now()
        if decision.mark:
            self._try("marked: no report", decision.mark, lambda ids: fleet.mark(ids, now))
        if decision.end:
            self._try("ended: no report after the mark", decision.end, fleet.terminate)
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
        """A failure is logged only: the next round decides anew, and a launch still happens."""
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
        chosen = [
            w.worker_id for w in workers if w.instance_id in instance_ids and not w.signed_off
        ]
        self._ports.records.ask_to_leave(chosen)

    def _launched(self, state: FleetState, intent: Intent, launch: Launch) -> FleetState:
        now = self._ports.clock.now()
        made = replace(state.decisions[-1], launched=len(launch.instance_ids))
        trouble = None
        if launch.shortage is not None:
            trouble = trouble_after(launch.shortage, launch.detail, state.trouble, now)
            made = replace(made, reason=f"{made.reason}; {launch.shortage}: {launch.detail}")
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
            unlisted={**state.unlisted, **dict.fromkeys(launch.instance_ids, now)},
            groups=grown(state.groups, len(launch.instance_ids), now),
            usd_per_hour=state.usd_per_hour
            + len(launch.instance_ids) * self._conf.instance_usd_per_hour,
            decisions=[*state.decisions[:-1], made],
        )
