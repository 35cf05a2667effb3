"""The only program on a worker's machine that speaks to the instance metadata service (IMDSv2).
It runs as root: the worker, which fetches what strangers name, may not reach that service.

    metadata.py FOLDER          keep the role's credentials there, drain the worker on a notice
    metadata.py --unreachable   fail if the service can be reached from here

FOLDER/credentials.json is in the form of botocore's `credential_process`, FOLDER/machine.env is for
the worker's unit. A spot or rebalance notice stops that unit, which drains the worker. Standard
library only, since it runs outside the worker's software.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BASE = "http://169.254.169.254/latest/"
TOKEN_TTL_S = 21_600
TIMEOUT_S = 3.0
NOTICE_EVERY_S = 5.0
CREDENTIALS_EVERY_S = 60.0
"""botocore reads them anew from a quarter of an hour before they expire."""
NOTICES = ("meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance")
WORKER = "taskfleet-worker.service"


class Imds:
    """Reads of IMDSv2; `base` ends in a slash."""

    def __init__(self, base: str = BASE) -> None:
        self._base = base
        # No proxy is between a machine and its own metadata.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> str | None:
        """None when there is nothing of that name. OSError when IMDS does not answer."""
        token = self._call("api/token", "PUT", {"ttl-seconds": str(TOKEN_TTL_S)})
        return None if token is None else self._call(path, "GET", {"": token})

    def _call(self, path: str, method: str, headers: dict[str, str]) -> str | None:
        named = {
            f"X-aws-ec2-metadata-token{'-' + name if name else ''}": value
            for name, value in headers.items()
        }
        request = urllib.request.Request(self._base + path, method=method, headers=named)  # noqa: S310
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def credentials(imds: Imds) -> str | None:
    """Those of the machine's role, as `credential_process` wants them; None without a role."""
    roles = imds.get("meta-data/iam/security-credentials/")
    if not roles:
        return None
    found = imds.get(f"meta-data/iam/security-credentials/{roles.splitlines()[0]}")
    if found is None:
        return None
    fields = json.loads(found)
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": fields["AccessKeyId"],
            "SecretAccessKey": fields["SecretAccessKey"],
            "SessionToken": fields["Token"],
            "Expiration": fields["Expiration"],
        }
    )


def notice(imds: Imds) -> str | None:
    """The first notice that this machine is to end, if there is one."""
    return next((f"{path}: {text}" for path in NOTICES if (text := imds.get(path))), None)


def write(path: Path, text: str) -> None:
    """Whole or not at all; for root and the worker's group only."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        file.write(text)
    draft.replace(path)


def tell_systemd_ready() -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))


def main(folder: Path, imds: Imds) -> None:
    drained = False
    renew_at = 0.0
    while True:
        try:
            if time.monotonic() >= renew_at:
                found = credentials(imds)
                if found is None:
                    print("the machine has no role: no credentials", flush=True)
                else:
                    write(folder / "credentials.json", found)
                    machine = imds.get("meta-data/instance-id") or ""
                    write(folder / "machine.env", f"TASKFLEET_INSTANCE_ID={machine}\n")
                    tell_systemd_ready()
                    renew_at = time.monotonic() + CREDENTIALS_EVERY_S
            why = None if drained else notice(imds)
            if why is not None:
                print(f"draining the worker: {why}", flush=True)
                # Whatever the worker makes of it, the machine ends.
                subprocess.run(["systemctl", "stop", WORKER], check=False)
                subprocess.run(["systemctl", "poweroff"], check=True)
                drained = True
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            print(f"metadata: {error}", flush=True)
        time.sleep(NOTICE_EVERY_S)


def unreachable(imds: Imds) -> bool:
    try:
        imds.get("meta-data/")
    except urllib.error.HTTPError:
        return False
    except OSError:
        return True
    return False


if __name__ == "__main__":
    if sys.argv[1:] == ["--unreachable"]:
        if not unreachable(Imds()):
            sys.exit("the worker could reach the metadata service: it does not start")
    else:
        main(Path(sys.argv[1]), Imds())
