"""The items of `taskfleet map`: files and words, and what is neither."""

from __future__ import annotations

import pytest

from taskfleet.cli.items import Item, read_items
from taskfleet.errors import TaskfleetError


def test_words_are_what_was_given() -> None:
    assert list(read_items(["a", "-b"], None, no_files=True)) == [Item("a"), Item("-b")]


@pytest.mark.parametrize("word", ["none", "x" * 5_000, "a\0b", "."])
def test_what_is_no_file_is_told_in_one_line(word: str) -> None:
    with pytest.raises(TaskfleetError, match=r"is no file here|is a folder") as told:
        list(read_items([word], None, no_files=False))
    assert len(str(told.value)) < 300
