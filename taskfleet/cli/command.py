"""Ends every command line of Taskfleet with an exit code, and reports an error as one line on
standard error instead of a traceback. Owns the exit codes; not what the commands do.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from taskfleet.errors import TaskfleetError
from taskfleet.wire.plain import plain

SOME_FAILED = 1
"""Exit code when a task failed or was cancelled."""
BAD_USAGE = 2
"""Exit code for wrong usage or input, and when the API cannot be reached."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""
PIPE_CLOSED = 141
"""Exit code when the reader closed the output: 128 + SIGPIPE."""


class OneLineErrors(click.Command):
    """Mix-in for a click command or group. The command's function returns its exit code, or None
    for 0."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command and exit. Every expected error becomes one line and an exit code."""
        program = options.get("prog_name") or self.name or ""
        options |= {"standalone_mode": False, "prog_name": program}
        try:
            code = super().main(*args, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = BAD_USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else program
            complain(program, f"{error.format_message().rstrip('.')}; see {path} --help")
            code = BAD_USAGE
        except click.ClickException as error:
            complain(program, error.format_message())
            code = BAD_USAGE
        except click.Abort:
            code = INTERRUPTED
        except TaskfleetError as error:
            complain(program, str(error))
            code = BAD_USAGE
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command's function. Returns its exit code, `PIPE_CLOSED` when the reader of the
        output is gone."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python would write the rest of the buffer at exit, fail, and print an error.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return code


def complain(program: str, message: str) -> None:
    """Print the message as one line to standard error, whatever text it quotes."""
    print(f"{program}: {plain(message)}", file=sys.stderr, flush=True)


class Command(click.Command):
    """A command whose help ends with examples.

    examples: command lines, as a user would type them.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        self.examples = tuple(examples)
        # The mark \b has click leave the lines as they are.
        lines = "\n".join(f"  {example}" for example in self.examples)
        super().__init__(*args, **{**options, "epilog": f"Examples:\n\n\b\n{lines}"})


def command(
    name: str, *, examples: Sequence[str], json: str
) -> Callable[[Callable[..., int]], Command]:
    """Returns a decorator that makes a command of a function, which returns its exit code.

    Every command is made by it, so that each has examples and the option `--json`, which its
    function gets as `as_json`.

    json: the documents that `--json` prints, to follow the words "Print JSON:".
    """

    def make(function: Callable[..., int]) -> Command:
        made = click.command(name, cls=Command, examples=examples)(function)
        help_text = f"Print JSON: {json}"
        made.params.append(click.Option(["--json", "as_json"], is_flag=True, help=help_text))
        return made

    return make
