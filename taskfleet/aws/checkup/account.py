"""Looks at the account and the region: credentials, clock, quotas, network, types of machines.

Sources: "GetAccountSettings", AWS Lambda API Reference; "GetServiceQuota", Service Quotas API
Reference; "DescribeRouteTables", Amazon EC2 API Reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import msgspec

from taskfleet.aws.checkup.look import Clients, look
from taskfleet.aws.errors import Denied, translated
from taskfleet.checkup import account
from taskfleet.checkup.account import Subnet, VcpuQuotas
from taskfleet.checkup.clock import clock
from taskfleet.checkup.finding import Finding, fault, ok
from taskfleet.errors import TaskfleetError

ASSUMED_VCPUS = 2
"""vCPUs of a machine when the launch template alone names its type; those of its default type."""
EVERYWHERE = "0.0.0.0/0"
"""Destination of a subnet's route to everything that has no other route."""


class Plan(msgspec.Struct, frozen=True):
    """What a stage wants of the account.

    types: instance types to launch; empty means that of the launch template.
    vpc_id, subnets: where; empty means the default VPC and its subnets.
    """

    collectors: int
    max_capacity: int
    spot: bool
    types: Sequence[str]
    vpc_id: str = ""
    subnets: Sequence[str] = ()


def look_at_account(clients: Clients, plan: Plan, now: Callable[[], float]) -> list[Finding]:
    """Returns what there is to say of account and region. Without credentials or a region, that is
    all.

    now: returns the time, in epoch seconds.
    """
    told = _Told()
    findings, usable = _identity(clients, told)
    findings += [clock(told.skew_s(now), "AWS")] if told.date else []
    if not usable:
        return findings
    return [
        *findings,
        *look("functions at a time", "lambda:GetAccountSettings", lambda: _lambda(clients, plan)),
        *_machines(clients, plan),
        *look(
            "network",
            "ec2:DescribeVpcs, DescribeSubnets, DescribeRouteTables and DescribeVpcEndpoints",
            lambda: _network(clients("ec2"), plan),
        ),
    ]


class _Told:
    """The time that AWS told with its answer, whether that was an error or not."""

    def __init__(self) -> None:
        self.date = ""

    def note(self, http_response: Any, **_: Any) -> None:
        self.date = str(http_response.headers.get("date", ""))

    def skew_s(self, now: Callable[[], float]) -> float | None:
        """Returns the seconds by which this computer is ahead, to a second."""
        try:
            return now() - parsedate_to_datetime(self.date).timestamp()
        except ValueError:
            return None


def _identity(clients: Clients, told: _Told) -> tuple[list[Finding], bool]:
    """Returns whose the credentials are, and whether more can be asked."""
    subject = "credentials"
    try:
        with translated("look at", "the credentials"):
            region = clients("ec2").meta.region_name  # STS alone would do without one
            sts = clients("sts")
            sts.meta.events.register("after-call.sts.GetCallerIdentity", told.note)
            arn = sts.get_caller_identity()["Arn"]
    except Denied as error:
        return [fault(subject, str(error), "log in again, or set others")], False
    except TaskfleetError as error:
        return [fault(subject, str(error))], False
    return [ok(subject, arn), ok("region", region)], True


def _lambda(clients: Clients, plan: Plan) -> Iterator[Finding]:
    limit = clients("lambda").get_account_settings()["AccountLimit"]
    yield account.concurrency(int(limit["UnreservedConcurrentExecutions"]), plan.collectors)


def _machines(clients: Clients, plan: Plan) -> list[Finding]:
    """Judges types and quotas. A quota is one of vCPUs, so it needs what the types have."""
    if not plan.max_capacity:
        return [ok("machines", "TASKFLEET_MAX_CAPACITY is 0: none is launched")]
    vcpus: dict[str, int] = {} if plan.types else {"": ASSUMED_VCPUS}

    def offered() -> Iterator[Finding]:
        ec2 = clients("ec2")
        asked = [{"Name": "instance-type", "Values": list(plan.types)}]
        for one in ec2.describe_instance_types(Filters=asked)["InstanceTypes"]:
            vcpus[one["InstanceType"]] = int(one["VCpuInfo"]["DefaultVCpus"])
        yield account.types(plan.types, list(vcpus), ec2.meta.region_name)

    findings = []
    if plan.types:
        findings += look("instance types", "ec2:DescribeInstanceTypes", offered)
    if not vcpus:
        return findings
    quotas: dict[str, float | None] = dict.fromkeys(("L-1216C47A", "L-34B43A08"))

    def quota(code: str) -> list[Finding]:
        answer = clients("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
        quotas[code] = float(answer["Quota"]["Value"])
        return []

    for code in quotas:
        findings += look(f"quota {code}", "servicequotas:GetServiceQuota", partial(quota, code))
    known = VcpuQuotas(on_demand=quotas["L-1216C47A"], spot=quotas["L-34B43A08"])
    largest = max(vcpus.values())
    findings += account.machines(known, largest, plan.max_capacity, spot=plan.spot)
    return findings


def _network(ec2: Any, plan: Plan) -> Iterator[Finding]:
    default = _default_vpc(ec2)
    if plan.subnets:
        described = ec2.describe_subnets(SubnetIds=list(plan.subnets))["Subnets"]
        vpc_id = described[0]["VpcId"]
    elif plan.vpc_id not in ("", default):
        yield account.no_subnets(plan.vpc_id)
        return
    elif not default:
        yield account.no_vpc()
        return
    else:
        vpc_id, zonal = default, {"Name": "default-for-az", "Values": ["true"]}
        asked = [{"Name": "vpc-id", "Values": [vpc_id]}, zonal]
        described = ec2.describe_subnets(Filters=asked)["Subnets"]
    in_vpc = [{"Name": "vpc-id", "Values": [vpc_id]}]
    tables = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
    endpoints = ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]
    subnets = [
        Subnet(
            one["SubnetId"],
            _gateway(tables, one["SubnetId"]),
            bool(one.get("MapPublicIpOnLaunch")),
        )
        for one in described
    ]
    # com.amazonaws.eu-west-1.sqs
    names = [str(one["ServiceName"]).rpartition(".")[2] for one in endpoints]
    yield from account.network(vpc_id, subnets, names)


def _default_vpc(ec2: Any) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    return str(found[0]["VpcId"]) if found else ""


def _gateway(tables: Sequence[Any], subnet_id: str) -> str:
    """Returns where the subnet's traffic to everywhere goes; empty when it goes nowhere. A subnet
    without a table of its own has the VPC's main one."""
    own = [t for t in tables if any(a.get("SubnetId") == subnet_id for a in t["Associations"])]
    main = [t for t in tables if any(a.get("Main") for a in t["Associations"])]
    for table in own or main:
        for route in table["Routes"]:
            everywhere = route.get("DestinationCidrBlock") == EVERYWHERE
            if everywhere and route.get("State", "active") == "active":
                return next(
                    (
                        str(route[name])
                        for name in (
                            *("GatewayId", "NatGatewayId", "TransitGatewayId"),
                            *("NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId"),
                        )
                        if route.get(name)
                    ),
                    "",
                )
    return ""
