"""Quotas: what may be given, and how they are counted."""

from __future__ import annotations

import threading

import pytest

from localcloud.quotas import Quotas, Rate, Slots, of_environment, read


def test_quotas_are_read_from_options_and_from_the_environment() -> None:
    assert read([]) == of_environment({}) == Quotas()
    wanted = Quotas(api_rate=20, table_writes=5)
    assert read(["api_rate=20", "table_writes=5"]) == wanted
    assert of_environment({"LOCALCLOUD_QUOTAS": "api_rate=20,table_writes=5"}) == wanted


@pytest.mark.parametrize("text", ["api_rate", "api_rate=", "api_rate=-1", "api_rate=1.5", "rate=1"])
def test_another_quota_is_refused_with_the_names_that_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=f"quota '{text}' is not NAME=N.*api_rate, lambda_conc"):
        read([text])


def test_a_rate_gives_so_many_a_second_and_no_more_at_once() -> None:
    now = [0.0]
    rate = Rate(3, lambda: now[0])
    assert [rate.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 1 / 3 + 0.001
    assert [rate.take() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [rate.take() for _ in range(4)] == [True, True, True, False]


def test_a_large_request_overdraws_a_rate_once() -> None:
    now = [0.0]
    rate = Rate(10, lambda: now[0])
    assert rate.take(25)
    now[0] = 1.5
    assert not rate.take()
    now[0] = 1.7
    assert rate.take()


def test_without_a_quota_there_is_no_end() -> None:
    assert all(Rate(None, lambda: 0.0).take(1000) for _ in range(100))
    assert all(Slots(None).take() for _ in range(100))


def test_slots_are_taken_and_given_back() -> None:
    slots = Slots(1)
    assert slots.take()
    assert not slots.take()
    slots.leave()
    assert slots.take()
    done = threading.Event()
    waiting = threading.Thread(target=slots.around(done.set))
    waiting.start()
    assert not done.wait(0.02)
    slots.leave()
    assert done.wait(5)
    waiting.join()
    assert slots.take()
