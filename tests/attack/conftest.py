"""Fixtures of the attacks: the local clouds of the end-to-end tests, for attacks on real processes,
and the web server of the functional tests."""

from tests.e2e.conftest import cloud, start_cloud
from tests.functional.conftest import web

__all__ = ["cloud", "start_cloud", "web"]
