"""The client waits for a batch, and tries again after an answer of the moment: how often, how long
and until when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskfleet.client import (
    ApiError,
    Client,
    NotFinished,
    Unreachable,
    answers,
    transport,
)
from taskfleet.memory.clock import ManualClock
from tests.support.ports import free_port
from tests.support.stub_api import BATCH, BATCH_ID, DONE, Answer, StubApi, accepted, serving

THROTTLED = Answer(429, {"message": "Too Many Requests"})
CUT = Answer(0, None)


class Napping(ManualClock):
    """A clock that keeps its pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        super().sleep(seconds)


@pytest.fixture
def api() -> Iterator[StubApi]:
    with serving() as stub:
        yield stub
    assert stub.left == 0, "the client asked for less than the test laid out"


@pytest.fixture
def clock() -> Napping:
    return Napping()


@pytest.fixture
def client(api: StubApi, clock: Napping) -> Iterator[Client]:
    with Client(api.url, "t", backoff_s=0, clock=clock) as made:
        yield made


# --- retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_refusal_of_the_moment_is_tried_again_with_the_same_key(
    api: StubApi, client: Client, status: int
) -> None:
    api.answers(Answer(status, {"Message": "busy"}), Answer(202, accepted()))
    assert client.submit(["sleep 1"]).batch_id == BATCH_ID
    first, second = api.asked
    assert first.body == second.body
    assert first.json["idempotency_key"]


def test_retry_after_is_honoured(api: StubApi, client: Client, clock: Napping) -> None:
    busy = Answer(503, {"Message": "busy"}, {"Retry-After": "7"})
    api.answers(busy, busy, BATCH)
    client.status(BATCH_ID)
    assert clock.naps == [7, 7]


@pytest.mark.parametrize("asked", ["3600", "Fri, 31 Dec 2100 00:00:00 GMT"])
def test_no_server_can_put_a_client_to_sleep_for_an_hour(
    api: StubApi, client: Client, clock: Napping, asked: str
) -> None:
    api.answers(Answer(503, {}, {"Retry-After": asked}), BATCH)
    client.status(BATCH_ID)
    assert clock.naps == [60]


@pytest.mark.parametrize("asked", [{}, {"Retry-After": "soon"}])
def test_without_retry_after_the_pauses_grow(api: StubApi, asked: dict[str, str]) -> None:
    api.answers(*[Answer(503, {}, asked)] * 5, BATCH)
    clock = Napping()
    with Client(api.url, "t", backoff_s=1.0, clock=clock) as client:
        client.status(BATCH_ID)
    assert [2**n / 2 <= nap <= 2**n for n, nap in enumerate(clock.naps)] == [True] * 5


def test_a_throttle_is_waited_out_for_minutes(api: StubApi) -> None:
    api.answers(*[THROTTLED] * 30, BATCH)
    clock = Napping()
    with Client(api.url, "t", clock=clock) as client:
        client.status(BATCH_ID)
    assert 120 < sum(clock.naps) < 600
    assert max(clock.naps) <= 20


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {"message": None}, {"x-amzn-ErrorType": "AuthorizerConfigurationException"}),
        Answer(500, {"message": "Internal server error"}),
    ],
    ids=["authorizer", "no-function-free"],
)
def test_a_500_of_api_gateway_is_tried_again(api: StubApi, client: Client, answer: Answer) -> None:
    api.answers(answer, Answer(202, accepted()))
    assert client.submit(["sleep 1"]).batch_id == BATCH_ID
    first, second = api.asked
    assert first.body == second.body


def test_a_cut_connection_is_tried_again_for_a_post_too(api: StubApi, client: Client) -> None:
    api.answers(CUT, Answer(202, accepted()))
    client.submit(["sleep 1"])
    assert api.asked[0].body == api.asked[1].body


def test_retries_end_with_the_apis_own_words(api: StubApi, client: Client) -> None:
    tries = answers.STATUS_RETRIES + 1
    api.answers(*[Answer(503, {"Code": "x", "Message": "The queue is busy."})] * tries)
    with pytest.raises(ApiError, match=r"The queue is busy\. \(HTTP 503\)") as caught:
        client.status(BATCH_ID)
    assert caught.value.passing


@pytest.mark.parametrize("status", [400, 409, 422, 500])
def test_a_refusal_for_good_is_not_tried_again(api: StubApi, client: Client, status: int) -> None:
    api.answers(Answer(status, {"Code": "x", "Message": "no"}))
    with pytest.raises(ApiError) as caught:
        client.submit(["sleep 1"])
    assert (caught.value.status, caught.value.message) == (status, "no")
    assert len(api.asked) == 1


# --- waiting ----------------------------------------------------------------------------------


def test_waiting_shows_each_state_and_ends_with_the_batch(api: StubApi, client: Client) -> None:
    seen: list[int] = []
    api.answers({**BATCH, "status": "QUEUED"}, {**BATCH, "succeeded": 2}, DONE)
    batch = client.wait(BATCH_ID, on_progress=lambda b: seen.append(b.succeeded))
    assert batch.finished_at == DONE["finished_at"]
    assert seen == [0, 2, 3]
    assert [line.partition("?")[2] for line in api.lines] == ["wait=20"] * 3


def test_a_cancelled_batch_is_waited_for_until_its_tasks_are_counted(
    api: StubApi, client: Client
) -> None:
    marked = {**BATCH, "status": "CANCELLED"}
    api.answers(BATCH, marked, {**marked, "cancelled": 2, "finished_at": DONE["finished_at"]})
    assert client.wait(BATCH_ID).cancelled == 2


def test_a_busy_batch_is_not_hammered(api: StubApi) -> None:
    clock = Napping()
    api.answers(*[BATCH] * 200, DONE)
    with Client(api.url, "t", clock=clock) as client:
        client.wait(BATCH_ID)
    assert len(clock.naps) == 200
    assert clock.naps[0] == pytest.approx(0.1)
    assert min(clock.naps) >= 0.0999
    assert clock.naps[-1] == pytest.approx(8.0)


def test_a_long_poll_that_brought_news_is_followed_at_once(api: StubApi) -> None:
    class Slow(ManualClock):
        calls = 0

        def now(self) -> float:
            self.calls += 1
            return super().now() + 20 * self.calls  # each call of the API seems to take long

        def sleep(self, seconds: float) -> None:
            assert seconds == 0

    api.answers(BATCH, {**BATCH, "succeeded": 2}, DONE)
    with Client(api.url, "t", clock=Slow()) as client:
        client.wait(BATCH_ID)


def test_waiting_ends_after_its_time_and_says_how_far_it_came(api: StubApi, client: Client) -> None:
    api.answers(*[{**BATCH, "succeeded": n} for n in range(4)])
    with pytest.raises(NotFinished, match=r"not finished after 0\.25 s") as caught:
        client.wait(BATCH_ID, timeout_s=0.25)
    assert caught.value.batch.succeeded == 3
    waits = [float(line.partition("=")[2] or 0) for line in api.lines]
    assert max(waits) <= 0.25, "no poll is held beyond the time-out"


def test_a_short_outage_in_the_middle_of_waiting_is_borne(api: StubApi, client: Client) -> None:
    api.answers(BATCH, *[CUT] * (transport.CONNECT_RETRIES + 1) * 3, DONE)
    assert client.wait(BATCH_ID).succeeded == 3


def test_a_long_outage_ends_the_waiting(api: StubApi, client: Client) -> None:
    tries = (transport.CONNECT_RETRIES + 1) * 61
    api.answers(BATCH, *[CUT] * tries)
    with pytest.raises(Unreachable):
        client.wait(BATCH_ID)


def test_an_api_that_is_not_there_at_first_is_not_waited_for() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    clock = ManualClock()
    with Client(url, "t", backoff_s=0, clock=clock) as client, pytest.raises(Unreachable):
        client.wait(BATCH_ID)
    assert clock.now() == ManualClock().now()


def test_a_throttle_never_ends_the_waiting(api: StubApi, client: Client) -> None:
    tries = answers.THROTTLED_RETRIES + 1
    api.answers(BATCH, *[THROTTLED] * tries * 5, DONE)
    assert client.wait(BATCH_ID).succeeded == 3


def test_a_throttle_does_not_make_the_waiting_longer_than_its_time(
    api: StubApi, client: Client, clock: Napping
) -> None:
    api.answers(BATCH, Answer(429, {"message": "Too Many Requests"}, {"Retry-After": "50"}))
    began = clock.now()
    with pytest.raises(NotFinished) as caught:
        client.wait(BATCH_ID, timeout_s=10)
    assert clock.now() - began == pytest.approx(10)
    assert caught.value.batch.batch_id == BATCH_ID


def test_an_api_that_fails_for_a_while_is_borne_and_for_long_is_not(
    api: StubApi, client: Client
) -> None:
    tries = answers.STATUS_RETRIES + 1
    failing = Answer(502, {"message": "Internal server error"})
    api.answers(BATCH, *[failing] * tries * 3, DONE)
    assert client.wait(BATCH_ID).succeeded == 3
    api.answers(BATCH, *[failing] * tries * 61)
    with pytest.raises(ApiError, match="HTTP 502"):
        client.wait(BATCH_ID)


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_for_good_ends_the_waiting_at_once(
    api: StubApi, client: Client, status: int
) -> None:
    api.answers(BATCH, Answer(status, {"Code": "x", "Message": "no"}))
    with pytest.raises(ApiError, match=f"HTTP {status}"):
        client.wait(BATCH_ID)
