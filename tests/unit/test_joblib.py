"""The backend of joblib, on the standard library's executor: what is handed over, and what comes
back."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import taskfleet.joblib
from taskfleet.joblib import BatchCall, Sharing


class Recording(ThreadPoolExecutor):
    """Runs what comes back from its pickle, as workers do."""

    def __init__(self):
        super().__init__(4)
        self.sent = []
        self.ends = 0

    def submit(self, fn, /, *args):
        self.sent.append((fn, args))
        data = pickle.dumps((fn, args))
        return super().submit(lambda: pickle.loads(data)[0](*pickle.loads(data)[1]))

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.ends += 1
        super().shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def pool():
    taskfleet.joblib.register()
    with Recording() as made:
        yield made


def double(x):
    return 2 * x


def total(array, factor=1):
    return float(array.sum()) * factor


def fails(x):
    raise KeyError(x)


def nested(n):
    threads = {threading.get_ident()}

    def note():
        threads.add(threading.get_ident())

    Parallel(n_jobs=4)(delayed(note)() for _ in range(n))
    return len(threads)


def test_calls_come_back_in_order_and_the_executor_stays(pool):
    with parallel_config(backend="taskfleet", executor=pool):
        assert Parallel()(delayed(double)(i) for i in range(300)) == [2 * i for i in range(300)]
        assert Parallel(n_jobs=3)(delayed(double)(i) for i in range(5)) == [0, 2, 4, 6, 8]
    assert pool.ends == 0
    assert {fn.__qualname__ for fn, _ in pool.sent} == {"double"}
    assert len({id(fn) for fn, _ in pool.sent}) == 2  # one for each Parallel call


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_results_can_be_taken_as_they_come(pool, how):
    with parallel_config(backend="taskfleet", executor=pool):
        results = Parallel(return_as=how)(delayed(double)(i) for i in range(50))
        assert sorted(results) == [2 * i for i in range(50)]


def test_calls_in_batches(pool):
    with parallel_config(backend="taskfleet", executor=pool):
        calls = Parallel(n_jobs=2, batch_size=10, pre_dispatch="all")(
            delayed(double)(i) for i in range(95)
        )
    assert calls == [2 * i for i in range(95)]
    sizes = [len(args[0]) for _, args in pool.sent]
    assert (max(sizes), sum(sizes)) == (10, 95)


def test_what_a_call_raises_is_raised_and_ends_the_others(pool):
    with (
        parallel_config(backend="taskfleet", executor=pool),
        pytest.raises(KeyError, match="3"),
    ):
        Parallel()(delayed(fails)(3) for _ in range(5))
    with parallel_config(backend="taskfleet", executor=pool):
        assert Parallel()([delayed(double)(1)] * 2) == [2, 2]


def test_a_time_out_of_joblib_is_kept(pool):
    with (
        parallel_config(backend="taskfleet", executor=pool),
        pytest.raises(multiprocessing.TimeoutError),
    ):
        Parallel(timeout=0.1)(delayed(time.sleep)(0.5) for _ in range(2))


def test_parallel_calls_within_a_call_run_in_its_slot(pool):
    with parallel_config(backend="taskfleet", executor=pool):
        assert Parallel()(delayed(nested)(4) for _ in range(2)) == [1, 1]


def test_large_arguments_of_several_calls_travel_once(pool):
    big, other = np.arange(50_000.0), np.ones(50_000)
    with parallel_config(backend="taskfleet", executor=pool):
        results = Parallel()(delayed(total)(big, factor=i) for i in range(10))
        Parallel()(delayed(total)(each) for each in (big, other))
    assert results == [big.sum() * i for i in range(10)]
    functions = [fn for fn, _ in pool.sent[:10]]
    assert len({id(fn) for fn in functions[1:]}) == 1
    assert functions[1].shared[0] is big
    sizes = [len(pickle.dumps(args)) for _, args in pool.sent[:10]]
    assert sizes[0] > 400_000
    assert max(sizes[1:]) < 1_000
    assert [fn.shared for fn, _ in pool.sent[10:]] == [[], []]


def test_arguments_that_differ_are_not_shared():
    sharing = Sharing(1_000)
    for i in range(300):
        call, items = sharing.split([(double, [bytes([i % 256]) * 2_000], {})])
        assert call.shared == []
        assert len(items[0][1][0]) == 2_000
    assert len(sharing._seen) == taskfleet.joblib.SEEN_MAX


class Wrapped:
    """A function with the filters of warnings of its process, as scikit-learn sends it."""

    def __init__(self, filters):
        self.warning_filters = filters

    def __call__(self):
        return self.warning_filters


def test_filters_of_warnings_that_workers_do_not_know_stay_here():
    class Foreign(Warning):
        pass

    Foreign.__module__ = "urllib3.exceptions"
    kept = [
        ("ignore", None, DeprecationWarning, None, 0),
        ("always", None, ResourceWarning, "x", 3),
    ]
    wrapped = Wrapped([kept[0], ("default", None, Foreign, None, 0), kept[1], "odd"])
    call, items = Sharing().split([(wrapped, [], {})])
    assert call(items) == [kept]
    assert len(wrapped.warning_filters) == 4


def test_functions_with_shared_arguments_are_bounded():
    sharing = Sharing(1_000)
    kept = [bytes([i]) * 2_000 for i in range(40)]
    for value in kept:
        sharing.split([(double, [value], {})])
        call, items = sharing.split([(double, [value, value], {"x": value})])
        assert call.shared == [value]
        assert call([(lambda *a, **k: (a, k), *items[0][1:])]) == [((value, value), {"x": value})]
    assert len(sharing._calls) == taskfleet.joblib.KEPT_MAX


def test_an_executor_and_its_options_do_not_go_together(pool):
    with pytest.raises(ValueError, match="executor is given, so name has no effect"):
        parallel_config(backend="taskfleet", executor=pool, name="x")
    with (
        parallel_config(backend="taskfleet", executor=pool),
        pytest.raises(ValueError, match="n_j"),
    ):
        Parallel(n_jobs=0)([delayed(double)(1)])


def test_each_parallel_call_is_a_batch_with_a_key_of_its_own(monkeypatch):
    taskfleet.joblib.register()
    made = []

    def make(**options):
        made.append((options, Recording()))
        return made[-1][1]

    monkeypatch.setattr("taskfleet.executor.FleetExecutor", make)
    with parallel_config(backend="taskfleet", key="search", requirements=["numpy"]):
        Parallel()([delayed(double)(1)] * 2)
        Parallel()([delayed(double)(1)] * 2)
    assert [options for options, _ in made] == [
        {"key": "search", "requirements": ["numpy"]},
        {"key": "search-2", "requirements": ["numpy"]},
    ]
    assert [pool.ends for _, pool in made] == [1, 1]


def test_workers_read_the_function_without_joblib():
    data = pickle.dumps((BatchCall("double"), [(abs, [-1], {})]))
    code = (
        "import sys, pickle; sys.modules['joblib'] = None; del sys.modules['joblib']\n"
        f"call, items = pickle.loads({data!r})\n"
        "assert 'joblib' not in sys.modules\n"
        "print(call(items))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == b"[1]\n"


def test_without_joblib_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['joblib'] = None\n"
        "import taskfleet.joblib\n"
        "try: taskfleet.joblib.register()\n"
        "except ImportError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == b"joblib is not installed: pip install 'taskfleet[joblib]'\n"
    assert joblib.__version__
