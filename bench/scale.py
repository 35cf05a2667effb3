"""From one machine to 1,024, in virtual time: `python -m bench.scale [--quick]`.

Each machine has 16 slots and gets the same work for each slot, in tasks of one second: the shape of
2014's measurement, which ended at 16 workers. Efficiency is the ideal time over the time from the
first submission to the last counted result. Workers, cutting, claiming, settling, answering and
counting run the project's own code on queues and a table in memory. A call takes 10 ms in the
median; the table, the collectors and the readers of files have the capacities of
`bench.scale_cloud.Limits`.

Simulated: it says what the code's decisions cost at scale, not what a service does. Writes
`scale.csv` and `scale.png`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from matplotlib.axes import Axes

from bench import report
from bench.report import Row
from bench.scale_cloud import CALL_S, Capacity, Limits, Timeline
from bench.scale_worker import Shared, SimulatedWorker
from ec2_worker.parts import WorkerPorts
from taskfleet.aws.dynamodb.progress import COUNT_THREADS
from taskfleet.batch import PAGE_BUNDLES, BatchRecord, random_batch_id
from taskfleet.bundle import DEFAULT_SLOTS, Bundle, Response, bundle_number, job_id
from taskfleet.memory import MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.ports import CALL_MAX_MESSAGES, OutgoingMessage
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.plan import Planner
from taskfleet.settings import Settings
from taskfleet.task import Task
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.queues import encode_bundle

MACHINES = tuple(2**power for power in range(11))
TASK_S = 1.0
"""Length of a task, in seconds."""
TASKS_A_SLOT = 60
"""Tasks for each slot of the fleet."""
BATCHES = 4
"""Batches that the tasks come in, each of another client. One file is read by one function, which
puts fewer messages on the queue than a thousand machines take from it."""
SENT_AT_ONCE = 100
"""Messages that a feeder puts on the queue in one step of the simulation."""


class Stage:
    """A stage with so many machines, and `tasks_a_slot` tasks for each of their slots."""

    def __init__(self, machines: int, tasks_a_slot: int, limits: Limits) -> None:
        self.timeline = timeline = Timeline()
        self._limits = limits
        self._registry = Registry.load([])
        self._tasks = MemoryQueue(timeline)
        self._responses = MemoryQueue(timeline)
        self._monitor = MemoryMonitor(timeline)
        self.table = Capacity(timeline, limits.table_units)
        self.slots = machines * DEFAULT_SLOTS
        self.total = self.slots * tasks_a_slot
        self.bundles = 0
        self.counted = 0
        """Writes that counted answers."""
        self._collecting = 0
        self._open: set[str] = set()
        shared = Shared(
            timeline,
            WorkerPorts(self._tasks, self._responses, self._monitor, MemoryStore(), timeline),
            self._registry,
            Settings(),
            self.table,
            self._collect,
        )
        self._workers = [SimulatedWorker(shared, n, DEFAULT_SLOTS) for n in range(machines)]

    def run(self) -> float:
        """Submit the tasks and run until all results are counted. Returns the virtual seconds."""
        began_at = self.timeline.now()
        for number in range(BATCHES):
            share = range(number * self.total // BATCHES, (number + 1) * self.total // BATCHES)
            self._submit(f"client-{number}", len(share), number)
        for worker in self._workers:
            worker.start()
        self.timeline.run(until=lambda: not self._open)
        return self.timeline.now() - began_at

    # --- submitting ---

    def _submit(self, client_id: str, total: int, number: int) -> None:
        planner = Planner(self._registry, self._monitor, seen_slots=lambda: self.slots)
        tasks = [Task(index, "sleep", TASK_S * 1000) for index in range(total)]
        plan = planner.plan(tasks)
        bundles = planner.cut(tasks, plan)
        batch = BatchRecord(
            batch_id=random_batch_id(number.to_bytes(32, "big")),
            client_id=client_id,
            name=None,
            created_at=self.timeline.now(),
            total=total,
            bundles=len(bundles),
            payload_hash="",
            closed=True,
            enqueued=total,
            plan=plan,
        )
        self._monitor.create_batch(batch)
        self._open.add(batch.batch_id)
        self.bundles += len(bundles)
        self._feed(_messages(batch, bundles))

    def _feed(self, messages: Iterator[OutgoingMessage]) -> None:
        """Put the next messages on the queue, and the others in their time."""
        slice_ = list(islice(messages, SENT_AT_ONCE))
        self._tasks.send(slice_)
        if len(slice_) == SENT_AT_ONCE:
            pause_s = SENT_AT_ONCE / self._limits.feeder_messages_s
            self.timeline.after(pause_s, self._feed, messages)

    # --- counting ---

    def _collect(self) -> None:
        """Start as many collectors as there are answers for."""
        while self._collecting < self._limits.collectors:
            messages = self._responses.receive(CALL_MAX_MESSAGES, wait_s=0.0, visibility_s=180.0)
            if not messages:
                return
            self._collecting += 1
            bodies = {message.message_id: message.body for message in messages}
            self.timeline.after(self._count_s(bodies), self._count, bodies)
            self._responses.delete(messages)

    def _count_s(self, bodies: dict[str, str]) -> float:
        """Returns the seconds of a collector's call: for each batch a read, and a write for each
        page that the answers are on, `COUNT_THREADS` of them at a time."""
        pages: dict[str, set[int]] = {}
        for body in bodies.values():
            for response in decode_responses(body):
                if isinstance(response, Response):
                    page = bundle_number(response.job_id) // PAGE_BUNDLES
                    pages.setdefault(response.batch_id, set()).add(page)
        self.counted += sum(map(len, pages.values()))
        seconds = self.timeline.call_s() + self._limits.collector_cpu_s
        for of_batch in pages.values():
            rounds = -(-len(of_batch) // COUNT_THREADS)
            seconds += self.timeline.call_s() + (rounds - 1) * CALL_S
            seconds += self.table.call_s(len(of_batch))
        return seconds

    def _count(self, bodies: dict[str, str]) -> None:
        collect(bodies, self._monitor, self.timeline)
        self._collecting -= 1
        self._open = {
            batch_id
            for batch_id in self._open
            if (batch := self._monitor.batch(batch_id)) is not None and not batch.finished
        }
        self._collect()


def _messages(batch: BatchRecord, bundles: Sequence[list[Task]]) -> Iterator[OutgoingMessage]:
    for number, tasks in enumerate(bundles):
        bundle = Bundle(job_id(batch.batch_id, number), batch.client_id, batch.batch_id, tasks)
        yield OutgoingMessage(encode_bundle(bundle), group=batch.client_id)


def measured(machines: int, tasks_a_slot: int, limits: Limits) -> Row:
    """Run one point of the curve."""
    began = time.perf_counter()
    stage = Stage(machines, tasks_a_slot, limits)
    seconds = stage.run()
    return {
        "machines": machines,
        "slots": stage.slots,
        "tasks": stage.total,
        "bundles": stage.bundles,
        "seconds": seconds,
        "efficiency": tasks_a_slot * TASK_S / seconds,
        "tasks/s": stage.total / seconds,
        "bundles/s": stage.bundles / seconds,
        "write units/s": stage.table.used / seconds,
        "counts a bundle": stage.counted / stage.bundles,
        "took s": time.perf_counter() - began,
    }


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Plot efficiency over machines."""
    machines = [row["machines"] for row in rows]
    axes.plot(machines, [row["efficiency"] for row in rows], marker="o", label="simulated")
    axes.axhline(0.95, color="black", linewidth=0.6, linestyle="--", label="0.95")
    report.doubling_axis(axes, "machines of 16 slots", machines)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("efficiency")


def main() -> None:
    parser = report.parser("scale", __doc__, measured=False)
    options, _ = report.parsed(parser)
    machines = options.pick(MACHINES, MACHINES[::4])
    tasks_a_slot = options.pick(TASKS_A_SLOT, 20)
    rows = []
    for count in machines:
        rows.append(measured(count, tasks_a_slot, Limits()))
        print({key: report.formatted(value) for key, value in rows[-1].items()}, flush=True)
    written = [{key: value for key, value in row.items() if key != "took s"} for row in rows]
    report.show("Simulated fleets, tasks of one second", written, machine=False)
    report.write_csv(options.out / "scale.csv", written, machine=False, digits=4)
    title = "Efficiency of simulated fleets, 60 tasks of one second for each slot"
    report.plot(options.out / "scale.png", title, partial(draw, rows=rows))


if __name__ == "__main__":
    main()
