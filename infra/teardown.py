"""`make destroy`: everything that `make deploy` made, and what has come of it since. Owns the
order: the functions first, since one of them launches machines; then the machines, for the stack
cannot go under them; at the end the bucket, which keeps the record of the functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra import chalice, stack
from infra.stage import Stage
from taskfleet.settings import Settings

WAIT = {"Delay": 2, "MaxAttempts": 300}


def destroy(
    session: Any, name: str, account: str, partition: str, root: Path, say: Callable[[str], None]
) -> None:
    """Each step finds what is left of it, so that a run that was cut short goes on."""
    cloudformation = session.client("cloudformation")
    standing = stack.find(cloudformation, stack.name_of(name))
    outputs = stack.outputs(standing) if standing else {}
    bucket = outputs.get("BucketName") or chalice.known_bucket(root, name)
    stage = Stage(name, session.region_name, account, bucket, partition)
    say("deleting the functions and their API")
    chalice.delete(session, stage, root)
    say("ending the workers")
    _end_workers(session.client("ec2"), name)
    if standing:
        say("deleting the stack")
        cloudformation.delete_stack(StackName=stack.name_of(name))
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=stack.name_of(name), WaiterConfig=WAIT
        )
    # The stack keeps these two, in case it is deleted by mistake.
    say("deleting the bucket and the table")
    if bucket:
        _delete_bucket(session.client("s3"), bucket)
    _delete_table(session.client("dynamodb"), Settings(stage=name).monitor_table)
    say("deleting the token secret and the logs")
    _delete_secret(session.client("ssm"), stage.secret_name)
    _delete_logs(session.client("logs"), chalice.function_names(root, stage))
    shutil.rmtree(root / ".chalice" / "stages" / name, ignore_errors=True)


def _end_workers(ec2: Any, stage: str) -> None:
    alive = [
        {"Name": "tag:taskfleet:stage", "Values": [stage]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    ids = [
        instance["InstanceId"]
        for page in ec2.get_paginator("describe_instances").paginate(Filters=alive)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    for start in range(0, len(ids), 100):
        some = ids[start : start + 100]
        ec2.terminate_instances(InstanceIds=some)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=some, WaiterConfig=WAIT)


def _delete_bucket(s3: Any, bucket: str) -> None:
    try:
        for keys in _thousands(s3, bucket):
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    except s3.exceptions.NoSuchBucket:
        return


def _thousands(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if page.get("Contents"):
            yield [{"Key": entry["Key"]} for entry in page["Contents"]]


def _delete_table(dynamodb: Any, table: str) -> None:
    try:
        dynamodb.delete_table(TableName=table)
    except dynamodb.exceptions.ResourceNotFoundException:
        return
    dynamodb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig=WAIT)


def _delete_secret(ssm: Any, name: str) -> None:
    try:
        ssm.delete_parameter(Name=name)
    except ssm.exceptions.ParameterNotFound:
        return


def _delete_logs(logs: Any, names: list[str]) -> None:
    """Of the functions; that of the workers goes with the stack."""
    for name in names:
        try:
            logs.delete_log_group(logGroupName=f"/aws/lambda/{name}")
        except logs.exceptions.ResourceNotFoundException:
            continue
