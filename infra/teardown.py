"""Deletes a stage for `make destroy`: all that `make deploy` created, wherever it ended, and the
data and machines that came since. Owns the order. The functions are first, since one of them
launches machines; then the machines, since the stack cannot be deleted under them; the bucket is
late, since it keeps Chalice's record of the functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra import chalice, functions, stack
from infra.stage import Stage
from taskfleet.aws.ec2 import STAGE_TAG
from taskfleet.settings import Settings

WAIT = {"Delay": 2, "MaxAttempts": 300}
"""How boto3's waiters poll: seconds between two calls, and their number."""
IDS_A_CALL = 100
"""Machines in one call that ends them."""


def destroy(
    session: Any,
    name: str,
    account: str,
    partition: str,
    root: Path,
    say: Callable[[str], None],
    polling: stack.Polling,
) -> None:
    """Deletes stage `name`. Each step deletes what it finds, so that a run after one that failed
    completes it. Raises ChaliceFailed, StackFailed, or botocore's errors.

    root: the checkout.
    say: called with a line for each step.
    polling: how to wait for stacks.
    """
    cloudformation = session.client("cloudformation")
    existing = stack.find(cloudformation, stack.name_of(name))
    outputs = stack.outputs(existing) if existing else {}
    known = _in_region(session, chalice.known_bucket(root, name))
    bucket = outputs.get("BucketName") or known
    stage = Stage(name, session.region_name, account, bucket, partition)
    say("deleting the functions and their API")
    chalice.delete(session, stage, root)
    say("ending the workers")
    _end_workers(session.client("ec2"), name)
    say("deleting the stacks")
    stack.delete(cloudformation, stack.roles_name_of(name), polling)
    stack.delete(cloudformation, stack.name_of(name), polling)
    # Deleting the stack keeps these two, in case it was a mistake.
    say("deleting the bucket and the table")
    if bucket:
        _delete_bucket(session.client("s3"), bucket)
    _delete_table(session.client("dynamodb"), Settings(stage=name).monitor_table)
    say("deleting the token secret, the settings and the logs")
    for parameter in (stage.secret_name, stage.settings_name):
        _delete_parameter(session.client("ssm"), parameter)
    _delete_logs(session.client("logs"), functions.names(root, stage))


def _in_region(session: Any, bucket: str) -> str:
    """Returns the bucket if it is in the session's region; else an empty text. This checkout may
    have deployed the stage in another region since, whose data must stay."""
    s3 = session.client("s3")
    try:
        place = s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] if bucket else ""
    except s3.exceptions.NoSuchBucket:
        return ""
    # S3 tells no place for its first region, and two names for one.
    region = {None: "us-east-1", "EU": "eu-west-1"}.get(place, place)
    return bucket if region == session.region_name else ""


def _end_workers(ec2: Any, stage: str) -> None:
    """Terminates the machines of the stage, and waits until they are gone."""
    alive = [
        {"Name": f"tag:{STAGE_TAG}", "Values": [stage]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    ids = [
        instance["InstanceId"]
        for page in ec2.get_paginator("describe_instances").paginate(Filters=alive)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    for start in range(0, len(ids), IDS_A_CALL):
        chunk = ids[start : start + IDS_A_CALL]
        ec2.terminate_instances(InstanceIds=chunk)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=chunk, WaiterConfig=WAIT)


def _delete_bucket(s3: Any, bucket: str) -> None:
    try:
        for keys in _pages_of_keys(s3, bucket):
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    except s3.exceptions.NoSuchBucket:
        return


def _pages_of_keys(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    """Yields the keys in the bucket, up to 1,000 at a time: what one call can delete."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if page.get("Contents"):
            yield [{"Key": entry["Key"]} for entry in page["Contents"]]


def _delete_table(dynamodb: Any, table: str) -> None:
    try:
        dynamodb.delete_table(TableName=table)
    except dynamodb.exceptions.ResourceNotFoundException:
        return
    dynamodb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig=WAIT)


def _delete_parameter(ssm: Any, name: str) -> None:
    try:
        ssm.delete_parameter(Name=name)
    except ssm.exceptions.ParameterNotFound:
        return


def _delete_logs(logs: Any, names: list[str]) -> None:
    """Deletes the logs of the functions. That of the workers is deleted with the stack."""
    for name in names:
        try:
            logs.delete_log_group(logGroupName=f"/aws/lambda/{name}")
        except logs.exceptions.ResourceNotFoundException:
            continue
