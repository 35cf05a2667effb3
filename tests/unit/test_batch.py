import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from taskfleet.batch import (
    PAGE_BUNDLES,
    BatchRecord,
    BatchStatus,
    Part,
    Tally,
    Upload,
    keyed_batch_id,
    page_cursor,
    random_batch_id,
    read_page_cursor,
)


def batch(**changes):
    values = {
        "batch_id": "b1",
        "client_id": "alice",
        "name": None,
        "created_at": 1000.0,
        "total": 10,
        "bundles": 1,
        "payload_hash": "h",
        "closed": True,
    }
    return BatchRecord(**{**values, **changes})


SOME, ALL = Tally(3, 1, 0), Tally(7, 2, 1)
TWO = Tally(2, 0, 0)
GROWN: dict[str, Any] = {"closed": False, "added_at": 1006.0, "ended_before": 2}
PAGED = GROWN | {"ended_before": 0, "bundles": PAGE_BUNDLES + 1, "parts": (Part(3, "last"),)}


@pytest.mark.parametrize(
    ("changes", "status", "finished"),
    [
        ({}, BatchStatus.QUEUED, False),
        ({"started_at": 1001.0}, BatchStatus.RUNNING, False),
        ({"tally": SOME}, BatchStatus.RUNNING, False),
        ({"tally": ALL}, BatchStatus.DONE, True),
        ({"tally": ALL, "closed": False}, BatchStatus.RUNNING, False),
        ({"cancelled_at": 1002.0}, BatchStatus.CANCELLED, False),
        ({"cancelled_at": 1002.0, "tally": SOME}, BatchStatus.CANCELLED, False),
        ({"cancelled_at": 1002.0, "tally": ALL}, BatchStatus.CANCELLED, True),
        # No part can join a cancelled batch, so the last result ends it even if it is open.
        ({"cancelled_at": 1002.0, "tally": ALL, "closed": False}, BatchStatus.CANCELLED, True),
    ],
)
def test_the_status_follows_from_what_is_recorded(changes, status, finished):
    record = batch(progressed_at=1005.0, **changes)
    assert record.status is status
    assert record.finished is finished
    assert record.finished_at == (1005.0 if finished else None)


def test_an_open_batch_without_tasks_ends_when_it_is_cancelled():
    record = batch(total=0, closed=False)
    assert not record.finished
    cancelled = replace(record, cancelled_at=1002.0)
    assert (cancelled.finished, cancelled.finished_at) == (True, 1002.0)


def test_an_open_batch_whose_tasks_are_done_ends_when_it_is_cancelled():
    record = batch(closed=False, tally=ALL, progressed_at=1005.0, cancelled_at=1009.0)
    assert record.finished_at == 1009.0


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"closed": True}, 10),
        ({"upload": Upload("u", "e", 500, 400)}, 10),
        ({"upload": Upload("u", "e", 1000, 900, True)}, 900),
        ({"upload": Upload("u", "e", 1000, 900, True), "cancelled_at": 1002.0}, 10),
        ({"upload": Upload("u", "e", 1000, 900, True), "total": 900, "closed": True}, 900),
    ],
)
def test_the_tasks_of_a_file_are_expected_once_it_is_checked(changes, total):
    assert batch(**{"closed": False, **changes}).expected_total == total


@pytest.mark.parametrize(
    ("changes", "now", "eta_s"),
    [
        ({}, 1010.0, None),
        ({"started_at": 1000.0}, 1010.0, None),
        ({"tally": SOME}, 1010.0, None),
        ({"started_at": 1000.0, "tally": SOME}, 1010.0, 15.0),
        ({"started_at": 1000.0, "tally": SOME}, 990.0, 0.0),
        ({"started_at": 1000.0, "tally": SOME, "cancelled_at": 1001.0}, 1010.0, None),
        ({"started_at": 1000.0, "tally": ALL}, 1010.0, 0.0),
        # Its last part came after an idle time, and two tasks have ended since.
        (GROWN | {"started_at": 1000.0, "tally": SOME}, 1010.0, 12.0),
        (GROWN | {"started_at": 1008.0, "tally": SOME}, 1010.0, 6.0),
        # None has ended since.
        (GROWN | {"started_at": 1000.0, "tally": TWO}, 1010.0, None),
        # What had ended on a page that was not complete is known by its place.
        (PAGED | {"started_at": 1000.0, "tally": SOME}, 1010.0, 24.0),
        (PAGED | {"started_at": 1000.0, "tally": TWO}, 1010.0, 40.0),
        # None had ended when it came.
        ({"started_at": 1000.0, "added_at": 1006.0, "tally": SOME}, 1010.0, 15.0),
    ],
)
def test_the_time_left_follows_from_the_average_speed(changes, now, eta_s):
    assert batch(**changes).eta_s(now) == eta_s


# --- identity -------------------------------------------------------------------------------


def test_a_key_always_names_the_same_batch_and_another_for_each_client():
    ids = [keyed_batch_id(c, k) for c in ("alice", "bob") for k in ("k1", "k2")]
    assert len(set(ids)) == 4
    assert keyed_batch_id("alice", "k1") == ids[0] == "6cjjfvngw5g905ryeaa4ke3072"


@given(st.text(min_size=1), st.binary(min_size=16))
def test_ids_are_short_and_cannot_be_misread(key, randomness):
    for made in (keyed_batch_id("alice", key), random_batch_id(randomness)):
        assert len(made) == 26
        assert set(made) <= set(string.ascii_lowercase + string.digits) - set("ilou")


# --- the cursor of a client's list ----------------------------------------------------------


@given(st.floats(1e9, 1e11), st.binary(min_size=16, max_size=16))
def test_a_cursor_reads_back_as_its_batch(created_at, randomness):
    created_at = round(created_at, 6)  # the precision of a clock
    batch_id = random_batch_id(randomness)
    assert read_page_cursor(page_cursor(created_at, batch_id)) == (created_at, batch_id)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "_",
        "5",
        "5_",
        "_b1",
        "nan_b1",
        "inf_b1",
        "1e9_b1",
        "-1_b1",
        "1.5_b1\n",
        "1.5\n_b1",
        "١_b1",
        "1_b/1",
        "1_" + "b" * 65,
        "9" * 5000 + "_b1",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_text_is_no_cursor(cursor):
    with pytest.raises(ValueError, match="is not one that this API gave") as caught:
        read_page_cursor(cursor)
    assert len(str(caught.value)) < 100
