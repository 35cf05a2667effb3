"""The faulty AWS: a hop between every process and the emulators of AWS makes calls fail in the ways
in which AWS fails. What was accepted has one result each, and the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.aws.cells import Plan
from tests.faults.aws.client import Verdict
from tests.faults.aws.work import ROLES, Work
from tests.support.hop import pass_on
from tests.support.stage import Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

KINDS = ("--kinds", "tests.faults.aws.kinds")
ROUNDS = 20
"""Most rounds until each cell has fired."""
TELLING = {
    ("api", "PutItem", "batch"): "lost reply",
    ("api", "SendMessageBatch", "Task_to_process"): "throttle",
    ("api", "HeadObject", "uploads"): "expired",
    ("reader", "SendMessageBatch", "Task_to_process"): "lost reply",
    ("reader", "GetObject", "uploads"): "500",
    ("worker", "ReceiveMessage", "Task_to_process"): "lost reply",
    ("worker", "UpdateItem", "bundle, claim"): "lost reply",
    ("worker", "UpdateItem", "bundle, renew"): "conflict",
    ("worker", "UpdateItem", "bundle, commit"): "lost reply",
    ("worker", "SendMessageBatch", "Processed_Task"): "lost reply",
    ("worker", "DeleteMessageBatch", "Task_to_process"): "reset",
    ("collector", "UpdateItem", "batch, count"): "lost reply",
    ("collector", "DeleteMessageBatch", "Processed_Task"): "503",
    ("provisioner", "CreateFleet", ""): "lost reply",
    ("provisioner", "DescribeInstances", ""): "stale read",
    ("provisioner", "GetQueueAttributes", ""): "stale count",
}
"""The cells of the slice: after each of these, something is done twice unless it is prevented."""


def one_round(
    made: Stage, plan: Plan, work: Work, name: str, *, hangs: bool = False, dense: bool = False
) -> None:
    """One round of the work, with faults."""
    plan.begin(hangs=hangs, dense=dense)
    made.hop.decide = plan
    work.start(role for role in ROLES if role != "worker")
    work.submit(name)
    work.finish(name)
    made.hop.decide = pass_on
    work.judge.settle(name)


def test_the_most_telling_cells(
    start_cloud: Callable[..., Any], tmp_path: Path, figures: Callable[..., Any], deep: bool
) -> None:
    if deep:
        pytest.skip("they are among all cells")
    found = figures("aws", unit="cells")
    plan, verdict = Plan(TELLING), Verdict()
    with stage(start_cloud, tmp_path, *KINDS) as made:
        work = Work(made, verdict, brief=True)
        one_round(made, plan, work, "slice")
        found.add(tried=len(TELLING), fired=plan.take(made.hop.fired))
    found.judge(lost=verdict.lost, doubled=verdict.doubled, wrong=verdict.wrong)
    assert not verdict.faults, verdict.faults
    fired = {(row.sender, row.operation, row.about) for row, _ in plan.fired}
    assert fired == TELLING.keys(), TELLING.keys() - fired


def test_every_cell(
    start_cloud: Callable[..., Any], tmp_path: Path, figures: Callable[..., Any], deep: bool
) -> None:
    if not deep:
        pytest.skip("all cells take minutes: make faults")
    found = figures("aws", unit="cells")
    plan, verdict = Plan(), Verdict()
    with stage(start_cloud, tmp_path, *KINDS) as made:
        work = Work(made, verdict)
        hangs, left = False, []
        for number in range(ROUNDS):
            one_round(made, plan, work, f"r{number}", hangs=hangs, dense=number > 1)
            fired = plan.take(made.hop.fired)
            found.add(fired=fired)
            left = plan.missing(number + 1, hangs=hangs)
            told = [f"{row}: {name}" for row, name in left]
            print(f"round {number}: {fired} faults; {len(left)} cells to go, {verdict.faults}")
            print("\n".join(told[:40]), flush=True)
            if not left and hangs:
                break
            hangs = not left or hangs  # hangs take their time: they have rounds of their own
            for role in ROLES:
                made.kill(role)
            work.forget_fleet()
    found.rows.extend(plan.rows())
    found.add(tried=len(plan.fired))
    found.judge(lost=verdict.lost, doubled=verdict.doubled, wrong=verdict.wrong)
    assert not verdict.faults, verdict.faults
    assert hangs, left
    assert not left
