"""`taskfleet doctor`: what is wrong with an API and its token, or with a stage on AWS. Owns the
command; the rules are those of `taskfleet.checkup`. It changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from rich.text import Text

from taskfleet import settings
from taskfleet.checkup.finding import Finding, Level, fault, faults, ok
from taskfleet.cli.command import command
from taskfleet.cli.options import stage_option
from taskfleet.cli.output import write_json
from taskfleet.cli.terminal import stdout_console
from taskfleet.client import endpoint
from taskfleet.errors import SettingsError, TaskfleetError
from taskfleet.wire.plain import plain

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "red"}
FAULTY = 1
"""Exit code when there is a fault."""


@command(
    "doctor",
    examples=("taskfleet doctor", "taskfleet doctor --stage dev", "taskfleet doctor --json"),
    json='a finding {"level", "subject", "found", "advice"} on each line.',
)
@stage_option
def doctor(stage: str | None, as_json: bool) -> int:
    """Look for what is wrong, and say what to do.

    Without --stage, looks at the API and the token that TASKFLEET_URL and TASKFLEET_TOKEN name, or
    at the local cloud of this directory. With --stage, looks at AWS: credentials, quotas, network,
    the stage's parts, dead letters, the provisioner, its machines, alarms. Changes nothing.

    Prints a line for each finding: ok, warning or fault. Exit codes: 0 without faults, 1 with
    faults.
    """
    findings = list(_api() if stage is None else _stage(stage))
    if as_json:
        write_json(findings)
    else:
        console = stdout_console()
        for finding in findings:
            console.print(_line(finding), soft_wrap=True)
    return FAULTY if faults(findings) else 0


def _line(finding: Finding) -> Text:
    """Returns the finding as a line, with its level in colour."""
    return Text.assemble((f"{finding.level:<7}", _STYLES[finding.level]), "  ", plain(finding.text))


def _api() -> Iterable[Finding]:
    from taskfleet.client.checkup import look_at_api

    try:
        found = endpoint.find(os.environ, Path.cwd())
    except SettingsError as error:
        return [fault("API", str(error))]
    return look_at_api(found, time.time)


def _stage(stage: str) -> Iterable[Finding]:
    # Imported here, so that no other command loads the AWS SDK.
    from taskfleet.aws.checkup.account import Plan, look_at_account
    from taskfleet.aws.checkup.stage import look_at_stage
    from taskfleet.aws.session import Aws
    from taskfleet.aws.stage import settings_of_stage
    from taskfleet.clock import SystemClock

    conf, known = settings.load(stage=stage), False
    try:
        conf, known = settings_of_stage(stage=stage), True
        yield ok("stage", f"{stage}, with the settings of its deployment")
    except TaskfleetError as error:
        yield fault("stage", str(error))
    aws = Aws(conf, SystemClock())
    plan = Plan(
        collectors=conf.collectors,
        max_capacity=conf.max_capacity,
        spot=conf.spot,
        types=conf.instance_types,
        subnets=conf.subnets,
    )
    yield from look_at_account(aws.client, plan, time.time)
    if known:
        yield from look_at_stage(aws.client, conf, aws.fleet_records(), time.time)
