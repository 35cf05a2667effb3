"""What a worker of the model has in memory, as a value: so that a state can be kept, compared, and
gone on from. Owns the freezing and the thawing of the real worker's parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec.structs import replace

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.outbox import Letter
from ec2_worker.stragglers import Race
from taskfleet.ports import Message
from taskfleet.task import TaskResult
from tests.model.frozen import NOW, still
from tests.model.world import World
from tests.support.worker import HandWorker


class Memory(NamedTuple):
    """What a worker has in memory, frozen. Bundles and races are referred to by their places.

    bundles: claimed bundles, those included that are lost and still run.
    in_hand, ready: places of the bundles in hand, and of those that wait to be settled.
    races: of tasks that have or may get a second copy.
    chunks: what the slots run.
    letters: answers that are not sent yet.
    leaving: whether the worker drains.
    stopped: whether it has told its tasks to end.
    """

    bundles: tuple[Any, ...] = ()
    in_hand: tuple[int, ...] = ()
    ready: tuple[int, ...] = ()
    races: tuple[Any, ...] = ()
    chunks: tuple[Any, ...] = ()
    letters: tuple[Any, ...] = ()
    leaving: bool = False
    stopped: bool = False


EMPTY = Memory()
"""The memory of a worker that has just started."""


class _Chunks(dict[Chunk, None]):
    """A set that keeps its order."""

    add = dict.setdefault

    def remove(self, chunk: Chunk) -> None:
        del self[chunk]


def recall(hand: HandWorker, world: World, memory: Memory) -> None:
    """Make `memory` the worker's own."""
    workload = hand.workload
    bundles = [_bundle(world, each) for each in memory.bundles]
    workload._in_hand = {bundles[i].bundle.job_id: bundles[i] for i in memory.in_hand}
    hand.ready[:] = [bundles[i] for i in memory.ready]
    races = []
    for of, copied, winner, stops in memory.races:
        race = Race(bundles[of].stopping)
        race.copied, race._winner = copied, winner
        for is_copy, stopped in zip((False, True), stops, strict=True):
            if stopped:
                race.stop_of(is_copy=is_copy).stop()
        races.append(race)
    workload._chunks = _Chunks()  # type: ignore[assignment]
    workload._running.clear()
    for of, indexes, race_of, is_copy in memory.chunks:
        claimed = bundles[of]
        tasks = [task for task in claimed.bundle.tasks if task.index in indexes]
        race = None if race_of is None else races[race_of]
        chunk = Chunk(claimed, tasks[0].kind, tasks, None, NOW, race, is_copy)
        workload._chunks.add(chunk)
        workload._running[chunk.kind] += 1
    hand.outbox._letters = deque(
        Letter(response, message(world, *of), poison, failures)
        for response, of, poison, failures in memory.letters
    )
    hand.outbox._flushing = 0
    workload._starting = not memory.leaving
    workload._paces, workload._incoming[False] = {}, 0
    hand.watch._seen = {}
    hand.heartbeat._watched_at, hand.heartbeat._storing = NOW, None
    hand.lost.clear()


def message(world: World, number: int, handle: str) -> Message:
    """Returns a delivery of the message of a bundle."""
    return Message(str(number), handle, world.bodies[number], 1, sent_at=NOW)


def _bundle(world: World, frozen: tuple[Any, ...]) -> ClaimedBundle:
    number, handle, lease, prior, results, running, pending, taken, last, flags, poison = frozen
    bundle = world.bundles[number]
    claimed = ClaimedBundle(bundle, message(world, number, handle), lease, (), NOW)
    claimed.prior = {row.index: row for row in prior}
    claimed.results = {row.index: row for row in results}
    claimed.running = {row.index: row for row in running}
    by_index = {task.index: task for task in bundle.tasks}
    claimed.pending = deque(by_index[index] for index in pending)
    # It follows from the tasks, so it need not be kept.
    expected_s = world.registry.expected_s(bundle.tasks)
    claimed.expected_s = dict(zip(by_index, expected_s, strict=True))
    claimed.taken, claimed.last_chances, claimed.poison = taken, set(last), poison
    *known, stopped = flags
    claimed.has_news, claimed.leaving, claimed.settling, claimed.released, claimed.lost = known
    if stopped:
        claimed.stopping.stop()
    return claimed


def remembered(hand: HandWorker, *, stopped: bool) -> Memory:
    """Returns what the worker has in memory. `stopped` is whether its tasks were told to end."""
    workload = hand.workload
    chunks = sorted(workload._chunks, key=lambda c: (c.tasks[0].index, c.is_copy, c.claimed.lost))
    bundles: list[ClaimedBundle] = []
    races: list[Race] = []
    for claimed in (*workload._in_hand.values(), *hand.ready, *(c.claimed for c in chunks)):
        if claimed not in bundles:
            bundles.append(claimed)
    owners = []
    for chunk in chunks:
        if chunk.race is not None and chunk.race not in races:
            races.append(chunk.race)
            owners.append(bundles.index(chunk.claimed))
    return Memory(
        tuple(_frozen(each) for each in bundles),
        tuple(bundles.index(each) for each in workload._in_hand.values()),
        tuple(bundles.index(each) for each in hand.ready),
        tuple(
            (
                *(of, race.copied, race._winner),
                tuple(race.stop_of(is_copy=c).event.is_set() for c in (False, True)),
            )
            for of, race in zip(owners, races, strict=True)
        ),
        tuple(
            (
                bundles.index(chunk.claimed),
                tuple(task.index for task in chunk.tasks),
                None if chunk.race is None else races.index(chunk.race),
                chunk.is_copy,
            )
            for chunk in chunks
        ),
        tuple(
            (
                letter.response,
                (int(letter.message.message_id), letter.message.receipt_handle),
                *(letter.poison, letter.failures),
            )
            for letter in hand.outbox._letters
        ),
        not workload._starting,
        stopped,
    )


def _frozen(claimed: ClaimedBundle) -> tuple[Any, ...]:
    lease = replace(claimed.lease, expires_at=still(claimed.lease.expires_at))
    return (
        int(claimed.message.message_id),
        claimed.message.receipt_handle,
        lease,
        _rows(claimed.prior.values()),
        _rows(claimed.results.values()),
        _rows(claimed.running.values()),
        tuple(task.index for task in claimed.pending),
        claimed.taken,
        tuple(sorted(claimed.last_chances)),
        (
            *(claimed.has_news, claimed.leaving, claimed.settling, claimed.released),
            *(claimed.lost, claimed.stopped.is_set()),
        ),
        claimed.poison,
    )


def _rows(rows: Iterable[TaskResult]) -> tuple[TaskResult, ...]:
    """The rows by index. How long a task took by the real clock is left out."""
    fixed = (row if row.duration_s is None else replace(row, duration_s=0.0) for row in rows)
    return tuple(sorted(fixed, key=lambda row: row.index))
