"""Trouble with the store inside a task: how often it is asked again, and after which pauses."""

from __future__ import annotations

import pytest

from taskfleet.errors import NotFound, TaskStopped, TransientError
from taskfleet.kinds.patience import PAUSE_MAX_S, PAUSES_S, patiently


class Context:
    def __init__(self, stop_after=99):
        self.pauses = []
        self.stop_after = stop_after

    def sleep(self, seconds):
        self.pauses.append(seconds)
        if len(self.pauses) > self.stop_after:
            raise TaskStopped("stop")


class Asked:
    """Fails with each error in turn, then returns "answer"."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.mark.parametrize("failures", range(len(PAUSES_S) + 1))
def test_trouble_is_waited_out(failures):
    context = Context()
    assert patiently(Asked(*[TransientError("503")] * failures), context) == "answer"
    assert context.pauses == list(PAUSES_S[:failures])


def test_trouble_that_stays_is_raised():
    asked = Asked(*[TransientError("503")] * 9)
    with pytest.raises(TransientError, match="503"):
        patiently(asked, Context())
    assert len(asked.errors) == 9 - len(PAUSES_S) - 1


def test_a_pause_is_as_long_as_the_store_asks_for_within_bounds():
    context = Context()
    patiently(Asked(TransientError("slow", 3.0), TransientError("slow", 900.0)), context)
    assert context.pauses == [3.0, PAUSE_MAX_S]


def test_other_errors_are_answers():
    context = Context()
    with pytest.raises(NotFound):
        patiently(Asked(NotFound("gone")), context)
    assert context.pauses == []


def test_a_task_that_must_end_waits_no_longer():
    with pytest.raises(TaskStopped):
        patiently(Asked(*[TransientError("503")] * 9), Context(stop_after=1))
