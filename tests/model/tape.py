"""Steps of real code that can be left and entered again. Owns how a step is cut at its calls.

The code that ships runs without threads of the model's own, so a step cannot be suspended. It is
run again instead, from the state in which it began: what its calls were answered before stands on a
tape, and the first call beyond the tape ends the run with `Pause`. Between two calls, other
processes take their steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Tape:
    """The answers of one step, and the choice for its next call.

    replies: answers of the calls so far.
    choice: which of the outcomes of the next call is wanted, from 0; None to stop before it.
    """

    def __init__(self, replies: Sequence[Reply] = (), choice: int | None = None) -> None:
        self.replies = list(replies)
        self.outcomes: Sequence[str] = ()
        self.chosen = ""
        self.waits_for = ""
        self.paused = False
        self._choice = choice
        self._position = 0

    def ask(
        self, call: str, outcomes: Sequence[str], effect: Callable[[str], Reply], *, cuts: bool
    ) -> Reply:
        """Answer a call: from the tape, or by its effect.

        outcomes: what can come of it; `effect` is called with one of them.
        cuts: whether other processes may act before it. Else its first outcome is the only one.
        """
        if self.paused:
            raise Pause  # code that catches everything went on
        if self._position < len(self.replies):
            reply = self.replies[self._position]
        elif not cuts:
            reply = effect(outcomes[0])
            self.replies.append(reply)
        else:
            if self._choice is None:
                self.paused, self.waits_for = True, call
                raise Pause
            self.outcomes, self.chosen = outcomes, f"{call} {outcomes[self._choice]}"
            self._choice = None
            reply = effect(self.chosen.removeprefix(f"{call} "))
            self.replies.append(reply)
        self._position += 1
        return reply


def answer(reply: Reply) -> Any:
    """Return the value of a reply, or raise its error."""
    if reply.error:
        raise getattr(errors, reply.error)(reply.text)
    return reply.value
