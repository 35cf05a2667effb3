"""Calls of Python functions, side by side with other pools in one run, each when installed:
`python -m bench.functions [--quick]`.

Every pool runs the same functions on this machine, with the same number of slots, and every result
is back in the caller's hands when the clock stops. Only FleetExecutor on a local cloud records its
calls and results where they outlive the caller; the others keep them in memory, which the column
`results outlive the caller` says. Pools are warm: started, and called before.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import report
from bench.function_peers import Calls, Peer, PeerMissing, peers
from bench.harness import API, COLLECTOR, BenchFailed, bench_cloud
from bench.machine import CpuWatch
from bench.report import Row

CPU_S = 0.25
"""CPU seconds of one call of `burn`."""
NAP_S = 0.01
"""Seconds of one call of `nap`."""
SLOTS = 16
"""Slots for calls that wait."""
RESULT_BYTES = 10_000
ARGUMENT_BYTES = 1_000_000
WARM_CALLS = 320
"""Calls of each quick function before the clock runs: enough for Taskfleet to know how long they
take (`taskfleet.executor.slowstart.ENOUGH`)."""


def identity(value: Any) -> Any:
    """The least call."""
    return value


def burn(_value: Any) -> int:
    """Keep a core busy in pure Python."""
    rounds = 0
    until = time.thread_time() + CPU_S
    while time.thread_time() < until:
        rounds += 1
    return rounds


def nap(_value: Any) -> None:
    """Wait."""
    time.sleep(NAP_S)


def size(data: bytes) -> int:
    """Take an argument of some size. Ray takes no built-in function."""
    return len(data)


def bytes_of(count: int) -> bytes:
    """A result of some size."""
    return b"r" * count


@dataclass(frozen=True)
class Timed:
    """A workload's seconds, the CPU seconds of all processes but emulators of AWS, and for
    FleetExecutor on a cloud the AWS calls and their price."""

    seconds: float
    cpu_s: float
    aws_calls: float
    usd: float


def main() -> None:
    options = report.options("functions", __doc__)
    cores = os.cpu_count() or 1
    rows: list[Row] = []
    with bench_cloud(latency_ms=options.latency_ms) as bench:
        for peer in peers(bench):
            try:
                rows.append(row(peer, cores, options))
            except PeerMissing as missing:
                print(f"not installed: {missing}")
    name = options.named("functions")
    title = f"Python functions on {cores} cores, results back at the caller"
    report.publish(options, name, title, rows)


def row(peer: Peer, cores: int, options: report.Options) -> Row:
    """All figures of one peer, each the median of the repeats."""
    small = options.pick(10_000, 2_000)
    busy = options.pick(64, 8)
    naps = options.pick(2_000, 320)
    results = options.pick(1_000, 200)
    arguments = options.pick(100, 10)
    lone = options.pick(101, 11)
    repeats = options.repeats

    with peer.started(cores) as pool:
        warm_up(pool)
        calls = middle(repeats, lambda: timed(pool, identity, range(small)))
        one_s = statistics.median(alone(pool) for _ in range(lone))
        burnt = middle(repeats, lambda: timed(pool, burn, range(busy)))
        ten_kb = middle(repeats, lambda: timed(pool, bytes_of, [RESULT_BYTES] * results))
        megabytes = [os.urandom(ARGUMENT_BYTES) for _ in range(arguments)]
        sent = middle(repeats, lambda: timed(pool, size, megabytes))
    with peer.started(SLOTS) as pool:
        warm_up(pool)
        napped = middle(repeats, lambda: timed(pool, nap, range(naps)))
    return {
        "pool": peer.name,
        "results outlive the caller": peer.keeps,
        "calls/s": small / calls.seconds,
        "CPU us a call": calls.cpu_s / small * 1e6,
        "one call ms": one_s * 1e3,
        f"{busy} x {CPU_S} s CPU efficiency": busy * CPU_S / cores / burnt.seconds,
        f"{naps} x {NAP_S * 1e3:g} ms on {SLOTS} slots": naps * NAP_S / SLOTS / napped.seconds,
        "10 kB results/s": results / ten_kb.seconds,
        "AWS calls a 10 kB result": ten_kb.aws_calls / results,
        "$ a million 10 kB results": ten_kb.usd / results * 1e6,
        "1 MB arguments/s": arguments / sent.seconds,
        "AWS calls a 1 MB argument": sent.aws_calls / arguments,
        "$ a million 1 MB arguments": sent.usd / arguments * 1e6,
    }


def warm_up(pool: Calls) -> None:
    for function in (identity, nap, bytes_of):
        pool.many(function, [1] * WARM_CALLS)
    pool.many(burn, range(2))


def alone(pool: Calls) -> float:
    """Seconds of one call with nothing else to do."""
    started = time.perf_counter()
    pool.one(identity, 1)
    return time.perf_counter() - started


def timed(pool: Calls, function: Callable[[Any], Any], items: Sequence[Any]) -> Timed:
    """Call a function with all items. Raises BenchFailed unless every result is there."""
    working = [p for p in pool.processes() if not _emulates(p.cmdline())]
    watch = CpuWatch({"working": working})
    calls_before, usd_before = pool.spent()
    started = time.perf_counter()
    results = pool.many(function, items)
    seconds = time.perf_counter() - started
    cpu = watch.stop()
    if len(results) != len(items):
        raise BenchFailed(f"{len(results)} of {len(items)} results came back")
    calls, usd = pool.spent()
    cpu_s = cpu.groups_s["working"] + cpu.own_s
    return Timed(seconds, cpu_s, calls - calls_before, usd - usd_before)


def middle(repeats: int, measure: Callable[[], Timed]) -> Timed:
    """The run with the median time."""
    return sorted((measure() for _ in range(repeats)), key=lambda run: run.seconds)[
        (repeats - 1) // 2
    ]


def _emulates(command: Sequence[str]) -> bool:
    """Returns whether a process of the local cloud stands for AWS, whose CPU time is nobody's."""
    ours = {API, COLLECTOR}
    words = [word for word in command if word.startswith(("localcloud", "ministack", "moto"))]
    return bool(words) and ours.isdisjoint(command)


if __name__ == "__main__":
    main()
