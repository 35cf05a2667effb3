"""Completion of batch ids and kinds in a shell. Owns what is offered and how long a shell is kept
waiting; the scripts for shells are click's (`taskfleet.cli.completion`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice

import click
from click.shell_completion import CompletionItem

from taskfleet.client import Client
from taskfleet.errors import TaskfleetError
from taskfleet.wire.plain import shortened

PATIENCE_S = 1.0
"""Seconds after which an API without an answer is not waited for: the shell stands still
meanwhile."""
RECENT = 50
"""Batches that are offered."""
HELP_CHARS = 40
"""Characters of a batch's name that are shown beside its id."""


def batch_ids(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns the ids of the latest batches that begin with `incomplete`."""

    def ask(client: Client) -> list[CompletionItem]:
        return [
            CompletionItem(
                batch.batch_id,
                help=" ".join([batch.status, shortened(batch.name or "", HELP_CHARS)]).strip(),
            )
            for batch in islice(client.batches(), RECENT)
            if batch.batch_id.startswith(incomplete)
        ]

    return _quickly(ask)


def kind_names(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns the names of the kinds that begin with `incomplete`."""

    def ask(client: Client) -> list[CompletionItem]:
        names = [kind.name for kind in client.kinds().kinds]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return _quickly(ask)


def _quickly(ask: Callable[[Client], list[CompletionItem]]) -> list[CompletionItem]:
    """Returns what `ask` finds within `PATIENCE_S`, else nothing: a shell has no place for errors,
    and completion is a convenience."""
    found: list[CompletionItem] = []

    def work() -> None:
        try:
            with Client.from_env() as client:
                found.extend(ask(client))
        except (TaskfleetError, ValueError):
            return

    # A daemon thread: the process ends although the thread still waits for an answer.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return list(found)
