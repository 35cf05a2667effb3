"""Requests, messages and texts that nobody would send."""
