"""A local cloud as a child process, for a program that needs one for a while: `make demo`, the
benchmarks. Owns its start and its end, and reading what it serves under."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud.options import ROOT

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40
FREE_PORTS = ("--api-port", "0", "--aws-port", "0", "--ec2-port", "0")


class NotStarted(Exception):
    """The local cloud ended instead of serving; it has said why on standard error."""


@dataclass(frozen=True)
class Launched:
    """`variables` are those of its file `env`; `process` is the supervisor of all its parts."""

    variables: Mapping[str, str]
    process: subprocess.Popen[str]


@contextmanager
def launched(
    directory: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[Launched]:
    """A local cloud on free ports, stopped in the end. `options` are those of its command line,
    `environ` goes over the caller's own environment."""
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
                raise NotStarted("the local cloud did not start; what it said is above")
            yield Launched(_variables(directory / "env"), process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _variables(env_file: Path) -> dict[str, str]:
    lines = env_file.read_text().splitlines()
    pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
    return {name: value for name, _, value in pairs}
