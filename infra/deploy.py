"""The commands behind `make deploy`, `make ami` and `make destroy`:

    python -m infra.deploy up --stage dev
    python -m infra.deploy ami --stage dev
    python -m infra.deploy destroy --stage dev

A deployment brings up the stack, the worker's software, the stage's settings and the functions.
Each step looks at what is there before it acts, so every command may run again. Owns the order of
the steps and the command line; the other modules of `infra` own the steps."""

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
"""Longest wait for CloudFormation, in seconds."""
STACK_POLL_S = 2.0
"""Seconds between two looks at the stack."""
TOKEN_TTL_S = 30 * 86_400
"""Seconds for which the printed token is valid."""
FAILURES = (
    stack.StackFailed,
    software.BuildFailed,
    chalice.ChaliceFailed,
    image.BakeFailed,
    WaiterError,
)
"""Errors whose message is the whole story: exit code 1, and no traceback."""
NOT_TO_BE_SET = {
    *("Stage", "WorkerSha256"),
    *("TASKFLEET_STAGE", "TASKFLEET_BUCKET", "TASKFLEET_TOKEN_SECRET_SSM"),
    "TASKFLEET_TOKEN_SECRET",  # everybody who can see the functions' variables could read it
}
"""Parameters and variables that `--set` refuses. The deployment sets them itself, or nobody may."""
SHARED_WITH_WORKERS = {
    "TASKFLEET_KINDS": "Kinds",
    "TASKFLEET_SLOTS": "Threads",
    "TASKFLEET_IDLE_S": "IdleSeconds",
}
"""Variables of the functions on which functions and workers must agree, with the stack's parameter
that sets the same for the workers."""

stage_option = click.option("--stage", default="dev", show_default=True, help="Name of the stage.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Deploy Taskfleet to the AWS account that boto3 finds (AWS_PROFILE, AWS_DEFAULT_REGION)."""


@main.command()
@stage_option
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of infra/stack.yaml (AlarmEmail=...), or TASKFLEET_ variable of the "
    "functions; it stays until it is set again. Repeatable.",
)
@click.option(
    "--include",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Module or package with task kinds of your own, for the workers. Repeatable.",
)
@click.option(
    "--client", default="me", show_default=True, help="Client that the printed token names."
)
def up(stage: str, given: tuple[str, ...], include: tuple[Path, ...], client: str) -> None:
    """Create or update the stage, then print its URL and a token."""
    _check_stage(stage)
    parameters, variables = _parameters_and_variables(given)
    session = _session()
    account, partition = _identity(session)
    _say(f"stage {stage}, account {account}, region {session.region_name}")

    cloudformation = session.client("cloudformation")
    name = stack.name_of(stage)
    existing = stack.find(cloudformation, name)
    if existing is None:
        _say("creating the stack: queues, table, bucket, role")
        first = {"Stage": stage, **_default_vpc(session), **parameters}
        outputs = stack.bring_up(cloudformation, name, first, **_polling())
    else:
        outputs = stack.outputs(existing)
    bucket = outputs["BucketName"]

    _say("building the worker's software")
    architecture = parameters.get("Architecture") or _parameter(
        stack.find(cloudformation, name), "Architecture"
    )
    archive = software.build(architecture, include)
    sha256 = software.sha256(archive)
    _upload(session.client("s3"), bucket, f"worker/{sha256}.tar.gz", archive)
    _say("updating the stack: new machines get this software")
    stack.bring_up(cloudformation, name, {**parameters, "WorkerSha256": sha256}, **_polling())

    _create_service_roles(session.client("iam"))
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
    _check_stage(stage)
    session = _session()
    account, partition = _identity(session)
    cloudformation = session.client("cloudformation")
    existing = stack.find(cloudformation, stack.name_of(stage))
    if existing is None or not (sha256 := _parameter(existing, "WorkerSha256")):
        _fail(f"stage {stage} is not deployed; make deploy STAGE={stage} does that")
    bucket = stack.outputs(existing)["BucketName"]
    own = Stage(stage, session.region_name, account, bucket, partition)
    image_id = image.bake(session.client("ec2"), own, sha256, _say)
    _say("updating the stack: new machines start from this image")
    stack.bring_up(cloudformation, stack.name_of(stage), {"ImageId": image_id}, **_polling())
    click.echo(image_id)


@main.command()
@stage_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def destroy(stage: str, yes: bool) -> None:
    """Delete the stage with all its batches, results and movies."""
    _check_stage(stage)
    session = _session()
    account, partition = _identity(session)
    if not yes:
        click.echo(
            f"This deletes stage {stage} in account {account}, region {session.region_name}: its "
            "queues, its table with every result, its bucket with every movie, its functions."
        )
        if click.prompt("Type the name of the stage to continue", default="") != stage:
            _fail("nothing was deleted")
    teardown.destroy(session, stage, account, partition, ROOT, _say)


def _check_stage(stage: str) -> None:
    """Exits with 2 if the name of the stage is malformed."""
    try:
        settings.load({"TASKFLEET_STAGE": stage})
    except SettingsError as error:
        _fail(str(error))


def _parameters_and_variables(given: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the parameters of the stack and the variables of the functions that the `NAME=VALUE`
    of `--set` name. Exits with 2 if one is malformed or may not be set."""
    parameters: dict[str, str] = {}
    variables: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            _fail(f"--set {pair}: it must be NAME=VALUE")
        if name in NOT_TO_BE_SET:
            _fail(f"--set {name}: the deployment sets {name} itself; leave it out")
        (variables if name.startswith(settings.PREFIX) else parameters)[name] = value
    try:
        settings.load(variables)
    except SettingsError as error:
        _fail(str(error))
    shared = {
        parameter: variables[name]
        for name, parameter in SHARED_WITH_WORKERS.items()
        if name in variables
    }
    return {**shared, **parameters}, variables


def _session() -> boto3.session.Session:
    """Returns a session of the caller's account. Exits with 2 without a region."""
    session = boto3.session.Session()
    if not session.region_name:
        _fail("no region: set AWS_DEFAULT_REGION, or a profile that names one")
    return session


def _identity(session: boto3.session.Session) -> tuple[str, str]:
    """Returns account and partition of the credentials."""
    arn = session.client("sts").get_caller_identity()["Arn"].split(":")
    return arn[4], arn[1]


def _polling() -> dict[str, Any]:
    """Returns how `stack.bring_up` polls: more often on an emulator, which is faster."""
    emulated = "AWS_ENDPOINT_URL" in os.environ
    return {"deadline_s": STACK_DEADLINE_S, "poll_s": 0.1 if emulated else STACK_POLL_S}


def _default_vpc(session: boto3.session.Session) -> dict[str, str]:
    """Returns the parameter that names the default VPC, if there is one. CloudFormation takes rules
    for outgoing traffic only for a VPC that is named."""
    answer = session.client("ec2").describe_vpcs(
        Filters=[{"Name": "is-default", "Values": ["true"]}]
    )
    return {"VpcId": answer["Vpcs"][0]["VpcId"]} if answer["Vpcs"] else {}


def _parameter(existing: Mapping[str, Any] | None, key: str) -> str:
    """Returns the value of a parameter of a stack."""
    parameters = (existing or {}).get("Parameters", [])
    return str({p["ParameterKey"]: p["ParameterValue"] for p in parameters}[key])


def _upload(s3: Any, bucket: str, key: str, data: bytes) -> None:
    """Uploads `data` unless the key is there already."""
    if s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
        return
    _say(f"uploading {len(data) / 1e6:.0f} MB")
    s3.put_object(Bucket=bucket, Key=key, Body=data)


def _create_service_roles(iam: Any) -> None:
    """Creates the account's service-linked roles for fleets and spot machines, unless they exist.
    EC2 would create them at the first launch, but the provisioner may not create roles."""
    for service in ("ec2fleet.amazonaws.com", "spot.amazonaws.com"):
        # IAM answers either of the two when the role exists.
        exists = (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException)
        with contextlib.suppress(*exists):
            iam.create_service_linked_role(AWSServiceName=service)


def _secret(ssm: Any, name: str) -> str:
    """Returns the secret that signs tokens, and creates it at the first deployment. It is not part
    of the stack, since CloudFormation cannot create an encrypted parameter. It is not in Secrets
    Manager, since a secret there costs 0.40 dollars a month."""
    try:
        return str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        made = secrets.token_urlsafe(48)
        ssm.put_parameter(Name=name, Value=made, Type="SecureString")
        return made


def _say(line: str) -> None:
    click.echo(f"-- {line}", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"deploy: {message}", err=True)
    sys.exit(2)


def run() -> NoReturn:
    """Runs the command line. Exits with 0, with 1 when a step failed, 2 after bad usage."""
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
