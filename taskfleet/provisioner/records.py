"""The words of provisioning and their recorded form: demand, workers, instances, and what the
provisioner remembers from one round to the next. Owns no decision
(`taskfleet.provisioner.policy`).

Times are epoch seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from taskfleet.pace import Pace
from taskfleet.ports import QueueDepth


class KindDemand(msgspec.Struct, frozen=True, array_like=True):
    """All tasks of one kind that were ever submitted.

    tasks: how many there are.
    known: how many of them have a kind that says beforehand how long they take.
    known_s: expected seconds of those `known` tasks together.
    """

    tasks: int = 0
    known: int = 0
    known_s: float = 0.0

    def __add__(self, other: KindDemand) -> KindDemand:
        return KindDemand(
            self.tasks + other.tasks, self.known + other.known, self.known_s + other.known_s
        )

    def __sub__(self, other: KindDemand) -> KindDemand:
        return KindDemand(
            self.tasks - other.tasks, self.known - other.known, self.known_s - other.known_s
        )


class Demand(msgspec.Struct, frozen=True, omit_defaults=True):
    """Running totals of everything that was ever put on the queue. Tasks that end are not
    subtracted: what waits is about the newest part of the totals, so they never need correction.

    high: those of the `messages` that are of high priority.
    watched: how often the provisioner was asked to watch a batch (`FleetRecords.watch`).
    """

    batches: int = 0
    messages: int = 0
    kinds: dict[str, KindDemand] = {}
    high: int = 0
    watched: int = 0

    @property
    def tasks(self) -> int:
        return sum(kind.tasks for kind in self.kinds.values())

    def __add__(self, other: Demand) -> Demand:
        return Demand(
            self.batches + other.batches,
            self.messages + other.messages,
            {
                name: self.kinds.get(name, KindDemand()) + other.kinds.get(name, KindDemand())
                for name in {**self.kinds, **other.kinds}
            },
            self.high + other.high,
            self.watched + other.watched,
        )

    def since(self, earlier: Demand) -> Demand:
        """What came after `earlier`, an older reading of the same totals."""
        kinds = {
            name: kind - earlier.kinds.get(name, KindDemand()) for name, kind in self.kinds.items()
        }
        return Demand(
            self.batches - earlier.batches,
            self.messages - earlier.messages,
            {name: kind for name, kind in kinds.items() if kind.tasks > 0},
            self.high - earlier.high,
            self.watched - earlier.watched,
        )


class Noted(msgspec.Struct, frozen=True):
    """The fleet as the provisioner last noted it beside the totals of demand, for whoever submits.

    machines: all that are there or on their way.
    slots: slots of machines and static workers that are there to stay or on their way.
    ready, static: those of them whose worker is there, and those on no machine of the fleet.
    boot_s: learned seconds from launch to the start of the worker; None before any boot was seen.
    ahead_s: expected slot-seconds of the work that waited or ran at the time `at`.
    limits: most tasks of a kind that one worker runs at a time, for kinds with fewer than all
        slots.
    booting_at: launch of the newest machine that boots; None if none does.
    """

    machines: int
    slots: int
    ready: int = 0
    static: int = 0
    boot_s: float | None = None
    ahead_s: float = 0.0
    at: float = 0.0
    limits: dict[str, int] = {}
    booting_at: float | None = None


class WorkerRecord(
    msgspec.Struct,
    frozen=True,
    # Workers of earlier versions write these names; one stage may have both for a while.
    rename={"reported_at": "beat_at", "finds_queue_empty": "hungry"},
):
    """A worker's report about itself, made about every `Settings.beat_s`.

    running: tasks in its slots, by kind.
    pending: tasks of claimed bundles that wait for a slot, by kind.
    limits: most tasks of a kind that it runs at a time, for kinds with fewer than all slots.
    bundles: bundles that it has claimed since its start.
    finds_queue_empty: it has room for more work, and its polls bring none.
    leaving: it drains and will end.
    signed_off: it has ended, and this is its last report.
    versions: its versions of Python (`python`, as `3.11`) and of some packages, by name.
    ended: tasks that have ended since its start, in bundles whose results it recorded.
    """

    worker_id: str
    instance_id: str | None
    slots: int
    kinds: list[str]
    started_at: float
    reported_at: float
    running: dict[str, int] = {}
    pending: dict[str, int] = {}
    limits: dict[str, int] = {}
    bundles: int = 0
    finds_queue_empty: bool = False
    leaving: bool = False
    versions: dict[str, str] = {}
    ended: int = 0
    signed_off: bool = False

    @property
    def busy(self) -> int:
        """Tasks that it has in hand."""
        return sum(self.running.values()) + sum(self.pending.values())


class InstanceState(StrEnum):
    """The state of an EC2 instance, as far as it matters here."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "shutting-down"
    """Shutting down, stopping or stopped."""


class Instance(msgspec.Struct, frozen=True):
    """An EC2 instance of the stage that is not gone. `marked_at` is the time of its first
    strike."""

    instance_id: str
    state: InstanceState
    launched_at: float
    instance_type: str
    spot: bool = False
    marked_at: float | None = None


class Shortage(StrEnum):
    """Why EC2 launched fewer machines than asked for."""

    NO_CAPACITY = "no capacity"
    QUOTA = "quota"
    REFUSED = "refused"
    """EC2 rejected the request itself."""
    NO_ANSWER = "no answer"
    """The outcome is unknown: the machines may have been launched."""


class Launch(msgspec.Struct, frozen=True):
    """The outcome of a launch: the machines that came, and why others did not."""

    instance_ids: list[str]
    shortage: Shortage | None = None
    detail: str = ""


class Reading(msgspec.Struct, frozen=True):
    """Everything that the provisioner reads in one round. `means_s` has the learned seconds of one
    task by kind, `paces` all that was learned of them and of the tasks of watched batches."""

    at: float
    depth: QueueDepth
    demand: Demand
    workers: Sequence[WorkerRecord]
    instances: Sequence[Instance]
    means_s: Mapping[str, float] = {}
    paces: Mapping[str, Pace] = {}


# --- what the provisioner remembers ---------------------------------------------------------


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """The totals at one time. `started` counts the messages that workers were ever seen to
    claim."""

    at: float
    demand: Demand
    started: float


class Intent(msgspec.Struct, frozen=True):
    """A launch that was decided and whose outcome is not recorded, so it may have happened. The
    provisioner asks for it again with the same token and count, which EC2 takes for the same
    launch."""

    token: str
    count: int
    at: float


class Trouble(msgspec.Struct, frozen=True):
    """The last launch that fell short. `failures` counts such launches in a row; the next try is
    due at `retry_at`."""

    shortage: Shortage
    detail: str
    at: float
    failures: int
    retry_at: float


class BootFailures(msgspec.Struct, frozen=True):
    """Machines in a row that ended, or grew old, before their worker reported
    (`taskfleet.provisioner.boots`).

    awaited: when the machines were launched whose worker may yet report, by id.
    count: how many failed since a worker last reported for the first time.
    probes: how many of them were launched one at a time, to see whether boots work again.
    counted_at: when the last of them was counted.
    good_at: launch of the newest machine whose worker ever reported.
    newest: id of the last machine that failed; empty when there is none.
    last_step: the last step of its boot, as its console tells it; empty when unknown.
    """

    awaited: dict[str, float] = {}
    count: int = 0
    probes: int = 0
    counted_at: float = 0.0
    good_at: float = 0.0
    newest: str = ""
    last_step: str = ""


class Round(msgspec.Struct, frozen=True):
    """One round of the provisioner, as a person reads it. `ended` and `retired` hold machine
    ids."""

    at: float
    desired: int
    launched: int
    ended: list[str]
    retired: list[str]
    reason: str


class Group(msgspec.Struct, frozen=True):
    """The machines in one state (`taskfleet.provisioner.policy.MachineState`)."""

    count: int
    oldest_at: float
    newest_at: float


class Watched(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch with a deadline or a budget, as the provisioner remembers it until the batch ends.

    kinds: its tasks on the queue by the name of their pace (`Registry.pace_name`). A part that was
        enqueued twice counts twice, so only proportions are taken from it.
    machines_usd: dollars of machines that were put down to it.
    at_risk: why it will miss its deadline or its budget; empty if it will not.
    """

    kinds: dict[str, KindDemand] = {}
    machines_usd: float = 0.0
    at_risk: str = ""

    @property
    def tasks(self) -> int:
        return sum(kind.tasks for kind in self.kinds.values())


class FleetState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the provisioner remembers of one stage.

    revision: counts the writes. A writer that read an older revision has lost and writes nothing.
    desired, wanted: machines within and without the limits.
    groups: the machines by state.
    static_slots: slots of workers that run on no machine of the fleet.
    never_reported: machines that have run for long without a report of their worker.
    booted: machines whose boot time was learned.
    claimed: bundles claimed by each worker, as last reported.
    unlisted: when machines were launched that EC2 may not list yet, by id.
    ended: tasks that each worker has ended, as last reported.
    ended_since: tasks that ended since the last point of the history.
    pointed_at: when that point was made.
    watched: the batches with a deadline or a budget that have not ended, by id.
    watched_to: `Demand.watched` when they were last read.
    other_tasks: tasks of all other batches, as last estimated; kept while `watched` has any.
    ahead_s, ahead_at: as last noted (`Noted`).
    limits: as in `Noted`, of the workers seen last.
    """

    revision: int = 0
    last_round_at: float = 0.0
    desired: int = 0
    wanted: int = 0
    groups: dict[str, Group] = {}
    static_slots: int = 0
    never_reported: int = 0
    over_budget: bool = False
    surplus_since: float | None = None
    boot_s: float | None = None
    booted: list[str] = []
    boot_failures: BootFailures = BootFailures()
    cost_usd: float = 0.0
    usd_per_hour: float = 0.0
    history: list[Snapshot] = []
    claimed: dict[str, int] = {}
    unlisted: dict[str, float] = {}
    ended: dict[str, int] = {}
    ended_since: int = 0
    pointed_at: float = 0.0
    ahead_s: float = 0.0
    ahead_at: float = 0.0
    limits: dict[str, int] = {}
    intent: Intent | None = None
    trouble: Trouble | None = None
    decisions: list[Round] = []
    watched: dict[str, Watched] = {}
    watched_to: int = 0
    other_tasks: float = 0.0

    @property
    def machines(self) -> int:
        """All machines that are there or on their way."""
        return sum(group.count for group in self.groups.values())

    @property
    def is_idle(self) -> bool:
        """Returns whether there is no work and no machine, no launch of unknown outcome and no
        watched batch."""
        return not (self.machines or self.wanted or self.unlisted or self.intent or self.watched)


DECISIONS_KEPT = 20
"""Most rounds in `FleetState.decisions`."""


def with_round(decisions: Sequence[Round], newest: Round) -> list[Round]:
    """The decisions with the newest, which replaces the last one if that said and did the same."""
    if decisions and replace(decisions[-1], at=newest.at) == newest:
        decisions = decisions[:-1]
    return [*decisions, newest][-DECISIONS_KEPT:]


def total_by_kind(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums of both, by kind."""
    return {kind: counts.get(kind, 0) + more.get(kind, 0) for kind in {**counts, **more}}
