"""`Fleet` on EC2. Owns the calls; how many machines there are to be is
`taskfleet.provisioner.policy`'s.

With a launch template a launch is CreateFleet of type `instant` over types and subnets, spot first;
with a plain image, as in 2014, it is RunInstances, subnet after subnet. Machines are found by their
tag `taskfleet:stage`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from taskfleet.aws.errors import SHORTAGE_CODES, Short, translated
from taskfleet.provisioner.records import Instance, InstanceState, Launch, Shortage
from taskfleet.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

STAGE_TAG = "taskfleet:stage"
MARK_TAG = "taskfleet:marked-at"
LIST_PAGE = 1_000
CALL_IDS = 500
"""Instances in one call that ends or tags them; EC2 takes 1,000."""
_STATES = {"pending": InstanceState.PENDING, "running": InstanceState.RUNNING}


class Ec2Fleet:
    """For any number of threads."""

    def __init__(self, client: EC2Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    # --- launching ---

    def launch(self, count: int, *, token: str) -> Launch:
        """`token`: up to 50 characters. Spot and on-demand, or the subnets of a plain image, are
        launches of their own, with tokens that follow from it."""
        came: list[str] = []
        short: Short | None = None
        for number, way in enumerate(self._ways()):
            wanted = count - len(came)
            if wanted <= 0:
                break
            # Another count is another launch: what an earlier way gave stays the same, since its
            # own token repeats it.
            way_token = hashlib.sha256(f"{token}/{number}/{wanted}".encode()).hexdigest()[:64]
            try:
                ids, left = self._go(way, wanted, way_token)
                came += ids
                short = left or short
            except Short as error:
                short = error
        if len(came) >= count:
            return Launch(came)
        shortage = Shortage.NO_CAPACITY if short is None else short.shortage
        return Launch(came, shortage, str(short or f"{len(came)} of {count} machines came"))

    def _ways(self) -> Iterator[dict[str, Any]]:
        conf = self._settings
        if conf.ami_id:
            for subnet in conf.subnets or [""]:
                for spot in (True, False) if conf.spot else (False,):
                    # All of them or, in a second call, as many as there are.
                    yield {"subnet": subnet, "spot": spot, "partly": False}
                    yield {"subnet": subnet, "spot": spot, "partly": True}
        else:
            for spot in (True, False) if conf.spot else (False,):
                yield {"spot": spot}

    def _go(self, way: dict[str, Any], count: int, token: str) -> tuple[list[str], Short | None]:
        if self._settings.ami_id:
            return self._run_instances(count, token, **way), None
        return self._create_fleet(count, token, **way)

    def _create_fleet(
        self, count: int, token: str, *, spot: bool
    ) -> tuple[list[str], Short | None]:
        conf = self._settings
        kind = "spot" if spot else "on-demand"
        overrides: list[Any] = [
            {
                **({"InstanceType": instance_type} if instance_type else {}),
                **({"SubnetId": subnet} if subnet else {}),
            }
            for instance_type in conf.instance_types or [""]
            for subnet in conf.subnets or [""]
        ]
        config: Any = {
            "LaunchTemplateSpecification": {
                "LaunchTemplateName": conf.worker_template,
                "Version": "$Latest",
            }
        }
        if overrides != [{}]:
            config["Overrides"] = overrides
        strategy: Any = (
            {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
            if spot
            else {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
        )
        with translated("launch from", f"template {conf.worker_template}"):
            answer = self._client.create_fleet(
                Type="instant",
                ClientToken=token,
                LaunchTemplateConfigs=[config],
                TargetCapacitySpecification={
                    "TotalTargetCapacity": count,
                    "DefaultTargetCapacityType": kind,  # type: ignore[typeddict-item]
                },
                TagSpecifications=self._tags("fleet", "instance"),
                **strategy,
            )
        ids = [name for group in answer.get("Instances", []) for name in group["InstanceIds"]]
        return ids, _shortage(answer.get("Errors", []), count - len(ids), kind)

    def _run_instances(
        self, count: int, token: str, *, subnet: str, spot: bool, partly: bool
    ) -> list[str]:
        conf = self._settings
        options: Any = {"SubnetId": subnet} if subnet else {}
        if spot:
            options["InstanceMarketOptions"] = {
                "MarketType": "spot",
                "SpotOptions": {"SpotInstanceType": "one-time"},
            }
        else:
            # A spot machine ends with its request anyway, and takes no other wish.
            options["InstanceInitiatedShutdownBehavior"] = "terminate"
        with translated("launch", f"image {conf.ami_id}"):
            answer = self._client.run_instances(
                ImageId=conf.ami_id,
                InstanceType=conf.instance_types[0],  # type: ignore[arg-type]
                MinCount=1 if partly else count,
                MaxCount=count,
                ClientToken=token,
                MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                TagSpecifications=self._tags("instance", "volume"),
                **options,
            )
        return [instance["InstanceId"] for instance in answer["Instances"]]

    def _tags(self, *resources: str) -> Any:
        stage = self._settings.stage
        tags = [
            {"Key": STAGE_TAG, "Value": stage},
            {"Key": "Name", "Value": f"taskfleet-{stage} worker"},
        ]
        return [{"ResourceType": resource, "Tags": tags} for resource in resources]

    # --- the rest ---

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
                _instance(found)
                for page in pages
                for reservation in page["Reservations"]
                for found in reservation["Instances"]
            ]

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        for ids in _calls(instance_ids):
            with translated("mark", f"{len(ids)} instances"):
                self._client.create_tags(
                    Resources=ids, Tags=[{"Key": MARK_TAG, "Value": f"{at:.0f}"}]
                )

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for ids in _calls(instance_ids):
            with translated("end", f"{len(ids)} instances"):
                self._client.terminate_instances(InstanceIds=ids)


def _instance(found: Any) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    marked = tags.get(MARK_TAG, "")
    return Instance(
        found["InstanceId"],
        _STATES.get(found["State"]["Name"], InstanceState.ENDING),
        found["LaunchTime"].timestamp(),
        found.get("InstanceType", ""),
        spot=found.get("InstanceLifecycle") == "spot",
        marked_at=float(marked) if marked.isdigit() else None,
    )


def _shortage(errors: Sequence[Any], missing: int, kind: str) -> Short | None:
    """Why an instant fleet gave `missing` fewer machines than asked for. Raises for an error that
    has nothing to do with what EC2 has to give, such as a template that is not there."""
    if missing <= 0:
        return None
    codes = sorted({str(error.get("ErrorCode", "")) for error in errors})
    known = [SHORTAGE_CODES[code] for code in codes if code in SHORTAGE_CODES]
    if codes and not known:
        message = str(errors[0].get("ErrorMessage", ""))
        with translated("launch", "a fleet"):
            raise ClientError({"Error": {"Code": codes[0], "Message": message}}, "CreateFleet")
    shortage = Shortage.QUOTA if known and Shortage.NO_CAPACITY not in known else None
    return Short(
        f"{missing} {kind} machines did not come: {', '.join(codes) or 'no reason given'}",
        shortage or Shortage.NO_CAPACITY,
    )


def _calls(instance_ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(instance_ids), CALL_IDS):
        yield list(instance_ids[start : start + CALL_IDS])
