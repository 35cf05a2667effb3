"""`taskfleet keys`: the keys that sign the tokens of a stage on AWS, and its revoked clients. Owns
the commands; the rules are those of `taskfleet.wire.keys`. No command prints a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from taskfleet.cli.output import say
from taskfleet.cli.stage import open_stage
from taskfleet.wire.keys import Keys, new_key

if TYPE_CHECKING:
    from taskfleet.aws.session import Aws

IN_EFFECT = "in effect within two minutes"
"""When a change is known everywhere: the authorizer reads the keys every minute, and API Gateway
keeps an answer of the authorizer for a minute."""

stage_option = click.option(
    "--stage", required=True, help="The stage on AWS; needs credentials that may deploy it."
)


@click.group("keys")
def keys() -> None:
    """Rotate the keys that sign tokens, and revoke the tokens of a client.

    A stage has one key, or two while it is rotated. Tokens of both are accepted; new ones are
    signed with the newer key. A change is in effect within two minutes.
    """


@keys.command()
@stage_option
def show(stage: str) -> int:
    """Print the ids of the keys, the signing one first, and the revoked clients."""
    aws, name = _parameter(stage)
    known = Keys.parse(aws.secret(name))
    for number, kid in enumerate(known.kids):
        click.echo(f"key\t{kid}\t{'accepted' if number else 'signs'}")
    for client_id, until in sorted(known.revoked.items()):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
        click.echo(f"revoked\t{client_id}\ttokens made until {at}")
    return 0


@keys.command()
@stage_option
def rotate(stage: str) -> int:
    """Add a new key and sign with it. Tokens of the old key stay valid until `keys retire`."""
    _change(stage, lambda known: known.rotated(new_key(), time.time()))
    say(
        f"rotated, {IN_EFFECT}: then hand out new tokens (taskfleet token --stage {stage}), and "
        f"end the old ones with taskfleet keys retire --stage {stage}"
    )
    return 0


@keys.command()
@stage_option
def retire(stage: str) -> int:
    """End the older key, and with it all tokens that it signed."""
    _change(stage, Keys.retired)
    say(f"one key is left, {IN_EFFECT}")
    return 0


@keys.command()
@click.argument("client_id", metavar="CLIENT")
@stage_option
def revoke(client_id: str, stage: str) -> int:
    """Refuse all tokens of CLIENT that were made until now. A token made later is valid."""
    _change(stage, lambda known: known.revoking(client_id, time.time()))
    say(f"the tokens of {client_id} made until now are revoked, {IN_EFFECT}")
    return 0


def _change(stage: str, change: Callable[[Keys], Keys]) -> None:
    aws, name = _parameter(stage)
    aws.change_secret(name, lambda text: change(Keys.parse(text)).dump())


def _parameter(stage: str) -> tuple[Aws, str]:
    """Returns the AWS clients for the stage, and the name of its SSM parameter."""
    aws = open_stage(stage)
    return aws, aws.settings.token_parameter
