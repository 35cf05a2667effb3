"""Careful bundles in a worker (`taskfleet.lease`): whose turn it is, and what may run beside it.
Owns the rules, which are pure; `ec2_worker.workload` applies them under its lock, and the notes
belong to `ec2_worker.heartbeat`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ec2_worker.claimed import Chunk, ClaimedBundle


@dataclass(frozen=True)
class Turn:
    """The careful bundle whose turn it is, None if there is none, and whether it needs the whole
    worker. Other careful bundles wait until it has left the hand: if the worker is lost meanwhile,
    none but its running task is charged."""

    bundle: ClaimedBundle | None
    alone: bool

    def may_start(self, claimed: ClaimedBundle, running: Collection[Chunk]) -> bool:
        """Returns whether a pending task of the bundle may start beside what runs."""
        if claimed is self.bundle:
            return not (running if self.alone else claimed.taken)
        return not (claimed.careful or self.alone)


def turn(in_hand: Iterable[ClaimedBundle], running: Iterable[Chunk]) -> Turn:
    """Returns whose turn it is. The bundle needs the whole worker while its task that runs, or else
    the next one, would fail if the worker were lost: no task of another bundle may then be what
    costs the worker."""
    bundle = next((claimed for claimed in in_hand if claimed.careful), None)
    if bundle is None:
        return _NOBODY
    task = next((chunk.tasks[0] for chunk in running if chunk.claimed is bundle), None)
    if task is None and bundle.pending and not bundle.leaving:
        task = bundle.pending[0]
    return Turn(bundle, task is not None and task.index in bundle.last_chances)


_NOBODY = Turn(None, False)
