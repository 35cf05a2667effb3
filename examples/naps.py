"""A kind whose durations nobody knows beforehand: it has no `expected_s` and no `hint_s`, so
Taskfleet learns from the tasks that ran how many of them should share a message."""

from taskfleet.errors import InvalidTask
from taskfleet.registry import task_kind


def seconds(raw):
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 3600:
        raise InvalidTask("nap needs seconds from 0 to 3600, such as: nap 0.3")
    return value


@task_kind("nap", parse=seconds)
def nap(params, context):
    context.sleep(params)
    return {"slept_s": params}
