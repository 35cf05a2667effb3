"""The authorizer's secret: when it is read again, and what holds while it cannot be read."""

from __future__ import annotations

import json
import logging

import pytest

from chalice_app.secret import KEPT_S, FreshSecret
from taskfleet.errors import NotFound, SettingsError, TaskfleetError, TransientError
from taskfleet.memory import ManualClock
from taskfleet.wire.keys import REREAD_S

FIRST, SECOND = "f" * 48, "s" * 48


class Parameter:
    """Stands for the SSM parameter."""

    def __init__(self) -> None:
        self.value: str | TaskfleetError = FIRST
        self.reads = 0

    def __call__(self) -> str:
        self.reads += 1
        if isinstance(self.value, TaskfleetError):
            raise self.value
        return self.value


@pytest.fixture
def parameter() -> Parameter:
    return Parameter()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def secret(parameter: Parameter, clock: ManualClock) -> FreshSecret:
    return FreshSecret(parameter, clock)


def test_a_change_is_known_after_a_minute_and_costs_one_read(
    parameter: Parameter, clock: ManualClock, secret: FreshSecret
) -> None:
    assert [secret(), secret()] == [FIRST, FIRST]
    parameter.value = SECOND
    clock.sleep(REREAD_S - 1)
    assert (secret(), parameter.reads) == (FIRST, 1)
    clock.sleep(1)
    assert (secret(), secret(), parameter.reads) == (SECOND, SECOND, 2)


BROKEN = [
    pytest.param(TransientError("SSM is busy"), id="throttled"),
    pytest.param(NotFound("it does not exist"), id="deleted"),
    pytest.param("{" + SECOND, id="malformed"),
    pytest.param(json.dumps({"keys": []}), id="without a key"),
]


@pytest.mark.parametrize("value", BROKEN)
def test_what_cannot_be_read_leaves_the_last_good_one_for_a_bounded_time(
    parameter: Parameter,
    clock: ManualClock,
    secret: FreshSecret,
    value: str | TaskfleetError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret()
    parameter.value = value
    with caplog.at_level(logging.WARNING):
        clock.sleep(KEPT_S - 1)
        assert [secret(), secret()] == [FIRST, FIRST]
    assert parameter.reads == 2  # a failure is not asked for again at once
    assert SECOND not in caplog.text
    (record,) = caplog.records
    assert record.__dict__["taskfleet"]["action"] == "token_secret_kept"
    clock.sleep(REREAD_S)
    with pytest.raises(TaskfleetError):
        secret()
    parameter.value = SECOND
    assert secret() == SECOND


@pytest.mark.parametrize("value", BROKEN)
def test_without_a_last_good_one_it_fails_until_there_is_one(
    parameter: Parameter, secret: FreshSecret, value: str | TaskfleetError
) -> None:
    parameter.value = value
    expected = type(value) if isinstance(value, TaskfleetError) else SettingsError
    with pytest.raises(expected):
        secret()
    parameter.value = FIRST
    assert secret() == FIRST
