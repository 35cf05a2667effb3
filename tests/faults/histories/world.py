"""A stage on memory adapters, in which every process is the real code and takes its steps one at a
time: workers, and the functions that serve requests, count responses, read files and submit what is
scheduled. Owns their steps; not the faults (`tests.faults.histories.ports`), the
client (`tests.faults.histories.client`) nor what must hold (`tests.faults.histories.judge`).
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.bundle import Bundle
from taskfleet.errors import TaskfleetError, TransientError
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.queues import decode_bundle, decode_upload
from tests.faults.histories.client import CLIENT, Client, Request
from tests.faults.histories.kinds import kinds
from tests.faults.histories.ports import Died, Process, RoughCloud
from tests.faults.histories.processes import Function, Worker

FUNCTIONS, WORKERS = 3, 3
VISIBILITY_S = 30.0
QUIET = 0
"""The luck of a step without faults."""


class World:
    """The stage.

    seed: of the order of deliveries and of everything that the processes choose at random.
    offsets_s: how wrong the clocks of the functions and the workers are, in seconds.
    """

    def __init__(self, seed: int, offsets_s: Sequence[float]) -> None:
        self.rng = random.Random(seed)
        self.offsets_s = offsets_s
        self.fired: Counter[tuple[str, str]] = Counter()
        self.late: list[Callable[[], Any]] = []
        self.landed: set[str] = set()
        """Batches whose record took effect late."""
        self.faults: list[tuple[str, str]] = []
        """What was found against the promises: (lost, doubled or wrong; words)."""
        self.told: list[str] = []
        """The faults that took place."""
        self.answered: set[str] = set()
        self.deaths = 0
        self.runs = 0
        self._killed = False
        self._choice = 0
        self.cloud = RoughCloud(self.rng, self._sent, self.faults)
        self.registry = Registry(kinds(self._kill, self._ran))
        put = self.cloud.store.put
        self.client = Client(lambda key, data: put(key, data, content_type="text/plain"))
        self.functions = [self._function(n) for n in range(FUNCTIONS)]
        self.workers = [self._worker(n) for n in range(WORKERS)]

    # --- processes ---

    def _process(self, name: str, place: int) -> Process:
        offset_s = self.offsets_s[place % len(self.offsets_s)]
        return Process(name, self.cloud, offset_s, self.fired, self.late, self._meanwhile)

    def _function(self, place: int) -> Function:
        return Function(self._process(f"f{place}", place), self.registry, self.rng)

    def _worker(self, place: int) -> Worker:
        process = self._process(f"w{place}", FUNCTIONS + place)
        return Worker(process, self.registry, self.rng)

    def bury(self, process: Process) -> None:
        """Start a new process in place of one that ended."""
        self.deaths += 1
        for place, function in enumerate(self.functions):
            if function.process is process:
                self.functions[place] = self._function(place)
        for place, worker in enumerate(self.workers):
            if worker.process is process:
                self.workers[place] = self._worker(place)

    def take(self, process: Process, luck: int, step: Callable[[], Any]) -> Any:
        """Let a process take a step. Returns what the step returns; None if it failed or the
        process ended."""
        try:
            return process.turn(luck, step)
        except Died:
            self.bury(process)
        except TransientError:
            pass  # all that the step received comes again
        finally:
            self.told += process.told
        return None

    def _meanwhile(self, paused: Process) -> None:
        """Let another process take a turn while one is paused, or let time pass."""
        self._choice += 1
        functions = [each for each in self.functions if not each.process.busy]
        workers = [each for each in self.workers if not each.process.busy]
        choice = self.rng.randrange(6)
        if choice == 0 or not functions or not workers:
            self.cloud.clock.sleep(65)
        elif choice == 1:
            self.work(workers[0], QUIET)
        elif choice == 2:
            self.collect(functions[0], QUIET)
        elif choice == 3:
            self.read(functions[0], QUIET)
        elif choice == 4 and self.client.orders:
            order = self.rng.choice(list(self.client.orders.values()))
            self.ask(functions[0], self.client.cancel(order, patient=False), QUIET)
        elif self.client.unanswered:
            self.ask(functions[0], self.rng.choice(self.client.unanswered), QUIET)

    # --- what the kinds and queues tell ---

    def _kill(self) -> None:
        self._killed = True

    def _ran(self) -> None:
        self.runs += 1

    def _sent(self, messages: Sequence[OutgoingMessage]) -> None:
        """Note a bundle that is sent while its batch waits for another."""
        for message in messages:
            bundle = decode_bundle(message.body)
            if not isinstance(bundle, Bundle):
                continue
            batch = self.cloud.monitor.batch(bundle.batch_id)
            for each in () if batch is None else batch.after:
                before = self.cloud.monitor.batch(each)
                if before is None or not before.finished:
                    self.faults.append(("wrong", f"{bundle.job_id} went before {each} had ended"))

    # --- steps of functions ---

    def ask(self, to: Function, request: Request, luck: int) -> None:
        """Make a request, for the first time or again."""
        if request not in self.client.unanswered:
            return
        order = request.order

        def step() -> bool:
            try:
                answer = request.send(to.services)
            except request.refusals:
                request.refused()
                return True
            except TransientError:
                return False
            except TaskfleetError as error:
                self.faults.append(("wrong", f"a request was refused: {error}"))
                return True
            request.then(answer)
            return True

        done = self.take(to.process, luck, step)
        if not done and not request.patient and order is not None:
            order.given_up = True
        if (done or not request.patient) and request in self.client.unanswered:
            self.client.unanswered.remove(request)

    def collect(self, by: Function, luck: int) -> None:
        """Count responses, as the queue's handler does."""
        queue, services = self.cloud.responses, by.services
        messages = queue.receive(10, wait_s=0, visibility_s=VISIBILITY_S)
        bodies = {each.message_id: each.body for each in messages}
        self.answered |= {
            answer.job_id for each in messages for answer in decode_responses(each.body)
        }

        def step() -> bool:
            collect(bodies, services.monitor, services.clock, ended=services.ended)
            return True

        if messages and self.take(by.process, luck, step):
            queue.delete(messages)

    def read(self, by: Function, luck: int, seconds: float = 99.0) -> None:
        """Read on in a file, as the handler of the queue of files does. With few `seconds`, a run
        ends after one part."""
        queue = self.cloud.uploads
        messages = queue.receive(1, wait_s=0, visibility_s=VISIBILITY_S)

        def step() -> bool:
            for each in messages:
                wanted = decode_upload(each.body)
                by.services.expansion.expand(
                    wanted.batch_id,
                    lambda: seconds,
                    ended=wanted.ended,
                    again=each.receive_count > 1,
                )
            return True

        if messages and self.take(by.process, luck, step):
            queue.delete(messages)

    def tick(self, by: Function, luck: int) -> None:
        """Submit what is scheduled, as the tick of each minute does."""
        self.take(by.process, luck, lambda: by.services.schedules.submit_due(lambda: 20.0))

    def look(self, by: Function, batch_id: str, luck: int) -> None:
        """Ask for a batch's status, which settles what was left behind."""
        if self.cloud.monitor.batch(batch_id) is not None:
            self.take(
                by.process,
                luck,
                lambda: by.services.results.status(batch_id, client_id=CLIENT),
            )

    # --- steps of workers ---

    def step_worker(self, worker: Worker, what: str, luck: int) -> None:
        """Let a worker take one of its steps."""
        steps: dict[str, Callable[[], Any]] = {
            "poll": lambda: self._poll(worker),
            "start": lambda: self._start(worker),
            "finish": lambda: self._finish(worker),
            "settle": worker.hand.settle,
            "flush": worker.hand.outbox.flush,
            "beat": worker.hand.heartbeat.beat,
            "end": lambda: self._end(worker),
            "work": lambda: self._work(worker),
            "drain": lambda: self._drain(worker),
        }
        self.take(worker.process, luck, steps[what])

    def work(self, worker: Worker, luck: int) -> None:
        """Let a worker take all steps, until there is nothing to run now."""
        self.step_worker(worker, "work", luck)

    def _poll(self, worker: Worker) -> None:
        with contextlib.suppress(TransientError):  # the intake's thread polls again
            worker.hand.poll()

    def _start(self, worker: Worker) -> None:
        if len(worker.slots) < worker.hand.workload.threads:
            chunk = worker.hand.take()
            if chunk is not None:
                worker.slots.append(chunk)

    def _finish(self, worker: Worker) -> None:
        if worker.slots:
            worker.hand.finish(worker.slots.pop(self.rng.randrange(len(worker.slots))))
            if self._killed:
                self._killed, worker.process.dead = False, True
                raise Died

    def _flush(self, worker: Worker) -> None:
        for _ in range(20):
            if not worker.hand.outbox.pending():
                return
            worker.hand.outbox.flush()

    def _end(self, worker: Worker) -> None:
        """Finish what the slots have, settle and answer."""
        while worker.slots:
            self._finish(worker)
        worker.hand.settle()
        self._flush(worker)

    def _work(self, worker: Worker) -> None:
        for _ in range(20):
            self._poll(worker)
            self._start(worker)
            idle = not worker.slots
            while worker.slots:
                self._finish(worker)
                self._start(worker)
            worker.hand.settle()
            self._flush(worker)
            if idle:
                return

    def _drain(self, worker: Worker) -> None:
        """Stop starting tasks, finish those that run, answer, and leave."""
        worker.hand.ready += worker.hand.workload.stop_starting()
        self._end(worker)
        worker.process.dead = True
        raise Died

    def arrive(self, count: int) -> None:
        """Let the first calls that are on their way take effect. Nobody hears their answers."""
        arrived, self.late[:] = self.late[:count], self.late[count:]
        known = set(self.cloud.monitor._batches)
        for call in arrived:
            with contextlib.suppress(TaskfleetError):
                call()
        self.landed |= self.cloud.monitor._batches.keys() - known
