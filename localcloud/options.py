"""The options of the local cloud, and what follows from them: ports, folders, addresses. Owns their
checks, so that every fault is reported before anything starts."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.client.endpoint import ENV_FILE

HOST = "127.0.0.1"
"""Address that every part listens on."""
ROOT = Path(__file__).resolve().parent.parent
"""The checkout. It holds `app.py` and `infra/stack.yaml`, which no package installs."""
DEFAULT_MAX_INSTANCES = 3
"""Most instances when there are no static workers and no `--max-capacity`."""
DEFAULT_KINDS = ("animoto", "taskfleet.kinds.command", "taskfleet.kinds.python")
"""Modules of task kinds that are loaded wherever they can be imported."""


class OptionFault(Exception):
    """An option cannot work. The message says which, why, and what to do."""


@dataclass(frozen=True)
class Options:
    """The options of one local cloud.

    api_port, aws_port, ec2_port, lambda_port: 0 is any free port. None for `ec2_port` is the port
        after `aws_port`.
    workers: static workers, which run whether there is work or not.
    max_capacity: most instances; None leaves it to `max_instances`.
    boot_s: seconds until an instance's worker starts.
    provisioner: whether instances may come at all.
    threads: tasks that a worker runs at a time.
    directory: folder for the env file, the logs and the state.
    keep: whether queues, table and bucket survive a stop and a start.
    kinds: modules of task kinds, besides those of the environment.
    quotas: quotas of AWS, such as `api_rate=20` (`localcloud.quotas`).
    on_event: command line that gets each event on standard input; None for none.
    """

    api_port: int = 8000
    aws_port: int = 4566
    ec2_port: int | None = None
    workers: int = 1
    max_capacity: int | None = None
    boot_s: float = 2.0
    provisioner: bool = True
    lambda_port: int = 0
    threads: int = DEFAULT_SLOTS
    directory: Path = ENV_FILE.parent
    keep: bool = False
    kinds: tuple[str, ...] = ()
    quotas: tuple[str, ...] = ()
    on_event: str | None = None

    @property
    def url(self) -> str:
        """URL of the API."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def aws_url(self) -> str:
        """URL of ministack."""
        return f"http://{HOST}:{self.aws_port}"

    @property
    def ec2_url(self) -> str:
        """URL of moto."""
        return f"http://{HOST}:{self.ec2_port}"

    @property
    def lambda_url(self) -> str:
        """URL of Lambda's Invoke, which the pump serves."""
        return f"http://{HOST}:{self.lambda_port}"

    @property
    def max_instances(self) -> int:
        """Most instances that the provisioner may run. Beside static workers the default is 0, so
        that measurements of them are not disturbed."""
        if not self.provisioner:
            return 0
        if self.max_capacity is None:
            return 0 if self.workers else DEFAULT_MAX_INSTANCES
        return self.max_capacity

    @property
    def env_file(self) -> Path:
        """File with the variables for a shell; it is there while the cloud serves."""
        return self.directory / ENV_FILE.name

    @property
    def logs(self) -> Path:
        """Folder with a log for each part."""
        return self.directory / "logs"

    @property
    def state(self) -> Path:
        """Folder in which ministack keeps its state."""
        return self.directory / "state"


def with_ports(options: Options) -> Options:
    """Returns `options` with every port chosen. Raises OptionFault, which names port and option,
    when a port cannot be used."""
    after_aws = options.aws_port + 1 if options.aws_port else 0
    ec2_port = after_aws if options.ec2_port is None else options.ec2_port
    wanted = {
        "--api-port": options.api_port,
        "--aws-port": options.aws_port,
        "--ec2-port": ec2_port,
        "--lambda-port": options.lambda_port,
    }
    with ExitStack() as listeners:  # all at once, so that no two free ports are the same
        # Named ports first, so that no free port takes one of them.
        named_first = sorted(wanted.items(), key=lambda item: item[1] == 0)
        ports = {option: _bind(listeners, option, port) for option, port in named_first}
    api, aws, ec2, invoke = (ports[option] for option in wanted)
    return replace(options, api_port=api, aws_port=aws, ec2_port=ec2, lambda_port=invoke)


def _bind(listeners: ExitStack, option: str, port: int) -> int:
    """Listens on `port` until `listeners` closes, and returns the port."""
    listener = listeners.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "not a port"
        raise OptionFault(
            f"port {port} of {HOST} cannot be used ({reason}): choose another with {option}"
        ) from error
    return int(listener.getsockname()[1])


def kind_modules(asked: Sequence[str], configured: Iterable[str]) -> tuple[str, ...]:
    """Returns the modules of task kinds to load, each once: the default ones that can be imported,
    those `configured` in the environment, those `asked` for on the command line. Raises OptionFault
    when one of the latter two cannot be found."""
    modules = [name for name in DEFAULT_KINDS if _importable(name)]
    for name in [*configured, *asked]:
        if not _importable(name):
            raise OptionFault(
                f"no module named {name!r} to load task kinds from: start the local cloud in its "
                "folder, or put that folder on PYTHONPATH"
            )
        modules.append(name)
    return tuple(dict.fromkeys(modules))


def _importable(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
