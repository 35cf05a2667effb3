"""Protections in what takes batches in and counts their results."""

from tests.faults.mutation import Edit, removes

SUBMIT, EXPAND = "taskfleet/scheduler/submit.py", "taskfleet/scheduler/expand.py"
OPEN, AFTER = "taskfleet/scheduler/open.py", "taskfleet/scheduler/after.py"
COLLECT = "taskfleet/scheduler/collect.py"
TEST_SUBMIT, TEST_UPLOAD = "tests/unit/test_submit.py", "tests/unit/test_upload.py"
TEST_AFTER, TEST_OPEN = "tests/unit/test_after.py", "tests/functional/test_api_open.py"
TEST_COLLECT = "tests/unit/test_collect.py"
TEST_SCHEDULES = "tests/functional/test_api_schedules.py"
PROTECTIONS = (
    removes(
        "one idempotency key stands for one payload",
        "taskfleet/scheduler/record.py",
        "if earlier.payload_hash != wanted.payload_hash:",
        "if not earlier.payload_hash:",
        TEST_SUBMIT,
    ),
    removes(
        "an idempotency key belongs to its client",
        "taskfleet/batch.py",
        'hashlib.sha256(f"{client_id}\\n{idempotency_key}".encode())',
        "hashlib.sha256(idempotency_key.encode())",
        TEST_SUBMIT,
    ),
    removes(
        "a batch is recorded before its bundles are on the queue",
        SUBMIT,
        "            batch = record_once(self._monitor, wanted)\n",
        "            self._enqueuer.enqueue(wanted, bundles, spent_before, quote)\n"
        "            batch = record_once(self._monitor, wanted)\n",
        TEST_SUBMIT,
    ),
    removes(
        "a submission that nobody can send again is cancelled when it fails",
        SUBMIT,
        "                self._monitor.cancel_batch(batch_id, self._clock.now())\n",
        "                pass\n",
        TEST_SUBMIT,
    ),
    removes(
        "a batch that is sent again is cut as it was recorded",
        SUBMIT,
        "                if batch.plan != plan:\n"
        "                    bundles = self._planner.cut(tasks, batch.plan)\n",
        "",
        TEST_SUBMIT,
    ),
    removes(
        "a batch is taken for enqueued only when it is",
        "taskfleet/scheduler/enqueue.py",
        "        self._queue.send(\n",
        "        self._monitor.record_enqueued(batch.batch_id, batch.total)\n"
        "        self._queue.send(\n",
        TEST_SUBMIT,
        TEST_UPLOAD,
    ),
    removes(
        "an upload that was replaced is not read",
        "taskfleet/scheduler/filelines.py",
        "etag=upload.etag,",
        "etag=None,",
        TEST_UPLOAD,
    ),
    removes(
        "a file is checked as a whole before a task of it runs",
        EXPAND,
        "return upload.checked and self._hand_in(batch, upload, is_late)",
        "return self._hand_in(batch, upload, is_late)",
        TEST_UPLOAD,
    ),
    removes(
        "a part of an upload is kept before it is recorded",
        EXPAND,
        "            self._parts.keep_next(batch, bundles)\n",
        "",
        TEST_UPLOAD,
        "tests/attack/test_files_that_vanish.py",
    ),
    removes(
        "what is recorded of a batch is enqueued, also when it was cancelled",
        EXPAND,
        "        batch = self._parts.enqueue_kept(batch)  # that of an earlier run, without the file\n",
        "",
        TEST_UPLOAD,
        "tests/attack/test_files_that_vanish.py",
    ),
    removes(
        "a run that is behind another one stops",
        EXPAND,
        "            if extended is None:\n                return None, mark\n            batch = extended",
        "            batch = extended or batch",
        TEST_UPLOAD,
    ),
    removes(
        "a part that is sent again changes nothing",
        OPEN,
        "            if _has(batch, part):\n",
        "            if batch.total < 0:\n",
        TEST_OPEN,
    ),
    removes(
        "a part that was left behind is enqueued when the batch is closed",
        OPEN,
        "        batch = self._parts.enqueue_kept(batch)\n        self._ended.tell(batch)\n",
        "        self._ended.tell(batch)\n",
        TEST_OPEN,
        "tests/functional/test_invariants_open.py",
    ),
    removes(
        "a part that was left behind is enqueued by a reader",
        OPEN,
        "if batch.kept is not None and (not batch.is_open or idle_s > LEFT_S):",
        "if batch.kept is not None and idle_s < 0:",
        TEST_OPEN,
        "tests/functional/test_invariants_open.py",
    ),
    removes(
        "an open batch that is closed is told as ended",
        OPEN,
        "        batch = self._parts.enqueue_kept(batch)\n        self._ended.tell(batch)\n",
        "        batch = self._parts.enqueue_kept(batch)\n",
        TEST_AFTER,
    ),
    removes(
        "an idle open batch is closed",
        OPEN,
        "if batch.is_open and idle_s > self._idle_s:",
        "if batch.is_open and idle_s < 0:",
        TEST_OPEN,
    ),
    removes(
        "a batch goes after its predecessors and not before",
        EXPAND,
        "return turn.fault is None and turn.waits_for is None",
        "return turn.fault is None",
        TEST_AFTER,
    ),
    removes(
        "a batch does not go after one that failed",
        AFTER,
        "if not run_anyway and (fault := _fault(batch_id, record)):",
        "if run_anyway and (fault := _fault(batch_id, record)):",
        TEST_AFTER,
    ),
    removes(
        "a batch whose predecessor ended before it was noted goes",
        AFTER,
        "        if ended:\n            failed",
        "        if not seen:\n            failed",
        TEST_AFTER,
    ),
    removes(
        "the end of a batch is told to those that wait for it",
        AFTER,
        "        if ended.followers:\n",
        "        if not ended.followers:\n",
        TEST_AFTER,
    ),
    removes(
        "the end of a batch is told again when its answers come again",
        EXPAND,
        "            if again:\n                self._ended.tell(batch)\n            return",
        "            return",
        TEST_AFTER,
    ),
    removes(
        "a batch that waits and was left behind goes when it is read",
        AFTER,
        "if turn.waits_for is None and now - turn.ended_at > LEFT_S:",
        "if turn.waits_for is None and now < 0:",
        TEST_AFTER,
    ),
    removes(
        "a batch that waits goes once",
        EXPAND,
        "        if _ended(batch):\n            # The earlier",
        "        if batch.total < 0:\n            # The earlier",
        TEST_AFTER,
        also=(
            Edit(
                EXPAND,
                "        if _ended(batch):\n            return True\n        mark",
                "        if batch.total:\n            batch = self._monitor.batch(batch.batch_id)\n"
                "            self._enqueuer.enqueue(batch, [], self._enqueuer.spent())\n"
                "            return True\n        mark",
            ),
        ),
    ),
    removes(
        "a time of a schedule makes one batch",
        "taskfleet/scheduler/schedules.py",
        "idempotency_key=key,",
        "idempotency_key=None,",
        TEST_SCHEDULES,
    ),
    removes(
        "how far a schedule came is recorded, also after an error",
        "taskfleet/scheduler/schedules.py",
        "            if after != schedule:\n                self._records.advance(schedule, after)",
        "            pass",
        TEST_SCHEDULES,
    ),
    removes(
        "a forged response takes no other with it",
        COLLECT,
        "    if len(responses) > 1:\n        pairs",
        "    if len(responses) > 1_000:\n        pairs",
        TEST_COLLECT,
    ),
    removes(
        "an unreadable response blocks no other",
        COLLECT,
        "            if isinstance(response, Undecodable):\n",
        "            if isinstance(response, Undecodable):\n                raise response\n",
        TEST_COLLECT,
    ),
    removes(
        "the end of a batch is told when its last result is counted",
        COLLECT,
        "            ended.tell(batch)\n",
        "            pass\n",
        TEST_AFTER,
        "tests/unit/test_ended.py",
    ),
    removes(
        "answers to programs of 2014 stay on the queue",
        COLLECT,
        "            to_keep.append(message_id)\n",
        "",
        TEST_COLLECT,
    ),
    removes(
        "one listener's error keeps no other from hearing of an end",
        "taskfleet/scheduler/ended.py",
        "                failures.append(error)\n",
        "                raise\n",
        "tests/unit/test_ended.py",
    ),
    removes(
        "a dead letter is back on its queue before it is deleted",
        "taskfleet/scheduler/redrive.py",
        "                queue.send(",
        "                dead.delete(moved)\n                queue.send(",
        "tests/unit/test_redrive.py",
    ),
    removes(
        "dead letters that were not moved are shown again",
        "taskfleet/scheduler/redrive.py",
        "        _show_again(dead, left)\n",
        "        pass\n",
        "tests/unit/test_redrive.py",
    ),
)
