from pathlib import Path

import pytest

from animoto import submit
from animoto.listing import Entry
from taskfleet.batch import random_batch_id
from taskfleet.errors import TaskfleetError
from taskfleet.fetch.source import UPLOAD

FILE = Entry(3, "a.jpg", Path("a.jpg"), {})


def test_files_are_checked_before_they_are_uploaded() -> None:
    music = {"url": "tune.mp3", "fit_to_music": False}
    params = submit._params([FILE], {}, music, {})
    unsent = params["images"][0]
    assert unsent == params["music"]["url"]
    url = UPLOAD + random_batch_id(b"a.jpg")
    assert url != unsent
    assert submit._params([FILE], {}, None, {Path("a.jpg"): url})["images"] == [url]


def test_an_error_names_the_line_of_the_picture() -> None:
    with pytest.raises(TaskfleetError, match=r"^line 4: animoto: images\[1\]"):
        submit._params([FILE, Entry(4, "ftp://a/b.jpg", None, {})], {}, None, {})
