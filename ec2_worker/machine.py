"""The machine under the worker, as the EC2 instance metadata service (IMDSv2) describes it: its id,
the notice that EC2 will take it away, and the advice to leave it.

After advice EC2 may take the machine soon, or never. A drain would break off tasks that are longer
than the drain time-out for certain, and two minutes' notice is enough for the others. So advice
costs no task: the worker goes on and leaves at its first idle moment.

Sources: "Use the Instance Metadata Service", "Spot Instance interruption notices" and "EC2 instance
rebalance recommendations", Amazon EC2 User Guide.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import requests

from taskfleet.log import fields

_log = logging.getLogger(__name__)

POLL_S = 5.0
"""Seconds between two looks for a notice, as EC2's guide asks for. A spot notice comes two minutes
before the end."""
TIMEOUT_S = 2.0
TOKEN_TTL_S = 21_600
END = "meta-data/spot/instance-action"
"""Path of the notice that EC2 takes the machine back, two minutes before it does."""
ADVICE = "meta-data/events/recommendations/rebalance"
"""Path of the advice to leave the machine, since EC2 is likely to take it back."""


@dataclass(frozen=True)
class Notice:
    """What EC2 says about the machine's end, in words. `certain` is false for advice."""

    words: str
    certain: bool


class Imds:
    """The metadata service at `url`, which has no path. Its methods return None for what cannot be
    read, since a worker may run on no EC2 machine at all."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # the service is on the machine's own link: no proxy
        self._token = ""

    def instance_id(self) -> str | None:
        """The id of the machine."""
        return self._get("meta-data/instance-id")

    def notice(self) -> Notice | None:
        """The notice of the machine's end, else the advice to leave it; None when there is
        neither."""
        if (text := self._get(END)) is not None:
            return Notice(f"EC2 takes the machine back: {text:.200}", certain=True)
        if (text := self._get(ADVICE)) is not None:
            return Notice(f"EC2 advises to leave the machine: {text:.200}", certain=False)
        return None

    def _get(self, path: str) -> str | None:
        try:
            answer = self._ask(path)
            if answer.status_code == 401:  # the token has expired
                self._token = ""
                answer = self._ask(path)
        except requests.RequestException:
            return None
        return answer.text.strip() if answer.status_code == 200 else None

    def _ask(self, path: str) -> requests.Response:
        if not self._token:
            answer = self._session.put(
                f"{self._url}/latest/api/token",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)},
                timeout=TIMEOUT_S,
            )
            answer.raise_for_status()
            self._token = answer.text
        return self._session.get(
            f"{self._url}/latest/{path}",
            headers={"X-aws-ec2-metadata-token": self._token},
            timeout=TIMEOUT_S,
        )


def watch(
    imds: Imds,
    ended: threading.Event,
    drain: Callable[[], None],
    leave_when_idle: Callable[[], None],
    poll_s: float,
) -> None:
    """Look for a notice every `poll_s` seconds until `ended`. Call `leave_when_idle` once when
    there is advice, and `drain` when EC2 takes the machine back; then return."""
    advised = False
    while not ended.wait(poll_s):
        notice = imds.notice()
        if notice is None or (advised and not notice.certain):
            continue
        if notice.certain:
            _log.warning(
                "the machine will go, draining", extra=fields("machine_notice", reason=notice.words)
            )
            drain()
            return
        _log.warning(
            "the machine may go, leaving when idle",
            extra=fields("machine_notice", reason=notice.words),
        )
        leave_when_idle()
        advised = True
