"""The commands behind `make deploy`, `make ami` and `make destroy`:

    python -m infra.deploy up --stage dev
    python -m infra.deploy ami --stage dev
    python -m infra.deploy destroy --stage dev

Owns the command line; the other modules of `infra` own what the commands do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from infra import account, chalice, image, preflight, software, stack, teardown
from infra.rollout import Rollout
from infra.stage import SHARED_WITH_WORKERS, Stage, variables
from taskfleet import settings
from taskfleet.aws.session import region_of
from taskfleet.errors import SettingsError
from taskfleet.wire import token

ROOT = software.ROOT
STACK_DEADLINE_S = 1200.0
"""Longest wait for CloudFormation, in seconds."""
STACK_POLL_S = 2.0
"""Seconds between two looks at the stack."""
TOKEN_TTL_S = 86_400
"""Seconds for which the printed token is valid."""
FAILURES = (
    stack.StackFailed,
    software.BuildFailed,
    chalice.ChaliceFailed,
    image.BakeFailed,
    preflight.PreflightFailed,
    WaiterError,
)
"""Errors whose message is the whole story: exit code 1, and no traceback."""
NOT_TO_BE_SET = {
    *("Stage", "WorkerSha256", "BaseImageId"),
    *("TASKFLEET_STAGE", "TASKFLEET_BUCKET", "TASKFLEET_TOKEN_SECRET_SSM"),
    "TASKFLEET_TOKEN_SECRET",  # everybody who can see the functions' variables could read it
}
"""Parameters and variables that `--set` refuses. The deployment sets them itself, or nobody may."""
stage_option = click.option("--stage", default="dev", show_default=True, help="Name of the stage.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Deploy Taskfleet to the AWS account and region that boto3 finds (AWS_PROFILE, AWS_REGION)."""


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
@click.option(
    "--preflight/--no-preflight",
    "looks_first",
    default=True,
    help="Look first whether account and region can hold the stage.",
)
def up(
    stage: str, given: tuple[str, ...], include: tuple[Path, ...], client: str, looks_first: bool
) -> None:
    """Create or update the stage, then print its URL, and a token if a terminal shows it."""
    plan = planned(stage, given, include)
    url, secret = bring_up(open_session(), plan, looks_first=looks_first)
    _say("done; plain `chalice deploy --stage " + stage + "` works from here on")
    click.echo(f"export TASKFLEET_URL={url}")
    if sys.stdout.isatty():
        access = token.make(secret, client, TOKEN_TTL_S, time.time())
        click.echo(f"export TASKFLEET_TOKEN={access}")
        click.echo(
            'curl -H "Authorization: Bearer $TASKFLEET_TOKEN" -H "Content-Type: text/plain" '
            '--data "sleep 1000" "$TASKFLEET_URL/batches"'
        )
    else:  # the log of a pipeline keeps what it shows
        _say(f"for a token: taskfleet token --stage {stage} --client-id {client}")


@main.command()
@stage_option
def ami(stage: str) -> None:
    """Bake a machine image in which the worker is installed, for faster boots."""
    _check_stage(stage)
    session = open_session()
    account_id, partition = account.identity(session)
    cloudformation = session.client("cloudformation")
    existing = stack.find(cloudformation, stack.name_of(stage))
    sha256 = stack.parameters(existing).get("WorkerSha256")
    if existing is None or not sha256:
        _fail(f"stage {stage} is not deployed; make deploy STAGE={stage} does that")
    bucket = stack.outputs(existing)["BucketName"]
    own = Stage(stage, session.region_name, account_id, bucket, partition)
    image_id = image.bake(session.client("ec2"), own, sha256, _say)
    _say("updating the stack: new machines start from this image")
    parameters = {"ImageId": image_id}
    stack.bring_up(cloudformation, stack.name_of(stage), parameters, polling=polling(), say=_say)
    click.echo(image_id)


@main.command()
@stage_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def destroy(stage: str, yes: bool) -> None:
    """Delete the stage with all its batches, results and movies."""
    _check_stage(stage)
    session = open_session()
    account_id, partition = account.identity(session)
    if not yes:
        click.echo(
            f"This deletes stage {stage} in account {account_id}, region {session.region_name}: "
            "its queues, its table with every result, its bucket with every movie, its functions."
        )
        if click.prompt("Type the name of the stage to continue", default="") != stage:
            _fail("nothing was deleted")
    teardown.destroy(session, stage, account_id, partition, ROOT, _say, polling())


class Plan(NamedTuple):
    """A deployment that was asked for.

    parameters: those of the stack to set.
    variables: those of the functions to set.
    include: modules or packages with task kinds of one's own.
    """

    stage: str
    parameters: dict[str, str]
    variables: dict[str, str]
    include: tuple[Path, ...]


def planned(stage: str, given: tuple[str, ...], include: tuple[Path, ...] = ()) -> Plan:
    """Returns the deployment that was asked for. Exits with 2 if it was asked for wrongly.

    given: the `NAME=VALUE` of `--set`; of one name, the last goes.
    """
    _check_stage(stage)
    _check_python(sys.version_info[:2])
    return Plan(stage, *_parameters_and_variables(given), include)


def bring_up(session: Any, plan: Plan, *, looks_first: bool) -> tuple[str, str]:
    """Creates or updates a stage. Returns its URL and the secret that signs tokens. Raises one of
    `FAILURES`.

    looks_first: whether the preflight comes first.
    """
    if looks_first:
        known = variables(ROOT / ".chalice", plan.stage)
        preflight.check(session, plan.stage, plan.parameters, known, plan.variables, _say)
    account_id, partition = account.identity(session)
    _say(f"stage {plan.stage}, account {account_id}, region {session.region_name}")
    return Rollout(
        session,
        plan.stage,
        account_id,
        partition,
        plan.parameters,
        plan.variables,
        plan.include,
        ROOT,
        _say,
        polling(),
    ).run()


def _check_stage(stage: str) -> None:
    """Exits with 2 if the name of the stage is malformed."""
    try:
        settings.load({"TASKFLEET_STAGE": stage})
    except SettingsError as error:
        _fail(str(error))


def _check_python(version: tuple[int, ...]) -> None:
    """Exits with 2 under another Python than that of the workers: Chalice gives the functions the
    runtime, and the libraries, of the Python that it runs on."""
    running = ".".join(map(str, version))
    if running != software.PYTHON:
        _fail(
            f"this is Python {running}, and the functions run on the Python that deploys them, "
            f"which must be {software.PYTHON}: rm -r .venv; make dev PYTHON=python{software.PYTHON}"
        )


def _parameters_and_variables(given: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the parameters of the stack and the variables of the functions that the `NAME=VALUE`
    of `--set` name. Exits with 2 if one is malformed or may not be set."""
    parameters: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            _fail(f"--set {pair}: it must be NAME=VALUE")
        if name in NOT_TO_BE_SET:
            _fail(f"--set {name}: the deployment sets {name} itself; leave it out")
        (chosen if name.startswith(settings.PREFIX) else parameters)[name] = value
    try:
        settings.load(chosen)
    except SettingsError as error:
        _fail(str(error))
    shared = {
        parameter: chosen[name] for name, parameter in SHARED_WITH_WORKERS.items() if name in chosen
    }
    return {**shared, **parameters}, chosen


def open_session() -> boto3.session.Session:
    """Returns a session of the caller's account. Exits with 2 without a region."""
    session = boto3.session.Session(region_name=region_of(""))
    if not session.region_name:
        _fail("no region: set AWS_REGION or AWS_DEFAULT_REGION, or a profile that names one")
    return session


def polling() -> stack.Polling:
    """Returns how to wait for stacks: with more frequent looks at an emulator, which is faster."""
    emulated = "AWS_ENDPOINT_URL" in os.environ
    return stack.Polling(STACK_DEADLINE_S, 0.1 if emulated else STACK_POLL_S)


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
