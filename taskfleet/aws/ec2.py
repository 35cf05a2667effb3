"""`Fleet` on EC2. Owns the EC2 calls; not the number of machines (`taskfleet.provisioner.policy`).

With a launch template, a launch calls CreateFleet with type `instant` over all instance types and
subnets, first for spot machines, then on demand. With a plain image, as in 2014, it calls
RunInstances for one subnet after the other. The tag `taskfleet:stage` marks the fleet's machines.

Sources: "CreateFleet", "RunInstances" and "Ensuring idempotency in Amazon EC2 API requests", Amazon
EC2 API Reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from taskfleet.aws.errors import SHORTAGE_CODES, LaunchShortage, translated
from taskfleet.provisioner.records import Instance, InstanceState, Launch, Shortage
from taskfleet.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

STAGE_TAG = "taskfleet:stage"
"""Tag of all machines of a stage; its value is the stage's name."""
MARK_TAG = "taskfleet:marked-at"
"""Tag of a machine with a first strike; its value is the time in epoch seconds, UTC."""
LIST_PAGE = 1_000
"""Instances in one page of DescribeInstances; EC2 allows 1,000."""
CALL_IDS = 500
"""Instances in one call that terminates or tags them; EC2 allows 1,000."""
_STATES = {"pending": InstanceState.PENDING, "running": InstanceState.RUNNING}


@dataclass(frozen=True)
class _Request:
    """One way to ask EC2 for machines.

    spot: whether to ask for spot machines instead of on-demand machines.
    subnet: subnet of the machines, for a plain image; empty for the default subnet.
    all_or_none: whether to launch no machine unless all can be launched, for a plain image.
    """

    spot: bool
    subnet: str = ""
    all_or_none: bool = False


class Ec2Fleet:
    """Implements `taskfleet.provisioner.ports.Fleet`. Safe for any number of threads."""

    def __init__(self, client: EC2Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    # --- launching ---

    def launch(self, count: int, *, token: str) -> Launch:
        """Try one request after the other until `count` machines are launched. Each request gets a
        client token of its own, derived from `token`."""
        launched: list[str] = []
        failed: Launch | None = None
        for number, request in enumerate(self._requests()):
            missing = count - len(launched)
            if missing <= 0:
                break
            # A repeated launch repeats its tokens, and EC2 answers with the same machines. The hash
            # includes the count because EC2 refuses a known token with another count.
            request_token = hashlib.sha256(f"{token}/{number}/{missing}".encode()).hexdigest()
            outcome = self._send(request, missing, request_token)
            launched += outcome.instance_ids
            if outcome.shortage is not None:
                failed = outcome
        if len(launched) >= count:
            return Launch(launched)
        if failed is None:
            detail = f"{len(launched)} of {count} machines were launched"
            return Launch(launched, Shortage.NO_CAPACITY, detail)
        return Launch(launched, failed.shortage, failed.detail)

    def _requests(self) -> Iterator[_Request]:
        """Yields the requests to try, in order."""
        conf = self._settings
        markets = [True, False] if conf.spot else [False]
        if not conf.ami_id:
            for spot in markets:
                yield _Request(spot)
            return
        for subnet in conf.subnets or [""]:
            for spot in markets:
                yield _Request(spot, subnet, all_or_none=True)
                yield _Request(spot, subnet)

    def _send(self, request: _Request, count: int, token: str) -> Launch:
        try:
            if self._settings.ami_id:
                return Launch(self._run_instances(request, count, token))
            return self._create_fleet(request, count, token)
        except LaunchShortage as error:
            return Launch([], error.shortage, str(error))

    def _create_fleet(self, request: _Request, count: int, token: str) -> Launch:
        """Launch up to `count` machines from the launch template."""
        conf = self._settings
        market: Literal["spot", "on-demand"] = "spot" if request.spot else "on-demand"
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
        if request.spot:
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
        errors = answer.get("Errors", [])
        reason = ", ".join(_codes(errors)) or "EC2 gave no reason"
        detail = f"{count - len(ids)} {market} machines did not come: {reason}"
        return Launch(ids, _shortage(errors), detail)

    def _run_instances(self, request: _Request, count: int, token: str) -> list[str]:
        """Launch up to `count` machines from the plain image. Returns their ids. Raises
        LaunchShortage if there are none."""
        conf = self._settings
        options: Any = {}
        if request.subnet:
            options["SubnetId"] = request.subnet
        if request.spot:
            options["InstanceMarketOptions"] = {
                "MarketType": "spot",
                "SpotOptions": {"SpotInstanceType": "one-time"},
            }
        else:
            # A spot machine terminates on shutdown in any case, and EC2 refuses the option for it.
            options["InstanceInitiatedShutdownBehavior"] = "terminate"
        with translated("launch", f"image {conf.ami_id}"):
            answer = self._client.run_instances(
                ImageId=conf.ami_id,
                InstanceType=conf.instance_types[0],  # type: ignore[arg-type]
                MinCount=count if request.all_or_none else 1,
                MaxCount=count,
                ClientToken=token,
                MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                TagSpecifications=self._tags("instance", "volume"),
                **options,
            )
        return [instance["InstanceId"] for instance in answer["Instances"]]

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


def _shortage(errors: Sequence[Any]) -> Shortage:
    """Returns why an instant fleet launched too few machines. Raises the translated error if none
    of the error codes is about missing machines, such as that of a missing launch template."""
    codes = _codes(errors)
    shortages = {SHORTAGE_CODES[code] for code in codes if code in SHORTAGE_CODES}
    if codes and not shortages:
        message = str(errors[0].get("ErrorMessage", ""))
        with translated("launch", "a fleet"):
            raise ClientError({"Error": {"Code": codes[0], "Message": message}}, "CreateFleet")
    return Shortage.QUOTA if shortages == {Shortage.QUOTA} else Shortage.NO_CAPACITY


def _codes(errors: Sequence[Any]) -> list[str]:
    """Returns the different error codes of an instant fleet, sorted."""
    return sorted({str(error.get("ErrorCode", "")) for error in errors})


def _chunks(instance_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yields the ids in portions that fit one call."""
    for start in range(0, len(instance_ids), CALL_IDS):
        yield list(instance_ids[start : start + CALL_IDS])
