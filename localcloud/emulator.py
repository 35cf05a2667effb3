"""The AWS emulators: how each is started and how it shows that it serves. ministack plays SQS,
DynamoDB, S3, SSM and CloudFormation; moto plays EC2, which ministack does not. Owns their
commands and their settings, none of the resources in them (`infra/stack.yaml`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from localcloud.options import CREDENTIALS, HOST, Options
from localcloud.supervisor import Part

PROBE_TIMEOUT_S = 2.0


def ministack(options: Options, environ: Mapping[str, str], tier: int) -> Part:
    """Its state survives a stop in `options.state` when `options.keep`."""
    state = options.state.resolve()
    settings = {
        **CREDENTIALS,  # it checks those of presigned URLs
        "BIND_HOST": HOST,  # it would serve every interface
        "GATEWAY_PORT": str(options.aws_port),
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "1" if options.keep else "0",
        "STATE_DIR": str(state),
        "S3_PERSIST": "1" if options.keep else "0",
        "S3_DATA_DIR": str(state / "s3"),
        "TMPDIR": str(_folder(options.directory / "tmp").resolve()),
        # It would open further ports, and remove containers of its own name from Docker.
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


def moto(options: Options, environ: Mapping[str, str], tier: int) -> Part:
    return Part(
        "moto",
        ("-m", "moto.server", "-H", HOST, "-p", str(options.ec2_port)),
        environ,
        tier,
        answers(f"{options.ec2_url}/moto-api/data.json"),
    )


def answers(url: str) -> Callable[[], bool]:
    """A probe: the URL answers 200. No proxy is asked for the way."""

    def probe() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(url, timeout=PROBE_TIMEOUT_S).status_code == 200
            except requests.RequestException:
                return False

    return probe


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
