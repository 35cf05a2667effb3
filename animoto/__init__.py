"""Turns a list of pictures into a movie: the task kind `animoto`."""

from animoto.kind import animoto

__all__ = ["animoto"]
