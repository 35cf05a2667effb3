"""The pages of the documentation as tests see them: their blocks, their files, the commands they
name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.glob("**/*.md")]
    if "_build" not in path.parts and path.name != "CHANGELOG.md"
)
"""Every page but the history, which names what is gone."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BETWEEN = set("();<>|&")


@dataclass(frozen=True)
class Block:
    """A block of code on a page: its language, its text, and its line."""

    language: str
    text: str
    line: int


def name_of(path: Path) -> str:
    """Returns a page's path in the checkout."""
    return str(path.relative_to(ROOT))


def blocks(page: str, *languages: str) -> list[Block]:
    """Returns the blocks of a page's text in these languages; all without any."""
    return [
        Block(found[1], found[2], page[: found.start()].count("\n") + 1)
        for found in _BLOCK.finditer(page)
        if not languages or found[1] in languages
    ]


def files(page: str) -> dict[str, str]:
    """Returns the files that a page tells its reader to write: a block below a paragraph that ends
    with the file's name and a colon."""
    return {found[1]: found[2] for found in _FILE.finditer(page)}


def inline(page: str) -> list[str]:
    """Returns the code between single backticks in a page's prose."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]


def commands(script: str) -> Iterator[list[str]]:
    """Yields the words of each simple command of a shell script: those between pipes, brackets and
    line ends, without redirections and without the variables that go before."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if set(word) <= _BETWEEN:
                skip = bool(set(word) & set("<>"))
                if not skip and words:
                    yield words
                    words = []
            elif skip:
                skip = False
            elif words or not re.fullmatch(r"\w+=\S*", word):
                words.append(word)
