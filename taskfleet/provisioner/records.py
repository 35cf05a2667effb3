"""The words of provisioning: demand, workers, instances, and what the provisioner remembers from
one look to the next. Owns their recorded form; not the decisions (`taskfleet.provisioner.policy`).

Times are epoch seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class KindDemand(msgspec.Struct, frozen=True, array_like=True):
    """Tasks of one kind that were ever handed in. `known_s` are the seconds of those `known`, whose
    kind says beforehand how long they take."""

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


class Demand(msgspec.Struct, frozen=True):
    """Running totals of all that was ever put on the queue. What waits is about the newest of
    it, whatever became of the rest, so these counts need never be mended."""

    batches: int = 0
    messages: int = 0
    kinds: dict[str, KindDemand] = {}

    @property
    def tasks(self) -> int:
        return sum(kind.tasks for kind in self.kinds.values())

    def __add__(self, other: Demand) -> Demand:
        kinds = dict(self.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds.get(name, KindDemand()) + kind
        return Demand(self.batches + other.batches, self.messages + other.messages, kinds)

    def since(self, earlier: Demand) -> Demand:
        """What came after `earlier`, an older reading of the same totals."""
        kinds = {
            name: kind - earlier.kinds.get(name, KindDemand()) for name, kind in self.kinds.items()
        }
        return Demand(
            self.batches - earlier.batches,
            self.messages - earlier.messages,
            {name: kind for name, kind in kinds.items() if kind.tasks > 0},
        )


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker as it tells of itself about every `beat_s`.

    running, pending: tasks by kind, in its slots and in hand before them. limits: tasks of a kind
    that it runs at a time, where that is fewer than its slots. bundles: claimed since its start.
    hungry: it has room, and its polls bring nothing.
    """

    worker_id: str
    instance_id: str | None
    slots: int
    kinds: list[str]
    started_at: float
    beat_at: float
    running: dict[str, int] = {}
    pending: dict[str, int] = {}
    limits: dict[str, int] = {}
    bundles: int = 0
    hungry: bool = False
    leaving: bool = False

    @property
    def busy(self) -> int:
        return sum(self.running.values()) + sum(self.pending.values())


class InstanceState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    ENDING = "shutting-down"
    """Stopping or stopped too: whatever is neither on its way up, up, nor gone."""


class Instance(msgspec.Struct, frozen=True):
    """An EC2 instance of the stage that is not gone. `marked_at`: the first strike."""

    instance_id: str
    state: InstanceState
    launched_at: float
    instance_type: str
    spot: bool = False
    marked_at: float | None = None


class Shortage(StrEnum):
    """Why EC2 gave fewer machines than asked for."""

    NO_CAPACITY = "no capacity"
    QUOTA = "quota"
    REFUSED = "refused"
    """For a reason that has nothing to do with what EC2 has to give."""
    NO_ANSWER = "no answer"
    """It may have happened all the same."""


class Launch(msgspec.Struct, frozen=True):
    """What came of asking for machines: those that came, and why others did not, if so."""

    instance_ids: list[str]
    shortage: Shortage | None = None
    detail: str = ""


# --- what the provisioner remembers ---------------------------------------------------------


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """`started`: messages that workers were seen to claim, in all."""

    at: float
    demand: Demand
    started: float


class Intent(msgspec.Struct, frozen=True):
    """A launch that was decided and whose outcome is not recorded: it may have happened. It is
    repeated with the same token and count, which EC2 takes for the same launch."""

    token: str
    count: int
    at: float


class Trouble(msgspec.Struct, frozen=True):
    """The last launch that fell short; `failures` in a row, and the next try not before
    `retry_at`."""

    shortage: Shortage
    detail: str
    at: float
    failures: int
    retry_at: float


class Look(msgspec.Struct, frozen=True):
    """One decision, as a person reads it."""

    at: float
    desired: int
    launched: int
    ended: list[str]
    retired: list[str]
    reason: str


class Group(msgspec.Struct, frozen=True):
    """Instances in one state (`taskfleet.provisioner.policy.MachineState`)."""

    count: int
    oldest_at: float
    newest_at: float


class FleetState(msgspec.Struct, frozen=True):
    """Of one stage. `revision` counts the writes: who writes over an older one than it read has
    lost, and does nothing. `fresh`: launched ids that EC2 may not list yet, with the time."""

    revision: int = 0
    looked_at: float = 0.0
    desired: int = 0
    wanted: int = 0
    groups: dict[str, Group] = {}
    static_slots: int = 0
    """Of workers that are no machine of the fleet."""
    unbeaten: int = 0
    """Machines that have run for long without a sign of their worker."""
    over_budget: bool = False
    surplus_since: float | None = None
    boot_s: float | None = None
    booted: list[str] = []
    cost_usd: float = 0.0
    usd_per_hour: float = 0.0
    history: list[Snapshot] = []
    claimed: dict[str, int] = {}
    fresh: dict[str, float] = {}
    intent: Intent | None = None
    trouble: Trouble | None = None
    decisions: list[Look] = []

    @property
    def machines(self) -> int:
        """All that are there or on their way."""
        return sum(group.count for group in self.groups.values())


def total_by_kind(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {kind: counts.get(kind, 0) + more.get(kind, 0) for kind in {**counts, **more}}
