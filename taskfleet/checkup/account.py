"""Rules for an account and a region, before a stage is there or after: quotas, network, machines.
Sources: "Lambda quotas" and "Amazon EC2 service quotas" of the services' user guides, "Enable
internet access for a VPC", Amazon VPC User Guide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from taskfleet.checkup.finding import Finding, fault, ok, warning

OTHER_FUNCTIONS = 4
"""Functions that run at a time beside the collectors: a reader of uploads, the provisioner, the
authorizer, and one call of the API."""
WAITERS = 40
"""Executions beyond those, below which the number of clients that wait at a time is told."""


def concurrency(unreserved: int, collectors: int) -> Finding:
    """Judges the executions of Lambda that the functions of a stage share.

    unreserved: those that no function of the account has reserved.
    collectors: those that the counting of responses may take, TASKFLEET_COLLECTORS.
    """
    subject, needed = "functions at a time", collectors + OTHER_FUNCTIONS
    found = f"Lambda runs {unreserved} that are not reserved, and a stage needs {needed}"
    advice = "ask for more in Service Quotas: AWS Lambda, concurrent executions (L-B99A9384)"
    if unreserved < needed:
        return fault(subject, found, advice)
    spare = unreserved - needed
    if spare < WAITERS:
        return warning(subject, f"{found}; about {spare} clients may call at a time", advice)
    return ok(subject, found)


class VcpuQuotas(msgspec.Struct, frozen=True):
    """Most vCPUs of standard machines (C, M, T and others) at a time in the region, by market. None
    when it could not be read."""

    on_demand: float | None
    spot: float | None


def machines(quotas: VcpuQuotas, vcpus: int, max_capacity: int, *, spot: bool) -> Iterator[Finding]:
    """Judges how many machines the quotas allow.

    vcpus: those of one machine.
    max_capacity: TASKFLEET_MAX_CAPACITY.
    spot: whether spot machines are asked for first, TASKFLEET_SPOT.
    """
    markets = [("on-demand machines", "L-1216C47A", quotas.on_demand)]
    if spot:
        markets.insert(0, ("spot machines", "L-34B43A08", quotas.spot))
    known = [
        (name, code, int(quota // vcpus)) for name, code, quota in markets if quota is not None
    ]
    none_comes = bool(known) and len(known) == len(markets) and not any(n for *_, n in known)
    for name, code, count in known:
        found = f"the quota of vCPUs allows {count} of TASKFLEET_MAX_CAPACITY={max_capacity}"
        if count >= max_capacity:
            yield ok(name, found)
            continue
        advice = f"ask for more in Service Quotas: Amazon EC2, {code}"
        yield (fault if none_comes else warning)(name, found, advice)


def types(wanted: Sequence[str], offered: Sequence[str], region: str) -> Finding:
    """Judges the types of machines: those to launch, and those of them that the region has."""
    subject = "instance types"
    missing = [name for name in wanted if name not in offered]
    if not missing:
        return ok(subject, ", ".join(wanted))
    found = f"{region} does not offer {', '.join(missing)}"
    if len(missing) == len(wanted):
        return fault(subject, found, "name others with --set TASKFLEET_INSTANCE_TYPES=...")
    return warning(subject, found, "EC2 refuses a fleet that names a type it does not know")


class Subnet(msgspec.Struct, frozen=True):
    """A subnet in which machines are launched.

    gateway: the target of its route to everywhere, such as `igw-1` or `nat-1`; empty without one.
    public_ips: whether machines in it get a public address.
    """

    subnet_id: str
    gateway: str
    public_ips: bool


NEEDED_ENDPOINTS = ("sqs", "dynamodb", "s3")
"""Services that a worker calls; endpoints for all of them are a way, too."""


def no_vpc() -> Finding:
    """Returns the finding of a region in which machines have no place."""
    advice = "name one: --set VpcId=vpc-... --set TASKFLEET_SUBNETS=subnet-..."
    return fault("network", "the region has no default VPC", advice)


def no_subnets(vpc_id: str) -> Finding:
    """Returns the finding of a VPC that is not the default one and named alone."""
    found = f"machines would be launched in the default VPC, with a security group of {vpc_id}"
    return fault("network", found, f"--set TASKFLEET_SUBNETS=subnet-... of {vpc_id}")


def network(vpc_id: str, subnets: Sequence[Subnet], endpoints: Sequence[str]) -> Iterator[Finding]:
    """Judges the way of machines to AWS and to the web.

    vpc_id: that of the machines.
    endpoints: services that have an endpoint in the VPC, such as `sqs`.
    """
    subject = "network"
    if not subnets:
        advice = "make one, or name others with --set TASKFLEET_SUBNETS=subnet-..."
        yield fault(subject, f"{vpc_id} has no subnet for machines", advice)
        return
    has_endpoints = all(name in endpoints for name in NEEDED_ENDPOINTS)
    for subnet in subnets:
        trouble = _no_way_out(subnet)
        if not trouble:
            continue
        if has_endpoints:
            yield warning(subject, f"{trouble}: tasks reach AWS by endpoints, but not the web")
        else:
            advice = f"it needs one, or endpoints for {', '.join(NEEDED_ENDPOINTS)}"
            yield fault(subject, f"{trouble}: workers reach neither AWS nor the web", advice)
    if not any(map(_no_way_out, subnets)):
        yield ok(subject, f"{vpc_id}, {len(subnets)} subnets with a way out")


def _no_way_out(subnet: Subnet) -> str:
    """Returns why machines in the subnet reach nothing outside; empty when they do."""
    if not subnet.gateway:
        return f"{subnet.subnet_id} has no route to the internet or a NAT gateway"
    if subnet.gateway.startswith("igw-") and not subnet.public_ips:
        return f"{subnet.subnet_id} leads to {subnet.gateway}, but gives no public addresses"
    return ""
