"""The roles of the functions, as a CloudFormation template of their own. Owns the template; the
files in `.chalice/` own what a function may do, and `infra.stage` makes them exact.

Chalice could create these roles, but without a permissions boundary, a path or tags, and under
names that two regions would share, since IAM is one for all regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.stage import Stage, policies

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
"""Only Lambda may take the roles."""


def template(chalice_dir: Path, stage: Stage, *, boundary: str = "", key: str = "") -> str:
    """Returns the template, as JSON.

    boundary: ARN of the policy that bounds every role; empty means none.
    key: ARN of the key that encrypts queues, table and bucket; empty means keys of AWS.
    """
    resources: dict[str, Any] = {}
    for function, policy in policies(chalice_dir, stage).items():
        properties: dict[str, Any] = {
            "RoleName": stage.role_name(function),
            "Path": stage.role_path,
            "AssumeRolePolicyDocument": TRUST,
            "Policies": [{"PolicyName": "function", "PolicyDocument": policy}],
        }
        if key:
            properties["Policies"].append({"PolicyName": "key", "PolicyDocument": _use_of(key)})
        if boundary:
            properties["PermissionsBoundary"] = boundary
        resources[_logical(function)] = {"Type": "AWS::IAM::Role", "Properties": properties}
    document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Roles of the functions of Taskfleet {stage.name}",
        "Resources": resources,
    }
    return json.dumps(document)


def _use_of(key: str) -> dict[str, Any]:
    """Returns the policy to read and write what the key encrypts, by the services that store it."""
    services = {"kms:ViaService": ["sqs.*", "dynamodb.*", "s3.*"]}
    statement = {
        "Sid": "KeyOfTheData",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": [key],
        "Condition": {"StringLike": services},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _logical(function: str) -> str:
    """Returns the name of the function's role in the template, which takes no underscores."""
    return function.replace("_", " ").title().replace(" ", "")
