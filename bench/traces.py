"""The traces that the simulation runs. Owns their shapes; each is generated from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.scenario import Trace

Maker = Callable[[int], Trace]
"""Makes a trace from a seed."""


def _poisson(rng: np.random.Generator, rate: float, start: float, end: float) -> np.ndarray:
    """Sorted arrival times of a Poisson process of `rate` per second, in [start, end)."""
    count = rng.poisson(rate * (end - start))
    return np.sort(rng.uniform(start, end, count))


def _trace(
    name: str,
    at: np.ndarray,
    seconds: np.ndarray,
    *,
    max_capacity: int = 100,
    droughts: Sequence[tuple[float, float]] = (),
) -> Trace:
    """A trace of tasks that may be out of order."""
    order = np.argsort(at, kind="stable")
    return Trace(name, at[order], seconds[order], max_capacity, droughts)


def step_ramp(seed: int) -> Trace:
    """Steps of 5 minutes up to 40 tasks of 8 s per second (320 slots) and down again."""
    rng = np.random.default_rng(seed)
    rates = [2, 8, 16, 28, 40, 28, 16, 8, 2]
    at = np.concatenate([_poisson(rng, r, i * 300, (i + 1) * 300) for i, r in enumerate(rates)])
    return _trace("step ramp", at, rng.exponential(8.0, len(at)))


def bursts(seed: int) -> Trace:
    """4,000 tasks of 2 to 6 s at once, every 15 minutes."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(8) * 900.0 + 30, 4_000)
    return _trace("bursts", at, rng.uniform(2.0, 6.0, len(at)))


def heavy_tail(seed: int) -> Trace:
    """Batches of 50 to 2,000 tasks at random times. Durations are log-normal with a mean of 15 s;
    the longest take many minutes."""
    rng = np.random.default_rng(seed)
    moments = _poisson(rng, 1 / 240, 0, 7200)
    sizes = np.exp(rng.uniform(np.log(50), np.log(2_000), len(moments))).astype(int)
    at = np.repeat(moments, sizes)
    sigma = 1.5
    seconds = rng.lognormal(np.log(15.0) - sigma**2 / 2, sigma, len(at))
    return _trace("heavy tail", at, seconds)


def constant_low(seed: int) -> Trace:
    """One task of 5 s every 5 s, both on average, for three hours."""
    rng = np.random.default_rng(seed)
    at = _poisson(rng, 0.2, 0, 3 * 3600)
    return _trace("constant low load", at, rng.exponential(5.0, len(at)))


def million(seed: int) -> Trace:
    """1,000,000 tasks of 2 to 6 s in one batch, for up to 1,024 machines."""
    rng = np.random.default_rng(seed)
    at = np.full(1_000_000, 60.0)
    return _trace("1,000,000 tasks", at, rng.uniform(2.0, 6.0, len(at)), max_capacity=1024)


def drought(seed: int) -> Trace:
    """The bursts of `bursts`; EC2 has no capacity in the first 3 minutes of every other one."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(8) * 900.0 + 30, 4_000)
    gaps = tuple((i * 900.0, i * 900.0 + 210.0) for i in range(0, 8, 2))
    return _trace("bursts in droughts", at, rng.uniform(2.0, 6.0, len(at)), droughts=gaps)


ALL: tuple[Maker, ...] = (step_ramp, bursts, heavy_tail, constant_low, drought, million)
SEEDS: dict[Maker, float] = {heavy_tail: 8, constant_low: 4, million: 1 / 5}
"""Factors on the number of seeds. A heavy tail varies much from seed to seed, as does a fleet of
one machine that may be interrupted; a million tasks hardly vary."""
