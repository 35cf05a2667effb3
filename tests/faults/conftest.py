"""Fixtures of the fault suite: the local clouds of the end-to-end tests."""

from tests.e2e.conftest import start_cloud

__all__ = ["start_cloud"]
