"""A task kind whose durations are not known beforehand: it has neither `expected_s` nor `hint_s`.
Taskfleet learns from the tasks that have run how many of them to put into one message."""

from taskfleet.errors import InvalidTask
from taskfleet.registry import task_kind


def seconds(raw):
    """Returns the seconds of a nap as a float."""
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 3600:
        raise InvalidTask("nap needs seconds from 0 to 3600, such as: nap 0.3")
    return value


@task_kind("nap", parse=seconds)
def nap(params, context):
    """Sleeps for the given seconds."""
    context.sleep(params)
    return {"slept_s": params}
