"""A task kind of your own: name this module in TASKFLEET_KINDS, or with `--kinds my_tasks`."""

from taskfleet.errors import PermanentError
from taskfleet.registry import task_kind


@task_kind("wordcount")
def wordcount(params, context):
    """Counts the words of a text."""
    if not isinstance(params, str):
        raise PermanentError("wordcount needs text, such as: wordcount the quick brown fox")
    return {"words": len(params.split())}
