"""DynamoDB's rule of conflicts for moto in this process, which has none: every client of DynamoDB
that botocore makes is put under `localcloud.conflicts`."""

from __future__ import annotations

import json
import time
from typing import Any

import botocore.session
import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from localcloud.conflicts import HOLD_S, Conflicts, read_request


def install(patch: pytest.MonkeyPatch, hold_s: float = HOLD_S) -> None:
    """Puts all clients of DynamoDB that are made from now on under one rule, until `patch` ends.

    hold_s: least seconds for which a transaction is in flight.
    """
    conflicts = Conflicts()
    make = botocore.session.Session.create_client

    def create_client(session: Any, service: str, *arguments: Any, **options: Any) -> Any:
        client = make(session, service, *arguments, **options)
        if service == "dynamodb":
            _watch(client, conflicts, hold_s)
        return client

    patch.setattr(botocore.session.Session, "create_client", create_client)


class _Refused:
    """What botocore reads of an HTTP answer besides its parsed form."""

    status_code = 400
    content = b""


def _watch(client: Any, conflicts: Conflicts, hold_s: float) -> None:
    def key_names(table: str) -> tuple[str, ...]:
        backend = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID][client.meta.region_name]
        found = backend.tables.get(table)
        return () if found is None else tuple(key["AttributeName"] for key in found.schema)

    def before(model: Any, params: Any, context: Any, **_: Any) -> Any:
        region = client.meta.region_name
        request = read_request(model.name, json.loads(params["body"]), key_names, region)
        if request is None:
            return None
        refused = conflicts.enter(request)
        if refused is None:
            context["conflicts"] = (request, time.monotonic())
            return None
        parsed = {
            "Error": {"Code": refused.code, "Message": refused.message},
            "Message": refused.message,
            "CancellationReasons": [*refused.reasons],
            "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}, "RetryAttempts": 0},
        }
        return _Refused, parsed

    def after(context: Any, **_: Any) -> None:
        request, began = context.pop("conflicts", (None, 0.0))
        if request is None:
            return
        if request.transaction:
            time.sleep(max(0.0, began + hold_s - time.monotonic()))
        conflicts.leave(request)

    client.meta.events.register("before-call.dynamodb", before)
    client.meta.events.register("after-call.dynamodb", after)
    client.meta.events.register("after-call-error.dynamodb", after)
