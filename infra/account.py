"""What a deployment finds or creates in the account beside its stacks: who calls, the default VPC,
service-linked roles, the secret that signs tokens, the settings for workers, and the worker's
software in the bucket."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any


def identity(session: Any) -> tuple[str, str]:
    """Returns account and partition of the credentials."""
    arn = session.client("sts").get_caller_identity()["Arn"].split(":")
    return arn[4], arn[1]


def default_vpc(ec2: Any) -> dict[str, str]:
    """Returns the stack's parameter that names the default VPC, if there is one. CloudFormation
    takes rules for outgoing traffic only for a VPC that is named."""
    answer = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    return {"VpcId": answer["Vpcs"][0]["VpcId"]} if answer["Vpcs"] else {}


def upload(s3: Any, bucket: str, key: str, data: bytes, say: Callable[[str], None]) -> None:
    """Uploads `data` unless the key is there already."""
    if s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
        return
    say(f"uploading {len(data) / 1e6:.0f} MB")
    s3.put_object(Bucket=bucket, Key=key, Body=data)


def create_service_roles(iam: Any) -> None:
    """Creates the account's service-linked roles for fleets and spot machines, unless they exist.
    EC2 would create them at the first launch, but the provisioner may not create roles."""
    for service in ("ec2fleet.amazonaws.com", "spot.amazonaws.com"):
        # IAM answers either of the two when the role exists.
        exists = (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException)
        with contextlib.suppress(*exists):
            iam.create_service_linked_role(AWSServiceName=service)


def secret(ssm: Any, name: str) -> str:
    """Returns the secret that signs tokens, and creates it at the first deployment. It is not part
    of the stack, since CloudFormation cannot create an encrypted parameter. It is not in Secrets
    Manager, since a secret there costs 0.40 dollars a month."""
    try:
        return str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        made = secrets.token_urlsafe(48)
        ssm.put_parameter(Name=name, Value=made, Type="SecureString")
        return made


def write_settings(ssm: Any, name: str, variables: Mapping[str, str]) -> None:
    """Writes the stage's settings where workers and operators find them
    (`taskfleet.aws.stage`). They are no secret."""
    text = json.dumps(variables, indent=1, sort_keys=True)
    ssm.put_parameter(Name=name, Value=text, Type="String", Overwrite=True)
