"""The client of the processes that meet a faulty AWS, and what is found against the promises. Owns
how a call is repeated and which answers are right; not the batches (`tests.faults.aws.work`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.support.stage import Stage

ANSWER_S = 29.0
"""Longest time of an answer, as with API Gateway."""
PATIENCE_S = 180.0
"""Plenty for a busy computer. Only a test that fails waits so long."""


@dataclass
class Verdict:
    """What was found against the promises, with a sentence for each."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)

    def tell(self, text: str, *, lost: int = 0, doubled: int = 0, wrong: int = 0) -> None:
        """Count something that was found."""
        if lost or doubled or wrong:
            self.lost += lost
            self.doubled += doubled
            self.wrong += wrong
            self.faults.append(text)


@dataclass
class Batch:
    """A batch, and the tasks that it must have a result of.

    cancelled: whether its tasks may be CANCELLED, too.
    """

    name: str
    batch_id: str
    tasks: Sequence[Mapping[str, Any]]
    cancelled: bool = False


class Client:
    """Calls the API of a stage.

    answers: how often each status or error was the answer.
    """

    def __init__(self, stage: Stage, verdict: Verdict) -> None:
        self._stage = stage
        self._verdict = verdict
        self.answers: Counter[str] = Counter()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call, repeated while it is refused for now, as `taskfleet.client` does. Returns the
        answer. The API itself may answer 503 with `Retry-After`, and no other error of its own."""
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self.once(method, path, body)
            if answer is not None and answer.status_code < 500:
                self.answers[str(answer.status_code)] += 1
                assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
                return answer.json()
            assert time.monotonic() < until, f"{method} {path} is not answered"
            time.sleep(0.3)

    def once(self, method: str, path: str, body: Any) -> requests.Response | None:
        url, headers = (
            self._stage.url + path,
            {"Authorization": f"Bearer {self._stage.cloud.token}"},
        )
        try:
            answer = requests.request(method, url, headers=headers, json=body, timeout=ANSWER_S)
        except requests.RequestException as error:
            self.answers[type(error).__name__] += 1
            return None
        if answer.status_code >= 500:
            self.answers[str(answer.status_code)] += 1
            of_app = "Code" in answer.text
            told = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
            if answer.status_code == 503:
                self._verdict.tell(told, wrong=int("Retry-After" not in answer.headers))
            else:  # without a code it is API Gateway's, whose authorizer cannot read the secret
                self._verdict.tell(told, wrong=int(of_app))
        return answer
