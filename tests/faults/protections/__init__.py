"""The protections of which each must be noticed when it is missing, as changes of the source."""

from tests.faults.mutation import Mutation
from tests.faults.protections import (
    api,
    client,
    dynamodb,
    memory,
    rules,
    runner,
    scheduler,
    services,
    worker,
)

PROTECTIONS: tuple[Mutation, ...] = (
    *rules.PROTECTIONS,
    *worker.PROTECTIONS,
    *runner.PROTECTIONS,
    *memory.PROTECTIONS,
    *dynamodb.PROTECTIONS,
    *services.PROTECTIONS,
    *scheduler.PROTECTIONS,
    *api.PROTECTIONS,
    *client.PROTECTIONS,
)
