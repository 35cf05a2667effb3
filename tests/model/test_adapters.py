"""The model runs on the monitor in memory, and the product on DynamoDB. Calls that the model makes
on a bundle are made here on both, in the same state of its item: they must answer the same, and
leave the same behind."""

from __future__ import annotations

import logging
import random
from typing import Any

import boto3
import msgspec
import pytest

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.monitor import DynamoMonitor
from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.table import ALWAYS, Update, wire_number, wire_text
from taskfleet.errors import LeaseLost
from taskfleet.lease import BundleStatus
from tests.model.explore import explore
from tests.model.frozen import NOW
from tests.model.ports import BUNDLE_CALLS
from tests.model.scenarios import DEEP, SLICE
from tests.model.world import World
from tests.support.moto_aws import moto_account

pytestmark = pytest.mark.timeout(900)

TABLE = "model"
_encode = msgspec.json.Encoder(enc_hook=repr).encode


@pytest.fixture
def dynamodb():
    with moto_account():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "Job_ID", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "Job_ID", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def calls_of(scenario) -> tuple[World, list[Any]]:
    """The different calls that an exploration makes: the item before, the name, the arguments."""
    calls: dict[bytes, Any] = {}
    worlds: list[World] = []

    def witness(world: World, name: str, args: Any, kwargs: Any) -> None:
        item = world.item(args[0])
        worlds[:] = [world]
        calls.setdefault(_encode((item, name, args, kwargs)), (item, name, args, dict(kwargs)))

    logging.disable(logging.CRITICAL)
    found = explore(scenario, witness=witness)
    logging.disable(logging.NOTSET)
    assert not found.fault, found
    return worlds[0], list(calls.values())


def is_of_another(item: Any, _name: str, args: Any, kwargs: Any) -> bool:
    """Returns whether the caller is not the owner that the item names."""
    caller = args[1].owner if len(args) > 1 else kwargs["owner"]
    return item is not None and item[1] != caller


def spread(calls: list[Any], most: int) -> list[Any]:
    """Returns about so many of the calls, from the first to the last."""
    return calls[:: max(1, len(calls) // most)]


def write(monitor: DynamoMonitor, client: Any, world: World, job: str, item: Any) -> None:
    """Make the item that of the bundle in DynamoDB."""
    client.delete_item(TableName=TABLE, Key={"Job_ID": {"S": job}})
    if item is None:
        return
    status, owner, attempt, expires_at, has_tasks, rows, sealed = item
    number = world.jobs.index(job)
    packed = Packing(world.store).pack(world.bundles[number].tasks if has_tasks else [], rows)
    content = f", {packed.clauses}" if has_tasks else ""
    seal = "" if sealed is None else ", #crc = :crc"
    values = {
        **{":s": wire_text(status), ":o": wire_text(owner), ":a": wire_number(attempt)},
        **{":e": wire_number(expires_at)},
        **(packed.values if has_tasks else {}),
        **({} if sealed is None else {":crc": wire_number(sealed)}),
    }
    update = "SET #status = :s, #owner = :o, #attempt = :a, #expires_at = :e, #ttl = :ttl"
    monitor._table.update("prepare", Update(job, update + seal + content, ALWAYS, values))


def made(monitor: Any, name: str, args: Any, kwargs: Any) -> Any:
    """What the call answers, and the record that it leaves."""
    try:
        value = getattr(monitor, name)(*args, **kwargs)
    except LeaseLost as error:
        value = str(error)
    return value, monitor.bundles([args[0]])


def test_dynamodb_does_what_the_model_does(dynamodb, deep, monkeypatch):
    monkeypatch.setattr("ec2_worker.execute.NO_START_S", 0.0)
    names = ["errors", "release with errors"]
    if deep:
        names += ["flaky stall", "killer", "crash and stall"]
    seen = set()
    for scenario in (each for each in SLICE + DEEP if each.name in names):
        world, calls = calls_of(scenario)
        world.clock.time = NOW
        monitor = DynamoMonitor(
            dynamodb,
            TABLE,
            store=world.store,
            clock=world.clock,
            backoff=Backoff(world.clock, random.Random(0)),
            ttl_days=30,
        )
        strangers = [call for call in calls if is_of_another(*call)]
        most = 400 if deep else 30
        chosen = [*spread(calls, most), *spread(strangers, most)]
        assert len(strangers) > 10
        for item, name, args, kwargs in chosen:
            job = args[0]
            world.put(job, item)
            write(monitor, dynamodb, world, job, item)
            in_memory = made(world.monitor, name, args, kwargs)
            on_aws = made(monitor, name, args, kwargs)
            assert on_aws == in_memory, f"{name} {args} {kwargs} on {item}"
            stored = dynamodb.get_item(TableName=TABLE, Key={"Job_ID": {"S": job}}).get("Item")
            attempt = world.monitor._items[job].attempt if job in world.monitor._items else None
            assert attempt == (None if stored is None else int(stored["attempt"]["N"]))
            seen.add((name, item and item[0]))
    must = {("claim", None), *((name, BundleStatus.RUNNING) for name in BUNDLE_CALLS)}
    assert must <= seen, must - seen
