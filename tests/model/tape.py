"""Steps of real code that can be left and entered again. Owns how a step is cut at its calls.

The code that ships runs without threads of the model's own, so a step cannot be suspended. It is
run again instead, from the state in which it began: what its calls were answered before stands on a
tape, and the first call beyond the tape ends the run with `Pause`. Between two calls, other
processes take their steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskfleet import errors


class Reply(NamedTuple):
    """What a call was answered.

    value: what it returned.
    error: name of the error of `taskfleet.errors` that it raised; empty if it returned.
    text: text of that error.
    late: whether the caller's lease had ended by its own clock when the answer came.
    """

    value: Any = None
    error: str = ""
    text: str = ""
    late: bool = False


class Pause(BaseException):
    """Ends a run at the first call that has no answer yet. No `except Exception` catches it."""


@dataclass(frozen=True)
class Call:
    """A call that a step waits to make.

    name: what it does.
    outcomes: returns what can come of it now.
    effect: makes it, with one of these outcomes, and returns the answer.
    cuts: whether other processes may act before it. Else its first outcome is the only one.
    """

    name: str
    outcomes: Callable[[], Sequence[str]]
    effect: Callable[[str], Reply]
    cuts: bool


class Tape:
    """The answers of one step.

    replies: answers of its calls so far.
    call: the call that it waits to make; None once it has ended.
    """

    def __init__(self, replies: Sequence[Reply] = ()) -> None:
        self.call: Call | None = None
        self._replies = replies
        self._position = 0

    def ask(self, call: Call) -> Reply:
        """Returns the answer of a call. Raises Pause if it has none yet."""
        if self.call is None and self._position < len(self._replies):
            self._position += 1
            return self._replies[self._position - 1]
        self.call = self.call or call  # code that catches everything may have gone on
        raise Pause


def answer(reply: Reply) -> Any:
    """Returns the value of a reply, or raises its error."""
    if reply.error:
        raise getattr(errors, reply.error)(reply.text)
    return reply.value
