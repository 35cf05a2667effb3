"""ministack as the local cloud runs it: a process behind the guard and the strict hop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config

from tests.support.ports import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
KEY = {"aws_access_key_id": "LOCALTEST", "aws_secret_access_key": "not a secret at all"}


class Emulated:
    """A ministack that serves at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """Returns a client that retries nothing."""
        config = Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=64,
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "path"},
        )
        return boto3.client(
            service, region_name=region, endpoint_url=self.url, config=config, **KEY
        )


@contextlib.contextmanager
def emulated(directory: Path, **environ: str) -> Iterator[Emulated]:
    """Runs ministack on a free port. `directory` holds its temporary files."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LOCALCLOUD_"))}
    environ = {
        **kept,
        "AUTH": "true",
        "GATEWAY_PORT": str(port),
        "PAGE_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(directory),
        "STATE_DIR": str(directory / "state"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{directory}/no-docker.sock",
        **{name.upper(): value for name, value in KEY.items()},
        **environ,
    }
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/_ministack/ready", timeout=5).status_code == 200
        return False

    with subprocess.Popen(
        [sys.executable, "-m", "localcloud.ministack"], cwd=ROOT, env=environ
    ) as process:
        try:
            eventually(ready)
            yield Emulated(url)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
