"""A local cloud as a child process, for a program that needs one for a while, such as `make demo`
and the benchmarks. Owns its start, its end, and the reading of its env file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud.options import ROOT
from taskfleet.client import envfile
from taskfleet.client.endpoint import ENV_FILE

START_TIMEOUT_S = 60
"""Seconds that a local cloud which does not become ready may take to end."""
STOP_TIMEOUT_S = 40
"""Seconds that a local cloud may take to stop before it is killed."""
FREE_PORTS = ("--api-port", "0", "--aws-port", "0", "--ec2-port", "0")
"""Options that choose any free ports."""


class NotStarted(Exception):
    """The local cloud ended instead of serving; its standard error says why."""


@dataclass(frozen=True)
class Launched:
    """A local cloud that serves. `variables` are those of its env file; `process` is the supervisor
    of all its parts."""

    variables: Mapping[str, str]
    process: subprocess.Popen[str]


@contextmanager
def launched(
    directory: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[Launched]:
    """Runs a local cloud on free ports, and stops it at the end of the block.

    options: of its command line.
    environ: variables that it gets besides the caller's own environment; they take precedence.

    Raises NotStarted when it does not become ready.
    """
    command = [sys.executable, "-m", "localcloud", *FREE_PORTS, "--dir", str(directory), *options]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            line = process.stdout.readline()
            if not line.startswith("ready"):
                process.wait(START_TIMEOUT_S)
                raise NotStarted("the local cloud did not start; its error message is above")
            yield Launched(envfile.read(directory / ENV_FILE.name), process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
