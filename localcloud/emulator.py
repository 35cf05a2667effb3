"""The AWS emulators: how each is started, and how to tell that it serves. ministack emulates SQS,
DynamoDB, S3, SSM and CloudFormation; moto emulates EC2, which ministack does not. Owns their
commands and settings; `infra/stack.yaml` owns the resources in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from localcloud.options import Options
from localcloud.supervisor import Part

PROBE_TIMEOUT_S = 2.0
"""Seconds that a probe waits for an answer."""


def ministack(
    options: Options, environ: Mapping[str, str], credentials: Mapping[str, str], tier: int
) -> Part:
    """Returns ministack as a part. It serves whoever signs with `credentials`, and nobody else.
    With `options.keep`, its state survives a stop and a start in `options.state`."""
    state = options.state.resolve()
    settings = {
        **credentials,
        "AUTH": "true",  # it verifies signatures
        "GATEWAY_PORT": str(options.aws_port),
        "PAGE_PORT": str(options.api_port),
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "1" if options.keep else "0",
        "STATE_DIR": str(state),
        "S3_PERSIST": "1" if options.keep else "0",
        "S3_DATA_DIR": str(state / "s3"),
        "TMPDIR": str(_folder(options.directory / "tmp").resolve()),
        # It would open further ports, and remove Docker containers that have its own name.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{state / 'no-docker.sock'}",
    }
    return Part(
        "ministack",
        ("-m", "localcloud.ministack"),
        {**environ, **settings},
        tier,
        answers(f"{options.aws_url}/_ministack/ready"),
        stop_timeout_s=30.0,  # it may have a state to write
    )


def moto(
    options: Options, environ: Mapping[str, str], credentials: Mapping[str, str], tier: int
) -> Part:
    """Returns moto's server as a part. It serves whoever names the access key of `credentials`."""
    return Part(
        "moto",
        ("-m", "localcloud.moto", "--port", str(options.ec2_port)),
        {**environ, **credentials},
        tier,
        answers(f"{options.ec2_url}/ready"),
    )


def answers(url: str) -> Callable[[], bool]:
    """Returns a probe that tells whether `url` answers 200. It uses no proxy."""

    def probe() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(url, timeout=PROBE_TIMEOUT_S).status_code == 200
            except requests.RequestException:
                return False

    return probe


def _folder(path: Path) -> Path:
    """Creates the folder if need be, and returns it."""
    path.mkdir(parents=True, exist_ok=True)
    return path
