"""Audits: what was submitted, counted and recorded agrees, or the receipt says what does not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from taskfleet.bundle import job_id
from taskfleet.errors import PermanentError
from taskfleet.lease import BundleStatus
from taskfleet.registry import Registry
from taskfleet.scheduler.audits import Audits
from taskfleet.task import TaskResult, TaskStatus
from tests.support.worker import Cloud, HandWorker, thread_kind

TASKS = [{"kind": "odd", "params": n} for n in range(1000)]


def odd(params: Any, _context: Any) -> Any:
    if params % 2:
        raise PermanentError("odd")
    return {"n": params, "text": "é"}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def kinds() -> Any:
    return Registry([thread_kind("odd", odd, expected_s=lambda _params: 0.02)])


@pytest.fixture
def ended(cloud: Cloud, kinds: Any) -> str:
    """A batch of a thousand tasks in ten bundles, which has ended."""
    batch_id = cloud.submit(kinds, TASKS)
    worker = HandWorker(cloud, kinds)
    while not cloud.monitor.batch(batch_id).finished:
        worker.work()
        worker.outbox.flush()
        cloud.collect()
    return batch_id


def audit(cloud: Cloud, kinds: Any, batch_id: str) -> Any:
    return Audits(cloud.results(kinds), cloud.monitor, cloud.clock).audit(
        batch_id, client_id="alice"
    )


def item(cloud: Cloud, batch_id: str, number: int = 3) -> Any:
    return cloud.monitor._items[job_id(batch_id, number)]


def test_a_batch_that_ended_balances_and_has_a_digest_that_anyone_can_compute(cloud, kinds, ended):
    receipt = audit(cloud, kinds, ended)
    assert receipt.balanced
    assert receipt.finished
    assert receipt.faults == []
    assert (receipt.succeeded, receipt.failed, receipt.cancelled) == (500, 500, 0)
    assert receipt.total == receipt.attempts == 1000
    assert receipt.bundles == receipt.bundles_done > 5
    rows = [[row.index, row.status, row.result, row.error] for row in cloud.rows(kinds, ended)]
    lines = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows)
    assert receipt.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_a_batch_that_runs_is_not_balanced_and_has_no_fault(cloud, kinds):
    batch_id = cloud.submit(kinds, TASKS)
    receipt = audit(cloud, kinds, batch_id)
    assert not receipt.balanced
    assert not receipt.finished
    assert receipt.faults == []


def test_one_result_that_is_removed_is_named(cloud, kinds, ended):
    found = item(cloud, ended)
    gone = found.results.pop(5)
    receipt = audit(cloud, kinds, ended)
    assert not receipt.balanced
    assert f"task {gone.index} has no result" in receipt.faults
    assert "bundle 3 does not hold what was recorded in it" in receipt.faults


def test_one_result_that_is_doubled_is_named(cloud, kinds, ended):
    row = item(cloud, ended).results[5]
    item(cloud, ended, 4).results.append(row)
    receipt = audit(cloud, kinds, ended)
    assert f"task {row.index} has more than one result, again in bundle 4" in receipt.faults


def test_one_result_that_is_altered_is_found_and_its_bundle_named(cloud, kinds, ended):
    before = audit(cloud, kinds, ended).sha256
    found = item(cloud, ended)
    place = next(i for i, row in enumerate(found.results) if row.status is TaskStatus.SUCCEEDED)
    found.results[place] = msgspec.structs.replace(found.results[place], result={"n": -1})
    receipt = audit(cloud, kinds, ended)
    assert "bundle 3 does not hold what was recorded in it" in receipt.faults
    assert receipt.sha256 != before


def test_one_that_is_altered_with_its_seal_is_found_by_what_the_batch_counted(cloud, kinds, ended):
    found = item(cloud, ended)
    found.results[0] = msgspec.structs.replace(found.results[0], error="forged")
    found.sealed = found.checksum
    (fault,) = audit(cloud, kinds, ended).faults
    assert "the records of the bundles are not those that were counted" in fault


def test_a_record_that_is_gone_is_named(cloud, kinds, ended):
    indexes = [row.index for row in item(cloud, ended).results]
    del cloud.monitor._items[job_id(ended, 3)]
    faults = audit(cloud, kinds, ended).faults
    assert "bundle 3 is counted, and its record is missing" in faults
    assert f"tasks {indexes[0]} to {indexes[-1]} have no result" in faults


def test_a_record_that_runs_although_it_is_counted_is_named(cloud, kinds, ended):
    item(cloud, ended).status = BundleStatus.RUNNING
    faults = audit(cloud, kinds, ended).faults
    assert "bundle 3 is counted, and its record is RUNNING" in faults


def test_a_result_of_no_task_is_named(cloud, kinds, ended):
    item(cloud, ended).results.append(TaskResult(5000, TaskStatus.SUCCEEDED))
    faults = audit(cloud, kinds, ended).faults
    assert "bundle 3 has a result of task 5000, which the batch has not" in faults


def test_a_result_whose_object_is_gone_is_named(cloud, kinds, ended):
    found = item(cloud, ended)
    found.results[0] = msgspec.structs.replace(found.results[0], stored="spill/none", result=None)
    index = found.results[0].index
    faults = audit(cloud, kinds, ended).faults
    assert any(f"task {index} has lost its result" in fault for fault in faults)


def test_many_faults_are_counted_and_the_first_are_named(cloud, kinds, ended):
    for number in range(8):
        found = item(cloud, ended, number)
        found.results[:] = found.results[::2]
    receipt = audit(cloud, kinds, ended)
    assert len(receipt.faults) == 100
    assert receipt.fault_count > 100
