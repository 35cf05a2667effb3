"""What Taskfleet sees of the task kind: its settings, its housekeeping, its result."""

import os
from pathlib import Path

import pytest

from animoto import animoto, kind, workspace
from taskfleet.memory import MemoryStore

RESULT = {"key": "movies/b/0.mp4", "poster_key": "movies/b/0.jpg", "pictures": 3}


@pytest.fixture
def fresh_settings():
    """Settings are read anew in the test, and again after it."""
    kind.process_settings.cache_clear()
    yield
    kind.process_settings.cache_clear()


@pytest.mark.usefixtures("fresh_settings")
def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CORES", "3")
    monkeypatch.setenv("TASKFLEET_RESULT_URL_S", "120")
    assert animoto.max_concurrent() == 3
    monkeypatch.setenv("TASKFLEET_CORES", "5")
    monkeypatch.setenv("TASKFLEET_RESULT_URL_S", "never")
    assert animoto.max_concurrent() == 3
    store = MemoryStore()
    assert animoto.present(RESULT, store) == kind.with_urls(RESULT, store, expires_s=120)


def test_a_client_sees_urls_that_expire_beside_the_result() -> None:
    store = MemoryStore()
    assert kind.with_urls(RESULT, store, expires_s=60) == {
        "url": store.url("movies/b/0.mp4", expires_s=60),
        "poster_url": store.url("movies/b/0.jpg", expires_s=60),
        **RESULT,
    }


def test_a_starting_worker_deletes_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    leftover = tmp_path / f"{workspace.PREFIX}leftover"
    leftover.mkdir()
    os.utime(leftover, (1, 1))
    animoto.prepare()
    assert list(tmp_path.iterdir()) == []
