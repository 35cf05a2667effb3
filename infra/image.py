"""Bakes a machine image for `make ami`. Starts a machine from the stage's launch template that
installs the worker without starting it, waits until it has shut down, and makes an image of it.
Owns these steps; `infra/machine/setup.sh` owns what is installed."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from infra.stage import Stage
from taskfleet.aws.ec2 import STAGE_TAG

START = 'exec "$software/infra/machine/setup.sh"'
"""Line of the user data (`infra/stack.yaml`) that installs and starts the worker."""
INSTALL = """"$software/infra/machine/setup.sh" --install
echo "taskfleet: installed" >/dev/console
shutdown -P now
"""
"""Lines that replace `START`."""
INSTALLED = "taskfleet: installed"
"""Line on the console of a machine that has installed the worker."""
WAIT = {"Delay": 5, "MaxAttempts": 240}
"""How boto3's waiters poll: seconds between two calls, and their number."""
CONSOLE_S = 120.0
"""Seconds that EC2 may take to show the end of a console."""


class BakeFailed(Exception):
    """No image was made. The message says why, with the end of the machine's console."""


def bake(
    ec2: Any,
    stage: Stage,
    sha256: str,
    say: Callable[[str], None],
    *,
    wait: dict[str, int] | None = None,
    console_s: float = CONSOLE_S,
) -> str:
    """Makes an image with the software `sha256`, and returns its id. The machine is terminated in
    any case. Raises BakeFailed, or botocore's WaiterError.

    say: called with a line for each step.
    """
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
        # With a tag of its own, so that the provisioner does not count it as a worker.
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
    """Returns user data that installs the worker, from that of the launch template, which starts
    it, too. Raises BakeFailed when it is not that of `infra/stack.yaml`."""
    if user_data.count(START) != 1:
        raise BakeFailed(
            "the launch template's user data is not that of infra/stack.yaml: run make deploy first"
        )
    return user_data.replace(START, INSTALL)


def _tags(stage: Stage, role: str) -> list[dict[str, str]]:
    # The value is no stage's name, and overrides that of the launch template's tag.
    return [
        {"Key": STAGE_TAG, "Value": f"{stage.name}:{role}"},
        {"Key": "Name", "Value": f"taskfleet-{stage.name} {role}"},
    ]


def _check(ec2: Any, instance_id: str, timeout_s: float) -> None:
    """Raises BakeFailed unless the console says that the worker is installed: a machine on which a
    step failed shuts down, too. EC2 shows the end of a console with a delay."""
    deadline = time.monotonic() + timeout_s
    while True:
        # botocore has decoded the Base64 already.
        console = ec2.get_console_output(InstanceId=instance_id).get("Output", "")
        if INSTALLED in console:
            return
        if time.monotonic() > deadline:
            raise BakeFailed(f"{instance_id} did not install the worker: {console[-2000:]}")
        time.sleep(min(5.0, timeout_s / 10))
