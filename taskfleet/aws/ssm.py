"""Secrets in the Parameter Store of SSM. Owns reading a secret; not its use. Source:
"GetParameter", AWS Systems Manager API Reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


def read_secret(client: SSMClient, name: str) -> str:
    """Returns the decrypted value of the parameter `name`. Raises NotFound if there is none."""
    with translated("read", f"SSM parameter {name}"):
        return client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
