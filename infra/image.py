"""`make ami`: a machine of the stage's launch template that installs the worker and does not start
it; once it has shut itself down, an image of it; the image's id for the stack. Owns these steps;
what is installed is `infra/machine/setup.sh`'s."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from infra.stage import Stage

START = 'exec "$software/infra/machine/setup.sh"'
INSTALL = """"$software/infra/machine/setup.sh" --install
echo "taskfleet: installed" >/dev/console
shutdown -P now
"""
INSTALLED = "taskfleet: installed"
WAIT = {"Delay": 5, "MaxAttempts": 240}
CONSOLE_S = 120.0


class BakeFailed(Exception):
    """No image; the message says why, with the end of the machine's console."""


def bake(
    ec2: Any,
    stage: Stage,
    sha256: str,
    say: Callable[[str], None],
    *,
    wait: dict[str, int] | None = None,
    console_s: float = CONSOLE_S,
) -> str:
    """The id of a fresh image with the software `sha256`."""
    template = {"LaunchTemplateName": f"taskfleet-{stage.name}", "Version": "$Latest"}
    versions = ec2.describe_launch_template_versions(
        LaunchTemplateName=template["LaunchTemplateName"], Versions=["$Latest"]
    )
    data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    started = ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        LaunchTemplate=template,
        UserData=install_only(base64.b64decode(data["UserData"]).decode()),
        InstanceInitiatedShutdownBehavior="stop",
        # Not the stage's tag alone: the provisioner must not count it for a worker.
        TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(stage, "image")}],
    )
    (instance_id,) = (instance["InstanceId"] for instance in started["Instances"])
    say(f"{instance_id} installs the worker")
    try:
        ec2.get_waiter("instance_stopped").wait(
            InstanceIds=[instance_id], WaiterConfig=wait or WAIT
        )
        _check(ec2, instance_id, console_s)
        made = ec2.create_image(
            InstanceId=instance_id,
            Name=f"taskfleet-{stage.name}-{sha256[:16]}-{int(time.time())}",
            Description=f"Taskfleet worker {sha256}",
            TagSpecifications=[{"ResourceType": "image", "Tags": _tags(stage, "image")}],
        )
        image_id = str(made["ImageId"])
        say(f"{image_id} is being made")
        ec2.get_waiter("image_available").wait(ImageIds=[image_id], WaiterConfig=wait or WAIT)
    finally:
        ec2.terminate_instances(InstanceIds=[instance_id])
    return image_id


def install_only(user_data: str) -> str:
    """The launch template's user data, up to where the worker would start."""
    if user_data.count(START) != 1:
        raise BakeFailed("the launch template's user data is not that of infra/stack.yaml")
    return user_data.replace(START, INSTALL)


def _tags(stage: Stage, role: str) -> list[dict[str, str]]:
    # Another value than any stage's name, so that it overrides the template's tag.
    return [
        {"Key": "taskfleet:stage", "Value": f"{stage.name}:{role}"},
        {"Key": "Name", "Value": f"taskfleet-{stage.name} {role}"},
    ]


def _check(ec2: Any, instance_id: str, timeout_s: float) -> None:
    """A machine on which something failed shuts down, too. EC2 shows its console a little late."""
    deadline = time.monotonic() + timeout_s
    while True:
        # botocore has decoded it already.
        text = ec2.get_console_output(InstanceId=instance_id).get("Output", "")
        if INSTALLED in text:
            return
        if time.monotonic() > deadline:
            raise BakeFailed(f"{instance_id} did not install the worker: {text[-2000:]}")
        time.sleep(min(5.0, timeout_s / 10))
