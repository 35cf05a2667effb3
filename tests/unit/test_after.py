"""Batches that wait for others: when they go, when they are cancelled, and that each goes once, in
order, whatever process dies at whatever call."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, BatchStatus, Tally
from taskfleet.errors import InvalidTask, TransientError
from taskfleet.memory import ManualClock, MemoryMonitor
from taskfleet.options import BatchOptions
from taskfleet.scheduler.after import LEFT_S, Turn, decide
from taskfleet.scheduler.collect import collect
from taskfleet.wire.http.batches import BatchView
from tests.support.chains import CLIENT, Chains, chain, diamonds, fan, play, tangle

ID = "b1".ljust(26, "0")
DONE = BatchRecord(ID, CLIENT, None, 1.0, 5, 1, "hash", closed=True, tally=Tally(5))
RUNS = replace(DONE, tally=Tally(4))
FAILED = replace(DONE, tally=Tally(2, 3))
BOTH = replace(DONE, tally=Tally(2, 1, 2))
CANCELLED = replace(DONE, cancelled_at=2.0)
LEAVING = replace(RUNS, cancelled_at=2.0)
WAITED = f"batch {ID}, for which this one waited,"


@pytest.mark.parametrize(
    ("predecessors", "waits_for", "fault"),
    [
        ([], None, None),
        ([DONE, DONE], None, None),
        ([DONE, RUNS, FAILED], RUNS, None),
        ([LEAVING], LEAVING, None),
        ([FAILED, RUNS], None, f"{WAITED} ended with tasks that did not succeed: 3 that failed"),
        (
            [BOTH],
            None,
            f"{WAITED} ended with tasks that did not succeed: 1 that failed and 2 that were "
            "cancelled",
        ),
        ([CANCELLED], None, f"{WAITED} was cancelled"),
        ([DONE, None], None, f"{WAITED} is not recorded any more"),
    ],
)
def test_a_batch_goes_when_all_have_succeeded_and_never_after_one_that_has_not(
    predecessors, waits_for, fault
):
    found = decide(((ID, each) for each in predecessors), run_anyway=False)
    assert (found.waits_for, found.fault) == (waits_for, fault)
    anyway = decide(((ID, each) for each in predecessors), run_anyway=True)
    assert anyway.fault is None
    assert anyway.waits_for == next((p for p in predecessors if p in (RUNS, LEAVING)), None)


def test_a_decision_tells_the_latest_end():
    ended = [(ID, replace(DONE, progressed_at=at)) for at in (3.0, 9.0, 4.0)]
    assert decide(ended, run_anyway=False) == Turn(ended_at=9.0)


def stage(seed: int = 0, crash_rate: float = 0.0) -> Chains:
    clock = ManualClock()
    return Chains(MemoryMonitor(clock), clock, seed, crash_rate)


SIZE = 1_000
GRAPHS: dict[str, Any] = {
    "chain": lambda _rng: chain(SIZE),
    "fan": lambda _rng: fan(SIZE),
    "diamonds": lambda _rng: diamonds(SIZE),
    "tangle": lambda rng: tangle(SIZE, rng),
}


def bundles_of(chains: Chains, key: str) -> list[str]:
    batch = chains.batch(key)
    return [f"{batch.batch_id}:{number}" for number in range(batch.bundles)]


@pytest.mark.parametrize(
    ("shape", "crash_rate"), [("tangle", 0.0), *((shape, 0.03) for shape in GRAPHS)]
)
def test_of_a_thousand_batches_each_goes_once_and_in_order(shape, crash_rate):
    chains = stage(seed=len(shape), crash_rate=crash_rate)
    graph = GRAPHS[shape](random.Random(1))
    play(chains, graph)  # the queue of tasks refuses a batch before its predecessors' ends
    jobs = set()
    for key in graph:
        batch = chains.batch(key)
        assert (batch.status, batch.tally) == (BatchStatus.DONE, Tally(2)), key
        jobs |= set(bundles_of(chains, key))
    assert set(chains.tasks.sent) == jobs
    if crash_rate:
        assert chains.crashes > SIZE / 10
    else:
        assert set(chains.tasks.sent.values()) == {1}


def test_a_crash_at_any_single_call_delays_a_diamond_and_changes_nothing():
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}

    def run(at: int, fault: str) -> int:
        chains = stage(seed=2)
        calls = iter(range(10**6))
        chains._fault = lambda _name: fault if next(calls) == at else None  # type: ignore[method-assign]
        chains.assemble()
        play(chains, graph, fails=False)
        assert [chains.batch(key).tally for key in graph] == [Tally(2)] * 4, (at, fault)
        assert chains.files.depth().backlog == chains.tasks.depth().backlog == 0
        return next(calls)

    total = run(-1, "none")
    assert total > 50
    for at in range(total):
        for fault in ("before", "after"):
            run(at, fault)


@pytest.mark.parametrize("policy", [None, "cancel", "run"])
def test_failures_travel_unless_the_followers_run_anyway(policy):
    chains = stage(seed=5, crash_rate=0.05)
    graph = tangle(300, random.Random(7))
    failing = {key for key in graph if chains.rng.random() < 0.05}
    for key, after in graph.items():
        chains.submit(key, after, fails=key in failing, after_failures=policy if after else None)
        chains.step()
    chains.run()
    bad: set[str] = set()
    for key, after in graph.items():
        batch = chains.batch(key)
        cancelled = policy != "run" and bool(bad & set(after))
        if cancelled or key in failing:
            bad.add(key)
        if cancelled:
            assert (batch.status, batch.total, batch.finished) == (BatchStatus.CANCELLED, 0, True)
            named = next(each for each in after if chains.id_of(each) in batch.error)
            assert named in bad
        else:
            assert batch.status is BatchStatus.DONE
            assert batch.tally == (Tally(1, 1) if key in failing else Tally(2))
    assert len(bad) > len(failing) or policy == "run"


@pytest.mark.parametrize("crash_rate", [0.0, 0.1])
def test_a_cancellation_travels_down_a_long_chain(crash_rate):
    chains = stage(seed=3, crash_rate=crash_rate)
    graph = chain(SIZE)
    for key, after in graph.items():
        chains.submit(key, after)
    assert chains.batch("b1").status is BatchStatus.WAITING
    chains.cancel("b1")
    chains.run()
    assert chains.batch("b0").status is BatchStatus.DONE
    for key in list(graph)[1:]:
        batch = chains.batch(key)
        assert batch.status is BatchStatus.CANCELLED
        assert batch.finished
        assert (batch.error is None) == (key == "b1")
    assert chains.batch("b999").error == (
        f"batch {chains.id_of('b998')}, for which this one waited, was cancelled"
    )


def test_a_batch_whose_file_is_gone_by_its_turn_is_cancelled_and_so_are_those_after_it():
    chains = stage()
    for key, after in chain(3).items():
        chains.submit(key, after)
    chains.store.delete(chains.batch("b1").upload.key)
    chains.run()
    assert chains.batch("b0").status is BatchStatus.DONE
    assert chains.batch("b1").error == "the file is gone, or another was sent in its place"
    assert chains.batch("b2").status is BatchStatus.CANCELLED


def test_an_open_batch_ends_when_it_is_closed_and_then_its_followers_go():
    chains = stage()
    opened = chains.opened.open(["sleep 0"], client_id=CLIENT, idempotency_key="open")
    chains.submit("next", ["open"])
    chains.run()
    assert chains.batch("next").status is BatchStatus.WAITING
    chains.opened.close(opened.batch_id, client_id=CLIENT)
    chains.run()
    assert chains.batch("next").status is BatchStatus.DONE


def test_a_batch_that_was_left_behind_goes_when_it_is_read():
    chains = stage()
    chains.submit("first")
    chains.submit("next", ["first"])
    chains.monitor.cancel_batch(chains.id_of("first"), chains.clock.now())
    while messages := chains.tasks.receive(10, wait_s=0, visibility_s=30):
        chains._work(messages)
        chains.tasks.delete(messages)
    answers = chains.responses.receive(10, wait_s=0, visibility_s=1)
    bodies = {str(n): message.body for n, message in enumerate(answers)}
    collect(bodies, chains.monitor, chains.clock)  # by a process that died, and told nobody
    chains.responses.delete(answers)
    assert chains.batch("first").finished

    def read() -> BatchView:
        return chains.results.status(chains.id_of("next"), client_id=CLIENT)

    assert read().status is BatchStatus.WAITING
    chains.run()
    assert chains.batch("next").status is BatchStatus.WAITING
    chains.clock.sleep(2 * LEFT_S)
    read()
    chains.run()
    assert chains.batch("next").status is BatchStatus.CANCELLED


class TestRefusals:
    @pytest.fixture
    def chains(self):
        chains = stage()
        chains.submit("first")
        return chains

    def submit(self, chains: Chains, client_id: str = CLIENT, **options: Any) -> BatchRecord:
        return chains.submission.submit(
            ["sleep 0"], client_id=client_id, options=BatchOptions(**options)
        )

    def test_a_batch_that_is_not_there_or_of_another_client_is_named(self, chains):
        for missing in ("nonsense", chains.id_of("never")):
            with pytest.raises(InvalidTask, match=f"^after: no batch '{missing}'"):
                self.submit(chains, after=(missing,))
        first = chains.id_of("first")
        with pytest.raises(InvalidTask, match=f"^after: no batch '{first}'"):
            self.submit(chains, "mallory", after=(first,))
        assert not chains.monitor.batches("mallory", limit=5, cursor=None).items
        assert chains.batch("first").followers == ()

    def test_after_failures_needs_after(self, chains):
        with pytest.raises(InvalidTask, match="after_failures says what becomes of `after`"):
            self.submit(chains, after_failures="run")

    def test_an_open_batch_waits_for_none(self, chains):
        with pytest.raises(InvalidTask, match="an open batch cannot wait for others"):
            chains.opened.open(
                client_id=CLIENT, options=BatchOptions(after=(chains.id_of("first"),))
            )

    def test_no_more_batches_wait_for_one_than_its_record_holds(self, chains):
        chains.precedence._max_followers = 2
        for key in ("a", "b"):
            chains.submit(key, ["first"])
        with pytest.raises(InvalidTask, match="2 batches wait for batch"):
            chains.submit("c", ["first"])
        chains.submit("b", ["first"])  # what is recorded may be sent again

    def test_a_submission_that_nobody_can_repeat_is_cancelled_when_it_fails(self, chains):
        first = chains.id_of("first")
        chains.flaky._fault = lambda name: "before" if name == "note_follower" else None
        with pytest.raises(TransientError):
            self.submit(chains, after=(first,))
        (batch,) = [
            each
            for each in chains.monitor.batches(CLIENT, limit=5, cursor=None).items
            if each.after
        ]
        assert batch.status is BatchStatus.CANCELLED
        chains.run()
        assert chains.monitor.batch(batch.batch_id).total == 0
