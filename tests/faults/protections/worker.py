"""Protections in the worker."""

from tests.faults.mutation import removes

PROTOCOL, CLAIMED = "ec2_worker/protocol.py", "ec2_worker/claimed.py"
SETTLEMENT, OUTBOX = "ec2_worker/settlement.py", "ec2_worker/outbox.py"
HEARTBEAT, WORKLOAD = "ec2_worker/heartbeat.py", "ec2_worker/workload.py"
TEST_PROTOCOL, TEST_BLAME = "tests/unit/test_protocol.py", "tests/functional/test_blame.py"
INVARIANTS = "tests/functional/test_invariants.py"
PROTECTIONS = (
    removes(
        "the message of a bundle that another worker holds is never deleted",
        PROTOCOL,
        'suppressed("held")\n        self._tasks.change_visibility([(message, delay_s)])',
        'suppressed("held")\n        self._tasks.delete([message])',
        TEST_PROTOCOL,
    ),
    removes(
        "a table that does not answer is never taken for a duplicate",
        PROTOCOL,
        "self._tasks.change_visibility([(message, self._rng.uniform(*TROUBLE_S))])",
        "self._tasks.delete([message])",
        TEST_PROTOCOL,
    ),
    removes(
        "a bundle that is done is answered again",
        PROTOCOL,
        "self._settlement.publish(bundle, recorded, message, poison=None, timings={})",
        "self._tasks.delete([message])",
        TEST_PROTOCOL,
    ),
    removes(
        "a delivery that is given up finds its own claim",
        PROTOCOL,
        "hashlib.blake2b(message.receipt_handle.encode(), digest_size=8).hexdigest()",
        "hashlib.blake2b(self._rng.randbytes(8), digest_size=8).hexdigest()",
        "tests/attack/test_given_up.py",
    ),
    removes(
        "a claim that fails half-way is taken back",
        PROTOCOL,
        "            self._take_back(bundle.job_id, owner)\n            raise",
        "            raise",
        TEST_PROTOCOL,
    ),
    removes(
        "a bundle that no recorded batch has is not claimed",
        PROTOCOL,
        "            if self.is_forged(bundle, message):\n                return None\n",
        "",
        TEST_PROTOCOL,
    ),
    removes(
        "an undecodable message becomes a dead letter",
        PROTOCOL,
        "            self._tasks.dead_letter(message, str(error))\n            return None",
        "            self._tasks.delete([message])\n            return None",
        TEST_PROTOCOL,
    ),
    removes(
        "tasks of a cancelled batch do not start",
        PROTOCOL,
        "                if cancelled:\n                    claimed.cancel_pending()\n",
        "",
        TEST_PROTOCOL,
    ),
    removes(
        "results are recorded before they are answered",
        SETTLEMENT,
        "recorded = self.record(claimed)\n        timings",
        "results = [claimed.results[task.index] for task in claimed.bundle.tasks]\n"
        "        self.publish(claimed.bundle, Recorded(results, 0), claimed.message, None, {})\n"
        "        recorded = self.record(claimed)\n        timings",
        TEST_PROTOCOL,
        INVARIANTS,
    ),
    removes(
        "a failure is recorded before its message becomes a dead letter",
        SETTLEMENT,
        "        recorded = self.record(claimed)\n        timings",
        "        if claimed.poison is not None:\n"
        "            self._tasks.dead_letter(claimed.message, claimed.poison)\n"
        "            return\n"
        "        recorded = self.record(claimed)\n        timings",
        TEST_PROTOCOL,
    ),
    removes(
        "a released bundle keeps the results that it has",
        SETTLEMENT,
        "rows = claimed.rows_to_release()",
        "rows = []",
        TEST_PROTOCOL,
    ),
    removes(
        "a bundle is settled again after an error, while its lease lives",
        SETTLEMENT,
        "if self._clock.now() + wait_s >= claimed.lease.expires_at:",
        "if self._clock.now() > 0:",
        TEST_PROTOCOL,
    ),
    removes(
        "what tasks printed is stored before their rows point to it",
        SETTLEMENT,
        "        self._logs.keep(claimed)\n",
        "",
        "tests/functional/test_running_output.py",
        "tests/functional/test_runner_worker.py",
    ),
    removes(
        "an answer is published before its message is deleted",
        OUTBOX,
        "        self._responses.send(\n",
        "        self._tasks.delete([x.message for x in letters if x.poison is None])\n"
        "        self._responses.send(\n",
        TEST_PROTOCOL,
    ),
    removes(
        "answers that could not be sent are kept",
        OUTBOX,
        "reason=str(error)),\n            )\n            return letters",
        "reason=str(error)),\n            )\n            return []",
        TEST_PROTOCOL,
    ),
    removes(
        "messages in hand stay invisible to other workers",
        HEARTBEAT,
        "            self._keep_invisible(due)",
        "            pass",
        TEST_PROTOCOL,
    ),
    removes(
        "a worker whose lease is lost drops the work",
        HEARTBEAT,
        "        except LeaseLost as error:\n            self._drop(claimed, str(error))",
        "        except LeaseLost:\n            pass",
        TEST_PROTOCOL,
    ),
    removes(
        "a lease that could not be renewed in time is taken for lost",
        HEARTBEAT,
        "if self._clock.now() >= claimed.lease.expires_at:",
        "if self._clock.now() < 0:",
        "tests/attack/test_two_clients.py",
    ),
    removes(
        "a task of a careful bundle is noted before it starts",
        "ec2_worker/execute.py",
        "if chunk.claimed.careful and not self._ways.note(chunk.claimed, chunk.tasks[0]):",
        "if chunk.claimed.careful and not chunk.tasks:",
        TEST_BLAME,
    ),
    removes(
        "a task whose note cannot be written does not start",
        "ec2_worker/execute.py",
        "and not self._ways.note(chunk.claimed, chunk.tasks[0]):",
        "and self._ways.note(chunk.claimed, chunk.tasks[0]) is None:",
        TEST_BLAME,
    ),
    removes(
        "only a task that had started is charged for a lost worker",
        CLAIMED,
        "return 0 if row is None else row.attempts",
        "return self.lease.attempt - 1 if row is None else row.attempts",
        TEST_PROTOCOL,
        TEST_BLAME,
    ),
    removes(
        "the noted task is charged for its lost worker",
        CLAIMED,
        "attempts=self.attempt(index),\n            started_at=started_at,\n",
        "attempts=self.attempts_spent(index),\n            started_at=started_at,\n",
        "tests/unit/test_workload.py",
        TEST_BLAME,
    ),
    removes(
        "a task that may cost its worker the last time runs alone",
        "ec2_worker/careful.py",
        "return Turn(bundle, task is not None and task.index in bundle.last_chances)",
        "return Turn(bundle, False)",
        TEST_BLAME,
    ),
    removes(
        "giving a bundle back spends no attempt",
        CLAIMED,
        "            spent = self.attempts_spent(task.index)\n",
        "            spent = self.attempt(task.index)\n",
        TEST_PROTOCOL,
    ),
    removes(
        "the newest receipt of a message counts",
        WORKLOAD,
        "            claimed.message = message\n",
        "",
        TEST_PROTOCOL,
    ),
    removes(
        "a bundle that is given back is claimed anew",
        WORKLOAD,
        "if claimed is None or claimed.released:",
        "if claimed is None:",
        TEST_PROTOCOL,
    ),
    removes(
        "a bundle is settled once",
        WORKLOAD,
        "            return False\n        claimed.settling = True\n        return True",
        "            return False\n        return True",
        "tests/unit/test_workload.py",
    ),
    removes(
        "of a task and its copy, the first to end counts",
        "ec2_worker/stragglers.py",
        "        if self._winner is not is_copy:\n            return False\n",
        "",
        "tests/unit/test_stragglers.py",
        "tests/functional/test_stragglers.py",
    ),
    removes(
        "a copy that fails changes nothing",
        CLAIMED,
        "if self.is_copy and row.status is not TaskStatus.SUCCEEDED:",
        "if self.is_copy and row.status is TaskStatus.CANCELLED:",
        "tests/functional/test_stragglers.py",
    ),
    removes(
        "a bundle that another worker has is not given up",
        "ec2_worker/asides.py",
        "            if claim.outcome is ClaimOutcome.HELD:\n                return False\n",
        "",
        "tests/attack/test_given_up.py",
    ),
    removes(
        "each claim stores output under a name of its own",
        "ec2_worker/output.py",
        "return f\"{PREFIX}{batch_id}/{number}/{owner.replace('/', '-')}\"",
        'return f"{PREFIX}{batch_id}/{number}/{owner[:0]}output"',
        INVARIANTS,
    ),
    removes(
        "a reused result lasts as long as a new one",
        "ec2_worker/reuse.py",
        "        if kept.stored is None:\n            return True\n",
        "        return True\n",
        "tests/functional/test_reuse.py",
    ),
    removes(
        "results too large for a row are stored before it is recorded",
        "ec2_worker/attempt.py",
        "return None, spill.put(store, encoded)",
        "import hashlib\n\n"
        "            return None, spill.PREFIX + hashlib.sha256(encoded).hexdigest()",
        "tests/unit/test_results.py",
        "tests/functional/test_reuse.py",
    ),
    removes(
        "a cancellation reaches tasks in hand",
        HEARTBEAT,
        "            self._notice_cancelled()\n",
        "            pass\n",
        TEST_PROTOCOL,
    ),
)
