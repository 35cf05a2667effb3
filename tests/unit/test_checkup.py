"""Each rule of `taskfleet doctor` and of a deployment's preflight: facts, and what is said."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from taskfleet.checkup import account, api, stage
from taskfleet.checkup.account import Subnet, VcpuQuotas
from taskfleet.checkup.clock import clock
from taskfleet.checkup.finding import Finding, denied, faults
from taskfleet.provisioner.records import BootFailures, FleetState, Shortage, Trouble

NOW = 1_800_000_000.0
RAN = FleetState(last_round_at=NOW - 20)
TROUBLE = Trouble(Shortage.QUOTA, "VcpuLimitExceeded", NOW, 3, NOW + 60)
BROKEN = BootFailures(count=4, counted_at=NOW, newest="i-1", last_step="aws s3 cp")


def of(*found: Finding) -> Iterable[Finding]:
    return found


OPEN = Subnet("subnet-1", "igw-1", True)
BEHIND_NAT = Subnet("subnet-2", "nat-1", False)
PRIVATE = Subnet("subnet-3", "igw-1", False)
CLOSED = Subnet("subnet-4", "", True)
ENDPOINTS = ["s3", "dynamodb", "sqs", "logs"]


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        # account
        (of(account.concurrency(5, 2)), ["fault functions at a time: Lambda runs 5 .* needs 6"]),
        (of(account.concurrency(10, 2)), ["warning .* about 4 clients .*L-B99A9384"]),
        (of(account.concurrency(1000, 2)), ["ok "]),
        (account.machines(VcpuQuotas(32, 32), 2, 10, spot=True), ["ok spot", "ok on-demand"]),
        (
            account.machines(VcpuQuotas(5, 0), 2, 10, spot=True),
            [
                "warning spot machines: .* 0 of TASKFLEET_MAX_CAPACITY=10; .*L-34B43A08",
                "warning on-demand machines: .* 2 of .*L-1216C47A",
            ],
        ),
        (account.machines(VcpuQuotas(1, 1), 2, 10, spot=True), ["fault spot", "fault on-demand"]),
        (account.machines(VcpuQuotas(1, 99), 2, 10, spot=False), ["fault on-demand"]),
        (account.machines(VcpuQuotas(1, None), 2, 10, spot=True), ["warning on-demand"]),
        (account.machines(VcpuQuotas(None, None), 2, 10, spot=True), []),
        (of(account.types(["a", "b"], ["a", "b"], "x-1")), ["ok instance types: a, b"]),
        (of(account.types(["a", "b"], ["b"], "x-1")), ["warning .*x-1 does not offer a"]),
        (of(account.types(["a"], [], "x-1")), ["fault .*does not offer a.*INSTANCE_TYPES"]),
        (of(account.no_vpc()), ["fault network: the region has no default VPC; .*VpcId"]),
        (of(account.no_subnets("vpc-1")), ["fault network: .*SUBNETS=subnet-... of vpc-1"]),
        (account.network("vpc-1", [], []), ["fault network: vpc-1 has no subnet"]),
        (account.network("vpc-1", [OPEN, BEHIND_NAT], []), ["ok network: vpc-1, 2 subnets"]),
        (account.network("vpc-1", [PRIVATE], []), ["fault .*igw-1, but gives no public"]),
        (account.network("vpc-1", [OPEN, CLOSED], []), ["fault .*subnet-4 has no route"]),
        (account.network("vpc-1", [CLOSED], ENDPOINTS), ["warning .*not the web"]),
        # clock
        (of(clock(0.4, "AWS")), ["ok "]),
        (of(clock(-29, "AWS")), ["ok "]),
        (of(clock(31, "AWS")), ["warning clock: 31 s ahead of the clock of AWS; set it"]),
        (of(clock(-301, "AWS")), ["fault clock: 301 s behind the clock of AWS"]),
        (of(clock(None, "AWS")), ["warning clock: AWS told no time"]),
        # stage
        (of(stage.stack("s", "", "dev")), ["fault .*not there; make deploy STAGE=dev"]),
        (of(stage.stack("s", "UPDATE_COMPLETE", "dev")), ["ok "]),
        (of(stage.stack("s", "UPDATE_IN_PROGRESS", "dev")), ["warning .*IN_PROGRESS; wait"]),
        (of(stage.stack("s", "UPDATE_ROLLBACK_COMPLETE", "dev")), ["warning .*rolled back"]),
        (of(stage.stack("s", "ROLLBACK_COMPLETE", "dev")), ["fault .*ROLLBACK_COMPLETE"]),
        (of(stage.stack("s", "DELETE_FAILED", "dev")), ["fault .*DELETE_FAILED"]),
        (of(stage.parts({"a": True}, "dev")), ["ok "]),
        (of(stage.parts({"a": True, "table b": False}, "dev")), ["fault .*not there: table b;"]),
        (stage.dead_letters({"": 0, "--uploads": 0}, "dev"), ["ok dead letters: none"]),
        (
            stage.dead_letters({"": 3, "--uploads": 1}, "dev"),
            [
                "warning dead letters: 3 wait; .*redrive --stage dev --list",
                "warning dead letters: 1 wait; .*redrive --stage dev --uploads --list",
            ],
        ),
        (of(stage.provisioner(FleetState(), "tick", NOW)), ["fault provisioner: .*never run"]),
        (of(stage.provisioner(RAN, "tick", NOW)), ["ok provisioner: it ran 20 s ago"]),
        (of(stage.provisioner(RAN, "tick", NOW + 300)), ["fault .*320 s ago.*function tick"]),
        (
            of(stage.provisioner(replace(RAN, trouble=TROUBLE), "tick", NOW)),
            ["warning provisioner: a quota of the account is reached"],
        ),
        (of(stage.boots(RAN, NOW)), ["ok boots"]),
        (of(stage.boots(replace(RAN, boot_failures=BootFailures(count=1)), NOW)), ["warning b"]),
        (of(stage.boots(replace(RAN, boot_failures=BROKEN), NOW)), ["fault boots: .*aws s3 cp"]),
        (of(stage.image("ami-1", "available", "dev")), ["ok image: ami-1"]),
        (
            of(stage.image("ami-1", "", "dev")),
            ["fault image: ami-1 is not there any more; .*Image"],
        ),
        (of(stage.image("ami-1", "failed", "dev")), ["fault image: ami-1 is failed"]),
        (stage.alarms(["a"]), ["fault alarm: a is in ALARM; see"]),
        (stage.alarms([]), ["ok alarms"]),
        (of(stage.launches("", "t")), ["ok launches"]),
        (of(stage.launches("InvalidAMI", "t")), ["fault launches: .*template t: InvalidAMI"]),
        # the client's side
        (of(api.version("1.2.0", "1.2.0")), ["ok version: 1.2.0"]),
        (of(api.version("1.3.0", "1.2.0")), ["warning version: the API has 1.3.0, this client"]),
        (of(api.version("2.0.0", "1.2.0")), ["fault version"]),
        (of(api.token(None, NOW)), ["fault token: .*no token of Taskfleet; make another"]),
        (of(api.token(NOW - 1, NOW)), ["fault token: it expired at 2027-01-15T"]),
        (of(api.token(NOW + 60, NOW)), ["warning token: it is valid until 2027-01-15T"]),
        (of(api.token(NOW + 86_400, NOW)), ["ok token: valid until 2027-01-16T"]),
        (of(api.accepted(200)), ["ok access"]),
        (of(api.accepted(403)), ["fault access: .*403"]),
        (of(api.accepted(429)), ["warning access: .*busy"]),
        (of(api.accepted(500)), ["fault access: .*500"]),
        (of(denied("alarms", "x:Y")), ["warning alarms: could not look: needs the right x:Y"]),
    ],
)
def test_what_is_said_of_the_facts(findings: Iterable[Finding], said: list[str]) -> None:
    lines = [" ".join(str(finding).split()) for finding in findings]
    assert len(lines) == len(said), lines
    for line, pattern in zip(lines, said, strict=True):
        assert re.match(pattern, line), (line, pattern)


def test_only_faults_are_faults() -> None:
    found = [*account.machines(VcpuQuotas(5, 0), 2, 10, spot=True), account.no_vpc()]
    assert [finding.subject for finding in faults(found)] == ["network"]
