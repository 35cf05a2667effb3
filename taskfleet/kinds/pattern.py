"""Patterns of file names, as shells have them: `*`, `?` and `[...]` within a component, `**` for
any number of folders. A `*` or `?` at the beginning of a component takes no hidden file, whose name
begins with a dot. Owns the matching of names; not the files (`taskfleet.kinds.files`)."""

from __future__ import annotations

import fnmatch
import functools
import re


def matches(pattern: str, name: str) -> bool:
    """Returns whether the pattern takes the name, both relative to the same folder."""
    return _match(tuple(pattern.split("/")), tuple(name.split("/")))


def _match(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Returns whether the components of a pattern take those of a name. It keeps the set of places
    in the pattern that the parts read so far may have led to, so that the time is bounded by the
    product of both lengths however many `**` there are."""
    places = _skipped(pattern, {0})
    for part in parts:
        following: set[int] = set()
        for place in places:
            if place == len(pattern):
                continue
            if pattern[place] == "**":
                if not part.startswith("."):
                    following.add(place)
            elif _component(pattern[place]).fullmatch(part):
                following.add(place + 1)
        places = _skipped(pattern, following)
        if not places:
            return False
    return len(pattern) in places


def _skipped(pattern: tuple[str, ...], places: set[int]) -> set[int]:
    """Returns the places, and those after each `**`, which may stand for no folder at all."""
    found = set(places)
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == "**":
            place += 1
            found.add(place)
    return found


@functools.lru_cache(1_000)
def _component(pattern: str) -> re.Pattern[str]:
    visible = "" if pattern.startswith((".", "[")) else r"(?!\.)"
    return re.compile(visible + fnmatch.translate(pattern), re.DOTALL)
