"""Data too large for the table: stored under its hash, and checked when it is read."""

from __future__ import annotations

import pytest

from taskfleet import spill
from taskfleet.errors import PermanentError
from taskfleet.memory import MemoryStore


def test_the_same_data_has_the_same_key_and_comes_back() -> None:
    store = MemoryStore()
    key = spill.put(store, b"data")
    assert key == spill.put(store, b"data") != spill.put(store, b"other")
    assert key.startswith(spill.PREFIX)
    assert spill.get(store, key, "it") == b"data"


def test_data_that_is_gone_or_was_changed_is_told() -> None:
    store = MemoryStore()
    key = spill.put(store, b"data")
    store.put(key, b"forged", content_type="text/plain")
    with pytest.raises(PermanentError, match="the result of task b/1 was changed in the bucket"):
        spill.get(store, key, "the result of task b/1")
    store.delete(key)
    with pytest.raises(PermanentError, match="the result of task b/1 is gone"):
        spill.get(store, key, "the result of task b/1")
