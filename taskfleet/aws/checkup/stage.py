"""Looks at a stage that is deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from taskfleet.aws.checkup.look import Clients, found, look
from taskfleet.aws.errors import Denied, LaunchShortage, WouldSucceed, translated
from taskfleet.checkup import stage
from taskfleet.checkup.finding import Finding
from taskfleet.errors import PermanentError
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.provisioner.records import FleetState
from taskfleet.settings import Settings

ALARMS_A_PAGE = 100
"""Alarms in one answer of DescribeAlarms, more than a stage has."""


def look_at_stage(
    clients: Clients, conf: Settings, records: FleetRecords, now: Callable[[], float]
) -> list[Finding]:
    """Returns what there is to say of the stage.

    conf: the stage's settings.
    records: what the provisioner remembers.
    now: returns the time, in epoch seconds.
    """
    states: list[FleetState] = []

    def provisioner() -> Iterator[Finding]:
        states.append(records.state())
        yield stage.provisioner(states[0], conf.provisioner_function, now())
        yield stage.boots(states[0], now())

    template = f"the launch template {conf.worker_template}"
    return [
        *look("stacks", "cloudformation:DescribeStacks", lambda: _stacks(clients, conf)),
        *look(
            "queues, table, bucket",
            "sqs:GetQueueUrl, dynamodb:DescribeTable and s3:ListBucket",
            lambda: _parts(clients, conf),
        ),
        *look("dead letters", "sqs:GetQueueAttributes", lambda: _dead_letters(clients, conf)),
        *look("provisioner", "dynamodb:GetItem on the table", provisioner),
        *look(
            "image",
            "ec2:DescribeLaunchTemplateVersions and ec2:DescribeImages",
            lambda: _image(clients("ec2"), conf),
        ),
        *look(template, "ec2:RunInstances", lambda: _launches(clients("ec2"), conf)),
        *look("alarms", "cloudwatch:DescribeAlarms", lambda: _alarms(clients, conf)),
    ]


def _stacks(clients: Clients, conf: Settings) -> Iterator[Finding]:
    client = clients("cloudformation")
    for name in (f"taskfleet-{conf.stage}", f"taskfleet-{conf.stage}-Roles"):
        there = found(partial(client.describe_stacks, StackName=name))
        status = there["Stacks"][0]["StackStatus"] if there else ""
        yield stage.stack(name, status, conf.stage)


def _parts(clients: Clients, conf: Settings) -> Iterator[Finding]:
    sqs, dynamodb, s3 = clients("sqs"), clients("dynamodb"), clients("s3")
    asked = {
        f"queue {name}": partial(sqs.get_queue_url, QueueName=name)
        for queue in (conf.task_queue, conf.response_queue, conf.upload_queue)
        for name in (queue, f"{queue}_dead")
    }
    asked[f"queue {conf.high_queue}"] = partial(sqs.get_queue_url, QueueName=conf.high_queue)
    table = conf.monitor_table
    asked[f"table {table}"] = partial(dynamodb.describe_table, TableName=table)
    if conf.bucket:
        asked[f"bucket {conf.bucket}"] = partial(s3.head_bucket, Bucket=conf.bucket)
    there = {name: found(ask) is not None for name, ask in asked.items()}
    yield stage.parts(there, conf.stage)


def _dead_letters(clients: Clients, conf: Settings) -> Iterator[Finding]:
    sqs, counts = clients("sqs"), {}
    for option, queue in (
        ("", conf.task_queue),
        ("--responses", conf.response_queue),
        ("--uploads", conf.upload_queue),
    ):
        url = sqs.get_queue_url(QueueName=f"{queue}_dead")["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        counts[option] = int(asked["Attributes"][name])
    yield from stage.dead_letters(counts, conf.stage)


def _image(ec2: Any, conf: Settings) -> Iterator[Finding]:
    versions = ec2.describe_launch_template_versions(
        LaunchTemplateName=conf.worker_template, Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    image_id = str(versions[0]["LaunchTemplateData"]["ImageId"])
    # A filter, since EC2 answers an id that is gone with an error.
    asked = [{"Name": "image-id", "Values": [image_id]}]
    images = ec2.describe_images(Filters=asked)["Images"]
    yield stage.image(image_id, images[0]["State"] if images else "", conf.stage)


def _launches(ec2: Any, conf: Settings) -> Iterator[Finding]:
    """Asks EC2 whether it would launch a machine. Nothing is launched; what an emulator that knows
    no dry runs launches is ended at once."""
    named = {"LaunchTemplateName": conf.worker_template, "Version": "$Latest"}
    more = {"InstanceType": conf.instance_types[0]} if conf.instance_types else {}
    more |= {"SubnetId": conf.subnets[0]} if conf.subnets else {}
    refusal = ""
    try:
        with translated("launch from", named["LaunchTemplateName"]):
            made = ec2.run_instances(
                LaunchTemplate=named, MinCount=1, MaxCount=1, DryRun=True, **more
            )
            ec2.terminate_instances(InstanceIds=[one["InstanceId"] for one in made["Instances"]])
            refusal = "the endpoint knows no dry runs; it launched a machine, which was ended"
    except WouldSucceed:
        pass
    except (PermanentError, LaunchShortage) as error:
        if isinstance(error, Denied):
            raise
        refusal = str(error)
    yield stage.launches(refusal, conf.worker_template)


def _alarms(clients: Clients, conf: Settings) -> Iterator[Finding]:
    answer = clients("cloudwatch").describe_alarms(
        AlarmNamePrefix=f"taskfleet-{conf.stage}-", StateValue="ALARM", MaxRecords=ALARMS_A_PAGE
    )
    yield from stage.alarms([alarm["AlarmName"] for alarm in answer["MetricAlarms"]])
