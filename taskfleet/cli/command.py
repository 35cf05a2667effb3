"""How every command line of Taskfleet ends: an exit code, and for an error one line on standard
error instead of a traceback. Owns that; not what the commands do."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from taskfleet.errors import TaskfleetError

SOME_FAILED, BAD_USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


class OneLineErrors(click.Command):
    """Mix-in for a command or group. Its functions return their exit code, or None for 0."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
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
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered would be written, and complained of, when Python ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return code


def complain(program: str, message: str) -> None:
    """One line to the person, on standard error, whatever the message quotes."""
    print(f"{program}: {plain(message)}", file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """On one line and without control characters: what tasks return must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
