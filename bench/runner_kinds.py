"""Task kinds of the benchmark of runner processes: load them with `--kinds bench.runner_kinds`."""

from __future__ import annotations

import time
from typing import Any

from taskfleet.registry import task_kind


@task_kind("echo")
def echo(params: Any, context: Any) -> Any:  # noqa: ARG001
    """Returns its params."""
    return params


@task_kind("spin")
def spin(params: Any, context: Any) -> float:  # noqa: ARG001
    """Uses `params` milliseconds of one core's time, and returns the seconds used."""
    seconds = float(params) / 1000
    began = time.thread_time()
    while (used := time.thread_time() - began) < seconds:
        sum(range(1000))
    return used
