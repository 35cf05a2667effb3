"""The local cloud as a whole: which parts there are, in which order they come and go. Owns only
that; each part's own module tells how it is run."""

from __future__ import annotations

import fcntl
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import boto3

from infra import stack
from localcloud import emulator, environment
from localcloud.options import ROOT, OptionFault, Options, kinds, with_ports
from localcloud.supervisor import Part, StopRequested, Supervisor
from taskfleet import settings
from taskfleet.settings import Settings
from taskfleet.wire import token

CLIENT_ID = "local"
TOKEN_TTL_S = 90 * 86_400
DEFAULTS = {
    "TASKFLEET_DRAIN_TIMEOUT_S": "10",
    "TASKFLEET_RECEIVE_WAIT_S": "1",
    "TASKFLEET_LOOK_S": "5",
    "TASKFLEET_BEAT_S": "3",
    "TASKFLEET_IDLE_S": "15",
}
"""Unless set: whoever presses Ctrl-C is waiting, and ministack ends only when the last long poll
of a client that has gone is over."""


class Tier(IntEnum):
    """Who needs the others goes first when all ends."""

    EMULATOR = 0
    API = 1
    PUMP = 2
    WORKER = 3


def run(asked: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Serve until a signal. `environ` is what the parts inherit; `say` gets the lines for the
    person who started it. Raises OptionFault or SettingsError before anything is started,
    PartFailed or StackFailed after."""
    # A worker's process takes about two seconds to start, as a machine does half a minute.
    environ = {**DEFAULTS, "TASKFLEET_BOOT_S": str(asked.boot_s + 2.0), **environ}
    conf = settings.load(environ)
    kind_modules = kinds(asked.kinds, conf.kinds)
    with _owned(asked.directory):
        options = with_ports(asked)
        options.env_file.unlink(missing_ok=True)
        secret = environment.secret(options.directory)
        cloud = environment.for_processes(options, conf, kind_modules, secret)
        try:
            with Supervisor(options.logs, say) as supervisor:
                _start(supervisor, options, conf, environ, cloud)
                access = token.make(secret, CLIENT_ID, TOKEN_TTL_S, time.time())
                shell = environment.for_shell(options, cloud, access, environ["NO_PROXY"])
                environment.write(options.env_file, shell)
                try:
                    _announce(options, say)
                    supervisor.watch()
                finally:  # before the parts go, so that no client is sent to a dying cloud
                    options.env_file.unlink(missing_ok=True)
        except StopRequested:
            return


def _start(
    supervisor: Supervisor,
    options: Options,
    conf: Settings,
    inherited: Mapping[str, str],
    cloud: Mapping[str, str],
) -> None:
    ministack = emulator.ministack(options, inherited, Tier.EMULATOR)
    moto = emulator.moto(options, inherited, Tier.EMULATOR)
    supervisor.start(ministack)
    supervisor.start(moto)
    supervisor.wait_ready([ministack])
    cloudformation = boto3.client(
        "cloudformation",
        endpoint_url=options.aws_url,
        region_name=conf.region,
        aws_access_key_id=cloud["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud["AWS_SECRET_ACCESS_KEY"],
    )
    parameters = {"Stage": conf.stage, "BucketName": environment.BUCKET}
    stack.bring_up(cloudformation, stack.name_of(conf.stage), parameters)
    if options.machines:  # the provisioner looks at once
        supervisor.wait_ready([moto])
    programs = [*_programs(options, conf, {**inherited, **cloud})]
    for part in programs:
        supervisor.start(part)
    supervisor.wait_ready([moto, *programs])


def _programs(options: Options, conf: Settings, environ: Mapping[str, str]) -> Iterator[Part]:
    if conf.log_level in ("warning", "error"):  # readiness is read from the logs
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
        # With the provisioner's first look its clients are made, and the next one is quick.
        _logged(
            options.logs / "pump.log",
            "provisioner_looked" if options.machines else "pump_started",
        ),
        restarts=True,
    )
    if options.machines:
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
    """A probe for a part that listens nowhere: its log tells of the action."""
    return lambda: f'"action": "{action}"' in path.read_text(errors="replace")


def _announce(options: Options, say: Callable[[str], None]) -> None:
    say(f"ready {options.url} (settings: {options.env_file}, logs: {options.logs})")
    say(
        f"try:  . {shlex.quote(str(options.env_file))} && "
        'curl -H "Authorization: Bearer $TASKFLEET_TOKEN" -H "Content-Type: text/plain" '
        '--data "sleep 1000" "$TASKFLEET_URL/batches"'
    )


@contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the lock goes with it, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionFault(
                f"a local cloud runs in {directory} already: stop it, or choose another --dir"
            ) from error
        yield
