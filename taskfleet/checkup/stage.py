"""Rules for a stage that is deployed: its stacks, what they made, dead letters, the provisioner,
machines and alarms. Times are epoch seconds, UTC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from taskfleet.checkup.finding import Finding, fault, ok, warning
from taskfleet.provisioner.boots import complaint, is_broken
from taskfleet.provisioner.records import FleetState
from taskfleet.provisioner.shortages import launch_trouble
from taskfleet.provisioner.view import OVERDUE_ROUND_S


def stack(name: str, status: str, stage: str) -> Finding:
    """Judges a stack of CloudFormation by its status; empty when there is none."""
    subject, again = f"stack {name}", f"make deploy STAGE={stage}"
    if not status:
        return fault(subject, "it is not there", again)
    if status.endswith("_IN_PROGRESS"):
        return warning(subject, f"it is {status}", "wait, then look again")
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        return ok(subject, status)
    if status == "UPDATE_ROLLBACK_COMPLETE":
        advice = f"see the stack's events, then {again}"
        return warning(subject, "its last update was rolled back", advice)
    return fault(subject, f"it is {status}", f"see the stack's events, then {again}")


def parts(found: Mapping[str, bool], stage: str) -> Finding:
    """Judges queues, table and bucket: which of them are there."""
    subject, missing = "queues, table, bucket", [name for name, there in found.items() if not there]
    if missing:
        advice = f"make deploy STAGE={stage}, or make destroy first if somebody deleted them"
        return fault(subject, f"not there: {', '.join(missing)}", advice)
    return ok(subject, "all there")


def dead_letters(counts: Mapping[str, int], stage: str) -> Iterator[Finding]:
    """Judges the messages that nobody could process.

    counts: how many wait, by the option of `taskfleet redrive` that names their queue.
    """
    for option, count in counts.items():
        if count:
            command = f"taskfleet redrive --stage {stage} {option}".rstrip()
            advice = f"see why with {command} --list, mend it, then {command}"
            yield warning("dead letters", f"{count:,} wait", advice)
    if not any(counts.values()):
        yield ok("dead letters", "none")


def provisioner(state: FleetState, function: str, now: float) -> Finding:
    """Judges when the provisioner last ran, and its last launch.

    function: the name of its Lambda function.
    """
    subject = "provisioner"
    look = f"look at the schedule and the log of the function {function}"
    if not state.last_round_at:
        return fault(subject, "it has never run", look)
    age_s = now - state.last_round_at
    if age_s > OVERDUE_ROUND_S:
        return fault(subject, f"it last ran {age_s:.0f} s ago, not within a minute", look)
    if state.trouble is not None:
        return warning(subject, launch_trouble(state.trouble, now))
    return ok(subject, f"it ran {age_s:.0f} s ago")


def boots(state: FleetState, now: float) -> Finding:
    """Judges whether machines come up."""
    failures = state.boot_failures
    if is_broken(failures):
        return fault("boots", complaint(failures, now))
    if failures.count:
        return warning("boots", complaint(failures, now))
    return ok("boots", "no machine failed to report")


def image(image_id: str, state: str, stage: str) -> Finding:
    """Judges the image of the machines by its state at EC2; empty when it is gone."""
    if state == "available":
        return ok("image", image_id)
    found = f"{image_id} is {state or 'not there any more'}"
    return fault(
        "image", found, f'make deploy STAGE={stage} ARGS="--set ImageId=" takes the newest'
    )


def alarms(names: Sequence[str]) -> Iterator[Finding]:
    """Judges the alarms of the stage that are in the state ALARM."""
    for name in names:
        yield fault("alarm", f"{name} is in ALARM", 'see "Alarms" in docs/operations.md')
    if not names:
        yield ok("alarms", "none is in ALARM")


def launches(refusal: str, template: str) -> Finding:
    """Judges a dry run of a launch.

    refusal: what EC2 said against it; empty when it would have launched.
    template: the launch template.
    """
    if refusal:
        return fault("launches", f"EC2 would refuse template {template}: {refusal}")
    return ok("launches", f"a dry run with template {template} passed")
