"""The reference of the command lines, from their click commands."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

import click

from animoto.submit import main as movies
from docs.ext.prose import line, table
from ec2_worker.run import main as worker
from infra.deploy import main as deploy
from infra.smoke import main as smoke
from localcloud.__main__ import command as local_cloud
from taskfleet.cli.main import main

PROGRAMS: dict[str, click.Command] = {
    "python ec2_worker/run.py": worker,
    "python -m localcloud": local_cloud,
    "python animoto/submit.py": movies,
    "python -m infra.deploy": deploy,
    "python -m infra.smoke": smoke,
}
"""The programs beside `taskfleet`, by how they are called."""
_HELP_FLAGS = {"-h", "--help"}


def taskfleet() -> str:
    """The commands of `taskfleet`, as Markdown."""
    return "\n".join(sections(main, ["taskfleet"], 2))


def programs() -> str:
    """The other programs of a checkout, as Markdown."""
    return "\n".join(
        text for name, command in PROGRAMS.items() for text in sections(command, [name], 2)
    )


def sections(command: click.Command, path: list[str], level: int) -> Iterator[str]:
    """Yields the Markdown of a command and of those below it, each under a heading of its own.
    Hidden commands are left out."""
    parent = None
    for name in path[:-1]:
        parent = click.Context(click.Group(name), info_name=name, parent=parent)
    context = click.Context(
        command, info_name=path[-1], parent=parent, **dict(command.context_settings)
    )
    yield f"{'#' * level} {' '.join(path)}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{' '.join(path)} {usage}\n```\n"
    yield from _help(command.help or "")
    if rows := list(_options(command, context)):
        yield table(["Option", "Meaning"], rows)
    yield from _help(command.epilog or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from sections(below, [*path, name], min(level + 1, 4))


def _help(text: str) -> Iterator[str]:
    """Yields the paragraphs of a help text. One that click must not wrap is shown as it stands."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text.split("\f")[0])):
        if block.startswith("\b"):
            yield f"```text\n{textwrap.dedent(block[1:].strip(chr(10)))}\n```\n"
        elif block:
            yield f"{line(block)}\n"


def _options(command: click.Command, context: click.Context) -> Iterator[list[str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and not _HELP_FLAGS & set(parameter.opts):
            names, meaning = record
            if meaning:
                yield [f"`{' '.join(names.split())}`", line(meaning)]
