"""A kind of task of your own: `--kinds my_tasks` for the worker, TASKFLEET_KINDS for the API."""

from taskfleet.errors import PermanentError
from taskfleet.registry import task_kind


@task_kind("wordcount")
def wordcount(params, context):
    if not isinstance(params, str):
        raise PermanentError("wordcount needs text, such as: wordcount the quick brown fox")
    return {"words": len(params.split())}
