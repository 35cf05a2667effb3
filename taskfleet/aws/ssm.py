"""Secrets in the Parameter Store of SSM. Owns reading and changing a secret; not its use. Sources:
"GetParameter", "DescribeParameters" and "PutParameter", AWS Systems Manager API Reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from taskfleet.aws.errors import translated
from taskfleet.errors import Conflict

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


def read_secret(client: SSMClient, name: str) -> str:
    """Returns the decrypted value of the parameter `name`. Raises NotFound if there is none."""
    with translated("read", f"SSM parameter {name}"):
        return client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]


def change_secret(client: SSMClient, name: str, change: Callable[[str], str]) -> None:
    """Replace the value of the parameter `name` by what `change` makes of it; an equal value is not
    written. The key that encrypts the parameter stays the same. Raises NotFound if there is no such
    parameter, and Conflict if somebody else wrote it at the same time: SSM has no conditional
    write, so the other change is lost."""
    with translated("read", f"SSM parameter {name}"):
        before = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    value = change(before["Value"])
    if value == before["Value"]:
        return
    with translated("change", f"SSM parameter {name}"):
        described = client.describe_parameters(
            ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": [name]}]
        )["Parameters"]
        version = client.put_parameter(
            Name=name,
            Value=value,
            Type="SecureString",
            KeyId=described[0]["KeyId"],
            Overwrite=True,
        )["Version"]
    if version != before["Version"] + 1:
        raise Conflict(
            f"SSM parameter {name}: this change was made and overwrote another one of the same "
            "moment; look at it and make the other one again"
        )
