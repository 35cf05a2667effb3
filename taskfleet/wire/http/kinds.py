"""Answers about the kinds of tasks."""

from __future__ import annotations

from typing import Any

import msgspec


class KindView(msgspec.Struct, frozen=True):
    """A kind of tasks.

    `runs_in` is `process` or `thread`. `timeout_s` and `max_attempts` count for tasks whose batch
    and which themselves say nothing; `timeout_s` is null without a limit. `schema` is the JSON
    Schema of the params, null if it is not known.
    """

    name: str
    runs_in: str
    timeout_s: float | None
    max_attempts: int
    schema: dict[str, Any] | None


class KindList(msgspec.Struct, frozen=True):
    """The kinds of tasks that the stage runs, by name.

    `workers` has the versions of Python and of some packages that living workers have reported,
    such as `{"python": ["3.11"], "cloudpickle": ["3.1.1"]}`; it is empty while there are none.
    """

    kinds: list[KindView]
    workers: dict[str, list[str]]
