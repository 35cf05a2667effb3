"""Protections in the client and the Python executor."""

from tests.faults.mutation import removes

PROTECTIONS = (
    removes(
        "a submission that the client sends again has one key",
        "taskfleet/client/client.py",
        "packed = pack(tasks, name=name, idempotency_key=key, options=read_batch(options))",
        "packed = pack(\n"
        "            tasks, name=name, idempotency_key=idempotency_key, options=read_batch(options)\n"
        "        )",
        "tests/unit/test_client.py",
    ),
)
