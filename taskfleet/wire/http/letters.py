"""Answers about dead letters."""

from __future__ import annotations

from typing import Literal

import msgspec

LETTERS_MAX = 100
"""Most dead letters in an answer."""
QueueName = Literal["tasks", "responses", "uploads"]
"""The queues that have dead letters, as clients call them."""


class LetterView(msgspec.Struct, frozen=True):
    """A dead letter: a message that could not be processed.

    `queue` is the queue to which it belongs, `reason` why it was set aside, `sent_at` when.
    `batch_id` and `job_id` are those of its batch and bundle, `body` is the beginning of its text.
    They are null for a letter that names no client.
    """

    message_id: str
    queue: QueueName
    reason: str
    batch_id: str | None
    job_id: str | None
    sent_at: str
    body: str | None


class LetterList(msgspec.Struct, frozen=True):
    """Dead letters of a queue: those of the caller, and those that name no client, in no order."""

    letters: list[LetterView]


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters were moved back to their queue."""

    moved: int
