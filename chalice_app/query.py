"""Query parameters, read strictly: an unknown, repeated or impossible one is a 422, since a typo
that is ignored asks for something else. Owns that rule and the parameters of the GET routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from chalice_app.errors import Unprocessable
from taskfleet.wire.http import (
    BATCHES_PAGE_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    WAIT_MAX_S,
)

Cursor = Annotated[str, Meta(max_length=2_000)]


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where what a query could say belongs into the body: a key that was overlooked would cost the
    client its safety."""


class BatchesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=BATCHES_PAGE_MAX)] = BATCHES_PAGE_MAX
    cursor: Cursor | None = None


class StatusQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`wait` in seconds."""

    wait: Annotated[float, Meta(ge=0, le=WAIT_MAX_S)] = 0.0


class ResultsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Cursor | None = None


Q = TypeVar("Q")


def read_query(given: Mapping[str, list[str]] | None, form: type[Q]) -> Q:
    """`given` is a query string's parameters, each with all its values."""
    single = {}
    for name, values in (given or {}).items():
        if len(values) != 1:
            raise Unprocessable(f"the query: {name!r:.60} is given {len(values)} times")
        single[name] = values[0]
    try:
        return msgspec.convert(single, form, strict=False)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"the query: {error}") from None
