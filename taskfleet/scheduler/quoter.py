"""Makes the quote of a batch: how many machines the provisioner would launch for it, which slots it
finds, and what follows for its time and its price. Owns that order; the rules of time and price are
pure functions of `taskfleet.quote`, those of machines of `taskfleet.provisioner.policy`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from taskfleet import quote as rules
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock
from taskfleet.provisioner.noting import ahead_at
from taskfleet.provisioner.observe import limits_of
from taskfleet.provisioner.policy import (
    KindLoad,
    Machine,
    MachineState,
    Observation,
    decide,
    policy_of,
)
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.provisioner.records import Noted
from taskfleet.quote import ENDLESS_S, Quote, Supply, TaskGroup, Work
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)

TICK_S = 60.0
"""Seconds between two runs of the provisioner where nothing calls it and nothing is to do."""
NUDGED_S = 1.5
"""Seconds from a submission until the provisioner that it calls has launched machines."""
LAST_STEPS = 0.2
"""Least share of a boot that is taken to be left while it is not over."""
BOOT_SPREAD = 0.25
"""The deviation of boot times as a share of their mean."""


class Expected(msgspec.Struct, frozen=True):
    """A quote with what it follows from."""

    quote: Quote
    idle_usd: float
    launched: int
    supply: Supply


class Quoter:
    """Quotes batches from what is noted of the fleet.

    launches: whether there is a provisioner, which may launch machines. Where there is none and
        nobody counted the workers, one of `settings.slots` slots is assumed.
    """

    def __init__(
        self, settings: Settings, records: FleetRecords, clock: Clock, *, launches: bool
    ) -> None:
        self._conf = settings
        self._records = records
        self._clock = clock
        self._launches = launches
        self._policy = policy_of(settings)

    def noted(self) -> Noted | None:
        """Reads what is noted of the fleet; None if nothing is or the table does not answer."""
        try:
            return self._records.noted()
        except TaskfleetError as error:
            reason = str(error)
            _log.warning(
                "the fleet's note was not read", extra=fields("note_unread", reason=reason)
            )
            return None

    def quote(self, groups: Sequence[TaskGroup], bundles: int, noted: Noted | None) -> Expected:
        """Returns the quote of a batch of these tasks on the fleet as it is noted."""
        if noted is None:
            ready = 0 if self._launches else self._conf.slots
            noted = Noted(0, ready, ready, ready)
        conf = self._conf
        work = Work(tuple(self._weighed(group, noted) for group in groups), bundles)
        boot_s = conf.boot_s if noted.boot_s is None else noted.boot_s
        ahead_s = ahead_at(noted.ahead_s, noted.at, noted.ready, self._clock.now())
        launched = self._launched(work, noted, ahead_s, boot_s) if self._launches else 0
        supply = self._supply(noted, launched, ahead_s, boot_s)
        p50_s, p90_s = rules.times_s(work, supply)
        usd_a_machine_s = conf.instance_usd_per_hour / 3600
        usd_a_slot_s = usd_a_machine_s / conf.slots
        usd = rules.calls_usd(work, p50_s) + work.slot_s * usd_a_slot_s
        slots = supply.ready + supply.coming
        used = min(slots, sum(g.tasks * g.slots_each for g in work.groups))
        quote = Quote(
            min(p50_s, ENDLESS_S),
            min(p90_s, ENDLESS_S),
            usd,
            math.ceil(used / conf.slots - 1e-9),
            usd_a_slot_s * (work.slot_s / work.busy_s if work.busy_s else 1.0),
        )
        idle_usd = rules.idle_usd(work, supply, launched, conf.idle_s, usd_a_machine_s)
        return Expected(rules.kept(quote), idle_usd, launched, supply)

    def _weighed(self, group: TaskGroup, noted: Noted) -> TaskGroup:
        most = noted.limits.get(group.name.partition(":")[0])
        return replace(group, slots_each=max(1.0, self._conf.slots / most)) if most else group

    def _launched(self, work: Work, noted: Noted, ahead_s: float, boot_s: float) -> int:
        """The machines that the provisioner would launch for the batch, by its own policy."""
        conf = self._conf
        loads = [KindLoad(g.name, g.tasks, 0, g.mean_s, g.slots_each) for g in work.groups]
        if ahead_s:
            loads.append(KindLoad("ahead", ahead_s, 0, 1.0))
        live = max(0, noted.ready - noted.static) // conf.slots
        booting = max(0, noted.slots - noted.ready) // conf.slots
        machines = [Machine(f"live-{n}", MachineState.LIVE, boot_s) for n in range(live)]
        machines += [Machine(f"new-{n}", MachineState.BOOTING, 0.0) for n in range(booting)]
        seen = Observation(
            loads,
            machines,
            limits_of(conf),
            boot_s,
            conf.idle_s,
            static_slots=noted.static,
        )
        return decide(self._policy, seen).launch

    def _supply(self, noted: Noted, launched: int, ahead_s: float, boot_s: float) -> Supply:
        conf = self._conf
        if noted.machines or noted.static:
            wait_s = conf.look_s / 2
        else:
            wait_s = NUDGED_S if conf.nudge else TICK_S / 2
        booting = max(0, noted.slots - noted.ready)
        coming = launched * conf.slots + booting
        if not coming:
            return Supply(noted.ready, ahead_s=ahead_s)
        begun_at = self._clock.now() if noted.booting_at is None else noted.booting_at
        left_s = max(LAST_STEPS * boot_s, begun_at + boot_s - self._clock.now())
        begun_s = (launched * conf.slots * (wait_s + boot_s) + booting * left_s) / coming
        spread_s = (
            math.hypot(BOOT_SPREAD * boot_s, wait_s / math.sqrt(3)) if launched else boot_s / 3
        )
        return Supply(noted.ready, coming, begun_s, spread_s, ahead_s)
