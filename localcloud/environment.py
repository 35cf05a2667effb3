"""The environment of the cloud's parts, and that of its user's shell, the env file. Owns the values
of the variables; their meaning belongs to `taskfleet.settings`, `taskfleet.client.endpoint` and
boto3, the form of the file to `taskfleet.client.envfile`."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from localcloud.options import HOST, ROOT, Options
from taskfleet.client import endpoint, envfile
from taskfleet.settings import Settings

BUCKET = "taskfleet-local"
"""Name of the local cloud's bucket."""
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Names of the variables that hold the cloud's credentials."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment that every part starts from: the caller's `environ` without its AWS
    account, which no part may ever touch, and without a proxy on the way to the other parts.
    Modules are found in the checkout, in the current folder and on the caller's PYTHONPATH."""
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
    options: Options,
    settings: Settings,
    kinds: tuple[str, ...],
    secret: str,
    credentials: Mapping[str, str],
    events_url: str,
) -> dict[str, str]:
    """Returns the variables by which a process of Taskfleet uses this cloud.

    kinds: modules of task kinds.
    secret: the secret that signs tokens.
    credentials: those that the emulators demand; see `credentials`.
    events_url: URL of EventBridge.
    """
    variables = {
        "AWS_ENDPOINT_URL": options.aws_url,
        "AWS_ENDPOINT_URL_EC2": options.ec2_url,
        "AWS_ENDPOINT_URL_LAMBDA": options.lambda_url,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": events_url,
        **credentials,
        "AWS_DEFAULT_REGION": settings.region,
        "TASKFLEET_REGION": settings.region,
        "TASKFLEET_STAGE": settings.stage,
        "TASKFLEET_BUCKET": BUCKET,
        "TASKFLEET_TOKEN_SECRET": secret,
        "TASKFLEET_ALLOW_PRIVATE_URLS": "1",
        "TASKFLEET_MAX_CAPACITY": str(options.max_instances),
        "TASKFLEET_SLOTS": str(options.threads),
        # Workers on one computer share its cores; machines would each have their own.
        "TASKFLEET_CORES": str(max(1, settings.usable_cores // max(1, options.workers))),
        "TASKFLEET_NUDGE": "1" if options.max_instances else "0",
        "TASKFLEET_IMDS_URL": "",
        "TASKFLEET_EVENTS": "1",
    }
    if kinds:
        variables["TASKFLEET_KINDS"] = ",".join(kinds)
    return variables


def for_shell(
    options: Options, processes: Mapping[str, str], token: str, no_proxy: str
) -> dict[str, str]:
    """Returns the variables of the env file: those of `for_processes` (`processes`), and the URL,
    token and NO_PROXY that a client needs."""
    client = {endpoint.URL: options.url, endpoint.TOKEN: token}
    return {**client, **processes, "NO_PROXY": no_proxy}


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Writes an env file that only its owner may read, since it holds secrets."""
    _write_private(path, envfile.render(variables))


def secret(directory: Path) -> str:
    """Returns the secret that signs the tokens of the cloud in `directory`. It is made at first use
    and kept, so that tokens outlive a restart."""
    path = directory / "token_secret"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text()


def credentials(directory: Path) -> dict[str, str]:
    """Returns the AWS credentials of the cloud in `directory`, as boto3's variables. They are made
    at first use and kept, so that presigned URLs outlive a restart."""
    path = directory / "aws_credentials"
    if not path.exists():
        made = {
            # ministack takes `test` and any account's number for its own key, too.
            "AWS_ACCESS_KEY_ID": f"LOCAL{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
        }
        _write_private(path, json.dumps(made))
    return {str(name): str(value) for name, value in json.loads(path.read_text()).items()}


def _write_private(path: Path, text: str) -> None:
    """Writes a file atomically, for its owner only."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
    draft.replace(path)
