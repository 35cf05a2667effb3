"""The command line of the local cloud."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from infra.stack import StackFailed
from localcloud import cloud, environment, quotas
from localcloud.options import OptionFault, Options
from localcloud.supervisor import PartFailed
from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.client.endpoint import ENV_FILE
from taskfleet.errors import SettingsError

PORT = click.IntRange(0, 65_535)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--api-port",
    type=PORT,
    default=8000,
    show_default=True,
    help="Port of the API; 0: any free one.",
)
@click.option(
    "--aws-port",
    type=PORT,
    default=4566,
    show_default=True,
    help="Port of SQS, DynamoDB, S3, SSM and CloudFormation; 0: any free one.",
)
@click.option(
    "--ec2-port",
    type=PORT,
    help="Port of EC2; 0: any free one.  [default: the one after --aws-port]",
)
@click.option(
    "--lambda-port",
    type=PORT,
    default=0,
    help="Port of Lambda's Invoke.  [default: any free one]",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    default=1,
    show_default=True,
    help="Static workers, restarted when they crash; 0: the provisioner starts all workers.",
)
@click.option(
    "--max-capacity",
    type=click.IntRange(0),
    metavar="N",
    help="Most instances the provisioner may run.  [default: 3 without static workers, else 0]",
)
@click.option(
    "--boot-s",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds until an instance's worker starts.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 512),
    default=DEFAULT_SLOTS,
    show_default=True,
    help="Tasks a worker runs at a time.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=ENV_FILE.parent,
    show_default=True,
    help="Folder for the file `env`, the logs and the state.",
)
@click.option(
    "--no-provisioner",
    "provisioner",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Launch no instances: static workers only.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Keep queues, table and bucket when it is stopped and started again.",
)
@click.option(
    "--kinds",
    multiple=True,
    metavar="MODULE",
    help="Module that defines task kinds, in this folder or on PYTHONPATH; repeatable.",
)
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    metavar="NAME=N",
    help=f"Quota of AWS to set low; repeatable. Names: {', '.join(quotas.NAMES)}.",
)
@click.option(
    "--on-event",
    metavar="COMMAND",
    help="Command for /bin/sh that gets each batch that has ended as JSON on standard input.",
)
def command(**options: Any) -> None:
    """Run Taskfleet and emulators of AWS on this machine, until Ctrl-C.

    Prints a line that begins with `ready` once it serves, and a link to the dashboard, which holds
    the token if a terminal shows it. In another shell, `. .local/env` sets the variables that
    clients need.
    """
    environ = environment.inherited(os.environ)
    # This process, too, must see neither the caller's AWS account nor a proxy.
    os.environ.clear()
    os.environ.update(environ)
    cloud.run(Options(**options), environ, click.echo, private=sys.stdout.isatty())


def main() -> NoReturn:
    """Runs the command. Exits with 0 after a signal, 1 when a part failed, 2 after bad usage."""
    try:
        command.main(prog_name="python -m localcloud", standalone_mode=False)
    except click.ClickException as error:
        _exit(2, error.format_message())
    except (OptionFault, SettingsError) as error:
        _exit(2, str(error))
    except (PartFailed, StackFailed) as error:
        _exit(1, str(error))
    sys.exit(0)


def _exit(code: int, message: str) -> NoReturn:
    click.echo(f"localcloud: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
