"""The command behind `make smoke`: proves in an account that a stage works, from its deployment to
its teardown, for less than a dollar.

    python -m infra.smoke --stage smoke

Owns the order, the cap and the teardown, which comes whatever happens; `infra.trial` owns what runs
in between. What it costs is an estimate from above: AWS's bill comes a day later."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
from botocore.exceptions import BotoCoreError, ClientError

from infra import account, deploy, stack, teardown
from infra.trial import Trial, TrialFailed
from taskfleet.aws.session import Aws
from taskfleet.aws.stage import settings_of_stage
from taskfleet.client import Client, endpoint
from taskfleet.clock import SystemClock
from taskfleet.errors import TaskfleetError
from taskfleet.settings import Settings
from taskfleet.wire import token

CAP_USD = 1.0
"""Most dollars that a run may cost."""
MACHINE_USD_PER_HOUR = 0.20
"""More than the dearest of `infra.machines.TYPES` costs an hour on demand in any region."""
EXTRAS_USD_PER_HOUR = 0.01
"""Public address (0.005) and disk (0.002) of a machine, in dollars an hour, rounded up."""
REST_USD = 0.10
"""Calls of functions, queues, table and bucket, and logs of a run, in dollars, rounded up."""
DEADLINE_S = 1_800.0
"""Seconds from the end of the deployment in which the trial must end."""
TEARDOWN_S = 1_800.0
"""Seconds that a teardown may take, in which a machine may still run."""
TOKEN_TTL_S = 7_200
"""Seconds for which the trial's token is valid."""
CHOICES = {"TASKFLEET_MAX_CAPACITY": "1", "Alarms": "off"}
"""What a run deploys, whatever else was chosen: one machine at a time, and no mails."""
TYPES_WITHOUT_PRICE = ("TASKFLEET_INSTANCE_TYPES", "InstanceType")
"""Choices of machines whose price must be told, too."""
PRICE = "TASKFLEET_INSTANCE_USD_PER_HOUR"
INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM."""


class Refused(Exception):
    """The run does not begin. The message says why, and what to do."""


def most_usd(machines: int, usd_per_hour: float, deadline_s: float) -> float:
    """Returns what a run costs at most, in dollars, if all its machines run from its first second
    to its last."""
    hours = (deadline_s + TEARDOWN_S) / 3600
    return REST_USD + machines * hours * (usd_per_hour + EXTRAS_USD_PER_HOUR)


def check_cap(machines: int, usd_per_hour: float, deadline_s: float, cap_usd: float) -> float:
    """Returns what a run costs at most. Raises Refused if that is more than the cap."""
    most = most_usd(machines, usd_per_hour, deadline_s)
    if most > cap_usd:
        raise Refused(
            f"{machines} machines at ${usd_per_hour:g} an hour could cost ${most:.2f}, more than "
            f"the cap of ${cap_usd:g}: take cheaper types, fewer machines, or a higher --cap-usd"
        )
    return most


@dataclass(frozen=True)
class Steps:
    """What a run does, each step on its own.

    deploy: deploys the stage, and returns its URL and a token.
    trial: runs work at that URL with that token, and returns its cost in dollars. Raises
        TrialFailed.
    destroy: deletes the stage, whatever of it is there.
    """

    deploy: Callable[[], tuple[str, str]]
    trial: Callable[[str, str], float]
    destroy: Callable[[], None]


def run(steps: Steps, *, keep: bool, stage: str, say: Callable[[str], None]) -> float:
    """Runs the steps, and deletes the stage at the end, also after a failure or an interruption,
    unless `keep`. Returns the cost in dollars. Raises what a step raises."""
    try:
        url, access = _timed("deployed", steps.deploy, say)
        return steps.trial(url, access)
    finally:
        if keep:
            say(f"the stage is kept and may cost money: make destroy STAGE={stage}")
        else:
            try:
                _timed("torn down", steps.destroy, say)
            except BaseException:
                say(f"PARTS OF THE STAGE ARE LEFT and may cost money: make destroy STAGE={stage}")
                raise


def _timed(what: str, step: Callable[[], Any], say: Callable[[str], None]) -> Any:
    began = time.monotonic()
    result = step()
    say(f"{time.monotonic() - began:6.1f} s  {what}")
    return result


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@deploy.stage_option
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="As for make deploy, such as VpcId=... Repeatable.",
)
@click.option("--keep", is_flag=True, help="Do not delete the stage at the end.")
@click.option(
    "--existing",
    is_flag=True,
    help="Try a stage that is there, with TASKFLEET_URL and TASKFLEET_TOKEN; deploy and delete "
    "nothing.",
)
@click.option("--cap-usd", type=float, default=CAP_USD, show_default=True, help="Most dollars.")
@click.option(
    "--deadline-s",
    type=click.FloatRange(60, 7_200),
    default=DEADLINE_S,
    show_default=True,
    help="Seconds for the trial, after the deployment.",
)
def main(
    stage: str,
    given: tuple[str, ...],
    keep: bool,
    existing: bool,
    cap_usd: float,
    deadline_s: float,
) -> None:
    """Deploy a stage, run a batch and a movie through it, look at all that must hold, delete it.

    Costs some cents. Refuses a stage that exists, unless --existing.
    """
    began = time.monotonic()
    if existing:
        conf = settings_of_stage(stage=stage)
        most = check_cap(conf.max_capacity, conf.instance_usd_per_hour, deadline_s, cap_usd)
        _say(f"this costs ${most:.2f} at most")
        found = endpoint.find(os.environ, Path.cwd())
        usd = _trial(conf, found.url, found.token, deadline_s)
    else:
        usd = _whole(stage, given, keep, cap_usd, deadline_s)
    _say(f"{time.monotonic() - began:6.1f} s  passed; about ${usd:.4f}, the cap was ${cap_usd:g}")


def _whole(
    stage: str, given: tuple[str, ...], keep: bool, cap_usd: float, deadline_s: float
) -> float:
    names = dict(pair.partition("=")[::2] for pair in given)
    if any(names.get(name) for name in TYPES_WITHOUT_PRICE) and PRICE not in names:
        raise Refused(f"the cap needs the price of these machines: --set {PRICE}=...")
    choices = (*given, *(f"{name}={value}" for name, value in CHOICES.items()))
    plan = deploy.planned(stage, choices)
    most = check_cap(1, float(names.get(PRICE, MACHINE_USD_PER_HOUR)), deadline_s, cap_usd)
    session = deploy.open_session()
    if stack.find(session.client("cloudformation"), stack.name_of(stage)) is not None:
        raise Refused(
            f"stage {stage} exists, and a run would delete it: name another stage, or --existing"
        )
    account_id, partition = account.identity(session)
    _say(f"this costs ${most:.2f} at most, in account {account_id}, {session.region_name}")
    config = deploy.ROOT / ".chalice" / "config.json"
    before = config.read_text()

    def up() -> tuple[str, str]:
        url, secret = deploy.bring_up(session, plan, looks_first=True)
        return url, token.make(secret, "smoke", TOKEN_TTL_S, time.time())

    def try_out(url: str, access: str) -> float:
        return _trial(settings_of_stage(stage=stage), url, access, deadline_s)

    def down() -> None:
        polling = deploy.polling()
        teardown.destroy(session, stage, account_id, partition, deploy.ROOT, _say, polling)
        config.write_text(before)  # the next deployment is not to take over the run's choices

    return run(Steps(up, try_out, down), keep=keep, stage=stage, say=_say)


def _trial(conf: Settings, url: str, access: str, deadline_s: float) -> float:
    """Runs the trial of a stage. Returns about what it cost, in dollars."""
    clock = SystemClock()
    aws = Aws(conf, clock)
    queues = (aws.task_queue(), aws.response_queue(), aws.upload_queue())
    with Client(url, access) as client:
        trial = Trial(
            client,
            aws.fleet(),
            [queue.dead_letters().depth for queue in queues],
            deploy.ROOT / "examples" / "pictures",
            conf.idle_s,
            clock.now() + deadline_s,
            clock,
            _say,
        )
        trial.run()
    spot = sum(machine.spot for machine in trial.seen.machines.values())
    seconds = trial.seen.seconds(clock.now())
    _say(
        f"{len(trial.seen.machines)} machines ran for {seconds:.0f} s, {spot} of them spot; calls "
        f"to SQS, DynamoDB and S3 cost ${trial.calls_usd:.6f}"
    )
    hourly = conf.instance_usd_per_hour + EXTRAS_USD_PER_HOUR
    return trial.calls_usd + seconds / 3600 * hourly


def _say(line: str) -> None:
    click.echo(f"-- {line}", err=True)


def _end(message: str, code: int) -> NoReturn:
    click.echo(f"smoke: {message}", err=True)
    sys.exit(code)


def entry() -> NoReturn:
    """Runs the command line. Exits with 0, with 1 when something failed, 2 when it did not begin,
    130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it tears down then, too
    try:
        main(prog_name="python -m infra.smoke", standalone_mode=False)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except (Refused, TaskfleetError) as error:
        _end(str(error), 2)
    except (TrialFailed, *deploy.FAILURES) as error:
        _end(str(error), 1)
    except (BotoCoreError, ClientError) as error:
        _end(f"AWS: {error}", 1)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted", INTERRUPTED)
    sys.exit(0)


if __name__ == "__main__":
    entry()
