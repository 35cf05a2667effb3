"""`taskfleet keys` on a stage's secret in SSM (moto plays it), up to the app's authorizer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from chalice_app import wiring
from chalice_app.application import create_app
from taskfleet.aws.ssm import change_secret
from taskfleet.cli.main import main
from taskfleet.errors import Conflict, SettingsError
from taskfleet.memory import ManualClock
from taskfleet.wire import token
from taskfleet.wire.keys import REREAD_S
from tests.support.moto_aws import moto_account, write_settings

SECRET = "a secret of more than thirty-two characters"
PARAMETER = "/taskfleet/prod/token-secret"

Allows = Callable[[str], bool]


@pytest.fixture(autouse=True)
def prod(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    with moto_account("eu-west-1"):
        put(SECRET)
        write_settings("prod", TASKFLEET_BUCKET="b")
        yield


def put(value: str) -> None:
    boto3.client("ssm").put_parameter(
        Name=PARAMETER, Value=value, Type="SecureString", Overwrite=True
    )


def held() -> str:
    parameter = boto3.client("ssm").get_parameter(Name=PARAMETER, WithDecryption=True)
    assert parameter["Parameter"]["Type"] == "SecureString"
    return str(parameter["Parameter"]["Value"])


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--stage", "prod"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert SECRET not in result.output
    return result


def make(client_id: str = "ann") -> str:
    return run("token", "--client-id", client_id).stdout.strip()


@pytest.fixture
def allows(monkeypatch: pytest.MonkeyPatch) -> Allows:
    """Asks the authorizer of the app on AWS about a token, a minute after it was last asked."""
    clock = ManualClock(time.time())
    monkeypatch.setattr(wiring, "SystemClock", lambda: clock)
    monkeypatch.setattr(wiring, "set_up", lambda level: None)
    monkeypatch.setenv("TASKFLEET_BUCKET", "b")
    monkeypatch.setenv("TASKFLEET_TOKEN_SECRET_SSM", PARAMETER)
    services = wiring.connect()
    authorize = create_app(lambda: services).handler_map["authorize"]

    def ask(bearer: str) -> bool:
        clock.sleep(REREAD_S)
        answer: dict[str, Any] = authorize(
            {
                "type": "TOKEN",
                "authorizationToken": f"Bearer {bearer}",
                "methodArn": "arn:aws:x:y:z:a/b/c",
            },
            None,
        )
        return bool(answer["policyDocument"]["Statement"][0]["Effect"] == "Allow")

    return ask


def test_a_rotation_in_two_steps_shuts_nobody_out(allows: Allows) -> None:
    old = make()
    assert allows(old)
    assert run("keys", "rotate").exit_code == 0
    new = make()
    assert (allows(old), allows(new)) == (True, True)
    assert run("keys", "retire").exit_code == 0
    assert (allows(old), allows(new), allows(make())) == (False, True, True)
    assert not held().startswith("{")  # as versions before keys read it


def test_a_revoked_client_gets_in_again_with_a_new_token(
    allows: Allows, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = make("ann"), make("bob")
    assert run("keys", "revoke", "ann").exit_code == 0
    assert (allows(ann), allows(bob)) == (False, True)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 2)
    assert (allows(ann), allows(make("ann"))) == (False, True)


def test_the_keys_are_shown_by_their_ids_and_the_revoked_clients_by_their_times() -> None:
    run("keys", "rotate")
    run("keys", "revoke", "ann")
    lines = [line.split("\t") for line in run("keys", "show").stdout.splitlines()]
    assert [(line[0], line[2][:17]) for line in lines] == [
        ("key", "signs"),
        ("key", "accepted"),
        ("revoked", "tokens made until"),
    ]
    assert lines[2][1] == "ann"
    assert not any(key in str(lines) for key in held().split('"') if len(key) >= 32)


@pytest.mark.parametrize(
    ("value", "arguments", "message"),
    [
        (SECRET, ["revoke", "a b"], "'a b' is not a client id"),
        (SECRET, ["revoke"], "CLIENT"),
        ("{" + SECRET, ["rotate"], "strict JSON"),
        ("{" + SECRET, ["show"], "strict JSON"),
        (f'{{"keys": ["{SECRET}", "{SECRET}2"]}}', ["rotate"], "keys retire"),
    ],
)
def test_what_cannot_be_changed_stays_and_the_reason_is_one_line(
    value: str, arguments: list[str], message: str
) -> None:
    put(value)
    result = run("keys", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert held() == value


def test_a_stage_without_a_secret_is_named() -> None:
    write_settings("beta", TASKFLEET_BUCKET="b")
    result = CliRunner().invoke(main, ["keys", "rotate", "--stage", "beta"])
    assert result.exit_code == 2
    assert "/taskfleet/beta/token-secret: it does not exist" in result.stderr


def test_two_changes_at_once_are_told() -> None:
    def change(text: str) -> str:
        put(SECRET + "of another")
        return text + "x"

    with pytest.raises(Conflict, match="overwrote another"):
        change_secret(boto3.client("ssm"), PARAMETER, change)
    before = boto3.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Version"]
    change_secret(boto3.client("ssm"), PARAMETER, lambda text: text)
    after = boto3.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Version"]
    assert after == before  # nothing to write


def test_a_token_of_a_stage_is_signed_with_the_first_key() -> None:
    put(f'{{"keys": ["{SECRET}1", "{SECRET}2"]}}')
    assert token.read(make(), SECRET + "1", time.time()).client_id == "ann"


def test_functions_do_not_start_with_a_malformed_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "set_up", lambda level: None)
    monkeypatch.setenv("TASKFLEET_BUCKET", "b")
    monkeypatch.setenv("TASKFLEET_TOKEN_SECRET", '{"keys": ["' + SECRET)
    with pytest.raises(SettingsError, match=r"TASKFLEET_TOKEN_SECRET: .*strict JSON") as caught:
        wiring.connect()
    assert SECRET not in str(caught.value)


def test_the_key_that_encrypts_the_parameter_stays_when_it_changes() -> None:
    """Without KeyId, PutParameter takes the account's default key. moto keeps the parameter's, so
    the request itself is looked at."""
    key = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    ssm = boto3.client("ssm")
    ssm.put_parameter(Name=PARAMETER, Value=SECRET, Type="SecureString", KeyId=key, Overwrite=True)
    sent: list[Any] = []
    ssm.meta.events.register(
        "provide-client-params.ssm.PutParameter", lambda params, **_: sent.append(params)
    )

    change_secret(ssm, PARAMETER, lambda text: text + "!")

    assert sent[0]["KeyId"] == key
