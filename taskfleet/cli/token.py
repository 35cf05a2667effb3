"""`taskfleet token`: makes bearer tokens. Owns the command; tokens are `taskfleet.wire.token`'s."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
import msgspec

from taskfleet import settings
from taskfleet.batch import is_client_id
from taskfleet.cli.command import command
from taskfleet.cli.input import duration_s
from taskfleet.cli.options import stage_option
from taskfleet.cli.output import write_json
from taskfleet.cli.stage import open_stage
from taskfleet.client import endpoint
from taskfleet.errors import SettingsError
from taskfleet.wire import token
from taskfleet.wire.http.times import iso_time


class NewToken(msgspec.Struct, frozen=True):
    """A token and what it says. `expires_at` is a time in ISO 8601, UTC."""

    token: str
    client_id: str
    role: str
    expires_at: str


@command(
    "token",
    examples=(
        "taskfleet token --client-id ann",
        "taskfleet token --client-id wall-screen --role reader --ttl 30d",
        "export TASKFLEET_TOKEN=$(taskfleet token --stage dev --client-id ann --ttl 12h)",
    ),
    json='an object {"token", "client_id", "role", "expires_at"}.',
)
@click.option("--client-id", required=True, help="The client that the token names.")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in token.Role]),
    default=str(token.Role.WRITER),
    show_default=True,
    help="What it may do: a reader sees everything of its client and changes nothing.",
)
@click.option(
    "--ttl",
    callback=duration_s,
    metavar="DURATION",
    default="1d",
    show_default=True,
    help="How long the token is valid, such as 90 (seconds), 15m, 12h or 30d.",
)
@stage_option
def make_token(client_id: str, role: str, ttl: float, stage: str | None, as_json: bool) -> int:
    """Print a new bearer token.

    It is signed with TASKFLEET_TOKEN_SECRET, or with the secret of the local cloud that was started
    in this directory, or with --stage, with that of the stage.
    """
    secret = _secret_of(stage) if stage else _secret_here()
    now = time.time()
    try:
        made = token.make(secret, client_id, ttl, now, token.Role(role))
    except ValueError as error:
        hint = "--ttl" if is_client_id(client_id) else "--client-id"
        raise click.BadParameter(str(error), param_hint=hint) from error
    if as_json:
        write_json([NewToken(made, client_id, role, iso_time(token.valid_until(made) or 0))])
    else:
        click.echo(made)
    return 0


def _secret_here() -> str:
    """Returns the secret of the environment or of the local cloud of the current folder."""
    secret = settings.load({**endpoint.variables(Path.cwd()), **os.environ}).token_secret
    if not secret:
        raise SettingsError(
            "TASKFLEET_TOKEN_SECRET is not set; set it to the secret that the API uses, or name a "
            "stage on AWS with --stage"
        )
    return secret


def _secret_of(stage: str) -> str:
    """Returns the secret of a stage on AWS, from its SSM parameter."""
    aws = open_stage(stage)
    return aws.secret(aws.settings.token_parameter)
