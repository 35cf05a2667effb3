"""`taskfleet completion`: the script that teaches a shell to complete. Owns the command; the
scripts are click's, and what is completed is click's or `taskfleet.cli.complete`'s."""

from __future__ import annotations

import click
import msgspec
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from taskfleet.cli.command import command
from taskfleet.cli.output import write_json

SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}
PROGRAM = "taskfleet"


class Script(msgspec.Struct, frozen=True):
    """The script for one shell."""

    shell: str
    script: str


@command(
    "completion",
    examples=(
        'eval "$(taskfleet completion bash)"    # in ~/.bashrc',
        'eval "$(taskfleet completion zsh)"     # in ~/.zshrc, after compinit',
        "taskfleet completion fish > ~/.config/fish/completions/taskfleet.fish",
    ),
    json='an object {"shell", "script"}.',
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str, as_json: bool) -> int:
    """Print the script that teaches SHELL to complete commands.

    Commands, options and statuses are completed at once; ids of batches and names of kinds while
    the API answers within a second. bash must be 4.4 or later.
    """
    root = click.get_current_context().find_root().command
    # click's own method asks which bash is on PATH first, which need not be the one that is used.
    complete = SHELLS[shell](root, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    script = complete.source_template % complete.source_vars()
    if as_json:
        write_json([Script(shell, script)])
    else:
        click.echo(script)
    return 0
