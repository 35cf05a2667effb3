"""Downloading the outputs of a batch into a folder. Owns where each file goes, and that nothing is
written elsewhere or replaced unasked.

A file has its own name in the folder, unless several tasks have an output of that name: then each
goes into a folder of its task, whose name is the task's index.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from taskfleet.client import Client
from taskfleet.client.progress import counting_bars
from taskfleet.wire.filenames import name_fault
from taskfleet.wire.http.results import ResultView

THREADS = 8
TIMEOUT_S = 30.0
"""Longest time in seconds without a byte."""
_EXPIRED = (400, 401, 403)
"""Statuses of a URL that is no longer valid."""


@dataclass(frozen=True)
class Output:
    """One output of a task.

    index: the task's place in the batch.
    name: the output's name in the task's folder.
    url: a URL of it, which may expire.
    """

    index: int
    name: str
    url: str


class Downloads:
    """The outputs that go into one folder.

    force: whether they may replace files there.
    """

    def __init__(self, folder: Path, *, force: bool) -> None:
        self._folder = folder
        self._force = force
        self._outputs: list[Output] = []

    def plan(self, row: ResultView) -> None:
        """Take in the outputs of a row."""
        listed = row.result.get("outputs") if isinstance(row.result, dict) else None
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict) and isinstance(each.get("url"), str):
                self._outputs.append(Output(row.index, str(each.get("name")), each["url"]))

    def run(self, client: Client, batch_id: str) -> list[str]:
        """Download all outputs. Returns what went wrong, each as a sentence."""
        places = self.places()
        faults = []
        with counting_bars() as progress, ThreadPoolExecutor(THREADS) as threads:
            bar = progress.add_task("downloading", total=len(places), visible=bool(places))
            jobs = zip(self._outputs, places, strict=True)
            for output, fault in threads.map(lambda job: (job[0], self._fetch(*job)), jobs):
                if fault == "expired":
                    fault = self._fetch_again(client, batch_id, output, places)
                if fault is not None:
                    faults.append(f"task {output.index}: output {output.name!r:.100} {fault}")
                progress.advance(bar)
        return faults

    def places(self) -> list[Path]:
        """Returns where each output goes."""
        times = Counter(output.name for output in self._outputs)
        return [
            self._folder / str(output.index) / output.name
            if times[output.name] > 1
            else self._folder / output.name
            for output in self._outputs
        ]

    def _fetch_again(
        self, client: Client, batch_id: str, output: Output, places: Iterable[Path]
    ) -> str | None:
        """Download an output whose URL has expired, by a new one."""
        result = client.task(batch_id, output.index).result
        listed = result.get("outputs", []) if isinstance(result, dict) else []
        url = next((each.get("url") for each in listed if each.get("name") == output.name), None)
        if not isinstance(url, str):
            return "is gone"
        place = dict(zip(self._outputs, places, strict=True))[output]
        fault = self._fetch(Output(output.index, output.name, url), place)
        return "is gone" if fault == "expired" else fault

    def _fetch(self, output: Output, place: Path) -> str | None:
        """Download one output, completely or not at all. Returns what went wrong, `expired` if its
        URL is not valid any more, or None."""
        fault = name_fault(output.name)
        if fault is not None:
            return f"has a name that {fault}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.parent.resolve().is_relative_to(self._folder.resolve()):
                return f"would be written outside {self._folder}"
            if not self._force and os.path.lexists(place):
                return f"is not written: {place} exists; add --force to replace it"
            draft = place.with_name(f".{place.name[:100]}.{output.index}.part")
            try:
                status = _copy(output.url, draft)
                if status != 200:
                    return "expired" if status in _EXPIRED else f"is not there: HTTP {status}"
                self._settle(draft, place)
            finally:
                draft.unlink(missing_ok=True)
        except (requests.RequestException, OSError) as error:
            return f"could not be downloaded: {type(error).__name__}: {error!s:.200}"
        return None

    def _settle(self, draft: Path, place: Path) -> None:
        """Give a complete file its name."""
        if self._force:
            draft.replace(place)
        else:
            os.link(draft, place)  # which replaces nothing


def _copy(url: str, path: Path) -> int:
    """Write what a URL answers to a file, if it is a success. Returns the HTTP status."""
    with requests.get(url, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == 200:
            with open(path, "wb") as file:
                for chunk in answer.iter_content(1 << 18):
                    file.write(chunk)
        return answer.status_code
