"""Sending the files of `taskfleet map`, several at a time. Owns the threads and the progress bar;
not the form of an upload (`taskfleet.client`)."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import click

from taskfleet.cli.api import client_here
from taskfleet.cli.command import INTERRUPTED
from taskfleet.cli.output import say
from taskfleet.client import Client
from taskfleet.client.progress import counting_bars
from taskfleet.errors import TaskfleetError

SENDERS = 8
"""Files that are sent at a time."""


def send(paths: Iterable[Path]) -> dict[Path, str]:
    """Send each file once, several at a time. Returns the ids of the uploads."""
    unsent = list(dict.fromkeys(paths))
    clients: queue.SimpleQueue[Client] = queue.SimpleQueue()
    with ExitStack() as opened:
        for _ in range(min(SENDERS, len(unsent))):
            clients.put(opened.enter_context(client_here()))

        def send_one(path: Path) -> str:
            client = clients.get()
            try:
                return client.put(path)
            except OSError as error:
                reason = error.strerror or error
                raise TaskfleetError(f"{path} cannot be read: {reason}") from error
            finally:
                clients.put(client)

        threads = opened.enter_context(ThreadPoolExecutor(SENDERS))
        try:
            with counting_bars() as progress:
                bar = progress.add_task("sending", total=len(unsent), visible=bool(unsent))
                uploaded = {}
                for path, upload_id in zip(unsent, threads.map(send_one, unsent), strict=True):
                    uploaded[path] = upload_id
                    progress.advance(bar)
                return uploaded
        except KeyboardInterrupt:
            threads.shutdown(cancel_futures=True)
            say("interrupted while sending files; nothing was submitted")
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
