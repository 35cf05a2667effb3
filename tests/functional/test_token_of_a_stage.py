"""`taskfleet token --stage`: signed with the secret that the stage has in SSM (moto plays it)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import boto3
import pytest
from click.testing import CliRunner, Result

from taskfleet.cli.main import main
from taskfleet.wire import token
from tests.support.moto_aws import moto_account, write_settings

SECRET = "a secret of more than thirty-two characters"


@pytest.fixture(autouse=True)
def prod() -> Iterator[None]:
    """An account with a secret of the stage `prod` alone."""
    with moto_account("eu-west-1"):
        boto3.client("ssm").put_parameter(
            Name="/taskfleet/prod/token-secret", Value=SECRET, Type="SecureString"
        )
        write_settings("prod", TASKFLEET_BUCKET="b")
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["token", "--client-id", "ann", *arguments])


def test_it_names_the_client_and_is_valid_for_a_day() -> None:
    made = run("--stage", "prod").stdout.strip()
    assert token.read(made, SECRET, time.time()).client_id == "ann"
    with pytest.raises(token.InvalidToken, match="expired"):
        token.read(made, SECRET, time.time() + 86_500)


def test_without_a_secret_it_says_which_parameter_is_missing() -> None:
    write_settings("beta", TASKFLEET_BUCKET="b")
    result = run("--stage", "beta")
    assert result.exit_code == 2
    assert "/taskfleet/beta/token-secret: it does not exist" in result.stderr
