"""joblib on `FleetExecutor(local=True)`: real runner processes of this machine."""

from __future__ import annotations

import os
import sys

import cloudpickle
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import taskfleet.joblib

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def local():
    taskfleet.joblib.register()
    with parallel_config(backend="taskfleet", local=True, slots=2):
        yield


def scaled(array, factor):
    return array[:3] * factor, os.getpid()


def fails(x):
    raise KeyError("missing", x)


def test_calls_run_in_runner_processes_and_share_a_large_argument():
    big = np.arange(200_000.0)
    results = Parallel()(delayed(scaled)(big, factor=i) for i in range(40))
    assert [list(array) for array, _ in results] == [[0, i, 2 * i] for i in range(40)]
    assert os.getpid() not in {pid for _, pid in results}
    assert Parallel()(delayed(len)("x" * i) for i in range(5)) == [0, 1, 2, 3, 4]


def test_the_calls_own_exception_is_raised_with_its_traceback():
    with pytest.raises(KeyError) as caught:
        Parallel()(delayed(fails)(i) for i in range(3))
    assert caught.value.args[0] == "missing"
    assert ", in fails" in str(caught.value.__cause__)
