"""Taskfleet: batches of tasks over HTTP, executed once each by a fleet of EC2 workers."""

__version__ = "0.1.0"
