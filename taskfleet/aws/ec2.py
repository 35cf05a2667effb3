"""`Fleet` on EC2. Owns the EC2 calls; not the number of machines (`taskfleet.provisioner.policy`).

A launch calls CreateFleet with type `instant` and the stage's launch template over all instance
types and subnets, first for spot machines, then on demand. The tag `taskfleet:stage` marks the
fleet's machines.

Sources: "CreateFleet" and "Ensuring idempotency in Amazon EC2 API requests", Amazon EC2 API
Reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from taskfleet.aws.errors import SHORTAGE_CODES, LaunchShortage, translated
from taskfleet.errors import PermanentError
from taskfleet.provisioner.records import Instance, InstanceState, Launch, Shortage
from taskfleet.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

STAGE_TAG = "taskfleet:stage"
"""Tag of all machines of a stage; its value is the stage's name."""
MARK_TAG = "taskfleet:marked-at"
"""Tag of a machine with a first strike; its value is the time in epoch seconds, UTC."""
BOOT_MARK = "taskfleet-boot: "
"""Before each step of a boot on a machine's console, where `infra/stack.yaml` and
`infra/machine/setup.sh` trace their commands."""
STEP_CHARS = 200
"""Most characters of a step that are read."""
LIST_PAGE = 1_000
"""Instances in one page of DescribeInstances; EC2 allows 1,000."""
CALL_IDS = 500
"""Instances in one call that terminates or tags them; EC2 allows 1,000."""
_STATES = {"pending": InstanceState.PENDING, "running": InstanceState.RUNNING}


_Market = Literal["spot", "on-demand"]


class Ec2Fleet:
    """Implements `taskfleet.provisioner.ports.Fleet`. Safe for any number of threads."""

    def __init__(self, client: EC2Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    # --- launching ---

    def launch(self, count: int, *, token: str) -> Launch:
        """Try one market after the other until `count` machines are launched, whatever the reason
        for which the first fell short: spot may be refused where on-demand machines are not. Each
        call gets a client token of its own, derived from `token`."""
        markets: list[_Market] = ["spot", "on-demand"] if self._settings.spot else ["on-demand"]
        launched: list[str] = []
        outcome = Launch([])
        for number, market in enumerate(markets):
            missing = count - len(launched)
            if missing <= 0:
                break
            # A repeated launch repeats its tokens, and EC2 answers with the same machines. The hash
            # includes the count because EC2 refuses a known token with another count.
            call_token = hashlib.sha256(f"{token}/{number}/{missing}".encode()).hexdigest()
            try:
                outcome = self._create_fleet(market, missing, call_token)
            except LaunchShortage as error:
                outcome = Launch([], error.shortage, str(error))
            except PermanentError as error:
                outcome = Launch([], Shortage.REFUSED, str(error))
            launched += outcome.instance_ids
        return Launch(launched, outcome.shortage, outcome.detail)

    def _create_fleet(self, market: _Market, count: int, token: str) -> Launch:
        """Launch up to `count` machines over all instance types and subnets."""
        conf = self._settings
        template: Any = {
            "LaunchTemplateSpecification": {
                "LaunchTemplateName": conf.worker_template,
                "Version": "$Latest",
            }
        }
        if conf.instance_types or conf.subnets:
            template["Overrides"] = [
                _override(instance_type, subnet)
                for instance_type in conf.instance_types or [""]
                for subnet in conf.subnets or [""]
            ]
        strategy: Any
        if market == "spot":
            strategy = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        else:
            strategy = {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
        with translated("launch from", f"template {conf.worker_template}"):
            answer = self._client.create_fleet(
                Type="instant",
                ClientToken=token,
                LaunchTemplateConfigs=[template],
                TargetCapacitySpecification={
                    "TotalTargetCapacity": count,
                    "DefaultTargetCapacityType": market,
                },
                TagSpecifications=self._tags("fleet", "instance"),
                **strategy,
            )
        ids = [
            instance_id
            for group in answer.get("Instances", [])
            for instance_id in group["InstanceIds"]
        ]
        if len(ids) >= count:
            return Launch(ids)
        shortage, reason = _why_too_few(answer.get("Errors", []))
        return Launch(ids, shortage, f"{count - len(ids)} {market} machines did not come: {reason}")

    def _tags(self, *resources: str) -> Any:
        """Returns the tag specifications of a launch for the given types of resources."""
        stage = self._settings.stage
        values = {
            "Name": f"taskfleet-{stage} worker",
            **self._settings.tag_values,
            STAGE_TAG: stage,
        }
        tags = [{"Key": key, "Value": value} for key, value in values.items()]
        return [{"ResourceType": resource, "Tags": tags} for resource in resources]

    # --- existing machines ---

    def instances(self) -> list[Instance]:
        pages = self._client.get_paginator("describe_instances").paginate(
            Filters=[
                {"Name": f"tag:{STAGE_TAG}", "Values": [self._settings.stage]},
                {
                    "Name": "instance-state-name",
                    "Values": ["pending", "running", "shutting-down", "stopping", "stopped"],
                },
            ],
            PaginationConfig={"PageSize": LIST_PAGE},
        )
        with translated("list", "instances"):
            return [
                _instance(description)
                for page in pages
                for reservation in page["Reservations"]
                for description in reservation["Instances"]
            ]

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        for ids in _chunks(instance_ids):
            with translated("mark", f"{len(ids)} instances"):
                self._client.create_tags(
                    Resources=ids, Tags=[{"Key": MARK_TAG, "Value": f"{at:.0f}"}]
                )

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for ids in _chunks(instance_ids):
            with translated("end", f"{len(ids)} instances"):
                self._client.terminate_instances(InstanceIds=ids)

    def boot_step(self, instance_id: str) -> str:
        with translated("read", f"the console of {instance_id}"):
            answer = self._client.get_console_output(InstanceId=instance_id, Latest=True)
        # botocore has decoded the Base64 already.
        lines = [line for line in answer.get("Output", "").splitlines() if BOOT_MARK in line]
        step = lines[-1].partition(BOOT_MARK)[2] if lines else ""
        return "".join(c for c in step if c.isprintable())[:STEP_CHARS]


def _override(instance_type: str, subnet: str) -> dict[str, str]:
    """Returns what replaces values of the launch template; empty arguments replace nothing."""
    override = {}
    if instance_type:
        override["InstanceType"] = instance_type
    if subnet:
        override["SubnetId"] = subnet
    return override


def _instance(description: Any) -> Instance:
    """Returns the instance that DescribeInstances describes."""
    tags = {tag["Key"]: tag["Value"] for tag in description.get("Tags", [])}
    marked_at = tags.get(MARK_TAG, "")
    return Instance(
        description["InstanceId"],
        _STATES.get(description["State"]["Name"], InstanceState.ENDING),
        description["LaunchTime"].timestamp(),
        description.get("InstanceType", ""),
        spot=description.get("InstanceLifecycle") == "spot",
        marked_at=float(marked_at) if marked_at.isdigit() else None,
    )


def _why_too_few(errors: Sequence[Any]) -> tuple[Shortage, str]:
    """Returns why an instant fleet launched too few machines, with its error codes, sorted, and the
    message of the first that is no known shortage. Each override has an error of its own."""
    codes = sorted({str(error.get("ErrorCode", "")) for error in errors})
    shortages = {SHORTAGE_CODES[code] for code in codes if code in SHORTAGE_CODES}
    reason = ", ".join(codes) or "EC2 gave no reason"
    if codes and not shortages:
        message = " ".join(str(errors[0].get("ErrorMessage", "")).split())
        return Shortage.REFUSED, f"{reason}: {message:.300}"
    return Shortage.QUOTA if shortages == {Shortage.QUOTA} else Shortage.NO_CAPACITY, reason


def _chunks(instance_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yields the ids in portions that fit one call."""
    for start in range(0, len(instance_ids), CALL_IDS):
        yield list(instance_ids[start : start + CALL_IDS])
