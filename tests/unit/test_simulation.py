"""The simulation that compares policies: it loses no task, bills every machine, and no policy beats
the clairvoyant."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import traces
from bench.policies import Clairvoyant, Taskfleet, bound, contenders
from bench.scenario import BILLED_MIN_S, PRICE_USD_H, Trace, World
from bench.simulation import Simulation

ARRIVALS = st.lists(
    st.tuples(st.floats(0, 600), st.integers(1, 200), st.floats(0, 120)), min_size=1, max_size=8
)


def make_trace(arrivals: list[tuple[float, int, float]], **options: Any) -> Trace:
    rows = sorted(arrivals)
    at = np.concatenate([np.full(count, moment) for moment, count, _ in rows])
    seconds = np.concatenate([np.full(count, length) for _, count, length in rows])
    return Trace("made up", at, seconds, **options)


def taskfleet(idle_s: float = 45.0) -> Taskfleet:
    return Taskfleet("taskfleet", every_s=15.0, nudged=True, idle_s=idle_s)


@settings(max_examples=40, deadline=None)
@given(ARRIVALS, st.integers(0, 1_000), st.sampled_from([0.0, 20.0]))
def test_every_task_is_done_once_and_every_machine_is_gone_whatever_fails(
    arrivals: list[tuple[float, int, float]], seed: int, spot_per_h: float
) -> None:
    trace = make_trace(arrivals, max_capacity=8, droughts=[(100.0, 200.0)])
    world = World(boot_failure=0.2, spot_per_h=spot_per_h, seed=seed)
    simulation = Simulation(trace, world, taskfleet())
    outcome = simulation.run(horizon_s=48 * 3600)
    assert simulation.done == len(trace.at)
    assert simulation.running == 0
    assert not simulation.queue
    assert not simulation.nodes
    assert outcome.peak <= 8
    assert not np.isnan(simulation.started_at).any()
    assert (simulation.started_at >= trace.at).all()
    assert simulation.queued_work_s == pytest.approx(0.0, abs=1e-3)


def test_policies_that_end_busy_machines_lose_no_task() -> None:
    trace = traces.bursts(1)
    for policy in contenders(World()):
        simulation = Simulation(trace, World(), policy)
        simulation.run(horizon_s=48 * 3600)
        assert simulation.done == len(trace.at), policy.name


def test_every_machine_is_billed_for_its_life_or_one_minute() -> None:
    trace = make_trace([(0.0, 16, 1.0)])
    world = World(boot_s=(10.0, 10.0), boot_failure=0.0, stale_s=0.0)
    outcome = Simulation(trace, world, Clairvoyant(30.0, 0.0, 0.0)).run()
    assert outcome.machines == 1
    assert outcome.cost_usd == pytest.approx(BILLED_MIN_S / 3600 * PRICE_USD_H)
    assert outcome.mean_wait_s == pytest.approx(10.0)


def until(trace: Trace, end_s: float) -> Trace:
    """The beginning of a trace. The clairvoyant tries 48 plans on each, so whole ones are slow."""
    kept = trace.at < end_s
    return replace(trace, at=trace.at[kept], seconds=trace.seconds[kept])


@pytest.mark.parametrize(
    ("make", "end_s"),
    [(traces.bursts, 2_700.0), (traces.heavy_tail, 3_600.0), (traces.constant_low, 3_600.0)],
)
def test_no_policy_beats_the_clairvoyant_and_ours_beats_the_others(make: Any, end_s: float) -> None:
    # Without interruptions, since in a single run they would decide the order.
    trace, world = until(make(2), end_s), World(seed=2, spot_per_h=0.0)
    outcomes = {policy.name: Simulation(trace, world, policy).run() for policy in contenders(world)}
    least = bound(trace, world).cost_x_wait
    ours = outcomes.pop("taskfleet").cost_x_wait
    assert least <= ours <= 2 * least
    for name, other in outcomes.items():
        assert ours < other.cost_x_wait, name


def test_runs_repeat_from_their_seed() -> None:
    def run() -> tuple[float, float]:
        outcome = Simulation(traces.heavy_tail(3), World(seed=3, spot_per_h=2.0), taskfleet()).run()
        return outcome.cost_usd, outcome.mean_wait_s

    assert run() == run()


def test_a_hundred_thousand_tasks_on_a_hundred_machines_take_a_second() -> None:
    """`make bench` runs a million: within 60 s, at this pace."""
    trace = replace(make_trace([(60.0, 100_000, 4.0)]), max_capacity=100)
    started = time.process_time()
    simulation = Simulation(trace, World(), taskfleet())
    outcome = simulation.run()
    assert simulation.done == 100_000
    assert outcome.peak == 100
    assert time.process_time() - started < 6
