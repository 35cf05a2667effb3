"""What a deployment chooses for the workers' machines: the newest image of Amazon Linux 2023, and
instance types of like size. Owns these choices; not how machines are launched
(`taskfleet.aws.ec2`)."""

from __future__ import annotations

from typing import Any

IMAGES = {
    "arm64": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
    "x86_64": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
}
"""Public SSM parameters that name the newest image, by architecture. Source: "Reference the latest
AMIs using Systems Manager public parameters", Amazon EC2 User Guide."""
TYPES = {
    "arm64": ("c7g.large", "c6g.large", "m7g.large", "m6g.large"),
    "x86_64": ("c7i.large", "c6i.large", "c6a.large", "m7i.large", "m6i.large"),
}
"""Types with two cores and at least 4 GiB, by architecture, the preferred one first. Several types
find spot capacity where one finds none."""


def newest_image(ssm: Any, architecture: str) -> str:
    """Returns the id of the newest Amazon Linux 2023 in the client's region."""
    return str(ssm.get_parameter(Name=IMAGES[architecture])["Parameter"]["Value"])


def types_offered(ec2: Any, architecture: str) -> str:
    """Returns those of `TYPES` that the client's region offers, separated by commas: EC2 refuses a
    fleet that names a type which it does not know there. Empty if there are none, which leaves the
    launch template's own type."""
    wanted = TYPES[architecture]
    answer = ec2.describe_instance_types(
        Filters=[{"Name": "instance-type", "Values": list(wanted)}]
    )
    offered = {one["InstanceType"] for one in answer["InstanceTypes"]}
    return ",".join(name for name in wanted if name in offered)
