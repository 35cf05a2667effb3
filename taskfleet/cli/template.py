"""Templates of commands: text for the shell with placeholders for an item, as GNU parallel has
them. Owns the placeholders and their quoting; not the items (`taskfleet.cli.map`).

| Placeholder | for `dir/file.tar.gz` |
|---|---|
| `{}` | `dir/file.tar.gz` |
| `{.}` | `dir/file.tar` |
| `{/}` | `file.tar.gz` |
| `{/.}` | `file.tar` |
| `{//}` | `dir`, or `.` if there is none |

Source: "GNU Parallel", section "Options", replacement strings.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\{(?:\.|/\.?|//)?\}")


class QuotedPlaceholder(ValueError):
    """A placeholder stands within quotes, where a value could not be quoted safely."""


def value(placeholder: str, item: str) -> str:
    """Returns what a placeholder stands for."""
    match placeholder:
        case "{.}":
            return os.path.splitext(item)[0]
        case "{/}":
            return os.path.basename(item)
        case "{/.}":
            return os.path.splitext(os.path.basename(item))[0]
        case "{//}":
            return os.path.dirname(item) or "."
        case _:
            return item


def has_placeholder(template: str) -> bool:
    """Returns whether the template has a placeholder."""
    return _PLACEHOLDER.search(template) is not None


def command(template: str, item: str) -> str:
    """Returns the text for the shell: each value is one word of it, whatever the item holds. A
    template without a placeholder gets the item as its last word.

    Raises QuotedPlaceholder: a value within quotes would end them, or be read by the shell.
    """
    if not has_placeholder(template):
        template += " {}"
    for match in _PLACEHOLDER.finditer(template):
        quote = quoted_at(template, match.start())
        if quote is not None:
            raise QuotedPlaceholder(
                f"{match[0]} stands within {quote}, where it cannot be quoted; write it outside, "
                "since each value is quoted as one word, or pass it on: sh -c '... \"$1\"' sh {}"
            )
    return _replaced(template, item, shlex.quote)


def pattern(template: str, item: str) -> str:
    """Returns the pattern of output files: a value stands for itself, whatever the item holds."""
    return _replaced(template, item, lambda text: glob.escape(text.removeprefix("./")))


def _replaced(template: str, item: str, form: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda match: form(value(match[0], item)), template)


def quoted_at(text: str, place: int) -> str | None:
    """Returns what the place in a text for the shell lies in: a kind of quotes, a comment or a
    here-document; None if words stand there. A command substitution `$(...)` has words, also
    within quotes.

    Source: "Shell Command Language", POSIX.1-2017, sections 2.2, 2.3, 2.6.3 and 2.7.4.
    """
    open_: list[str] = []  # what was opened and not closed yet, the innermost last
    at = 0
    while at < place:
        char, inner = text[at], open_[-1] if open_ else ""
        if inner == "'":
            if char == "'":
                open_.pop()
        elif inner == "#":
            if char == "\n":
                open_.pop()
        elif char == "\\":
            at += 1
        elif text.startswith("$(", at):
            open_.append(")")
            at += 1
        elif inner == '"':
            if char == '"':
                open_.pop()
            elif char == "`":
                open_.append("`")
        elif char == inner:
            open_.pop()
        elif char in "'\"`":
            open_.append(char)
        elif char == "(":
            open_.append(")")
        elif char == "#" and (at == 0 or text[at - 1] in " \t\n;&|()"):
            open_.append("#")
        elif text.startswith("<<<", at):
            at += 2
        elif text.startswith("<<", at):
            return "a here-document"
        at += 1
    if at > place:
        return "a backslash"
    return _NAMES.get(open_[-1] if open_ else "")


_NAMES = {"'": "single quotes", '"': "double quotes", "`": "backquotes", "#": "a comment"}
