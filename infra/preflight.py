"""Looks before a deployment whether account and region can hold it, so that nothing is created
where it cannot work. Owns what a deployment asks for; the rules are those of `taskfleet.checkup`,
which `taskfleet doctor` has, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra import machines, stack
from infra.rollout import TYPES
from taskfleet import settings
from taskfleet.aws.checkup.account import Plan, look_at_account
from taskfleet.checkup.finding import Level


class PreflightFailed(Exception):
    """The account or the region cannot hold the stage. The message has all faults."""


def check(
    session: Any,
    stage: str,
    parameters: Mapping[str, str],
    known: Mapping[str, str],
    given: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Looks, and says the warnings. Raises PreflightFailed if there are faults.

    parameters: those of the stack to set.
    known: variables of the functions, as the last deployment set them.
    given: variables of the functions to set.
    say: called with a line for each warning.
    """
    had: dict[str, str] = {}
    with contextlib.suppress(BotoCoreError, ClientError):  # what is wrong is told below
        had = stack.parameters(stack.find(session.client("cloudformation"), stack.name_of(stage)))
    wanted = plan({**had, **parameters}, types_of(parameters, known, given), {**known, **given})
    faults = []
    for finding in look_at_account(session.client, wanted, time.time):
        if finding.level is Level.WARNING:
            say(str(finding))
        elif finding.level is Level.FAULT:
            faults.append(finding.text)
    if faults:
        raise PreflightFailed(
            f"nothing was changed: {'; '.join(faults)} (--no-preflight deploys all the same)"
        )


def types_of(
    parameters: Mapping[str, str], known: Mapping[str, str], given: Mapping[str, str]
) -> str:
    """Returns the types of machines that somebody chose, separated by commas; empty if nobody did.
    Those of the last deployment are chosen again for another architecture (`infra.rollout`)."""
    return given.get(TYPES) or ("" if "Architecture" in parameters else known.get(TYPES, ""))


def plan(parameters: Mapping[str, str], chosen: str, variables: Mapping[str, str]) -> Plan:
    """Returns what the stage will want of the account.

    parameters: those of the stack.
    chosen: types of machines that somebody chose.
    variables: those of the functions.
    """
    conf = settings.load({**variables, TYPES: chosen})
    named = parameters.get("InstanceType", "")
    architecture = parameters.get("Architecture", "arm64")
    return Plan(
        collectors=conf.collectors,
        max_capacity=conf.max_capacity,
        spot=conf.spot,
        types=conf.instance_types or ([named] if named else machines.TYPES[architecture]),
        vpc_id=parameters.get("VpcId", ""),
        subnets=conf.subnets,
    )
