"""Protections in the HTTP API and the functions beside it."""

from tests.faults.mutation import removes

TEST_API = "tests/functional/test_api.py"
PROTECTIONS = (
    removes(
        "a client sees its own batches only",
        "taskfleet/scheduler/results.py",
        "        batch = self._monitor.batch(batch_id)\n"
        "        if batch is None or batch.client_id != client_id:",
        "        batch = self._monitor.batch(batch_id)\n        if batch is None:",
        TEST_API,
        "tests/functional/test_api_task.py",
    ),
    removes(
        "a busy queue or table is told as 503, with the time to come back",
        "chalice_app/errors.py",
        "if isinstance(error, TransientError | LimitReached):",
        "if isinstance(error, LimitReached):",
        TEST_API,
    ),
    removes(
        "messages that stay on the queue are told to SQS",
        "chalice_app/events.py",
        'return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in to_keep]}',
        'return {"batchItemFailures": []}',
        "tests/functional/test_api_events.py",
    ),
    removes(
        "a token that has expired is refused",
        "taskfleet/wire/token.py",
        "if not now < expires:",
        "if not expires:",
        "tests/unit/test_token.py",
    ),
    removes(
        "a token that is revoked is refused",
        "taskfleet/wire/token.py",
        'if keys.revokes(client_id, claims.get("iat")):',
        'if not client_id and keys.revokes(client_id, claims.get("iat")):',
        "tests/attack/test_token_keys.py",
    ),
    removes(
        "one client's tasks do not crowd out the others'",
        "taskfleet/scheduler/limit.py",
        "if waiting + tasks > limit:",
        "if tasks > limit:",
        "tests/functional/test_api_limits.py",
        "tests/attack/test_client_limit.py",
    ),
    removes(
        "machines that EC2 does not list yet are counted",
        "taskfleet/provisioner/observe.py",
        "return listed + launched",
        "return listed",
        "tests/unit/test_provisioner.py",
    ),
)
