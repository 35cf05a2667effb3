"""What `bench.functions` compares: pools of this machine that call functions. Owns how each is
started and called, no more than a user would write; the workloads are in `bench.functions`.

Each peer is a context manager of `Calls` with so many slots, or raises PeerMissing if it is not
installed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil

from bench.harness import Bench, cloud_processes
from taskfleet import Client, FleetExecutor


class PeerMissing(Exception):
    """The peer is not installed."""


@dataclass(frozen=True)
class Calls:
    """A pool that was started. `many` calls a function with each item and returns the results in
    order; `one` calls it once; `processes` are those that work for it, without this one; `spent`
    returns the AWS calls so far and their US dollars."""

    many: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
    one: Callable[[Callable[[Any], Any], Any], Any]
    processes: Callable[[], list[psutil.Process]]
    spent: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)


@dataclass(frozen=True)
class Peer:
    """A pool to compare. `keeps`: what is left of results when the caller dies."""

    name: str
    keeps: str
    started: Callable[[int], contextlib.AbstractContextManager[Calls]]


def children() -> list[psutil.Process]:
    """The processes that descend from this one."""
    return psutil.Process().children(recursive=True)


@contextmanager
def process_pool(slots: int) -> Iterator[Calls]:
    """The standard library's pool, with its default chunksize of 1."""
    with ProcessPoolExecutor(slots) as pool:
        yield Calls(
            lambda fn, items: list(pool.map(fn, items)),
            lambda fn, item: pool.submit(fn, item).result(),
            children,
        )


@contextmanager
def loky(slots: int) -> Iterator[Calls]:
    """joblib with its own batching."""
    joblib = _module("joblib")
    with joblib.Parallel(n_jobs=slots) as parallel:

        def many(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(parallel(joblib.delayed(fn)(item) for item in items))

        yield Calls(many, lambda fn, item: many(fn, [item])[0], children)


@contextmanager
def dask(slots: int) -> Iterator[Calls]:
    """dask.distributed with a worker process for each core."""
    distributed = _module("distributed")
    processes = min(slots, os.cpu_count() or 1)
    with (
        distributed.LocalCluster(
            n_workers=processes, threads_per_worker=slots // processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield Calls(
            lambda fn, items: list(client.gather(client.map(fn, items, pure=False))),
            lambda fn, item: client.submit(fn, item, pure=False).result(),
            children,
        )


@contextmanager
def ray(slots: int) -> Iterator[Calls]:
    """ray on this machine."""
    module = _module("ray")
    module.init(num_cpus=slots, include_dashboard=False, log_to_driver=False)

    def many(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        remote = module.remote(fn)
        return list(module.get([remote.remote(item) for item in items]))

    try:
        yield Calls(many, lambda fn, item: many(fn, [item])[0], children)
    finally:
        module.shutdown()


@contextmanager
def without_cloud(slots: int) -> Iterator[Calls]:
    """`FleetExecutor(local=True)`."""
    with FleetExecutor(local=True, slots=slots) as pool:
        yield _of_executor(pool, children)


def on_cloud(bench: Bench) -> Callable[[int], contextlib.AbstractContextManager[Calls]]:
    """`FleetExecutor` through HTTP, queue and table of a local cloud, with one worker."""

    @contextmanager
    def started(slots: int) -> Iterator[Calls]:
        variables = bench.cloud.variables

        def processes() -> list[psutil.Process]:
            found = [*cloud_processes(bench.cloud), *bench.running_workers]
            return list({p: None for w in found for p in (w, *w.children(recursive=True))})

        with (
            bench.workers(1, slots),
            Client(variables["TASKFLEET_URL"], variables["TASKFLEET_TOKEN"]) as client,
            FleetExecutor(client=client) as pool,
        ):

            def spent() -> tuple[float, float]:
                if pool.batch_id is None:
                    return 0.0, 0.0
                while True:
                    batch = client.status(pool.batch_id)
                    if batch.succeeded + batch.failed + batch.cancelled == batch.total:
                        return batch.aws_calls, batch.cost_usd
                    time.sleep(0.01)  # the last results come before they are counted

            yield replace(_of_executor(pool, processes), spent=spent)

    return started


def _of_executor(pool: FleetExecutor, processes: Callable[[], list[psutil.Process]]) -> Calls:
    return Calls(
        lambda fn, items: list(pool.map(fn, items)),
        lambda fn, item: pool.submit(fn, item).result(),
        processes,
    )


def peers(bench: Bench) -> list[Peer]:
    """All peers, the project's own first."""
    return [
        Peer("FleetExecutor", "all, for days", on_cloud(bench)),
        Peer("FleetExecutor(local=True)", "nothing", without_cloud),
        Peer("ProcessPoolExecutor", "nothing", process_pool),
        Peer("joblib (loky)", "nothing", loky),
        Peer("dask.distributed", "nothing", dask),
        Peer("ray", "nothing", ray),
    ]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissing(name) from error
