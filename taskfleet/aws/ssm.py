"""Secrets in SSM's Parameter Store. Owns reading one; who needs it is the wiring's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


def read_secret(client: SSMClient, name: str) -> str:
    """The parameter's value, decrypted. NotFound when there is no such parameter."""
    with translated("read", f"SSM parameter {name}"):
        return client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
