"""Runs Chalice. Keeps Chalice's record of what it deployed in the bucket, so that other checkouts
find it. `.chalice/config.json` owns the functions' settings, `infra.functions` what Chalice cannot
set, `infra.remains` what Chalice left without a record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra import functions, remains
from infra.stage import Stage, variables

CLI = "import sys; from chalice.cli import main; sys.exit(main())"
"""The Python program that runs Chalice. `python -m chalice` does not exist, and the script
`chalice` on PATH may belong to another Python. `main` returns the exit code of most faults."""
TIMEOUT_S = 900
"""Longest run of Chalice, in seconds."""


class ChaliceFailed(Exception):
    """Chalice failed. The message ends with its output."""


def deploy(session: Any, stage: Stage, root: Path, log_days: int) -> str:
    """Creates or updates the functions and their API. Returns the API's URL, without a slash at its
    end. Raises ChaliceFailed.

    root: the checkout.
    log_days: days for which the functions' logs are kept.
    """
    record = _record(root, stage.name)
    s3 = session.client("s3")
    _fetch_record(s3, stage, record)
    if not record.exists():
        remains.delete_unrepeatable(session, stage)
    run(root, "deploy", stage)
    s3.put_object(Bucket=stage.bucket, Key=_record_key(stage), Body=record.read_bytes())
    resources = {entry["name"]: entry for entry in json.loads(record.read_text())["resources"]}
    api = resources["rest_api"]
    functions.configure(session, stage, root, api["rest_api_id"], log_days)
    return str(api["rest_api_url"]).rstrip("/")


def delete(session: Any, stage: Stage, root: Path) -> None:
    """Deletes what Chalice deployed, by its record and, whatever is left then, by names and tags.
    Raises ChaliceFailed."""
    record = _record(root, stage.name)
    _fetch_record(session.client("s3"), stage, record)
    if record.exists():
        run(root, "delete", stage)
        record.unlink(missing_ok=True)
    remains.delete_all(session, stage, root)


def known_bucket(root: Path, stage: str) -> str:
    """Returns the bucket of the stage's last deployment from this checkout; empty without one."""
    return variables(root / ".chalice", stage).get("TASKFLEET_BUCKET", "")


def run(root: Path, command: str, stage: Stage) -> None:
    """Runs a command of Chalice in the stage's region. Raises ChaliceFailed, or TimeoutExpired
    after `TIMEOUT_S`."""
    done = subprocess.run(
        [sys.executable, "-c", CLI, command, "--stage", stage.name],
        cwd=root,
        env={
            **os.environ,
            "AWS_DEFAULT_REGION": stage.region,
            # Compiled files would get into the package and change its hash.
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-3000:]
        raise ChaliceFailed(f"chalice {command} --stage {stage.name} failed: {output}")


def _record(root: Path, stage: str) -> Path:
    """Returns the file in which Chalice records what it deployed."""
    return root / ".chalice" / "deployed" / f"{stage}.json"


def _record_key(stage: Stage) -> str:
    return f"deploy/{stage.name}.json"


def _fetch_record(s3: Any, stage: Stage, record: Path) -> None:
    """Fetches the record of an earlier deployment from another checkout, if there is one. Without
    it, Chalice would create the API a second time. A record of the stage in another region or
    account is put away; it is in the bucket there."""
    if record.exists() and f":{stage.region}:{stage.account}:" in record.read_text():
        return
    record.unlink(missing_ok=True)
    if not stage.bucket:
        return
    try:
        listing = s3.list_objects_v2(Bucket=stage.bucket, Prefix=_record_key(stage))
    except s3.exceptions.NoSuchBucket:  # an earlier `make destroy` has deleted it
        return
    if listing.get("KeyCount"):
        body = s3.get_object(Bucket=stage.bucket, Key=_record_key(stage))["Body"].read()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(body)
