"""Taskfleet: batches of tasks over HTTP, executed once each by a fleet of EC2 workers.

The public names of the library can be imported from here. Each is loaded on first use, so that a
Lambda function, which has no `requests`, can import this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet.client import Client as Client
    from taskfleet.errors import PermanentError as PermanentError
    from taskfleet.errors import TransientError as TransientError
    from taskfleet.executor import FleetExecutor as FleetExecutor
    from taskfleet.registry import TaskKind as TaskKind
    from taskfleet.registry import task_kind as task_kind
    from taskfleet.retry import RetryPolicy as RetryPolicy

__version__ = "0.1.0"

_DEFINED_IN = {
    "Client": "taskfleet.client",
    "FleetExecutor": "taskfleet.executor",
    "PermanentError": "taskfleet.errors",
    "RetryPolicy": "taskfleet.retry",
    "TaskKind": "taskfleet.registry",
    "TransientError": "taskfleet.errors",
    "task_kind": "taskfleet.registry",
}
__all__ = [
    "Client",
    "FleetExecutor",
    "PermanentError",
    "RetryPolicy",
    "TaskKind",
    "TransientError",
    "task_kind",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_DEFINED_IN[name]), name)
