"""Clients that wait (D5): however many ask, their held answers leave room for other clients, in the
threads of the local server and, computed, in the functions that an account may run at a time."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import pytest

from infra.functions import RATE_PER_S
from taskfleet.batch import Tally
from taskfleet.clock import SystemClock
from taskfleet.scheduler.waiting import NEAR_HOLD_S, WAIT_HOLD_S
from taskfleet.wire.http.batches import WAIT_MAX_S
from tests.support.frontend import Frontend
from tests.support.waiting import eventually
from tests.support.worker import Cloud

ACCOUNT_FUNCTIONS = 1_000
"""Functions that an account may run at a time ("Lambda quotas")."""
WAITERS = 120


def test_who_holds_as_many_answers_as_he_can_holds_up_no_other_client() -> None:
    api = Frontend(Cloud(clock=SystemClock()))
    batch_id = api.submit(["sleep 86400000"])
    token, other = api.token("alice"), api.token("bob")
    held: list[int] = []

    with api.served() as server:

        def ask(method: str, path: str, bearer: str, body: Any = None) -> int:
            line = http.client.HTTPConnection(*server.server_address[:2], timeout=20)  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
            line.request(method, path, None if body is None else json.dumps(body), headers)
            status = line.getresponse().status
            line.close()
            return status

        def wait() -> None:
            held.append(ask("GET", f"/batches/{batch_id}?wait={WAIT_MAX_S:g}", token))

        waiters = [threading.Thread(target=wait, daemon=True) for _ in range(WAITERS)]
        for waiter in waiters:
            waiter.start()
        eventually(lambda: len(server._connections) >= WAITERS or held, 10, "all wait")
        began = time.monotonic()
        assert ask("POST", "/batches", other, {"tasks": ["sleep 1"]}) == 202
        assert ask("GET", "/batches", other) == 200
        took_s = time.monotonic() - began
        assert len(held) < WAITERS  # others still wait
        api.cloud.monitor.cancel_batch(batch_id, api.cloud.clock.now())
        api.cloud.monitor.record_progress(batch_id, {0: Tally(cancelled=1)}, began)
        for waiter in waiters:
            waiter.join(20)
    assert held == [200] * WAITERS
    assert took_s < WAIT_HOLD_S


# --- how long one answer is held --------------------------------------------------------------


def new(api: Frontend) -> str:
    return api.submit(["sleep 1"] * 2_000)


def unstarted(api: Frontend) -> str:
    return new(api)


def with_eta(api: Frontend, eta_s: float, silent_s: float = 0.0) -> str:
    """A batch that is half done, expected to end in `eta_s`, without news for `silent_s`."""
    batch_id = new(api)
    began = api.cloud.clock.now()
    api.cloud.monitor.start_batch(batch_id, began)
    api.cloud.clock.sleep(eta_s - silent_s)
    api.cloud.monitor.record_progress(batch_id, {0: Tally(1_000)}, api.cloud.clock.now())
    api.cloud.clock.sleep(silent_s)
    return batch_id


def cancelled(api: Frontend) -> str:
    batch_id = with_eta(api, 1.0)
    api.cloud.monitor.cancel_batch(batch_id, api.cloud.clock.now())
    return batch_id


HOLDS = [
    ("nothing has started", unstarted, WAIT_HOLD_S),
    ("the end is an hour away", lambda api: with_eta(api, 3_600.0), WAIT_HOLD_S),
    ("the end is 25 s away", lambda api: with_eta(api, WAIT_MAX_S), WAIT_HOLD_S),
    ("the end is near", lambda api: with_eta(api, NEAR_HOLD_S), NEAR_HOLD_S),
    ("the end is at hand", lambda api: with_eta(api, 0.5), NEAR_HOLD_S),
    ("the end was near, and nothing comes", lambda api: with_eta(api, 8.0, 11.0), WAIT_HOLD_S),
    ("it is cancelled and something runs", cancelled, WAIT_HOLD_S),
]
"""What the batch looks like, and the seconds for which `?wait=25` is held when nothing comes."""


@pytest.mark.parametrize(("what", "make", "at_most_s"), HOLDS, ids=[each[0] for each in HOLDS])
def test_an_answer_is_held_for_a_bounded_time(what: str, make: Any, at_most_s: float) -> None:
    api = Frontend()
    batch_id = make(api)
    began = api.cloud.clock.now()
    assert api.call("GET", f"/batches/{batch_id}?wait=25").status_code == 200
    assert api.cloud.clock.now() - began == pytest.approx(at_most_s, abs=0.01)


@pytest.mark.parametrize("waiters", [10, 100, 1_000, 10_000, 1_000_000])
def test_the_functions_that_waiters_hold_are_fewer_than_the_account_has(waiters: int) -> None:
    """Each asks again at once. API Gateway lets `RATE_PER_S` calls a second through in all, and
    each of them is held for at most `NEAR_HOLD_S`, or `WAIT_HOLD_S` without a near end."""
    near, far = (min(waiters, RATE_PER_S * hold_s) for hold_s in (NEAR_HOLD_S, WAIT_HOLD_S))
    assert near <= 0.8 * ACCOUNT_FUNCTIONS
    assert far <= 0.2 * ACCOUNT_FUNCTIONS
