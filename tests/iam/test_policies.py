"""What each process may do, and what it may not, decided by an IAM evaluator on the policies that
are deployed. Launches are in `test_launches`, items of the table in `test_table_keys`. That each
process uses all it may, and needs no more, is tested where the processes run
(`tests/e2e/test_worker_permissions.py`, `tests/e2e/test_function_permissions.py`)."""

from __future__ import annotations

import pytest

from taskfleet.aws.ec2 import STAGE_TAG
from tests.support.iam import ACCOUNT, STAGE, Request, denied, policy_of

ARN = "arn:aws:{service}:" + f"{STAGE.region}:{ACCOUNT}" + ":{name}"


def sqs(name: str) -> str:
    return ARN.format(service="sqs", name=name)


def table(name: str = "Task_Monitor-prod") -> str:
    return ARN.format(service="dynamodb", name=f"table/{name}")


def parameter(name: str) -> str:
    return ARN.format(service="ssm", name=f"parameter{name}")


def log(name: str) -> str:
    return ARN.format(service="logs", name=f"log-group:{name}:log-stream:one")


def stored(key: str, bucket: str = STAGE.bucket) -> str:
    return f"arn:aws:s3:::{bucket}/{key}"


def ec2(name: str) -> str:
    return ARN.format(service="ec2", name=name)


OWN = ((f"aws:ResourceTag/{STAGE_TAG}", "prod"),)
FOREIGN = ((f"aws:ResourceTag/{STAGE_TAG}", "dev"),)
OTHER_TAG = ((f"aws:RequestTag/{STAGE_TAG}", "dev"),)
TAGGED = ((f"aws:RequestTag/{STAGE_TAG}", "prod"),)
C7G = (("ec2:InstanceType", "c7g.large"),)
MACHINE, FLEET, TEMPLATE = ec2("instance/i-0123"), ec2("fleet/fleet-1"), ec2("launch-template/lt-1")
BY_TEMPLATE = (*TAGGED, ("ec2:LaunchTemplate", TEMPLATE))
ROLE = f"arn:aws:iam::{ACCOUNT}:role/taskfleet-prod-eu-west-1-worker"
TO_EC2 = (("iam:PassedToService", "ec2.amazonaws.com"),)

TASKS, DEAD = sqs("Task_to_process-prod"), sqs("Task_to_process-prod_dead")
HIGH = sqs("Task_to_process-prod_high")
RESPONSES = sqs("Processed_Task-prod")
DEAD_RESPONSES, DEAD_UPLOADS = sqs("Processed_Task-prod_dead"), sqs("Upload_to_expand-prod_dead")
FUNCTION = ARN.format(service="lambda", name="function:taskfleet-prod")
UPLOADS = sqs("Upload_to_expand-prod")
BUS = ARN.format(service="events", name="event-bus/default")
TOPIC = ARN.format(service="sns", name="taskfleet-prod-batches")
FINISHED = (("events:source", "taskfleet"), ("events:detail-type", "Batch finished"))
TELL = [Request("events:PutEvents", BUS, FINISHED), Request("sns:Publish", TOPIC)]
"""The requests of a process that may be the first to know of the end of a batch."""
INDEX = table() + "/index/batches_by_client"

ALLOWED = {
    "api": [
        Request("sqs:SendMessage", TASKS),
        Request("sqs:GetQueueUrl", TASKS),
        Request("sqs:GetQueueAttributes", TASKS),  # what GET /fleet shows
        *(Request(f"sqs:{c}", HIGH) for c in ("SendMessage", "GetQueueUrl", "GetQueueAttributes")),
        Request("dynamodb:Query", INDEX),
        Request("s3:GetObject", stored("spill/x")),
        Request("s3:GetObject", stored("logs/b/0/x")),
        Request("s3:GetObject", stored("movies/b/0.mp4")),
        Request("s3:GetObject", stored("outputs/b/0/a.csv")),  # signed for clients
        Request("s3:GetObject", stored("results/b/0/x.pickle")),  # signed for clients
        Request("lambda:InvokeFunction", FUNCTION + "-tick"),
        *TELL,
        Request("s3:GetObject", stored("uploads/alice/x")),
        Request("s3:PutObject", stored("uploads/alice/x")),  # signed for clients
        Request("s3:PutObject", stored("parts/added/b/x")),  # of open batches
        Request("s3:GetObject", stored("parts/added/b/x")),
        Request("s3:ListBucket", f"arn:aws:s3:::{STAGE.bucket}"),
        Request("sqs:SendMessage", UPLOADS),
        *(
            Request(f"sqs:{call}", queue)
            for queue in (DEAD, DEAD_RESPONSES, DEAD_UPLOADS)
            for call in ("ReceiveMessage", "ChangeMessageVisibility", "DeleteMessage")
        ),
        Request("sqs:GetQueueAttributes", RESPONSES),  # which tell the dead-letter queue
        Request("sqs:SendMessage", RESPONSES),  # to which dead letters return
        Request("logs:PutLogEvents", log("/aws/lambda/taskfleet-prod")),
    ],
    "authorize": [
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
        Request("logs:PutLogEvents", log("/aws/lambda/taskfleet-prod-authorize")),
    ],
    "collect": [
        Request("sqs:ReceiveMessage", RESPONSES),
        Request("sqs:DeleteMessage", RESPONSES),
        Request("sqs:SendMessage", UPLOADS),  # for the batches that wait
        *TELL,
    ],
    "expand": [
        *TELL,
        Request("sqs:ReceiveMessage", UPLOADS),
        Request("sqs:DeleteMessage", UPLOADS),
        Request("sqs:SendMessage", UPLOADS),
        Request("sqs:SendMessage", TASKS),
        Request("sqs:SendMessage", HIGH),
        Request("s3:GetObject", stored("uploads/alice/x")),
        Request("s3:PutObject", stored("parts/b/0")),
        Request("s3:GetObject", stored("parts/b/0")),
        Request("s3:ListBucket", f"arn:aws:s3:::{STAGE.bucket}"),
        Request("lambda:InvokeFunction", FUNCTION + "-tick"),
        Request("logs:PutLogEvents", log("/aws/lambda/taskfleet-prod-expand_upload")),
    ],
    "tick": [
        Request("sqs:GetQueueAttributes", TASKS),
        Request("sqs:SendMessage", TASKS),  # the batches of schedules
        Request("sqs:SendMessage", HIGH),
        Request("dynamodb:Query", INDEX),
        Request("sqs:GetQueueAttributes", HIGH),
        Request("logs:PutLogEvents", log("/aws/lambda/taskfleet-prod-tick")),
        Request("ec2:DescribeInstances", "*"),
        Request("ec2:CreateFleet", FLEET, TAGGED),
        Request("ec2:CreateTags", MACHINE, (*TAGGED, ("ec2:CreateAction", "CreateFleet"))),
        Request("ec2:CreateTags", MACHINE, (*OWN, ("aws:TagKeys", "taskfleet:marked-at"))),
        Request("ec2:TerminateInstances", MACHINE, OWN),
        Request("ec2:GetConsoleOutput", MACHINE, OWN),
        Request("iam:PassRole", ROLE, TO_EC2),
    ],
    "worker": [
        Request("sqs:ReceiveMessage", TASKS),
        Request("sqs:ChangeMessageVisibility", TASKS),
        Request("sqs:DeleteMessage", TASKS),
        *(
            Request(f"sqs:{call}", HIGH)
            for call in ("ReceiveMessage", "ChangeMessageVisibility", "DeleteMessage")
        ),
        Request("sqs:SendMessage", RESPONSES),
        Request("sqs:SendMessage", DEAD),
        Request("s3:PutObject", stored("movies/b/0.mp4")),
        Request("s3:PutObject", stored("spill/x")),
        Request("s3:PutObject", stored("logs/b/0/w-1")),
        Request("s3:PutObject", stored("outputs/b/0/a.csv")),
        Request("s3:PutObject", stored("results/b/0/x.pickle")),
        Request("s3:GetObject", stored("worker/0123.tar.gz")),
        Request("s3:GetObject", stored("uploads/alice/picture")),  # what movies are made of
        Request("s3:ListBucket", f"arn:aws:s3:::{STAGE.bucket}"),
        Request("logs:PutLogEvents", log("/taskfleet/prod/worker")),
    ],
}

EVERYWHERE_DENIED = [
    Request("events:PutEvents", BUS),
    Request("events:PutEvents", BUS, (("events:source", "payroll"), FINISHED[1])),
    Request("events:PutRule", ARN.format(service="events", name="rule/x")),
    Request("sns:Publish", ARN.format(service="sns", name="taskfleet-dev-batches")),
    Request("sns:Publish", ARN.format(service="sns", name="taskfleet-production-batches")),
    Request("sns:Subscribe", TOPIC),
    Request("sqs:SendMessage", sqs("Task_to_process")),  # another stage's
    Request("sqs:DeleteMessage", sqs("Payroll")),
    Request("sqs:PurgeQueue", TASKS),
    Request("dynamodb:GetItem", table("Task_Monitor")),
    Request("dynamodb:DeleteTable", table()),
    Request("dynamodb:Scan", table()),
    Request("s3:GetObject", stored("spill/x", "taskfleet-dev-bucket")),
    Request("s3:GetObject", stored("deploy/prod.json")),
    Request("s3:PutObject", stored("worker/0123.tar.gz")),
    Request("s3:DeleteObject", stored("movies/b/0.mp4")),
    Request("s3:DeleteObject", stored("outputs/b/0/a.csv")),
    Request("s3:DeleteObject", stored("results/b/0/x.pickle")),
    Request("ssm:GetParameter", parameter("/taskfleet/dev/token-secret")),
    Request("ssm:PutParameter", parameter("/taskfleet/prod/token-secret")),
    Request("logs:PutLogEvents", log("/aws/lambda/payroll")),
    Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", (("iam:PassedToService", "x"),)),
    Request("lambda:UpdateFunctionCode", FUNCTION),
    Request("lambda:InvokeFunction", FUNCTION + "-authorize"),
]

DENIED = {
    "api": [
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
        Request("sqs:ReceiveMessage", TASKS),
        Request("sqs:ReceiveMessage", RESPONSES),
        Request("sqs:DeleteMessage", RESPONSES),
        Request("sqs:ReceiveMessage", UPLOADS),
        Request("sqs:SendMessage", DEAD),
        Request("sqs:PurgeQueue", DEAD),
        Request("sqs:ReceiveMessage", sqs("Task_to_process_dead")),  # another stage's
        Request("s3:PutObject", stored("movies/b/0.mp4")),
        Request("s3:PutObject", stored("outputs/b/0/a.csv")),
        Request("s3:PutObject", stored("results/b/0/x.pickle")),
        Request("s3:PutObject", stored("parts/b/0")),
        Request("lambda:InvokeFunction", FUNCTION + "-collect_responses"),
    ],
    "authorize": [
        *TELL,
        Request("sqs:ReceiveMessage", DEAD),
        Request("dynamodb:GetItem", table()),
        Request("sqs:SendMessage", TASKS),
    ],
    "collect": [
        Request("sqs:ReceiveMessage", DEAD),
        Request("sqs:SendMessage", TASKS),
        Request("s3:GetObject", stored("spill/x")),
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
    ],
    "expand": [
        Request("sqs:ReceiveMessage", DEAD),
        Request("sqs:ReceiveMessage", TASKS),
        Request("sqs:SendMessage", RESPONSES),
        Request("sqs:DeleteMessage", TASKS),
        Request("sqs:ReceiveMessage", RESPONSES),
        Request("sqs:SendMessage", DEAD),
        Request("sqs:SendMessage", sqs("Upload_to_expand")),
        Request("s3:PutObject", stored("uploads/alice/x")),
        Request("s3:DeleteObject", stored("uploads/alice/x")),
        Request("s3:GetObject", stored("uploads/alice/x", "taskfleet-dev-bucket")),
        Request("s3:GetObject", stored("spill/x")),
        Request("s3:GetObject", stored("movies/b/0.mp4")),
        Request("s3:GetObject", stored("worker/0123.tar.gz")),
        Request("dynamodb:Query", INDEX),
        Request("dynamodb:PutItem", table()),
        Request("dynamodb:DeleteItem", table()),
        Request("dynamodb:BatchGetItem", table()),
        Request("dynamodb:UpdateItem", table("Task_Monitor")),
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
    ],
    "tick": [
        *TELL,
        Request("sqs:ReceiveMessage", DEAD),
        Request("sqs:ReceiveMessage", TASKS),
        Request("sqs:SendMessage", UPLOADS),
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
        Request("ec2:RunInstances", MACHINE, (*C7G, *BY_TEMPLATE[1:])),  # not tagged
        Request("ec2:RunInstances", MACHINE, (*C7G, *BY_TEMPLATE[1:], *OTHER_TAG)),
        Request("ec2:RunInstances", MACHINE, (*BY_TEMPLATE, ("ec2:InstanceType", "p5.48xlarge"))),
        Request("ec2:RunInstances", MACHINE, (*BY_TEMPLATE, ("ec2:InstanceType", "c7g.metal"))),
        Request("ec2:RunInstances", TEMPLATE, FOREIGN),
        Request("ec2:RunInstances", TEMPLATE),
        Request("ec2:CreateFleet", FLEET),
        Request("ec2:CreateFleet", MACHINE, C7G),
        Request("ec2:TerminateInstances", MACHINE),
        Request("ec2:TerminateInstances", MACHINE, FOREIGN),
        Request("ec2:GetConsoleOutput", MACHINE, FOREIGN),
        Request("ec2:StopInstances", MACHINE, OWN),
        Request("ec2:CreateTags", MACHINE, (("aws:TagKeys", "taskfleet:marked-at"),)),
        Request("ec2:CreateTags", MACHINE, (*OWN, ("aws:TagKeys", STAGE_TAG))),
        Request("ec2:CreateTags", MACHINE, (*FOREIGN, ("aws:TagKeys", STAGE_TAG))),
        Request("iam:PassRole", ROLE, (("iam:PassedToService", "lambda.amazonaws.com"),)),
        Request(
            "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/taskfleet-prod-us-east-1-worker", TO_EC2
        ),
    ],
    "worker": [
        *TELL,
        Request("sqs:ReceiveMessage", DEAD),
        Request("ssm:GetParameter", parameter("/taskfleet/prod/token-secret")),
        Request("sqs:SendMessage", TASKS),
        Request("sqs:ReceiveMessage", RESPONSES),
        Request("s3:PutObject", stored("uploads/alice/picture")),
        Request("s3:GetObject", stored("outputs/b/0/a.csv")),
        Request("s3:GetObject", stored("results/b/0/x.pickle")),
        Request("s3:PutObject", stored("parts/b/0")),
        Request("s3:ListBucket", "arn:aws:s3:::taskfleet-dev-bucket"),
        Request("dynamodb:Query", INDEX),
        Request("logs:CreateLogGroup", ARN.format(service="logs", name="log-group:/other")),
    ],
}


@pytest.mark.parametrize("process", ALLOWED)
def test_a_process_may_do_its_work(process: str) -> None:
    assert denied(policy_of(process), ALLOWED[process]) == []


@pytest.mark.parametrize("process", DENIED)
def test_a_process_may_do_nothing_else(process: str) -> None:
    requests = [*EVERYWHERE_DENIED, *DENIED[process]]
    assert denied(policy_of(process), requests) == requests
