"""Secrets and a stage's settings in the Parameter Store of SSM. Owns reading them and changing a
secret; not their use. Sources: "GetParameter", "DescribeParameters" and "PutParameter", AWS Systems
Manager API Reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from taskfleet.aws.errors import translated
from taskfleet.errors import Conflict, SettingsError

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


def read_settings(client: SSMClient, name: str) -> dict[str, str]:
    """Returns the variables that a deployment wrote to the parameter `name`. Raises NotFound if
    there is none, and SettingsError if it holds something else."""
    with translated("read", f"SSM parameter {name}"):
        text = client.get_parameter(Name=name)["Parameter"]["Value"]
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"SSM parameter {name} is no JSON object of texts ({error}): "
            "make deploy writes it again"
        ) from error
