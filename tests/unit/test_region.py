"""The region of every AWS client: TASKFLEET_REGION, else AWS_REGION (which Lambda sets), else what
boto3 finds by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.cloud import DEFAULTS
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.errors import SettingsError
from taskfleet.settings import load
from tests.support.moto_aws import aws_credentials

SERVICES = ("sqs", "dynamodb", "s3", "ec2", "lambda", "ssm")


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """An environment with credentials and without a region, and its patch."""
    with aws_credentials() as patch:
        patch.delenv("AWS_DEFAULT_REGION")
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
            patch.delenv(name)
        yield patch


def regions() -> set[str]:
    """The regions that the clients of a process with this environment speak to."""
    aws = Aws(load(), SystemClock())
    return {aws.client(service).meta.region_name for service in SERVICES}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-west-2"}, "eu-west-1"),
        ({"TASKFLEET_REGION": "eu-north-1", "AWS_REGION": "eu-west-1"}, "eu-north-1"),
        ({"TASKFLEET_REGION": "", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
    ],
)
def test_every_client_speaks_to_the_region_of_the_environment(
    environ: pytest.MonkeyPatch, variables: dict[str, str], wanted: str
) -> None:
    for name, value in variables.items():
        environ.setenv(name, value)
    assert regions() == {wanted}


def test_a_profile_names_the_region_when_no_variable_does(
    environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile work]\nregion = ap-southeast-2\n")
    environ.setenv("AWS_PROFILE", "work")
    assert regions() == {"ap-southeast-2"}


def test_without_a_region_the_fault_says_what_to_set(environ: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no AWS region: set AWS_REGION"):
        regions()


def test_the_local_cloud_has_a_region_of_its_own() -> None:
    assert load(DEFAULTS).region == "us-east-1"
