"""Which objects the worker hands to tasks of clients' own code."""

from __future__ import annotations

import hashlib

import pytest

from taskfleet.confined import ConfinedStore
from taskfleet.errors import PermanentError
from taskfleet.memory import MemoryStore

ID = "0" * 64
SPILL = "spill/" + hashlib.sha256(b"data").hexdigest()


@pytest.fixture
def store():
    whole = MemoryStore()
    return whole, ConfinedStore(whole, "alice", "b1")


@pytest.mark.parametrize(
    ("key", "read", "written"),
    [
        (f"uploads/alice/{ID}", True, False),
        (f"uploads/alice/x/{ID}", False, False),  # of the client "alice/x"
        (f"uploads/bob/{ID}", False, False),
        (f"uploads/alice{ID}", False, False),
        ("uploads/b1/x", False, False),
        ("results/b1/0/x", True, True),
        ("outputs/b1/3/a/b.csv", True, True),
        ("results/b1", False, False),
        ("results/b12/0/x", False, False),
        ("results/b1/../b2/0/x", False, False),
        ("results//b1/x", False, False),
        ("/results/b1/x", False, False),
        ("logs/b1/0/owner", False, False),
        ("parts/b1/0", False, False),
        ("worker/b1/x.tar.gz", False, False),
        ("deploy/b1/prod.json", False, False),
        (SPILL, False, True),
        ("spill/" + "0" * 64, False, False),
        ("", False, False),
    ],
)
def test_own_objects_only(store, key, read, written):
    whole, confined = store
    reads = [
        lambda: confined.get(key),
        lambda: confined.get_range(key, 0, 1),
        lambda: list(confined.lines(key)),
        lambda: confined.etag(key),
        lambda: confined.url(key, expires_s=60),
    ]
    writes = [lambda: confined.put(key, b"data", content_type="x")]
    if key != SPILL:
        writes += [
            lambda: confined.put_file(key, __file__, content_type="x"),
            lambda: confined.upload_form(key, max_bytes=1, expires_s=60),
            lambda: confined.delete(key),
        ]
    for calls, allowed in ((reads, read), (writes, written)):
        for call in calls:
            whole.put(key, b"there", content_type="x")
            if allowed:
                call()
                continue
            with pytest.raises(PermanentError, match="the task may not use the object"):
                call()
            assert whole.get(key) == b"there"


def test_a_file_is_not_stored_under_the_hash_of_a_result(store):
    with pytest.raises(PermanentError, match="may not use"):
        store[1].put_file(SPILL, __file__, content_type="x")
    with pytest.raises(PermanentError, match="may not use"):
        store[1].put(SPILL, b"other", content_type="x")


def test_without_a_client_there_are_no_uploads():
    whole = MemoryStore()
    confined = ConfinedStore(whole, None, "b1")
    assert confined.url("results/b1/0/x", expires_s=60) == "memory://results/b1/0/x"
    for key in (f"uploads/alice/{ID}", f"uploads//{ID}", f"uploads/None/{ID}", ID):
        with pytest.raises(PermanentError, match="may not use"):
            confined.url(key, expires_s=60)
