"""Random histories of the whole stage: the real API services, readers of files, collectors, ticks
and workers on memory adapters and a virtual clock (`tests.faults.machine`).

A history that fails is printed step by step, and is the same each time it is played.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import run_state_machine_as_test

from taskfleet.memory import MemoryMonitor
from taskfleet.scheduler.after import Precedence, Turn
from taskfleet.scheduler.enqueue import Enqueuer
from tests.faults.machine import Histories
from tests.faults.machine_ports import FAULTS

pytestmark = pytest.mark.timeout(3_600)

STEPS = 60
SLICE, DEEP = 300, 5_000
"""Histories in `make test` and in `make faults`."""
EFFECTS = {
    "monitor.add_part",
    "monitor.cancel_batch",
    "monitor.claim",
    "monitor.commit",
    "monitor.create_batch",
    "monitor.note_follower",
    "monitor.record_enqueued",
    "monitor.record_progress",
    "responses.send",
    "tasks.delete",
    "tasks.send",
    "uploads.send",
}
"""Calls of which each must have met a fault in some history."""


def play(machine: type[Histories], profile: settings, folder: Path) -> None:
    """Play histories. `folder` is where hypothesis may keep something, so that it does not here."""
    set_hypothesis_home_dir(folder)
    logging.disable()  # the steps tell what a million warnings would
    try:
        run_state_machine_as_test(machine, settings=profile)
    finally:
        logging.disable(logging.NOTSET)


def profile_of(histories: int, **more: Any) -> settings:
    return settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def test_histories(
    figures: Any, deep: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No history loses a task, counts one twice or gives it a wrong result. The slice is the same
    each time. The deep run takes another seed, which it prints, or that of `--hypothesis-seed`."""
    found = figures("histories", unit="histories")
    machine = type("Histories", (Histories,), {"fired": Counter(), "found": Counter()})
    if deep:
        number = int(request.config.getoption("--hypothesis-seed") or time.time())
        print(f"to play the same histories again: --hypothesis-seed={number}")
        machine = hypothesis.seed(number)(machine)
        profile = profile_of(DEEP)
    else:
        profile = profile_of(SLICE, derandomize=True, phases=[Phase.generate])
    try:
        play(machine, profile, tmp_path)
    finally:
        met = {name: count for name, count in machine.fired.items() if name[1]}
        found.add(tried=machine.played, fired=sum(met.values()))
        found.judge(**{each: machine.found[each] for each in ("lost", "doubled", "wrong")})
        for call in sorted({name for name, _ in machine.fired}):
            counts = {fault: machine.fired[call, fault] for fault in FAULTS}
            found.rows.append({"call": call, "without": machine.fired[call, ""], **counts})
    assert {name for name, fault in met} >= EFFECTS, "calls that met no fault"


def count_again(monitor: MemoryMonitor, batch_id: str, *args: Any, **options: Any) -> Any:
    """Count responses of a batch, whether they are counted or not."""
    monitor._counted.get(batch_id, set()).clear()
    return record_progress(monitor, batch_id, *args, **options)


def enqueue_late(enqueuer: Enqueuer, batch: Any, *args: Any) -> None:
    """Record that bundles are on the queue, and then put them there."""
    enqueuer._monitor.record_enqueued(batch.batch_id, batch.total)
    enqueue(enqueuer, batch, *args)


record_progress, enqueue = MemoryMonitor.record_progress, Enqueuer.enqueue


@pytest.mark.parametrize(
    ("owner", "name", "broken", "kind"),
    [
        (MemoryMonitor, "record_progress", count_again, "doubled"),
        (Enqueuer, "enqueue", enqueue_late, "lost"),
        (Precedence, "turn", lambda *_: Turn(), "wrong"),
    ],
)
def test_histories_find_what_is_broken(
    owner: Any, name: str, broken: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protection is taken away. Some history of the first ones shows it."""
    monkeypatch.setattr(owner, name, broken)
    machine = type("Histories", (Histories,), {"fired": Counter(), "found": Counter()})
    with pytest.raises(AssertionError, match=f"^{kind}: "):
        play(machine, profile_of(60, derandomize=True, phases=[Phase.generate]), tmp_path)
