"""The command line `taskfleet`. Owns the group of its commands, each of which is in a module of its
own; not their output (`taskfleet.cli.output`), their exit codes (`taskfleet.cli.command`) nor the
calls to the API (`taskfleet.client`).
"""

from __future__ import annotations

import click

from taskfleet import __version__
from taskfleet.cli.audit import audit
from taskfleet.cli.command import OneLineErrors
from taskfleet.cli.completion import PROGRAM, completion
from taskfleet.cli.doctor import doctor
from taskfleet.cli.fleet import fleet
from taskfleet.cli.keys import keys
from taskfleet.cli.kinds import kinds
from taskfleet.cli.map import map_command
from taskfleet.cli.quote import quote
from taskfleet.cli.redrive import redrive
from taskfleet.cli.results import results
from taskfleet.cli.schedule import schedule
from taskfleet.cli.status import status
from taskfleet.cli.steer import cancel, retry
from taskfleet.cli.submit import submit
from taskfleet.cli.task import explain, log
from taskfleet.cli.token import make_token

_SECTIONS = {
    "Batches": (quote, submit, map_command, status, results, audit, retry, cancel, schedule),
    "Tasks": (log, explain),
    "Fleet": (fleet, kinds, redrive, doctor),
    "Access and shell": (make_token, keys, completion),
}
"""All commands, in the order in which the help shows them."""


class _Commands(OneLineErrors, click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Returns the names of the commands in the order of `_SECTIONS`."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands in their sections, each with the first sentence of its help."""
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(each.name or "", each.get_short_help_str(80)) for each in commands]
                )


@click.group(PROGRAM, cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def main() -> None:
    """Submit batches of tasks to a fleet of workers, and follow them.

    TASKFLEET_URL is the URL of the API and TASKFLEET_TOKEN your token. Without them, the command
    uses the local cloud that was started in this directory (.local/env).

    Every command has --json, and its --help has examples. Colour is for terminals: NO_COLOR ends
    it, FORCE_COLOR asks for it elsewhere. PAGER shows long output.

    Exit codes: 0 if all tasks succeeded, 1 if some failed or were cancelled, 2 for wrong usage or
    input or when the API cannot be reached, 130 after Ctrl-C.
    """


for _commands in _SECTIONS.values():
    for _command in _commands:
        main.add_command(_command)
