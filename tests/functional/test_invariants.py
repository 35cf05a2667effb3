"""The guarantees of the protocol under all faults at once: calls that fail before or after they
take effect, workers that die, drain or stall, tasks that kill their worker, messages that arrive
twice or late, clocks that jump.

Each seed is one random history of a small fleet, run step by step on one thread. A failing seed
therefore fails every time.
"""

import contextlib
import itertools
import os
import random
from collections import Counter

import pytest

from ec2_worker.output import unnamed_file
from taskfleet.errors import PermanentError, TransientError
from taskfleet.lease import BundleStatus
from taskfleet.options import BatchOptions
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.collect import collect
from taskfleet.task import TaskStatus
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.queues import decode_bundle, encode_bundle
from tests.support.worker import Cloud, HandWorker, Recorder, failing_kind, thread_kind

STEPS = 400


class History:
    def __init__(self, seed, *, with_killers=False):
        self.with_killers = with_killers
        self.rng = random.Random(seed)
        self.cloud = Cloud()
        self.recorder = Recorder()
        self.registry = Registry(
            [
                sleep,
                self.recorder.kind(expected_s=lambda params: self.rng.choice([0.0, 0.5, None])),
                failing_kind("gone", lambda: PermanentError("404"), expected_s=lambda p: 0.1),
                thread_kind("killer", self.kill, expected_s=lambda params: 0.001),
            ]
        )
        self.killed = False
        self.killers = set()
        self.fault_rate = self.rng.choice([0.0, 0.05, 0.2])
        self.charges_exact = self.fault_rate == 0  # else a note may be written and its reply lost
        self.bodies = []
        self.answered = set()
        self.accepted = {}
        self.cancelled = set()
        self.workers = []
        self.slots = {}
        self.source = unnamed_file(appended=False)
        self.printed = {}
        self.logs_seen = 0
        for _ in range(3):
            self.hire()

    def __del__(self):
        os.close(self.source)

    def fault(self, _name):
        if self.rng.random() >= self.fault_rate:
            return None
        return self.rng.choice(["before", "after"])

    def hire(self):
        worker = HandWorker(
            self.cloud,
            self.registry,
            threads=self.rng.choice([1, 4]),
            worker_id=f"w-{self.rng.getrandbits(32):08x}",
            rng=self.rng,
            fault=self.fault,
        )
        self.workers.append(worker)
        self.slots[worker] = []

    def fire(self, worker):
        self.workers.remove(worker)
        del self.slots[worker]
        self.hire()

    def kill(self, _params, _context):
        self.killed = True

    def print(self, chunk):
        """Have a task of the chunk print a line, as a runner would."""
        claimed, task = chunk.claimed, self.rng.choice(chunk.tasks)
        name = (claimed.lease.owner, claimed.bundle.batch_id, task.index)
        text = self.printed.get(name, b"") + repr(name).encode() * self.rng.randint(1, 90)
        self.printed[name] = text
        os.ftruncate(self.source, 0)
        os.pwrite(self.source, text, 0)
        now = self.cloud.clock.now()
        claimed.output.keep_running(task.index, self.source, 0, len(text), now)

    def outputs_are_their_own(self, job_id):
        """Whatever a row says a task printed is what it printed in one claim, up to some moment."""
        batch_id = job_id.rpartition(":")[0]
        seen = 0
        for record in self.cloud.monitor.bundles([job_id]):
            for row in record.results:
                if row.log is not None:
                    key, offset, length, _ = row.log
                    owner = key.rpartition("/")[2]
                    text = self.cloud.store.get(key)[offset : offset + length]
                    (whole,) = [
                        text
                        for (who, *task), text in self.printed.items()
                        if who.replace("/", "-") == owner and task == [batch_id, row.index]
                    ]
                    assert text == whole[:length]
                    seen += 1
        return seen

    # --- steps ---

    def submit(self):
        count = self.rng.randint(1, 12)
        tasks = [
            self.rng.choice(
                ["record", "gone", "sleep 0", {"kind": "record", "params": {"fail": 2}}]
            )
            for _ in range(count)
        ]
        if self.with_killers and self.rng.random() < 0.3:
            tasks[self.rng.randrange(count)] = "killer"
        options = BatchOptions(priority="high") if count % 3 == 0 else None
        batch_id = self.cloud.submit(self.registry, tasks, options=options)
        self.killers |= {(batch_id, index) for index, task in enumerate(tasks) if task == "killer"}
        self.accepted[batch_id] = count
        self.remember_messages()

    def remember_messages(self):
        queues = (self.cloud.tasks, self.cloud.high)
        for group in itertools.chain(*(queue._ready.values() for queue in queues)):
            self.bodies += [entry.body for entry in group if entry.body not in self.bodies]

    def send_again(self):
        if self.bodies:
            self.cloud.tasks.send([OutgoingMessage(self.rng.choice(self.bodies))])

    def cancel(self):
        if self.accepted and self.rng.random() < 0.1:
            batch_id = self.rng.choice(list(self.accepted))
            self.cloud.monitor.cancel_batch(batch_id, self.cloud.clock.now())
            self.cancelled.add(batch_id)

    def pass_time(self):
        self.cloud.clock.sleep(self.rng.choice([0.1, 1, 5, 9, 35]))

    def collect(self):
        """Collect as the queue handler does. If it fails after counting, all messages are delivered
        again."""
        messages = self.cloud.responses.receive(10, wait_s=0, visibility_s=30)
        self.rng.shuffle(messages)
        collect({m.message_id: m.body for m in messages}, self.cloud.monitor, self.cloud.clock)
        self.answered |= {each.job_id for m in messages for each in decode_responses(m.body)}
        if self.rng.random() >= self.fault_rate:
            self.cloud.responses.delete(messages)

    def finish(self, worker, chunk):
        """Run a chunk. Returns whether the worker lived; else nothing more of it is seen."""
        worker.finish(chunk)
        lived, self.killed = not self.killed, False
        if not lived:
            self.fire(worker)
        return lived

    def act(self, worker):
        step = self.rng.choice(
            [
                *("poll", "take", "finish", "finish", "settle"),
                *("flush", "beat", "print", "die", "drain"),
            ]
        )
        taken = self.slots[worker]
        if step == "poll":
            with contextlib.suppress(TransientError):  # The intake's thread polls again.
                worker.poll()
        elif step == "take" and len(taken) < worker.workload.threads:
            chunk = worker.take()
            if chunk is not None:
                taken.append(chunk)
        elif step == "finish" and taken:
            self.finish(worker, taken.pop(self.rng.randrange(len(taken))))
        elif step == "settle":
            worker.settle()
        elif step == "flush" and worker.outbox.pending():
            worker.outbox.flush()
        elif step == "beat":
            worker.heartbeat.beat()
        elif step == "print" and taken:
            self.print(self.rng.choice(taken))
        elif step == "die" and self.rng.random() < 0.05:
            self.fire(worker)
        elif step == "drain" and self.rng.random() < 0.05:
            self.drain(worker)

    def drain(self, worker):
        worker.ready += worker.workload.stop_starting()
        for chunk in self.slots[worker]:
            if not self.finish(worker, chunk):
                return
        worker.settle()
        for _ in range(20):
            if not worker.outbox.pending():
                break
            worker.outbox.flush()
        self.fire(worker)

    # --- the whole ---

    def play(self):
        self.submit()
        for _ in range(STEPS):
            roll = self.rng.random()
            if roll < 0.02:
                self.submit()
            elif roll < 0.03:
                self.send_again()
            elif roll < 0.04:
                self.cancel()
            elif roll < 0.14:
                self.pass_time()
            elif roll < 0.2:
                self.collect()
            else:
                self.act(self.rng.choice(self.workers))
                if self.bodies and roll > 0.9:
                    bundle = decode_bundle(self.rng.choice(self.bodies))
                    self.logs_seen += self.outputs_are_their_own(bundle.job_id)

    def come_to_rest(self):
        """Run what is left on one healthy worker, without faults, until the queues are empty."""
        self.fault_rate = 0.0
        for other in self.workers:
            while other.outbox.pending():
                other.outbox.flush()
        self.workers.clear()
        for _ in range(150):
            if not self.workers:
                self.hire()
            self.work(self.workers[0])
            self.collect()
            self.cloud.clock.sleep(1000)
            depth = self.cloud.tasks.depth() + self.cloud.high.depth()
            if depth.backlog == depth.in_flight == self.cloud.responses.depth().backlog == 0:
                return
        raise AssertionError(f"the queue did not drain: {depth}")

    def work(self, worker):
        """Take all steps, until there is nothing to run now or the worker is killed."""
        for _ in range(100):
            worker.poll()
            busy = False
            while (chunk := worker.take()) is not None:
                busy = True
                if not self.finish(worker, chunk):
                    return
            worker.settle()
            while worker.outbox.pending():
                worker.outbox.flush()
            if not busy:
                return


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_and_nothing_counted_twice(seed):
    history = History(seed, with_killers=True)
    history.play()
    history.come_to_rest()
    cloud = history.cloud
    for batch_id, total in history.accepted.items():
        batch = cloud.monitor.batch(batch_id)
        assert batch.finished
        assert batch.tally.total == batch.total == total

        rows = cloud.rows(history.registry, batch_id)
        assert Counter(row.index for row in rows) == Counter(range(total))
        assert all(row.status.final for row in rows)
        counts = Counter(row.status for row in rows)
        assert counts[TaskStatus.SUCCEEDED] == batch.tally.succeeded
        assert counts[TaskStatus.FAILED] == batch.tally.failed
        assert counts[TaskStatus.CANCELLED] == batch.tally.cancelled
        assert batch_id in history.cancelled or batch.tally.cancelled == 0
        judge_blame(history, batch_id, rows)
        receipt = cloud.audit(history.registry, batch_id)
        assert receipt.balanced, receipt.faults

        for body in history.bodies:
            bundle = decode_bundle(body)
            assert encode_bundle(bundle) == body
            record = cloud.monitor.bundles([bundle.job_id])[0]
            assert record.status is BundleStatus.DONE
            assert bundle.job_id in history.answered
            assert {row.index for row in record.results} == {t.index for t in bundle.tasks}
            history.outputs_are_their_own(bundle.job_id)


def judge_blame(history, batch_id, rows):
    """Killers fail for what they did; no other task is charged for more than it started."""
    runs = Counter((batch, index) for batch, index, _ in history.recorder.runs)
    for row in rows:
        lost = "was lost while it ran" in (row.error or "")
        if (batch_id, row.index) in history.killers:
            assert row.status is not TaskStatus.SUCCEEDED
            assert lost or row.status is TaskStatus.CANCELLED
        elif row.status is TaskStatus.FAILED:
            assert row.attempts == 5 or row.error == "404"
        if history.charges_exact and isinstance(row.result, dict):
            assert row.attempts <= runs[batch_id, row.index]


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_task_runs_once(seed):
    history = History(seed)
    history.fault_rate = 0.0
    for _ in range(5):
        history.submit()
    worker = HandWorker(history.cloud, history.registry, rng=history.rng)
    for _ in range(10):
        worker.work()
        history.cloud.clock.sleep(100)
    runs = Counter(history.recorder.runs)
    assert runs
    assert set(runs.values()) == {1}
