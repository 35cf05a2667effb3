"""Fixtures of several files of attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.animoto import Web, web_server


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on loopback, without pages yet."""
    with web_server() as server:
        yield server
