"""The cursor of results in the order of completion: which bundles of a batch were given to whom
reads them. Owns the text of the cursor and its bound; not the reading of results
(`taskfleet.scheduler.completed`).

Bundles end in any order, and nothing is written when results are given, so the cursor itself says
which bundles were: page by page of `PAGE_BUNDLES` bundles, as runs of pages that were given whole,
runs of those of which nothing was given, and bitmaps of the others. So that the text stays short,
only the first `WINDOW_PAGES` pages that were not given whole are looked at; later ones wait until
these are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from taskfleet.batch import BATCH_MAX_BUNDLES, PAGE_BUNDLES

WINDOW_PAGES = 64
"""Pages that are looked at: 16,000 bundles. The text has at most 44 characters for each, and 7 for
the run before it."""
CURSOR_MAX_CHARS = 4_000
"""Longest text of a cursor."""
_FULL = (1 << PAGE_BUNDLES) - 1
_MAX_PAGES = BATCH_MAX_BUNDLES // PAGE_BUNDLES
_FORM = re.compile(
    r"c1((?:\.[fe][0-9]{1,6}|\.p[A-Za-z0-9_-]{1,43})*)(?:~([0-9]{1,9})-([0-9]{1,4}))?"
)


class Given:
    """Which bundles were given.

    rest: a bundle that was given in part, and how many of its rows were; None if there is none.
        It does not count as given.
    """

    def __init__(self) -> None:
        self._pages: list[int] = []  # the bitmap of each page, up to the last one with a bundle
        self._count = 0
        self.rest: tuple[int, int] | None = None

    @classmethod
    def read(cls, cursor: str | None) -> Given:
        """Returns what a cursor says; nothing was given if it is None or empty. Raises ValueError
        for a text that `text` does not make."""
        given = cls()
        if not cursor:
            return given
        match = _FORM.fullmatch(cursor) if len(cursor) <= CURSOR_MAX_CHARS else None
        if match is None:
            raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
        for token in match[1].split(".")[1:]:
            kind, value = token[0], token[1:]
            if kind == "p":
                given._pages.append(_bitmap(value, cursor))
            else:
                run = int(value)
                if not 0 < run <= _MAX_PAGES - len(given._pages):
                    raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
                given._pages += [_FULL if kind == "f" else 0] * run
        given._count = sum(bits.bit_count() for bits in given._pages)
        if match[2] is not None:
            given.rest = int(match[2]), int(match[3])
        if given.text() != cursor or len(given._pages) > given._end():
            raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
        return given

    @property
    def count(self) -> int:
        """The number of bundles that were given."""
        return self._count

    def pages(self, bundles: int) -> list[int]:
        """Returns the pages to look at in a batch of so many bundles: the first ones that were not
        given whole."""
        end = -(-bundles // PAGE_BUNDLES)
        found: list[int] = []
        for page in range(end):
            if self._page(page) != _FULL:
                found.append(page)
                if len(found) == WINDOW_PAGES:
                    break
        return found

    def touched(self) -> int:
        """Returns the number of bundles up to the last page of which something was given, at least
        one page of them."""
        return max(1, len(self._pages)) * PAGE_BUNDLES

    def missing(self, bundles: int) -> list[int]:
        """Returns those of the first so many bundles that were not given and may be looked at, in
        order."""
        places = (
            range(page * PAGE_BUNDLES, min(bundles, (page + 1) * PAGE_BUNDLES))
            for page in self.pages(bundles)
        )
        return sorted(self.fresh(chain.from_iterable(places)))

    def fresh(self, counted: Iterable[int]) -> list[int]:
        """Returns those of the bundles that were not given, in order, the one of `rest` first."""
        first = -1 if self.rest is None else self.rest[0]
        numbers = (n for n in counted if not self._page(n // PAGE_BUNDLES) >> n % PAGE_BUNDLES & 1)
        return sorted(numbers, key=lambda number: (number != first, number))

    def add(self, bundle: int) -> None:
        """Note that a bundle of `fresh`, on one of the `pages`, was given."""
        page, place = divmod(bundle, PAGE_BUNDLES)
        self._pages += [0] * (page + 1 - len(self._pages))
        if not self._pages[page] >> place & 1:
            self._pages[page] |= 1 << place
            self._count += 1
        if self.rest is not None and self.rest[0] == bundle:
            self.rest = None

    def text(self) -> str:
        """Returns the cursor."""
        rest = "" if self.rest is None else f"~{self.rest[0]}-{self.rest[1]}"
        return "".join(["c1", *self._tokens(), rest])

    def _tokens(self) -> Iterator[str]:
        run_of, run = "", 0
        for bits in [*self._pages, -1]:
            kind = {0: "e", _FULL: "f", -1: ""}.get(bits, "p")
            if run and kind != run_of:
                yield f".{run_of}{run}"
                run = 0
            if kind == "p":
                data = bits.to_bytes(-(-bits.bit_length() // 8), "little")
                yield ".p" + base64.urlsafe_b64encode(data).decode().rstrip("=")
            elif kind:
                run_of, run = kind, run + 1

    def _page(self, page: int) -> int:
        return self._pages[page] if page < len(self._pages) else 0

    def _end(self) -> int:
        """Returns the number after the last page that is looked at."""
        pages = self.pages((len(self._pages) + WINDOW_PAGES) * PAGE_BUNDLES)
        return pages[-1] + 1


def _bitmap(value: str, cursor: str) -> int:
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        data = b""
    bits = int.from_bytes(data, "little")
    if not 0 < bits < _FULL:
        raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
    return bits
