"""Protections in the pure rules: the claim, carefulness, retries, blame, stored results."""

from tests.faults.mutation import removes

LEASE, RETRY = "taskfleet/lease.py", "taskfleet/retry.py"
PROTECTIONS = (
    removes(
        "a live lease of another worker is respected",
        LEASE,
        "if status is BundleStatus.RUNNING and owner != claimant and expires_at >= now:",
        "if status is BundleStatus.RUNNING and owner != claimant and expires_at < 0:",
        "tests/contract/test_contract_bundle.py",
    ),
    removes(
        "a bundle that is done is never claimed again",
        LEASE,
        "if status is BundleStatus.DONE:\n        return ClaimOutcome.DONE",
        "if status is BundleStatus.DONE:\n        return ClaimOutcome.ACQUIRED",
        "tests/contract/test_contract_bundle.py",
    ),
    removes(
        "a bundle that lost two workers is run carefully",
        LEASE,
        "return self.attempt > CAREFUL_AFTER",
        "return False",
        "tests/functional/test_blame.py",
    ),
    removes(
        "a task has so many attempts and no more",
        RETRY,
        "return attempt >= self.max_attempts",
        "return False",
        "tests/unit/test_retry.py",
        "tests/unit/test_protocol.py",
    ),
    removes(
        "a permanent error is not tried again",
        RETRY,
        "if isinstance(error, PermanentError | InvalidTask) or not isinstance",
        "if not isinstance",
        "tests/unit/test_retry.py",
    ),
    removes(
        "stored data is what was stored, by its hash",
        "taskfleet/spill.py",
        "if PREFIX + hashlib.sha256(data).hexdigest() != key:",
        "if not data:",
        "tests/unit/test_spill.py",
    ),
    removes(
        "a result is reused by its own client only",
        "taskfleet/reuse.py",
        "_encode([client_id, task.kind, task.params])",
        "_encode([task.kind, task.params])",
        "tests/functional/test_reuse.py",
        "tests/contract/test_contract_reuse.py",
    ),
    removes(
        "a task writes objects of its own batch only",
        "taskfleet/confined.py",
        "rest[0] == self._batch_id and first not in RESERVED",
        "first not in RESERVED",
        "tests/unit/test_confined_store.py",
    ),
    removes(
        "each time of a schedule comes at most once",
        "taskfleet/schedule.py",
        "    if now < schedule.next_at:\n        return Due([], schedule.next_at, None)\n",
        "",
        "tests/unit/test_schedules_rule.py",
    ),
    removes(
        "the audit finds a second result of a task",
        "taskfleet/scheduler/audit.py",
        "if self._seen[index]:",
        "if self._seen[index] > 1:",
        "tests/unit/test_audit.py",
    ),
    removes(
        "the audit finds a result that is missing",
        "taskfleet/scheduler/audit.py",
        "for first, last in _gaps(self._seen):",
        "for first, last in _gaps(bytearray()):",
        "tests/unit/test_audit.py",
    ),
    removes(
        "the audit finds a result that was altered with its seal",
        "taskfleet/scheduler/audit.py",
        "if self._batch.checksum and self._checksum != self._batch.checksum:",
        "if not self._checksum and self._batch.checksum:",
        "tests/unit/test_audit.py",
    ),
)
