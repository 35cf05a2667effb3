"""The protocol of a bundle, explored exhaustively: two workers, the collector and a bundle of two
tasks, with the code that ships. `tests.model.moves` has what can happen, `tests.model.judge` the
promises."""

from __future__ import annotations

import functools
import logging
from collections import Counter

import pytest

from tests.model.explore import Found, explore
from tests.model.frozen import Scenario
from tests.model.scenarios import BROKEN, DEEP, SLICE, Broken

pytestmark = pytest.mark.timeout(1_200)

MUST_HAPPEN = [
    *("receive: claim is answered", "receive: claim loses its reply", "receive: unclaim"),
    *("receive: claim takes effect later", "the late claim takes effect"),
    *("run: renew is answered", "beat: renew is refused until the lease has ended"),
    *("run: task 1 ends its worker", "run: task 1 comes to its time-out", "run: task 0 is stopped"),
    *("run: task 1 fails for a while", "run: task 1 fails for good"),
    *("settle: commit is answered", "settle: commit loses its reply", "settle: commit is sent"),
    *("settle: release is answered", "settle: release loses its reply", "overstay", "drain"),
    *("publish: publish loses its reply", "publish: delete is refused", "publish: dead letter"),
    *("collect: record_progress loses its reply", "collect: delete answer is refused"),
    *("the client cancels", "the deleted message of bundle 0", "vanishes", "the lease of"),
]
"""Beginnings of what must happen somewhere, else the scenarios prove less than they seem to."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Logs nothing and waits for nothing: the model takes thousands of steps a second."""
    monkeypatch.setattr("ec2_worker.execute.NO_START_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@functools.cache
def explored(scenario: Scenario) -> Found:
    return explore(scenario)


def pytest_generate_tests(metafunc):
    if "scenario" in metafunc.fixturenames:
        scenarios = SLICE + (DEEP if metafunc.config.getoption("--deep") else [])
        metafunc.parametrize("scenario", scenarios, ids=lambda each: each.name)


def row(protocol: str, scenario: Scenario, found: Found) -> dict[str, object]:
    return {
        "protocol": protocol,
        "scenario": scenario.name,
        "states": found.states,
        "transitions": found.moves,
        "faults": found.faults,
        "found": found.fault or "nothing",
        "shortest way": "; ".join(found.steps),
    }


def test_every_state_keeps_the_promises(scenario, figures):
    found = explored(scenario)
    layer = figures("model", unit="states")
    layer.add(tried=found.states, fired=found.faults)
    layer.rows.append(row("as it ships", scenario, found))
    kind = found.kind_of_fault
    layer.judge(**({kind: 1} if kind else {}))
    assert not found.fault, f"{scenario}:\n{found}"
    assert found.states > 50


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.name)
def test_the_fault_of_a_broken_protocol_is_found(broken: Broken, figures):
    found = explored(broken.as_scenario)
    layer = figures("model", unit="states")
    layer.rows.append(row(broken.name, broken.as_scenario, found))
    assert broken.fault in found.fault, f"{broken.name}:\n{found}"
    assert found.steps


def test_everything_happens_somewhere():
    happened: Counter[str] = sum((explored(each).happened for each in SLICE), Counter())
    missing = [each for each in MUST_HAPPEN if not any(s.startswith(each) for s in happened)]
    assert not missing, sorted(happened)


def test_two_explorations_see_the_same():
    scenario = next(each for each in SLICE if each.name == "crash")
    one, other = explore(scenario), explore(scenario)
    assert (one.states, one.moves, one.happened) == (other.states, other.moves, other.happened)
