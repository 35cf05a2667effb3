"""The promises of `TaskMonitor` about bundles: leases and recorded results."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskfleet.errors import LeaseLost
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease
from taskfleet.ports import Claim, TaskMonitor
from taskfleet.task import Task, TaskResult, TaskStatus

JOB = "batch:0"
TASKS = [Task(0, "sleep", 0), Task(1, "movie", {"images": ["a", "ü"], "fps": 2.5})]
QUEUED = [TaskResult(0, TaskStatus.QUEUED, attempts=2), TaskResult(1, TaskStatus.RUNNING)]
FINAL = [
    TaskResult(0, TaskStatus.SUCCEEDED, None, None, 1, 1_700_000_000.123456, 0.25, "w-1"),
    TaskResult(1, TaskStatus.FAILED, None, "no such picture", 3),
]


def acquire(monitor: TaskMonitor, owner: str, job_id: str = JOB, lease_s: float = 30) -> Lease:
    claim = monitor.claim(job_id, owner=owner, lease_s=lease_s)
    assert claim.outcome is ClaimOutcome.ACQUIRED
    assert claim.lease is not None
    return claim.lease


class TestClaim:
    def test_of_a_bundle_never_seen_is_acquired_as_attempt_1(self, world):
        claim = world.monitor.claim(JOB, owner="me", lease_s=30)
        lease = Lease("me", 1, world.clock.now() + 30)
        assert claim == Claim(ClaimOutcome.ACQUIRED, lease, [])

    def test_of_a_live_lease_is_held_and_returns_that_lease(self, world):
        lease = acquire(world.monitor, "other")
        world.clock.sleep(30)  # until the last moment of the lease
        assert world.monitor.claim(JOB, owner="me", lease_s=30) == Claim(
            ClaimOutcome.HELD, lease, []
        )

    def test_of_an_expired_lease_is_acquired_as_the_next_attempt(self, world):
        acquire(world.monitor, "other")
        world.clock.sleep(30.5)
        assert acquire(world.monitor, "me") == Lease("me", 2, world.clock.now() + 30)

    @pytest.mark.parametrize("lost", [0, 1])
    def test_of_a_released_bundle_counts_lost_claims_only_and_has_its_progress(self, world, lost):
        for _ in range(lost):
            acquire(world.monitor, "dead")
            world.clock.sleep(31)
        for _ in range(2):
            lease = acquire(world.monitor, "other")
            for _ in range(2):  # the second time is a retry
                world.monitor.release(JOB, lease, tasks=TASKS, results=QUEUED)
        claim = world.monitor.claim(JOB, owner="me", lease_s=30)
        assert claim.outcome is ClaimOutcome.ACQUIRED
        assert claim.lease == Lease("me", lost + 1, world.clock.now() + 30)
        assert claim.results == QUEUED

    def test_of_an_expired_lease_returns_the_recorded_results(self, world):
        lease = acquire(world.monitor, "other")
        world.monitor.renew(JOB, lease, lease_s=5, tasks=TASKS, results=QUEUED)
        world.clock.sleep(6)
        assert world.monitor.claim(JOB, owner="me", lease_s=30).results == QUEUED

    def test_of_a_done_bundle_is_done_with_its_results(self, world):
        lease = acquire(world.monitor, "other")
        checksum = world.monitor.commit(JOB, lease, tasks=TASKS, results=FINAL)
        assert checksum == world.monitor.commit(JOB, lease, tasks=TASKS, results=FINAL)
        world.clock.sleep(1_000_000)
        assert world.monitor.claim(JOB, owner="me", lease_s=30) == Claim(
            ClaimOutcome.DONE, None, FINAL, checksum
        )
        (record,) = world.monitor.bundles([JOB])
        assert record.checksum == record.sealed == checksum

    def test_sent_twice_with_one_nonce_is_one_claim(self, world):
        first = world.monitor.claim(JOB, owner="me", lease_s=30)
        world.clock.sleep(2)
        assert world.monitor.claim(JOB, owner="me", lease_s=30) == first

    def test_by_16_threads_has_exactly_one_winner(self, world):
        start = threading.Barrier(16)

        def claim(thread: int) -> Claim:
            start.wait()
            return world.monitor.claim(JOB, owner=f"worker {thread}", lease_s=30)

        with ThreadPoolExecutor(16) as pool:
            claims = list(pool.map(claim, range(16)))
        won = [c for c in claims if c.outcome is ClaimOutcome.ACQUIRED]
        assert len(won) == 1
        assert {c.outcome for c in claims} == {ClaimOutcome.ACQUIRED, ClaimOutcome.HELD}
        assert {c.lease for c in claims} == {won[0].lease}


class TestUnclaim:
    def test_leaves_the_bundle_as_if_it_had_not_been_claimed(self, world):
        acquire(world.monitor, "dead")
        world.clock.sleep(31)
        acquire(world.monitor, "also dead")
        world.clock.sleep(31)
        assert acquire(world.monitor, "me").attempt == 3
        world.monitor.unclaim(JOB, owner="me")
        assert world.monitor.bundles([JOB])[0].status is BundleStatus.QUEUED
        assert acquire(world.monitor, "next").attempt == 3

    def test_keeps_tasks_and_results(self, world):
        lease = acquire(world.monitor, "me")
        world.monitor.release(JOB, lease, tasks=TASKS, results=QUEUED)
        acquire(world.monitor, "me again")
        world.monitor.unclaim(JOB, owner="me again")
        (record,) = world.monitor.bundles([JOB])
        assert (record.tasks, record.results) == (TASKS, QUEUED)
        assert acquire(world.monitor, "next").attempt == 1

    def test_twice_is_once(self, world):
        acquire(world.monitor, "dead")
        world.clock.sleep(31)
        acquire(world.monitor, "me")
        world.monitor.unclaim(JOB, owner="me")
        world.monitor.unclaim(JOB, owner="me")
        assert acquire(world.monitor, "next").attempt == 2

    def test_touches_no_other_claim(self, world):
        world.monitor.unclaim(JOB, owner="me")
        assert world.monitor.bundles([JOB]) == []
        acquire(world.monitor, "me", lease_s=10)
        world.clock.sleep(11)
        lease = acquire(world.monitor, "other")
        world.monitor.unclaim(JOB, owner="me")
        world.monitor.commit(JOB, lease, tasks=TASKS, results=FINAL)
        world.monitor.unclaim(JOB, owner="other")
        assert world.monitor.bundles([JOB])[0].status is BundleStatus.DONE


class TestRenew:
    def test_extends_the_lease_from_now_and_records_results(self, world):
        lease = acquire(world.monitor, "me")
        world.clock.sleep(10)
        renewed = world.monitor.renew(JOB, lease, lease_s=30, tasks=TASKS, results=QUEUED)
        assert renewed == Lease("me", 1, world.clock.now() + 30)
        [record] = world.monitor.bundles([JOB])
        assert (record.status, record.lease) == (BundleStatus.RUNNING, renewed)
        assert (record.tasks, record.results) == (TASKS, QUEUED)

    def test_works_after_expiry_while_nobody_else_claimed(self, world):
        lease = acquire(world.monitor, "me")
        world.clock.sleep(100)
        assert world.monitor.renew(JOB, lease, lease_s=30, tasks=[], results=[]).attempt == 1


def renew(monitor: TaskMonitor, lease: Lease, job_id: str = JOB) -> None:
    monitor.renew(job_id, lease, lease_s=30, tasks=TASKS, results=QUEUED)


def commit(monitor: TaskMonitor, lease: Lease, job_id: str = JOB) -> None:
    monitor.commit(job_id, lease, tasks=TASKS, results=FINAL)


def release(monitor: TaskMonitor, lease: Lease, job_id: str = JOB) -> None:
    monitor.release(job_id, lease, tasks=TASKS, results=QUEUED)


STEPS = [renew, commit, release]


@pytest.mark.parametrize("step", STEPS)
class TestWithoutTheLease:
    """The call changes nothing and raises LeaseLost."""

    def test_taken_over_by_another_owner(self, world, step):
        lost = acquire(world.monitor, "zombie")
        world.clock.sleep(31)
        acquire(world.monitor, "me")
        self.refused(world, step, lost)

    def test_released_and_claimed_by_another_owner(self, world, step):
        """The release took the attempt back, so both leases have the same number."""
        lost = acquire(world.monitor, "zombie")
        release(world.monitor, lost)
        assert acquire(world.monitor, "me").attempt == lost.attempt
        self.refused(world, step, lost)

    def test_of_an_earlier_attempt(self, world, step):
        lost = acquire(world.monitor, "me")
        world.clock.sleep(31)
        assert acquire(world.monitor, "me").attempt == 2
        self.refused(world, step, lost)

    def test_never_claimed(self, world, step):
        with pytest.raises(LeaseLost, match="other:1"):
            step(world.monitor, Lease("me", 1, world.clock.now() + 30), "other:1")
        assert world.monitor.bundles(["other:1"]) == []

    @pytest.mark.parametrize("end", [commit, release])
    def test_ended_by_another_owner(self, world, step, end):
        lost = acquire(world.monitor, "zombie")
        world.clock.sleep(31)
        end(world.monitor, acquire(world.monitor, "me"))
        self.refused(world, step, lost)

    def refused(self, world, step, lost):
        before = world.monitor.bundles([JOB])
        with pytest.raises(LeaseLost, match=f"{JOB}.*attempt {lost.attempt}"):
            step(world.monitor, lost)
        assert world.monitor.bundles([JOB]) == before


class TestAfterOwnCommitOrRelease:
    @pytest.mark.parametrize("end", [commit, release])
    def test_repeating_it_changes_nothing(self, world, end):
        lease = acquire(world.monitor, "me")
        end(world.monitor, lease)
        before = world.monitor.bundles([JOB])
        end(world.monitor, lease)
        assert world.monitor.bundles([JOB]) == before

    @pytest.mark.parametrize(
        ("end", "step"), [(commit, renew), (commit, release), (release, renew), (release, commit)]
    )
    def test_any_other_step_finds_the_lease_lost(self, world, end, step):
        lease = acquire(world.monitor, "me")
        end(world.monitor, lease)
        with pytest.raises(LeaseLost):
            step(world.monitor, lease)


class TestBundles:
    def test_come_in_the_order_asked_for_without_those_never_claimed(self, world):
        ids = [f"batch:{number}" for number in range(205)]
        claimed = ids[::2]
        for job_id in claimed:
            acquire(world.monitor, "me", job_id)
        asked = random.Random(1).sample(ids, len(ids))
        found = [record.job_id for record in world.monitor.bundles(asked)]
        assert found == [job_id for job_id in asked if job_id in set(claimed)]

    def test_of_no_ids_are_none(self, world):
        assert world.monitor.bundles([]) == []

    def test_with_results_too_large_for_an_item_read_back_whole(self, world):
        noise = random.Random(2)
        results = [
            TaskResult(index, TaskStatus.SUCCEEDED, noise.randbytes(30_000).hex())
            for index in range(25)
        ]
        lease = acquire(world.monitor, "me")
        lease = world.monitor.renew(JOB, lease, lease_s=30, tasks=TASKS, results=results[:20])
        assert world.monitor.bundles([JOB])[0].results == results[:20]
        world.monitor.commit(JOB, lease, tasks=TASKS, results=results)
        assert world.monitor.bundles([JOB])[0].results == results
        assert world.monitor.claim(JOB, owner="other", lease_s=30).results == results

    def test_that_shrink_again_read_back_as_last_written(self, world):
        big = [TaskResult(0, TaskStatus.SUCCEEDED, random.Random(3).randbytes(400_000).hex())]
        lease = acquire(world.monitor, "me")
        world.monitor.renew(JOB, lease, lease_s=30, tasks=TASKS, results=big)
        world.monitor.commit(JOB, lease, tasks=TASKS, results=FINAL)
        assert world.monitor.bundles([JOB])[0].results == FINAL


def test_eight_threads_over_the_same_bundles_commit_each_exactly_once(world):
    """Leases expire at random. At most one thread commits each bundle, and the recorded results are
    those of that thread."""
    jobs = [f"batch:{number}" for number in range(6)]
    committed: list[tuple[str, str]] = []

    def work(thread: int) -> None:
        rng = random.Random(thread)
        for turn in range(12):
            job_id = rng.choice(jobs)
            owner = f"{thread}.{turn}"
            claim = world.monitor.claim(job_id, owner=owner, lease_s=rng.choice([0.5, 30]))
            if claim.outcome is not ClaimOutcome.ACQUIRED:
                continue
            results = [TaskResult(0, TaskStatus.SUCCEEDED, owner)]
            try:
                if rng.random() < 0.5:
                    world.clock.sleep(1)
                if rng.random() < 0.3:
                    world.monitor.renew(job_id, claim.lease, lease_s=5, tasks=[], results=[])
                if rng.random() < 0.3:
                    world.monitor.release(job_id, claim.lease, tasks=[], results=[])
                else:
                    world.monitor.commit(job_id, claim.lease, tasks=[], results=results)
                    committed.append((job_id, owner))
            except LeaseLost:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(dict(committed)) == len(committed) > 0
    records = {record.job_id: record for record in world.monitor.bundles(jobs)}
    for job_id, owner in committed:
        assert records[job_id].status is BundleStatus.DONE
        assert records[job_id].results[0].result == owner
    done = {j for j, record in records.items() if record.status is BundleStatus.DONE}
    assert done == set(dict(committed))
