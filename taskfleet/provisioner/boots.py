"""What the boots of machines teach: how long a boot takes, and that launches are in vain. Pure.

A machine whose worker never reports is replaced. But when an image, a role or the software is
broken, so is each replacement. So the machines that fail one after the other are counted, and from
`TRUSTED_FAILURES` on, only one machine at a time is launched, as a probe, after a pause that
doubles. The first worker that reports ends this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from taskfleet.provisioner.policy import Machine, MachineState, boot_patience_s
from taskfleet.provisioner.records import BootFailures, FleetState, Reading

TRUSTED_FAILURES = 4
"""Machines in a row whose worker never reported, from which on launches pause."""
PROBE_S = (300.0, 3_600.0)
"""First and longest pause in seconds between the last failure and the launch of one machine more.
The pause doubles with each probe that fails, too."""
SAME_LAUNCH_S = 30.0
"""A machine that fails says nothing about the others if one that was launched before it, at the
same time, or at most so many seconds earlier, has reported."""
BOOT_WEIGHT = 0.3
"""Weight of the newest boot in the learned boot time."""


def boots_after(
    before: FleetState, reading: Reading, first_boot_s: float
) -> tuple[float, list[str], float | None]:
    """The learned boot time in seconds, the ids of the machines that it has taken in, and the
    newest launch among those that are new; None without one. A boot lasts from the launch to the
    start of the machine's first worker. `first_boot_s` is the estimate before any boot was seen."""
    boot_s = first_boot_s if before.boot_s is None else before.boot_s
    launched = {i.instance_id: i.launched_at for i in reading.instances}
    known = set(before.booted)
    booted, newest = [], None
    for worker in reading.workers:
        name = worker.instance_id
        if name is None or name not in launched:
            continue
        if name not in known:
            took_s = max(0.0, worker.started_at - launched[name])
            boot_s += BOOT_WEIGHT * (took_s - boot_s)
            known.add(name)
            newest = max(newest or 0.0, launched[name])
        booted.append(name)
    return boot_s, booted, newest


def failures_after(
    before: FleetState,
    machines: Sequence[Machine],
    reported: Iterable[str | None],
    new_boot_at: float | None,
    boot_s: float,
    now: float,
) -> BootFailures:
    """The failures in a row, after one more reading.

    machines: all that are there, or were launched and are not listed yet.
    reported: ids of the machines that have a worker.
    new_boot_at: launch of the newest machine whose worker reported for the first time.
    """
    known = before.boot_failures
    expected = {**before.unlisted, **known.awaited}
    awaited = {
        m.machine_id: expected.get(m.machine_id, now - m.age_s)
        for m in machines
        if m.state is MachineState.BOOTING and m.age_s < boot_patience_s(boot_s)
    }
    if new_boot_at is not None:
        known = BootFailures(good_at=max(known.good_at, new_boot_at))
    done = {*awaited, *reported}
    failed = {
        name: at
        for name, at in expected.items()
        if name not in done and at > known.good_at + SAME_LAUNCH_S
    }
    if not failed:
        return replace(known, awaited=awaited)
    probed = is_broken(known) and any(at >= known.counted_at for at in failed.values())
    return replace(
        known,
        awaited=awaited,
        count=known.count + len(failed),
        probes=known.probes + probed,
        counted_at=now,
        newest=max(failed, key=failed.__getitem__),
        last_step="",
    )


def is_broken(failures: BootFailures) -> bool:
    """Returns whether so many machines failed in a row that launches pause."""
    return failures.count >= TRUSTED_FAILURES


def probe_at(failures: BootFailures) -> float:
    """When the next probe is due, once launches pause."""
    first_s, longest_s = PROBE_S
    return failures.counted_at + min(longest_s, first_s * 2.0 ** min(failures.probes, 10))


def launch_at_most(failures: BootFailures, now: float) -> int | None:
    """How many machines may be launched now; None is no limit. While a probe boots, there is no
    other."""
    if not is_broken(failures):
        return None
    if any(at >= failures.counted_at for at in failures.awaited.values()):
        return 0
    return 1 if now >= probe_at(failures) else 0


def complaint(failures: BootFailures, now: float) -> str:
    """What is wrong with the boots, where to look, and when the next probe is due."""
    text = f"{failures.count} machines in a row ended or grew old before their worker reported"
    if failures.last_step:
        text += f"; the last one's console says: {failures.last_step}"
    if is_broken(failures):
        wait_s = probe_at(failures) - now
        when = f"is due in {wait_s:.0f} s" if wait_s > 0 else "boots or is due"
        text += f"; launches pause, and a try with one machine {when}"
    return text + '; see "Machines that never report" in docs/operations.md'
