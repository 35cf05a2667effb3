"""A caller that `bench.trouble` watches and sometimes kills:
`python -m bench.trouble_driver POOL CALLS FOLDER`. Owns how each pool is called with futures, and
what the calls do.

A call writes a line to `FOLDER/log` when it begins and another when it ends, so that what ran, how
often and in which process is known whoever dies. The caller writes `FOLDER/batch` once it knows the
batch, and `FOLDER/outcome` when it has waited for all calls.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskfleet import FleetExecutor

SLOTS = 2
NAP_S = 0.2
TIMEOUT_S = 2.0
"""Time-out of a call where the pool has one."""
PATIENCE_S = 10.0
"""Seconds after which a call that hangs is taken to go on for ever."""
WORDS = "what the call printed"


def noted(folder: str, index: int, work: Callable[[], Any]) -> int:
    """Note the call's begin and end around its work. Returns its index."""

    def note(word: str) -> None:
        with (Path(folder) / "log").open("a") as log:
            log.write(f"{word} {index} {os.getpid()}\n")

    note("begin")
    work()
    note("end")
    return index


def quick(folder: str, index: int) -> int:
    return noted(folder, index, lambda: None)


def nap(folder: str, index: int) -> int:
    return noted(folder, index, lambda: time.sleep(NAP_S))


def crash(folder: str, index: int) -> int:
    """End the process without a word, as a fault in native code does."""
    return noted(folder, index, lambda: os._exit(1))


def hang(folder: str, index: int) -> int:
    return noted(folder, index, lambda: time.sleep(3600))


def speak(folder: str, index: int) -> int:
    return noted(folder, index, lambda: print(WORDS))


CALLS: dict[str, list[Callable[[str, int], int]]] = {
    "crash": [crash if index == 100 else quick for index in range(200)],
    "killed": [nap] * 40,
    "hang": [hang, *[quick] * 9],
    "driver": [nap] * 40,
    "print": [speak],
}
"""The calls of each trouble, one function each."""


class Pool:
    """A pool with futures: `submit` starts a call, `result` waits for it or raises, `output` is
    what it printed, as far as the pool knows."""

    def __init__(
        self,
        submit: Callable[..., Any],
        result: Callable[[Any, float | None], Any],
        output: Callable[[Any], str] = lambda _future: "",
        batch_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.submit = submit
        self.result = result
        self.output = output
        self.batch_id = batch_id


@contextmanager
def process_pool() -> Iterator[Pool]:
    with ProcessPoolExecutor(SLOTS) as pool:
        yield _of_executor(pool)


@contextmanager
def loky() -> Iterator[Pool]:
    yield _of_executor(
        importlib.import_module("joblib.externals.loky").get_reusable_executor(SLOTS)
    )


@contextmanager
def dask() -> Iterator[Pool]:
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=SLOTS, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield Pool(
            lambda *call: client.submit(*call, pure=False),
            lambda future, timeout_s: future.result(timeout_s),
        )


@contextmanager
def ray() -> Iterator[Pool]:
    module = importlib.import_module("ray")
    module.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    try:
        yield Pool(
            lambda fn, *args: module.remote(fn).remote(*args),
            lambda future, timeout_s: module.get(future, timeout=timeout_s),
        )
    finally:
        module.shutdown()


@contextmanager
def fleet() -> Iterator[Pool]:
    with FleetExecutor(timeout_s=TIMEOUT_S, name="trouble") as pool:
        yield Pool(
            pool.submit,
            lambda future, timeout_s: future.result(timeout_s),
            lambda future: future.log(),
            lambda: pool.batch_id,
        )


@contextmanager
def without_cloud() -> Iterator[Pool]:
    with FleetExecutor(timeout_s=TIMEOUT_S, local=True, slots=SLOTS) as pool:
        yield Pool(
            pool.submit,
            lambda future, timeout_s: future.result(timeout_s),
            lambda future: future.log(),
        )


POOLS = {
    "FleetExecutor": fleet,
    "FleetExecutor(local=True)": without_cloud,
    "ProcessPoolExecutor": process_pool,
    "loky": loky,
    "dask.distributed": dask,
    "ray": ray,
}


def _of_executor(pool: Executor) -> Pool:
    return Pool(pool.submit, lambda future, timeout_s: future.result(timeout_s))


def write(folder: str, name: str, value: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    draft = Path(folder) / f"{name}.draft"
    draft.write_text(json.dumps(value))
    draft.rename(Path(folder) / name)


def main() -> None:
    name, trouble, folder = sys.argv[1:]
    with POOLS[name]() as pool:
        # Under their module's name, which every process can import.
        module = importlib.import_module("bench.trouble_driver")
        functions = [getattr(module, function.__name__) for function in CALLS[trouble]]
        futures = []
        for index, function in enumerate(functions):
            try:
                futures.append(pool.submit(function, folder, index))
            except Exception as error:  # noqa: BLE001 - what a broken pool raises is its own
                print(f"{name} takes no more: {error!r:.100}", file=sys.stderr)
                futures.append(None)
        deadline = time.monotonic() + 5.0
        while name == "FleetExecutor" and pool.batch_id() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        write(folder, "batch", pool.batch_id())
        began = time.monotonic()
        good, ended_s = 0, None
        for future in futures:
            patience_s = PATIENCE_S if trouble == "hang" else None
            try:
                good += future is not None and pool.result(future, patience_s) is not None
            except Exception as error:  # noqa: BLE001 - so is what a lost call raises
                print(f"{name}: {error!r:.100}", file=sys.stderr)
            if ended_s is None:
                ended_s = time.monotonic() - began
        printed = pool.output(futures[-1]) if trouble == "print" else ""
        outcome = {"good": good, "first_s": ended_s, "printed": printed.strip() == WORDS}
        write(folder, "outcome", outcome)
        if trouble == "hang":
            os._exit(0)  # some pools wait for the call at their end


if __name__ == "__main__":
    main()
