"""What was asked of the local cloud and what follows from it: ports, folders, addresses. Owns
their checks; every fault is told before anything is started."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from taskfleet.bundle import DEFAULT_SLOTS

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
"""The checkout: it holds `app.py`, `infra/` and `ec2_worker/`, which no package installs."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
"""Of everybody in the local cloud."""

DEFAULT_MACHINES = 3
DEFAULT_KINDS = ("animoto",)


class OptionFault(Exception):
    """An option that cannot work; the message says which, why and what to do."""


@dataclass(frozen=True)
class Options:
    """Ports are 0 for any free one, `ec2_port` None for the one after `aws_port`."""

    api_port: int = 8000
    aws_port: int = 4566
    ec2_port: int | None = None
    workers: int = 1
    max_capacity: int | None = None
    boot_s: float = 2.0
    provisioner: bool = True
    lambda_port: int = 0
    threads: int = DEFAULT_SLOTS
    directory: Path = Path(".local")
    keep: bool = False
    kinds: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def aws_url(self) -> str:
        return f"http://{HOST}:{self.aws_port}"

    @property
    def ec2_url(self) -> str:
        return f"http://{HOST}:{self.ec2_port}"

    @property
    def lambda_url(self) -> str:
        return f"http://{HOST}:{self.lambda_port}"

    @property
    def machines(self) -> int:
        """Most instances that the provisioner may run. Beside static workers there are none,
        unless asked for: whoever measures them wants no others."""
        if not self.provisioner:
            return 0
        if self.max_capacity is None:
            return 0 if self.workers else DEFAULT_MACHINES
        return self.max_capacity

    @property
    def env_file(self) -> Path:
        return self.directory / "env"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def state(self) -> Path:
        return self.directory / "state"


def with_ports(options: Options) -> Options:
    """The same with every port decided and found free. OptionFault names port and option."""
    after_aws = options.aws_port + 1 if options.aws_port else 0
    ec2_port = after_aws if options.ec2_port is None else options.ec2_port
    wanted = {
        "--api-port": options.api_port,
        "--aws-port": options.aws_port,
        "--ec2-port": ec2_port,
        "(that of Lambda)": options.lambda_port,
    }
    with ExitStack() as held:  # all at once, so that no two free ports are the same
        # Given ones first: a free one may not take theirs.
        order = sorted(wanted.items(), key=lambda item: item[1] == 0)
        found = {option: _bind(held, option, port) for option, port in order}
    api, aws, ec2, invoke = (found[option] for option in wanted)
    return replace(options, api_port=api, aws_port=aws, ec2_port=ec2, lambda_port=invoke)


def _bind(held: ExitStack, option: str, port: int) -> int:
    listener = held.enter_context(socket.socket())
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


def kinds(asked: Sequence[str], configured: Iterable[str]) -> tuple[str, ...]:
    """The modules of task kinds to load: those that come with the project and can be imported,
    those `configured` in the environment, those `asked` for. OptionFault when one cannot be
    found."""
    found = [name for name in DEFAULT_KINDS if _importable(name)]
    for name in [*configured, *asked]:
        if not _importable(name):
            raise OptionFault(
                f"no module named {name!r} to load task kinds from: run this where it can be "
                "imported, or put its folder on PYTHONPATH"
            )
        found.append(name)
    return tuple(dict.fromkeys(found))


def _importable(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
