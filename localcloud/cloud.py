"""The local cloud as a whole. Owns which parts there are, and the order in which they start and
stop; `localcloud.supervisor` owns the running of a part, each part's own module what it does."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import boto3

from infra import stack
from localcloud import emulator, environment, quotas
from localcloud.eventbus import EventBus
from localcloud.onevent import OnEvent
from localcloud.options import ROOT, OptionFault, Options, kind_modules, with_ports
from localcloud.supervisor import Part, StopRequested, Supervisor
from taskfleet import settings
from taskfleet.settings import Settings
from taskfleet.wire import token

CLIENT_ID = "local"
"""Client that the token in the env file names."""
TOKEN_TTL_S = 90 * 86_400
"""Seconds for which that token is valid."""
DEFAULTS = {
    "TASKFLEET_REGION": "us-east-1",
    "TASKFLEET_DRAIN_TIMEOUT_S": "10",
    "TASKFLEET_RECEIVE_WAIT_S": "1",
    "TASKFLEET_LOOK_S": "5",
    "TASKFLEET_BEAT_S": "3",
    "TASKFLEET_IDLE_S": "15",
}
"""Settings that the caller's environment may override. Times are short, since somebody who pressed
Ctrl-C waits, and ministack ends only after the last long poll, even of a client that has gone."""
PRIVATE_FOLDERS = ("logs", "state", "tmp")
"""Folders that the cloud makes in its own."""
IMAGE = "ami-12c6146b"
"""An image that moto knows. Any would do, since `localcloud.fleet` starts the workers."""
PROCESS_START_S = 2.0
"""Seconds that a worker's process takes to start, roughly."""


class Tier(IntEnum):
    """The order of stopping: the highest tier first. A part needs only parts of lower tiers."""

    EMULATOR = 0
    API = 1
    PUMP = 2
    WORKER = 3


def run(
    asked: Options,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    *,
    private: bool = False,
) -> None:
    """Runs a local cloud until a signal.

    environ: the environment that the parts inherit.
    say: called with each line for the person who started it.
    private: whether nobody but this person reads the lines, so that they may hold the token.

    Raises OptionFault or SettingsError before anything starts, PartFailed or StackFailed later.
    """
    environ = {**DEFAULTS, "TASKFLEET_BOOT_S": str(asked.boot_s + PROCESS_START_S), **environ}
    conf = settings.load(environ)
    kinds = kind_modules(asked.kinds, conf.kinds)
    try:
        quotas.read(asked.quotas)
    except ValueError as error:
        raise OptionFault(str(error)) from None
    environ[quotas.VARIABLE] = ",".join(asked.quotas)
    with _owned(asked.directory):
        options = with_ports(asked)
        options.env_file.unlink(missing_ok=True)
        secret = environment.secret(options.directory)
        credentials = environment.credentials(options.directory)
        on_event = OnEvent(say, options.on_event, environ)
        bus = EventBus(on_event.put, credentials["AWS_ACCESS_KEY_ID"])
        cloud = environment.for_processes(options, conf, kinds, secret, credentials, bus.url)
        try:
            with Supervisor(options.logs, say) as supervisor:
                _start(supervisor, options, conf, environ, cloud)
                access = token.make(secret, CLIENT_ID, TOKEN_TTL_S, time.time())
                shell = environment.for_shell(options, cloud, access, environ["NO_PROXY"])
                environment.write(options.env_file, shell)
                try:
                    _announce(options, access if private else None, say)
                    supervisor.watch()
                finally:  # before the parts stop, so that no client is sent to a cloud that ends
                    options.env_file.unlink(missing_ok=True)
        except StopRequested:
            return
        finally:
            bus.close()
            on_event.close()


def _start(
    supervisor: Supervisor,
    options: Options,
    conf: Settings,
    inherited: Mapping[str, str],
    cloud: Mapping[str, str],
) -> None:
    """Starts every part and waits until all are ready. `cloud` are the variables by which a process
    uses this cloud."""
    credentials = {name: cloud[name] for name in environment.CREDENTIALS}
    ministack = emulator.ministack(options, inherited, credentials, Tier.EMULATOR)
    moto = emulator.moto(options, inherited, credentials, Tier.EMULATOR)
    supervisor.start(ministack)
    supervisor.start(moto)
    supervisor.wait_ready([ministack])
    session = boto3.Session(
        region_name=conf.region,
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    cloudformation = session.client("cloudformation", endpoint_url=options.aws_url)
    parameters = {"Stage": conf.stage, "BucketName": environment.BUCKET}
    stack.bring_up(cloudformation, stack.name_of(conf.stage), parameters)
    if options.max_instances:  # the provisioner calls EC2 as soon as it starts
        supervisor.wait_ready([moto])
        # ministack, which makes the rest of the stack, has no launch templates.
        session.client("ec2", endpoint_url=options.ec2_url).create_launch_template(
            LaunchTemplateName=conf.worker_template,
            LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "c7g.large"},
        )
    programs = [*_programs(options, conf, {**inherited, **cloud})]
    for part in programs:
        supervisor.start(part)
    supervisor.wait_ready([moto, *programs])


def _programs(options: Options, conf: Settings, environ: Mapping[str, str]) -> Iterator[Part]:
    """Yields the parts that are programs of Taskfleet."""
    if conf.log_level in ("warning", "error"):  # readiness is read from lines of level info
        environ = {**environ, "TASKFLEET_LOG_LEVEL": "info"}
    yield Part(
        "api",
        ("-m", "localcloud.serve", "--port", str(options.api_port)),
        environ,
        Tier.API,
        emulator.answers(f"{options.url}/health"),
    )
    yield Part(
        "pump",
        ("-m", "localcloud.pump", "--invoke-port", str(options.lambda_port)),
        environ,
        Tier.PUMP,
        # The provisioner's first round is slow, since it makes the clients of AWS.
        _logged(
            options.logs / "pump.log",
            "provisioner_looked" if options.max_instances else "pump_started",
        ),
        restarts=True,
    )
    if options.max_instances:
        fleet = ("-m", "localcloud.fleet", "--threads", str(options.threads))
        yield Part(
            "fleet",
            (*fleet, "--boot-s", str(options.boot_s), "--logs", str(options.logs)),
            environ,
            Tier.WORKER,
            _logged(options.logs / "fleet.log", "fleet_started"),
            stop_timeout_s=conf.drain_timeout_s + 8.0,
            restarts=True,
        )
    for number in range(1, options.workers + 1):
        name = f"worker-{number}"
        yield Part(
            name,
            (str(ROOT / "ec2_worker" / "run.py"), "--threads", str(options.threads)),
            environ,
            Tier.WORKER,
            _logged(options.logs / f"{name}.log", "worker_started"),
            stop_timeout_s=conf.drain_timeout_s + 5.0,
            restarts=True,
        )


def _logged(path: Path, action: str) -> Callable[[], bool]:
    """Returns a probe that tells whether a log has a line with `action`. It is for parts that
    listen on no port."""
    return lambda: f'"action": "{action}"' in path.read_text(errors="replace")


def _announce(options: Options, access: str | None, say: Callable[[str], None]) -> None:
    """Says where the cloud is, and how to try it. `access` is the token, if the lines may hold it:
    the link to the dashboard has it in its fragment, which a browser sends to nobody."""
    say(f"ready {options.url} (settings: {options.env_file}, logs: {options.logs})")
    if access is None:
        say(f"look: {options.url}/ (it asks for TASKFLEET_TOKEN of {options.env_file})")
    else:
        say(f"look: {options.url}/#token={access}")
    say(
        f"try:  . {shlex.quote(str(options.env_file))} && "
        'curl -H "Authorization: Bearer $TASKFLEET_TOKEN" -H "Content-Type: text/plain" '
        '--data "sleep 1000" "$TASKFLEET_URL/batches"'
    )


@contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """Locks the folder for this process during the block. The operating system releases the lock
    however the process ends. Nobody but its owner may read what the cloud writes there. Raises
    OptionFault when another process holds the lock."""
    os.umask(0o077)  # of this process and of all parts
    directory.mkdir(parents=True, exist_ok=True)
    for folder in PRIVATE_FOLDERS:  # those of an earlier version were open to all
        if (directory / folder).is_dir():
            (directory / folder).chmod(0o700)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionFault(
                f"a local cloud runs in {directory} already: stop it, or choose another --dir"
            ) from error
        yield
