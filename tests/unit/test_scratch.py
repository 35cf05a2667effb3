"""The folder in which calls start: that it is empty each time, however short a call is."""

from __future__ import annotations

import os
import sys

import pytest

from taskfleet.kinds.scratch import Scratch


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Keep the current folder and the folders of this test's tasks apart from others'."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", "/usr"])
    return tmp_path


def test_a_file_left_in_the_same_moment_is_seen():
    scratch = Scratch()
    for _ in range(300):
        path = scratch.enter()
        assert os.listdir() == []
        os.close(os.open("left", os.O_CREAT))
        scratch.clean()
    assert scratch.enter() == path == os.getcwd()


def test_a_call_that_leaves_nothing_keeps_the_folder():
    scratch = Scratch()
    scratch.enter()
    before = os.stat(".").st_ino
    scratch.clean()
    scratch.enter()
    assert os.stat(".").st_ino == before


def test_modules_of_the_current_folder_are_found_on(here):
    Scratch().enter()
    assert sys.path == [str(here), "/usr"]
