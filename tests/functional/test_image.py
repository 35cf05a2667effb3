"""Baking an image, on moto, where a machine does what the test has it do."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.ec2 import ec2_backends

from infra.image import START, BakeFailed, bake, install_only
from infra.stage import Stage
from tests.support.moto_aws import moto_account
from tests.support.waiting import eventually

STAGE = Stage("dev", "us-east-1", "123456789012", "bucket")
SHA256 = "ab" * 32
USER_DATA = f"#!/bin/bash\nset -e\n{START}\n"
FAST = {"Delay": 0, "MaxAttempts": 2_000}


@pytest.fixture
def ec2() -> Iterator[Any]:
    with moto_account():
        client = boto3.client("ec2", region_name="us-east-1")
        image = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        client.create_launch_template(
            LaunchTemplateName="taskfleet-dev",
            LaunchTemplateData={
                "ImageId": image,
                "InstanceType": "c7g.large",
                "UserData": base64.b64encode(USER_DATA.encode()).decode(),
            },
        )
        yield client


class Machine(threading.Thread):
    """Shuts itself down as soon as it runs, having printed `console`."""

    def __init__(self, ec2: Any, monkeypatch: pytest.MonkeyPatch, console: str) -> None:
        super().__init__()
        self._ec2 = ec2
        self.tags: dict[str, str] = {}
        monkeypatch.setattr(
            ec2, "get_console_output", lambda **_: {"Output": console} if console else {}
        )

    def run(self) -> None:
        backend = ec2_backends["123456789012"]["us-east-1"]

        def running() -> list[Any]:
            return [one for one in backend.all_instances() if one.state == "running"]

        (instance,) = eventually(running, what="the machine runs")
        self.tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        instance.stop()


def states(ec2: Any) -> list[str]:
    found = ec2.describe_instances()["Reservations"]
    return [i["State"]["Name"] for reservation in found for i in reservation["Instances"]]


def test_an_image_is_made_of_a_machine_that_is_then_ended(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(ec2, monkeypatch, "booting\ntaskfleet: installed\n")
    machine.start()
    said: list[str] = []
    image_id = bake(ec2, STAGE, SHA256, said.append, wait=FAST)
    machine.join()
    (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    assert image["Name"].startswith("taskfleet-dev-abababababababab-")
    assert states(ec2) == ["terminated"]
    # No provisioner takes it for a worker of the stage.
    assert machine.tags["taskfleet:stage"] == "dev:image"


def test_a_machine_that_did_not_get_there_makes_no_image(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(ec2, monkeypatch, "sha256sum: WARNING: 1 computed checksum did NOT match")
    machine.start()
    with pytest.raises(BakeFailed, match="did NOT match"):
        bake(ec2, STAGE, SHA256, lambda _: None, wait=FAST, console_s=0.1)
    machine.join()
    assert states(ec2) == ["terminated"]
    assert ec2.describe_images(Owners=["self"])["Images"] == []


def test_the_worker_is_installed_and_not_started() -> None:
    script = install_only(USER_DATA)
    assert 'setup.sh" --install\n' in script
    assert START not in script


def test_user_data_of_another_make_is_refused() -> None:
    with pytest.raises(BakeFailed):
        install_only("#!/bin/bash\n")
