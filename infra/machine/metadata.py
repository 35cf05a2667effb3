"""The only program on a worker's machine that calls the instance metadata service (IMDSv2). It runs
as root. The worker, which fetches URLs that strangers name, cannot reach that service.

    metadata.py FOLDER          keep the role's credentials in FOLDER, tell the worker of notices
    metadata.py --unreachable   fail if the service can be reached from here

FOLDER/credentials.json has the form of botocore's `credential_process`; FOLDER/machine.env is an
EnvironmentFile of the worker's unit. When EC2 takes the machine back, this stops that unit, which
drains the worker, and then shuts the machine down. When EC2 only advises to leave the machine, the
worker gets SIGUSR1 and leaves when it is idle (`ec2_worker.machine` has the reason). Uses the
standard library only, since it runs outside the worker's software.
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
from collections.abc import Iterator
from pathlib import Path

BASE = "http://169.254.169.254/latest/"
"""URL of the instance metadata service."""
TOKEN_TTL_S = 21_600
"""Seconds for which a token of the service is valid; its maximum."""
TIMEOUT_S = 3.0
"""Time-out of one call, in seconds."""
NOTICE_EVERY_S = 5.0
"""Seconds between two looks for a notice."""
CREDENTIALS_EVERY_S = 60.0
"""Seconds between two renewals of the file. botocore reads it again when the credentials expire
within a quarter of an hour."""
WORKER = "taskfleet-worker.service"
"""Unit of the worker."""
END = "meta-data/spot/instance-action"
"""Path of the notice that EC2 takes the machine back."""
ADVICE = "meta-data/events/recommendations/rebalance"
"""Path of the advice to leave the machine."""
COMMANDS = {
    # Even if the worker does not stop properly, the machine ends.
    END: [["systemctl", "stop", WORKER], ["systemctl", "poweroff"]],
    ADVICE: [["systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR1", WORKER]],
}
"""Commands to run, by the path of a notice. It is told once the last of them has succeeded."""


class Imds:
    """A client of IMDSv2. `base` is its URL, with a slash at the end."""

    def __init__(self, base: str = BASE) -> None:
        self._base = base
        # No proxy: the service is on the machine's own link.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> str | None:
        """Returns what is at `path`, None if there is nothing. Raises OSError when the service does
        not answer."""
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
                body: str = answer.read().decode()
                return body
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def credentials(imds: Imds) -> str | None:
    """Returns the credentials of the machine's role in the form of `credential_process`; None
    without a role."""
    roles = imds.get("meta-data/iam/security-credentials/")
    if not roles:
        return None
    answer = imds.get(f"meta-data/iam/security-credentials/{roles.splitlines()[0]}")
    if answer is None:
        return None
    fields = json.loads(answer)
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": fields["AccessKeyId"],
            "SecretAccessKey": fields["SecretAccessKey"],
            "SessionToken": fields["Token"],
            "Expiration": fields["Expiration"],
        }
    )


def new_notices(imds: Imds, told: set[str]) -> Iterator[tuple[str, str]]:
    """Yields the notices that are there, each as its path and its text, but not those in `told`."""
    for path in COMMANDS:
        if path not in told and (text := imds.get(path)):
            yield path, text


def write(path: Path, text: str) -> None:
    """Writes a file atomically, for root and the worker's group only."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        file.write(text)
    draft.replace(path)


def tell_systemd_ready() -> None:
    """Tells systemd that the unit has started (`sd_notify`); does nothing outside a unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))


def main(folder: Path, imds: Imds) -> None:
    """Renews the credentials and looks for notices, forever. A step that fails is printed; the next
    may succeed."""
    told: set[str] = set()
    renew_at = 0.0
    while True:
        try:
            if time.monotonic() >= renew_at:
                keys = credentials(imds)
                if keys is None:
                    print("the machine has no role: no credentials", flush=True)
                else:
                    write(folder / "credentials.json", keys)
                    machine = imds.get("meta-data/instance-id") or ""
                    write(folder / "machine.env", f"TASKFLEET_INSTANCE_ID={machine}\n")
                    tell_systemd_ready()
                    renew_at = time.monotonic() + CREDENTIALS_EVERY_S
            for path, text in new_notices(imds, told):
                what = "draining the worker" if path == END else "the worker leaves when idle"
                print(f"{what}: {path}: {text}", flush=True)
                *first, last = COMMANDS[path]
                for command in first:
                    subprocess.run(command, check=False)
                subprocess.run(last, check=True)
                told.add(path)
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            print(f"metadata: {error}", flush=True)
        time.sleep(NOTICE_EVERY_S)


def unreachable(imds: Imds) -> bool:
    """Returns whether the service cannot be reached. Any answer of it counts as reached."""
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
            sys.exit(
                "the worker could reach the instance metadata service, so it does not start: "
                "this kernel does not enforce IPAddressDeny"
            )
    else:
        main(Path(sys.argv[1]), Imds())
