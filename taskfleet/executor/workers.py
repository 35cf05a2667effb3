"""Compares this process with the stage and its workers before anything is sent. Owns the rule and
its words.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.errors import SettingsError
from taskfleet.executor.desk import Workers
from taskfleet.executor.tasks import PYTHON
from taskfleet.wire import calls


def fault(kind: str, found: Workers) -> str | None:
    """Returns why the stage cannot run tasks of a kind that were made here; None if it can."""
    names = [each.name for each in found.kinds]
    if kind not in names:
        return (
            f"the stage does not run the kind {kind}: it has {', '.join(names) or 'none'}; whoever "
            f"runs the stage enables it with TASKFLEET_KINDS=taskfleet.kinds.{kind}, "
            "see docs/functions.md"
        )
    if kind != PYTHON:
        return None
    pythons, pickles = versions(found, "python"), versions(found, "cloudpickle")
    here, here_pickle = calls.python_version(), calls.cloudpickle_version()
    faults = [
        calls.version_fault(here, here_pickle, python or here, pickle or here_pickle)
        for python in pythons or [""]
        for pickle in pickles or [""]
    ]
    # Workers of two versions, as while a stage is renewed: one that can run it will.
    if all(faults) and faults[0]:
        return f"nothing was sent, since what is pickled here does not run there: {faults[0]}"
    return None


def check(kind: str, found: Workers) -> None:
    """Raise SettingsError if the stage cannot run tasks of a kind that were made here."""
    why = fault(kind, found)
    if why is not None:
        raise SettingsError(why)


def versions(found: Workers, name: str) -> Sequence[str]:
    """Returns the versions of a package that the workers have, of Python for `python`; empty if
    none is known."""
    workers = found.workers
    if isinstance(workers, dict):
        return list(workers.get(name) or ())
    return list(getattr(workers, name, None) or ())
