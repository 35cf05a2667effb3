"""The API under more submissions than it can take. What it accepts is never lost; what it does not,
it refuses in the way of the limit that was met, and accepts later under the same key.

What is emulated: the API is the app behind `localcloud.serve`, one process with a thread for each
connection. On AWS each request has a function of its own, and API Gateway and Lambda refuse what is
beyond their quotas. The local cloud has these quotas, and that of the table, as its option
`--quota`, and answers at them as AWS does (`localcloud.quotas`). Without a quota the local server
lets everybody wait. In the slice of `make test` a hop throttles the table for the API alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from localcloud.launch import Launched, launched
from localcloud.options import HOST
from localcloud.quotas import Rate
from taskfleet.client import Client
from tests.faults.soak.crew import Crew, Member
from tests.faults.soak.follow import Follower, StopClock
from tests.faults.soak.load import Answer, Door, offered, percentile
from tests.faults.soak.run import environ
from tests.support.awswire import Refuse
from tests.support.hop import Call, Hop, pass_on
from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TASKS = ["sleep 0", "sleep 1"]
GATEWAY_S = 29.0
"""Seconds after which API Gateway gives up a request."""
HELD_P99_S = 5.0
"""Bound of the deep run for 99 of 100 answers below all limits, on a machine of two cores that runs
other tests, the emulators and the worker beside the API."""
HELD_RATES = (5.0, 10.0, 20.0)
"""Submissions a second of the deep run below all limits."""
CLOUD = ("--workers", "1", "--no-provisioner")
WRITES = ("PutItem", "UpdateItem", "TransactWriteItems")
WRITES_A_SECOND = 6
ROUNDS = 5
"""Most times that a rate is offered until the limit is met."""
Refused = Callable[[Answer], bool]
"""Returns whether an answer is a refusal that the limit may cause."""


def told_when(answer: Answer) -> bool:
    """The app's refusal: 503, with the seconds to wait."""
    return answer.status == 503 and (answer.retry_after or "").isdigit()


def by_gateway(answer: Answer) -> bool:
    """API Gateway's refusal of a request above the stage's rate."""
    return answer.status == 429


def by_lambda(answer: Answer) -> bool:
    """What API Gateway makes of a function that Lambda does not start."""
    return answer.status == 500


@dataclass
class Trial:
    """One cloud under load: what it answered, and what became of what it accepted."""

    limit: str
    follower: Follower
    door: Door
    refused: Refused
    ids: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def offer(self, rate: float, seconds: float) -> list[Answer]:
        """Offers submissions at this rate. Notes what was accepted, and counts each answer that
        is neither an acceptance nor the limit's refusal as wrong."""
        answers = offered(self.door, f"{len(self.rows)}/{rate:g}", rate, seconds)
        for answer in answers:
            if answer.batch_id is not None:
                self.accept(answer.key, answer.batch_id)
            elif not self.refused(answer):
                self.follower.verdict.wrong += 1
                self.follower.verdict.note(f"an answer under {self.limit}: {answer}")
        statuses = Counter(answer.status for answer in answers)
        self.rows.append(
            {
                "limit": self.limit,
                "requests a second": rate,
                "requests": len(answers),
                "accepted": statuses[202],
                "refused": len(answers) - statuses[202],
                "as": ", ".join(str(s) for s in sorted(statuses.keys() - {202})),
                "p50 s": round(percentile(answers, 0.5), 3),
                "p99 s": round(percentile(answers, 0.99), 3),
            }
        )
        print(self.rows[-1], flush=True)
        return answers

    def accept(self, key: str, batch_id: str) -> None:
        """Take in a batch that was accepted under a key."""
        known = self.ids.setdefault(key, batch_id)
        if known != batch_id:
            self.follower.verdict.doubled += len(TASKS)
            self.follower.verdict.note(f"the key {key} has the batches {known} and {batch_id}")
        elif batch_id not in self.follower.sizes:
            self.follower.follow(batch_id, list(TASKS))

    def send_again(self, answers: Sequence[Answer]) -> None:
        """Submit what was refused until it is accepted, and some of what was accepted once more,
        as clients do."""
        kept = [answer for answer in answers if answer.batch_id is not None]
        for answer in [*kept[:5], *(a for a in answers if a.batch_id is None)]:
            found = self.follower.call(
                lambda key=answer.key: self.follower.client.submit(TASKS, idempotency_key=key)
            )
            self.accept(answer.key, found.batch_id)

    def end(self) -> None:
        """Wait until everything that was accepted has ended, and judge it."""
        follower = self.follower

        def all_ended() -> bool:
            return not follower.pending or (follower.look() and not follower.pending)

        waiting = "these batches end: "
        eventually(all_ended, 300, lambda: waiting + str(list(follower.pending)), poll_s=0)
        follower.find_strangers()


def trial(cloud: Launched, limit: str, refused: Refused, url: str = "") -> Trial:
    """Returns a trial of the API at `url`, or of the cloud's own."""
    url = url or cloud.variables["TASKFLEET_URL"]
    token = cloud.variables["TASKFLEET_TOKEN"]
    clock = StopClock(threading.Event())
    follower = Follower(Client(url, token, clock=clock), clock)
    return Trial(limit, follower, Door(url, token, TASKS), refused)


def tell(found: Any, done: Trial) -> None:
    """Adds what a trial found to the figures."""
    verdict = done.follower.verdict
    found.add(
        tried=sum(row["requests"] for row in done.rows),
        fired=sum(row["refused"] for row in done.rows),
    )
    found.judge(lost=verdict.lost, doubled=verdict.doubled, wrong=verdict.wrong)
    found.rows += done.rows
    assert not verdict.notes, verdict.notes


def run(done: Trial, rate: float, seconds: float, relieve: Callable[[], None]) -> None:
    """Offers little, then too much until something is refused; calls `relieve`, submits what was
    refused again, and follows everything to its end."""
    with done.follower.client:
        below = done.offer(2.0, 1.0)
        assert [answer.status for answer in below] == [202] * len(below)
        beyond: list[Answer] = []
        while len(done.rows) <= ROUNDS and all(answer.status == 202 for answer in beyond):
            beyond += done.offer(rate, seconds)
        assert any(done.refused(answer) for answer in beyond), "the limit was not met"
        assert max(answer.latency_s for answer in beyond) < GATEWAY_S
        relieve()
        done.send_again(beyond)
        done.end()


def test_a_throttled_table_is_told_with_503_and_what_is_accepted_ends(
    figures: Any, tmp_path: Path
) -> None:
    """The table throttles an API beyond a few writes a second. Its other users are spared, so that
    what was accepted ends soon."""
    found = figures("load", unit="requests")
    rate = Rate(WRITES_A_SECOND, time.monotonic)

    def throttled(call: Call) -> Refuse | None:
        if call.operation not in WRITES or rate.take():
            return None
        return Refuse(400, "ThrottlingException")

    with (
        launched(tmp_path / "cloud", *CLOUD, environ=environ()) as cloud,
        Hop(cloud.variables["AWS_ENDPOINT_URL"]) as hop,
    ):
        port = free_port()
        serve = ("-m", "localcloud.serve", "--port", str(port))
        theirs = hop.environ("api", {**environ(), **cloud.variables})
        api = Member("api", serve, tmp_path / "api.log")
        with Crew(cloud, theirs, [api], random.Random(0)):
            url = f"http://{HOST}:{port}"
            done = trial(cloud, f"{WRITES_A_SECOND} writes/s of the API", told_when, url)
            done.follower.call(done.follower.client.health)  # it serves
            hop.decide = throttled
            run(done, 80.0, 0.5, lambda: setattr(hop, "decide", pass_on))
    tell(found, done)


@pytest.mark.parametrize(
    ("limit", "refused", "rate"),
    [
        ("table_writes=30", told_when, 40.0),
        ("api_rate=20", by_gateway, 60.0),
        ("lambda_concurrency=2", by_lambda, 40.0),
    ],
)
def test_what_a_quota_refuses_is_told_and_what_is_accepted_ends(
    figures: Any, deep: bool, tmp_path: Path, limit: str, refused: Refused, rate: float
) -> None:
    if not deep:
        pytest.skip("the slice throttles the API only")
    found = figures("load", unit="requests")
    with launched(tmp_path / "cloud", *CLOUD, "--quota", limit, environ=environ()) as cloud:
        done = trial(cloud, limit, refused)
        run(done, rate, 3.0, lambda: None)
    tell(found, done)


def test_a_rate_is_held_below_all_limits(figures: Any, deep: bool, tmp_path: Path) -> None:
    if not deep:
        pytest.skip("the slice offers a low rate only")
    found = figures("load", unit="requests")
    with launched(tmp_path / "cloud", *CLOUD, environ=environ()) as cloud:
        done = trial(cloud, "none", lambda _answer: False)
        with done.follower.client:
            for rate in HELD_RATES:
                answers = done.offer(rate, 20.0)
                assert {answer.status for answer in answers} == {202}
                assert percentile(answers, 0.99) < HELD_P99_S, done.rows[-1]
            done.end()
    tell(found, done)
