"""What the OpenAPI document says of a task in the body of a request. Owns that description only:
`taskfleet.registry` validates tasks, so that an error names the task at fault.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from taskfleet.options import Options
from taskfleet.wire.http.caps import MAX_TASKS


class TaskObject(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task as an object: the name of its kind, the params that the kind takes, and the task's own
    options. `GET /kinds` has the kinds and the schemas of their params. The text `"sleep 1000"` is
    short for `{"kind": "sleep", "params": "1000"}`."""

    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    params: Any = None


def _some_tasks(least: int) -> Meta:
    """Describes a list of at least so many tasks. Nothing is validated by it."""
    forms = [{"type": "string", "minLength": 1}, {"$ref": "#/components/schemas/TaskObject"}]
    return Meta(
        description=f"The tasks, up to {MAX_TASKS:,} of them.",
        extra_json_schema={
            "minItems": least,
            "maxItems": MAX_TASKS,
            "items": {"anyOf": forms},
            "examples": [["sleep 1000", {"kind": "sleep", "params": 1000, "timeout_s": 5}]],
        },
    )


Tasks = Annotated[list[Any], _some_tasks(1)]
"""The tasks of a batch or of a part."""
FewTasks = Annotated[list[Any], _some_tasks(0)]
"""The same, of which there may be none."""
