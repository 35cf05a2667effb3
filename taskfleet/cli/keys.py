"""`taskfleet keys`: the keys that sign the tokens of a stage on AWS, and its revoked clients. Owns
the commands; the rules are those of `taskfleet.wire.keys`. No command prints a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from taskfleet.cli.command import Command, command
from taskfleet.cli.output import say, write_json
from taskfleet.cli.stage import open_stage
from taskfleet.wire.keys import Keys, new_key

if TYPE_CHECKING:
    from taskfleet.aws.session import Aws

IN_EFFECT = "in effect within two minutes"
"""When a change is known everywhere: the authorizer reads the keys every minute, and API Gateway
keeps an answer of the authorizer for a minute."""

SHAPE = 'an object {"keys": [{"id", "state"}], "revoked": [{"client_id", "until"}]}'
"""The JSON that each of these commands prints."""

stage_option = click.option(
    "--stage", required=True, help="The stage on AWS; needs AWS credentials that may deploy it."
)


class KeyState(msgspec.Struct, frozen=True):
    """A key by its id. `state` is `signs` or `accepted`."""

    id: str
    state: str


class Revoked(msgspec.Struct, frozen=True):
    """A client whose tokens made until `until` (ISO 8601, UTC) are refused."""

    client_id: str
    until: str


class KeysView(msgspec.Struct, frozen=True):
    """The keys of a stage, the signing one first, and its revoked clients."""

    keys: list[KeyState]
    revoked: list[Revoked]


@click.group("keys")
def keys() -> None:
    """Rotate the keys that sign tokens, and revoke the tokens of a client.

    A stage has one key, or two while it is rotated. Tokens of both are accepted; new ones are
    signed with the newer key. A change is in effect within two minutes.
    """


def _key_command(name: str, *, example: str) -> Callable[[Callable[..., int]], Command]:
    def make(function: Callable[..., int]) -> Command:
        made = command(name, examples=(example,), json=f"{SHAPE}, as it is afterwards.")(function)
        keys.add_command(made)
        return made

    return make


@_key_command("show", example="taskfleet keys show --stage dev")
@stage_option
def show(stage: str, as_json: bool) -> int:
    """Print the ids of the keys, the signing one first, and the revoked clients."""
    view = _view(stage)
    if as_json:
        write_json([view])
        return 0
    for key in view.keys:
        click.echo(f"key\t{key.id}\t{key.state}")
    for client in view.revoked:
        click.echo(f"revoked\t{client.client_id}\ttokens made until {client.until}")
    return 0


@_key_command("rotate", example="taskfleet keys rotate --stage dev")
@stage_option
def rotate(stage: str, as_json: bool) -> int:
    """Add a new key and sign with it. Tokens of the old key stay valid until `keys retire`."""
    _change(stage, lambda known: known.rotated(new_key(), time.time()), as_json=as_json)
    say(
        f"rotated, {IN_EFFECT}: then hand out new tokens (taskfleet token --stage {stage}), and "
        f"end the old ones with taskfleet keys retire --stage {stage}"
    )
    return 0


@_key_command("retire", example="taskfleet keys retire --stage dev")
@stage_option
def retire(stage: str, as_json: bool) -> int:
    """End the older key, and with it all tokens that it signed."""
    _change(stage, Keys.retired, as_json=as_json)
    say(f"one key is left, {IN_EFFECT}")
    return 0


@_key_command("revoke", example="taskfleet keys revoke ann --stage dev")
@click.argument("client_id", metavar="CLIENT")
@stage_option
def revoke(client_id: str, stage: str, as_json: bool) -> int:
    """Refuse all tokens of CLIENT that were made until now. A token made later is valid."""
    _change(stage, lambda known: known.revoking(client_id, time.time()), as_json=as_json)
    say(f"the tokens of {client_id} made until now are revoked, {IN_EFFECT}")
    return 0


def _change(stage: str, change: Callable[[Keys], Keys], *, as_json: bool) -> None:
    """Change the keys; with `as_json`, print them afterwards."""
    aws, name = _parameter(stage)
    aws.change_secret(name, lambda text: change(Keys.parse(text)).dump())
    if as_json:
        write_json([_view(stage)])


def _view(stage: str) -> KeysView:
    aws, name = _parameter(stage)
    known = Keys.parse(aws.secret(name))
    return KeysView(
        [KeyState(kid, "accepted" if number else "signs") for number, kid in enumerate(known.kids)],
        [
            Revoked(client_id, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until)))
            for client_id, until in sorted(known.revoked.items())
        ],
    )


def _parameter(stage: str) -> tuple[Aws, str]:
    """Returns the AWS clients for the stage, and the name of its SSM parameter."""
    aws = open_stage(stage)
    return aws, aws.settings.token_parameter
