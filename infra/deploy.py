"""`make deploy` and `make destroy`: the stack, the worker's software, the stage's settings, then
Chalice, and what Chalice leaves out. Each step looks before it acts, so that all may run again.

    python -m infra.deploy up --stage dev
    python -m infra.deploy destroy --stage dev

Owns the order of the steps; what each makes is in the other modules here and in `.chalice/`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from infra import chalice, image, software, stack, teardown
from infra.stage import Stage, write
from taskfleet import settings
from taskfleet.errors import SettingsError
from taskfleet.wire import token

ROOT = software.ROOT
STACK_DEADLINE_S = 1200.0
STACK_POLL_S = 2.0
TOKEN_TTL_S = 30 * 86_400
FAILURES = (
    stack.StackFailed,
    software.BuildFailed,
    chalice.ChaliceFailed,
    image.BakeFailed,
    WaiterError,
)
SETTINGS_OF_FUNCTIONS = "TASKFLEET_"
WRITTEN_HERE = {
    *("Stage", "WorkerSha256"),
    *("TASKFLEET_STAGE", "TASKFLEET_BUCKET", "TASKFLEET_TOKEN_SECRET_SSM"),
    "TASKFLEET_TOKEN_SECRET",  # it would lie in the functions' settings for all to read
}
OF_BOTH = {
    "TASKFLEET_KINDS": "Kinds",
    "TASKFLEET_SLOTS": "Threads",
    "TASKFLEET_IDLE_S": "IdleSeconds",
}
"""What functions and workers must agree on: the stack's parameter follows the variable."""

stage_option = click.option(
    "--stage", default="dev", show_default=True, help="Its name is part of every name but dev's."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Bring Taskfleet to the AWS account that boto3 finds (AWS_PROFILE, AWS_DEFAULT_REGION)."""


@main.command()
@stage_option
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of infra/stack.yaml (AlarmEmail=...), or a TASKFLEET_ variable of the "
    "functions; kept until set again. Repeatable.",
)
@click.option(
    "--include",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A module or package with kinds of your own, for the workers. Repeatable.",
)
@click.option("--client", default="me", show_default=True, help="Client that the token names.")
def up(stage: str, given: tuple[str, ...], include: tuple[Path, ...], client: str) -> None:
    """Create or update the stage, and print its URL and a token."""
    _checked(stage)
    parameters, variables = _split(given)
    session = _session()
    account, partition = _identity(session)
    _say(f"stage {stage}, account {account}, region {session.region_name}")

    cloudformation = session.client("cloudformation")
    name = stack.name_of(stage)
    standing = stack.find(cloudformation, name)
    if standing is None:
        _say("creating the stack: queues, table, bucket, role")
        first = {"Stage": stage, **_default_vpc(session), **parameters}
        outputs = stack.bring_up(cloudformation, name, first, **_patience())
    else:
        outputs = stack.outputs(standing)
    bucket = outputs["BucketName"]

    _say("building the worker's software")
    architecture = parameters.get("Architecture") or _parameter(
        stack.find(cloudformation, name), "Architecture"
    )
    archive = software.build(architecture, include)
    sha256 = software.sha256(archive)
    _upload(session.client("s3"), bucket, f"worker/{sha256}.tar.gz", archive)
    _say("updating the stack: the machines start with this software")
    stack.bring_up(cloudformation, name, {**parameters, "WorkerSha256": sha256}, **_patience())

    _service_roles(session.client("iam"))
    own = Stage(stage, session.region_name, account, bucket, partition)
    secret = _secret(session.client("ssm"), own.secret_name)
    write(ROOT / ".chalice", own, variables)
    _say("deploying the functions and their API with Chalice")
    url = chalice.deploy(session, own, ROOT)
    access = token.make(secret, client, TOKEN_TTL_S, time.time())
    _say("done; plain `chalice deploy --stage " + stage + "` works from here on")
    click.echo(f"export TASKFLEET_URL={url}")
    click.echo(f"export TASKFLEET_TOKEN={access}")
    click.echo(
        'curl -H "Authorization: Bearer $TASKFLEET_TOKEN" -H "Content-Type: text/plain" '
        '--data "sleep 1000" "$TASKFLEET_URL/batches"'
    )


@main.command()
@stage_option
def ami(stage: str) -> None:
    """Bake a machine image in which the worker is installed, for faster boots."""
    _checked(stage)
    session = _session()
    account, partition = _identity(session)
    cloudformation = session.client("cloudformation")
    standing = stack.find(cloudformation, stack.name_of(stage))
    if standing is None or not (sha256 := _parameter(standing, "WorkerSha256")):
        _fail(f"stage {stage} is not deployed; make deploy STAGE={stage} does that")
    bucket = stack.outputs(standing)["BucketName"]
    own = Stage(stage, session.region_name, account, bucket, partition)
    image_id = image.bake(session.client("ec2"), own, sha256, _say)
    _say("updating the stack: the machines start from it")
    stack.bring_up(cloudformation, stack.name_of(stage), {"ImageId": image_id}, **_patience())
    click.echo(image_id)


@main.command()
@stage_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(stage: str, yes: bool) -> None:
    """Delete the stage with all its batches, results and movies."""
    _checked(stage)
    session = _session()
    account, partition = _identity(session)
    if not yes:
        click.echo(
            f"This deletes stage {stage} in account {account}, region {session.region_name}: its "
            "queues, its table with every result, its bucket with every movie, its functions."
        )
        if click.prompt("Type the stage's name to go on", default="") != stage:
            _fail("nothing was deleted")
    teardown.destroy(session, stage, account, partition, ROOT, _say)


def _checked(stage: str) -> None:
    try:
        settings.load({"TASKFLEET_STAGE": stage})
    except SettingsError as error:
        _fail(str(error))


def _split(given: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters of the stack, and variables of the functions."""
    parameters: dict[str, str] = {}
    variables: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            _fail(f"--set {pair}: NAME=VALUE is wanted")
        if name in WRITTEN_HERE:
            _fail(f"--set {pair}: {name} is set by the deployment itself")
        (variables if name.startswith(SETTINGS_OF_FUNCTIONS) else parameters)[name] = value
    try:
        settings.load(variables)
    except SettingsError as error:
        _fail(str(error))
    of_both = {OF_BOTH[name]: value for name, value in variables.items() if name in OF_BOTH}
    return {**of_both, **parameters}, variables


def _session() -> boto3.session.Session:
    session = boto3.session.Session()
    if not session.region_name:
        _fail("no region: set AWS_DEFAULT_REGION, or a profile that names one")
    return session


def _identity(session: boto3.session.Session) -> tuple[str, str]:
    """Account and partition."""
    arn = session.client("sts").get_caller_identity()["Arn"].split(":")
    return arn[4], arn[1]


def _patience() -> dict[str, Any]:
    """An emulator is not asked every other second only."""
    emulated = "AWS_ENDPOINT_URL" in os.environ
    return {"deadline_s": STACK_DEADLINE_S, "poll_s": 0.1 if emulated else STACK_POLL_S}


def _default_vpc(session: boto3.session.Session) -> dict[str, str]:
    """Named, so that the workers' security group can say what goes out."""
    found = session.client("ec2").describe_vpcs(
        Filters=[{"Name": "is-default", "Values": ["true"]}]
    )
    return {"VpcId": found["Vpcs"][0]["VpcId"]} if found["Vpcs"] else {}


def _parameter(standing: Mapping[str, Any] | None, key: str) -> str:
    found = {p["ParameterKey"]: p["ParameterValue"] for p in (standing or {}).get("Parameters", [])}
    return str(found[key])


def _upload(s3: Any, bucket: str, key: str, data: bytes) -> None:
    if s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
        return
    _say(f"uploading {len(data) / 1e6:.0f} MB")
    s3.put_object(Bucket=bucket, Key=key, Body=data)


def _service_roles(iam: Any) -> None:
    """EC2's own roles for fleets and spot machines, one an account: whoever launches the first must
    be allowed to make them, which the provisioner is not."""
    for service in ("ec2fleet.amazonaws.com", "spot.amazonaws.com"):
        # Either says that the role is there.
        there = (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException)
        with contextlib.suppress(*there):
            iam.create_service_linked_role(AWSServiceName=service)


def _secret(ssm: Any, name: str) -> str:
    """The secret of the tokens, made at the first deployment. CloudFormation cannot make an
    encrypted parameter, and a secret in Secrets Manager costs by the month."""
    try:
        return str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        made = secrets.token_urlsafe(48)
        ssm.put_parameter(Name=name, Value=made, Type="SecureString")
        return made


def _say(text: str) -> None:
    click.echo(f"-- {text}", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"deploy: {message}", err=True)
    sys.exit(2)


def run() -> NoReturn:
    """Exit 0, or 1 when AWS would not, 2 for bad usage."""
    try:
        main(prog_name="python -m infra.deploy")
    except FAILURES as error:
        click.echo(f"deploy: {error}", err=True)
    except (BotoCoreError, ClientError) as error:
        click.echo(f"deploy: AWS: {error}", err=True)
    except subprocess.TimeoutExpired as error:
        click.echo(f"deploy: {error}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()
