"""Which items of the table each process may write, and which of their attributes (D12)."""

from __future__ import annotations

import pytest

from tests.support.iam import ACCOUNT, STAGE, Request, denied, on_item, policy_of

TABLE = f"arn:aws:dynamodb:{STAGE.region}:{ACCOUNT}:table/Task_Monitor-prod"
BATCH = "0123456789abcdefghjkmnpqrs"
ITEMS = {
    "batch": BATCH,
    "bundle": f"{BATCH}:17",
    "page": f"{BATCH}/3",
    "bundle of 2014": "alice;7",
    "kind": "kind/animoto",
    "kind with a name as long as a batch's": "kind/" + 21 * "x",
    "demand": "fleet/demand",
    "state": "fleet/state",
    "watched": "fleet/watched",
    "history": "fleet/history/1469444",
    "history with a key as long as a batch's": "fleet/history/146944412345",
    "kept result": "reuse/" + 64 * "0",
    "worker": "worker/w-0123abcd",
    "worker with an id as long as a batch's": "worker/i-0123456789abcdef0",
    "schedule": "schedule/alice/nightly",
    "schedule with a key as long as a batch's": "schedule/alice/" + 11 * "x",
    "schedule with a key like a page's": "schedule/" + 17 * "a" + "/nightly",
    "schedule with a key like a bundle's": "schedule/" + 17 * "a" + ":/nightly",
    "schedule with a key like a bundle's of 2014": "schedule/alice;7/nightly",
}
KINDS = {name for name in ITEMS if name.startswith("kind")}
HISTORIES = {name for name in ITEMS if name.startswith("history")}
WORKERS = {name for name in ITEMS if name.startswith("worker")}
SCHEDULES = {name for name in ITEMS if name.startswith("schedule")}
BUNDLES = {"bundle", "bundle of 2014"}
WRITES = {
    "api": {"batch", "demand", "watched"},
    "authorize": set(),
    "collect": {"batch", "page", *KINDS},
    "expand": {"batch", "demand", "watched"},
    "tick": {"batch", "demand", "state", "watched", *HISTORIES, *WORKERS, *SCHEDULES},
    "worker": {"batch", "kept result", *BUNDLES, *WORKERS},
}
"""The items that each process updates."""
CREATES = {"api": {"batch", *SCHEDULES}, "tick": {"batch"}}
DELETES = {"api": SCHEDULES}
READS = {
    "api": set(ITEMS),
    "authorize": set(),
    "collect": {"batch"},
    "expand": {"batch"},
    "tick": {"batch", "demand", "state", "watched"},
    "worker": {"batch"},
}
"""The items that each process reads one by one."""
READS_MANY = {
    "api": set(ITEMS),
    "authorize": set(),
    "collect": KINDS,
    "expand": {"page"},
    "tick": KINDS | WORKERS | SCHEDULES | {"batch", "page"},
    "worker": {"kept result"},
}
"""The items that each process reads several at a time."""
WRITTEN_BY_A_WORKER = {
    "batch": ["started_at", "ttl"],
    "bundle": ["status", "owner", "attempt", "expires_at", "ttl", "packed", "spill"],
    "bundle of 2014": ["status", "owner", "attempt", "expires_at", "ttl", "packed", "spill"],
    "kept result": ["kept", "ttl"],
    **{key: ["record", "client_id", "created_at", "signed_off", "ttl"] for key in WORKERS},
}
"""The attributes that a worker's updates name, beside `Job_ID`."""


@pytest.mark.parametrize("process", WRITES)
@pytest.mark.parametrize(
    ("action", "granted"),
    [
        ("UpdateItem", WRITES),
        ("PutItem", CREATES),
        ("DeleteItem", DELETES),
        ("GetItem", READS),
        ("BatchGetItem", READS_MANY),
    ],
)
def test_a_process_touches_its_own_items_only(
    process: str, action: str, granted: dict[str, set[str]]
) -> None:
    requests = {name: on_item(f"dynamodb:{action}", TABLE, key) for name, key in ITEMS.items()}
    refused = denied(policy_of(process), list(requests.values()))
    allowed = {name for name, request in requests.items() if request not in refused}
    assert allowed == granted.get(process, set())


@pytest.mark.parametrize("process", [process for process in WRITES if process != "api"])
def test_one_key_among_many_does_not_open_the_others(process: str) -> None:
    keys = [ITEMS[name] for name in (*READS_MANY[process], "bundle")]
    request = on_item("dynamodb:BatchGetItem", TABLE, *keys)
    assert denied(policy_of(process), [request]) == [request]


def test_no_process_writes_without_a_key_in_the_request() -> None:
    request = Request("dynamodb:UpdateItem", TABLE)
    assert all(denied(policy_of(process), [request]) for process in WRITES)


def test_a_worker_may_write_the_attributes_that_it_writes() -> None:
    requests = [
        on_item("dynamodb:UpdateItem", TABLE, ITEMS[name], attributes=attributes)
        for name, attributes in WRITTEN_BY_A_WORKER.items()
    ]
    assert denied(policy_of("worker"), requests) == []


@pytest.mark.parametrize(
    ("item", "attribute"),
    [
        ("batch", "client_id"),  # whose batch it is
        ("batch", "total"),
        ("batch", "succeeded"),
        ("batch", "cancelled_at"),
        ("batch", "plan"),
        ("batch", "upload_key"),
        ("bundle", "client_id"),  # a bundle that looks like a batch
        ("bundle", "payload_hash"),
        ("bundle of 2014", "payload_hash"),
        ("worker", "payload_hash"),  # an entry among the batches of a client
        ("worker", "leave"),
    ],
)
def test_a_worker_may_write_no_other_attribute(item: str, attribute: str) -> None:
    names = [*WRITTEN_BY_A_WORKER[item], attribute]
    request = on_item("dynamodb:UpdateItem", TABLE, ITEMS[item], attributes=names)
    assert denied(policy_of("worker"), [request]) == [request]
