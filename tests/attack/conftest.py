"""The local clouds of the end-to-end tests, for attacks on real processes."""

from tests.e2e.conftest import cloud, start_cloud

__all__ = ["cloud", "start_cloud"]
