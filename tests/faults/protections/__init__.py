"""The protections of which each must be noticed when it is missing, as changes of the source."""

from tests.faults.mutation import Mutation
from tests.faults.protections import client, dynamodb, memory, rules, scheduler, services, worker

PROTECTIONS: tuple[Mutation, ...] = (
    *rules.PROTECTIONS,
    *worker.PROTECTIONS,
    *memory.PROTECTIONS,
    *dynamodb.PROTECTIONS,
    *services.PROTECTIONS,
    *scheduler.PROTECTIONS,
    *client.PROTECTIONS,
)
