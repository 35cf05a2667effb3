"""Docstrings for Sphinx: the argument lists of this project become the fields that Sphinx knows.

The project writes an argument as `name: meaning` at the start of a line, further lines indented.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"([a-z_]+(?:, [a-z_]+)*(?: and the options)?): (\S.*)")


def as_fields(lines: list[str]) -> list[str]:
    """Returns a docstring's lines with `:param name: meaning` for each argument."""
    made: list[str] = []
    within = False
    for number, each in enumerate(lines):
        starts = number == 0 or not lines[number - 1].strip() or within
        entry = _ENTRY.fullmatch(each) if starts else None
        if entry:
            made.append(f":param {entry[1].replace(', ', '/')}: {entry[2]}")
        elif within and each.strip() and not each.startswith(" "):
            made += ["", each]
        else:
            made.append(each)
        within = bool(entry) or (within and each.startswith(" "))
    return made
