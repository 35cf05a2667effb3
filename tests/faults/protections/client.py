"""Protections in the client and the Python executor."""

from tests.faults.mutation import removes

PROTECTIONS = (
    removes(
        "a submission that the client sends again has one key",
        "taskfleet/client/client.py",
        "packed = pack(tasks, name=name, idempotency_key=key,",
        "packed = pack(tasks, name=name, idempotency_key=idempotency_key,",
        "tests/unit/test_client.py",
    ),
)
