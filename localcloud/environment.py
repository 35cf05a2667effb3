"""The environment of the cloud's parts and of its user's shell: the file `DIR/env`. Owns what the
variables are set to; their meaning belongs to `taskfleet.settings`, `taskfleet.client.client` and
boto3.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from localcloud.options import CREDENTIALS, HOST, ROOT, Options
from taskfleet.settings import Settings

BUCKET = "taskfleet-local"
IMAGE = "ami-12c6146b"
"""Any will do: its worker is started by `localcloud.fleet`."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What every part gets of the caller's `environ`: all but its AWS account, which no part of a
    local cloud may ever touch."""
    kept = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    search = [str(ROOT), os.getcwd(), kept.get("PYTHONPATH", "")]
    hosts = kept.get("NO_PROXY", kept.get("no_proxy", "")).split(",")
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(dict.fromkeys([*filter(None, hosts), HOST])),
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONUNBUFFERED": "1",
    }


def for_processes(
    options: Options, settings: Settings, kinds: tuple[str, ...], secret: str
) -> dict[str, str]:
    """What tells a process of Taskfleet to use this cloud."""
    found = {
        "AWS_ENDPOINT_URL": options.aws_url,
        "AWS_ENDPOINT_URL_EC2": options.ec2_url,
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": settings.region,
        "TASKFLEET_REGION": settings.region,
        "TASKFLEET_STAGE": settings.stage,
        "TASKFLEET_BUCKET": BUCKET,
        "TASKFLEET_TOKEN_SECRET": secret,
        "TASKFLEET_ALLOW_PRIVATE_URLS": "1",
    }
    found |= {
        "AWS_ENDPOINT_URL_LAMBDA": options.lambda_url,
        "TASKFLEET_MAX_CAPACITY": str(options.machines),
        "TASKFLEET_SLOTS": str(options.threads),
        # Workers of one computer share its cores; machines would each have their own.
        "TASKFLEET_CORES": str(max(1, settings.usable_cores // max(1, options.workers))),
        "TASKFLEET_NUDGE": "1" if options.machines else "0",
        "TASKFLEET_AMI_ID": IMAGE,
        "TASKFLEET_INSTANCE_TYPES": "c7g.large",
        "TASKFLEET_IMDS_URL": "",
    }
    if kinds:
        found["TASKFLEET_KINDS"] = ",".join(kinds)
    return found


def for_shell(
    options: Options, processes: Mapping[str, str], token: str, no_proxy: str
) -> dict[str, str]:
    """What `DIR/env` holds: the same, and what a client needs."""
    client = {"TASKFLEET_URL": options.url, "TASKFLEET_TOKEN": token}
    return {**client, **processes, "NO_PROXY": no_proxy}


def write(path: Path, variables: Mapping[str, str]) -> None:
    """One `export NAME=value` a line, for a shell to read; only the owner may, since it holds
    secrets."""
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    _write_private(path, text)


def secret(directory: Path) -> str:
    """The secret that signs this folder's tokens, made at first use, so that tokens outlive a
    restart."""
    path = directory / "token_secret"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text()


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
