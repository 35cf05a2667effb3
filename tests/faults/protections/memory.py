"""Protections in the adapters in memory, which serve tests and `FleetExecutor(local=True)`."""

from tests.faults.mutation import removes

MONITOR = "taskfleet/memory/monitor.py"
BUNDLE, BATCH = "tests/contract/test_contract_bundle.py", "tests/contract/test_contract_batch.py"
OPEN = "tests/contract/test_contract_open.py"
PROTECTIONS = (
    removes(
        "fence of the commit (memory)",
        MONITOR,
        "item = self._held(job_id, lease, target=BundleStatus.DONE)",
        "item = self._items[job_id]",
        BUNDLE,
    ),
    removes(
        "fence of the renewal (memory)",
        MONITOR,
        "item = self._held(job_id, lease, target=BundleStatus.RUNNING)",
        "item = self._items[job_id]",
        BUNDLE,
    ),
    removes(
        "fence of the release (memory)",
        MONITOR,
        "item = self._held(job_id, lease, target=BundleStatus.QUEUED)",
        "item = self._items[job_id]",
        BUNDLE,
    ),
    removes(
        "fence of taking back a claim (memory)",
        MONITOR,
        "if item and item.owner == owner and item.status is BundleStatus.RUNNING:",
        "if item and item.status is BundleStatus.RUNNING:",
        BUNDLE,
    ),
    removes(
        "a lease counts for its own attempt only (memory)",
        MONITOR,
        "if item.status is BundleStatus.RUNNING and item.attempt == lease.attempt:",
        "if item.status is BundleStatus.RUNNING:",
        BUNDLE,
    ),
    removes(
        "a claim that is sent again is the same claim (memory)",
        MONITOR,
        "mine = item.status is BundleStatus.RUNNING and item.owner == owner",
        "mine = False",
        BUNDLE,
    ),
    removes(
        "a commit or release that is sent again changes nothing (memory)",
        MONITOR,
        "if item.status is target and target is not BundleStatus.RUNNING:",
        "if item.status is target and target is BundleStatus.RUNNING:",
        BUNDLE,
    ),
    removes(
        "each bundle is counted once (memory)",
        MONITOR,
        "uncounted = known - counted",
        "uncounted = known",
        BATCH,
    ),
    removes(
        "a bundle or task that the batch lacks is not counted (memory)",
        MONITOR,
        "if batch is None or not batch.has(0, last_index if tallies else -1):",
        "if batch is None:",
        BATCH,
    ),
    removes(
        "a batch is recorded once (memory)",
        MONITOR,
        "recorded = self._batches.setdefault(batch.batch_id, batch)",
        "recorded = self._batches[batch.batch_id] = batch",
        BATCH,
    ),
    removes(
        "a part whose reply was lost is the same part (memory)",
        MONITOR,
        "return batch if known else None",
        "return None",
        OPEN,
    ),
    removes(
        "a part follows the tasks before it (memory)",
        MONITOR,
        "if batch.closed or batch.total != first:",
        "if batch.closed:",
        BATCH,
        OPEN,
    ),
    removes(
        "no part joins a closed batch (memory)",
        MONITOR,
        "if batch.closed or batch.total != first:",
        "if batch.total != first:",
        OPEN,
    ),
    removes(
        "no part joins before the one before it is enqueued (memory)",
        MONITOR,
        "or batch.enqueued != first:",
        "or batch.total < first:",
        BATCH,
        OPEN,
    ),
    removes(
        "a batch that has ended is not cancelled (memory)",
        MONITOR,
        "if batch is not None and batch.cancelled_at is None and not batch.finished:",
        "if batch is not None and batch.cancelled_at is None:",
        BATCH,
    ),
    removes(
        "an open batch is closed by its own client only (memory)",
        MONITOR,
        "if batch is not None and batch.is_open and batch.client_id == client_id:",
        "if batch is not None and batch.is_open:",
        OPEN,
    ),
    removes(
        "a schedule is advanced from what it was only (memory)",
        "taskfleet/memory/schedules.py",
        "if found is None or _version(found) != _version(before):",
        "if found is None:",
        "tests/contract/test_contract_schedules.py",
    ),
    removes(
        "another content under the key of an upload is not read (memory)",
        "taskfleet/memory/store.py",
        "if etag is not None and etag != self.etag(key):",
        "if etag is not None and self.etag(key) is None:",
        "tests/contract/test_contract_store.py",
    ),
)
