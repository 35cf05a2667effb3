"""The pictures of a movie, fetched and decoded in the background, in order. Owns what runs at the
same time and what becomes of pictures that cannot be used; neither fetching nor decoding itself.

At most `_FETCHED_AHEAD` files and `_DECODED_AHEAD` frames wait at a time, so memory and disk do not
grow with their number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from animoto import caption, motion, picture
from animoto.connect import Unfetchable
from animoto.download import Downloader
from animoto.frame import GREY, Frame
from animoto.spec import Movie, Picture, without_query
from taskfleet.errors import PermanentError, TransientError

CONNECTIONS = 8
_DECODERS = 2
_FETCHED_AHEAD = 16
_DECODED_AHEAD = 3

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Still:
    """A picture ready to be shown; `frame` is of the movie's size, or larger for Ken Burns."""

    place: int
    frame: Frame
    caption: caption.Caption | None


class _Unusable(Exception):
    def __init__(self, place: int, error: Exception) -> None:
        super().__init__(str(error))
        self.place = place
        self.error = error


@dataclass
class Stills:
    """The pictures of one movie; iterate once.

    folder: where files lie until they are decoded.
    last_attempt: the task will not be tried again, so a picture that only cannot be had now
        counts as one that cannot be had.
    progress: called with the number of pictures dealt with and of all.
    skipped: what `on_error` let pass, as it stands in the result.
    """

    movie: Movie
    folder: str
    downloader: Downloader
    last_attempt: bool
    progress: Callable[[int, int], None]
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pictures = self.movie.pictures

    def __enter__(self) -> Stills:
        self._fetchers = ThreadPoolExecutor(CONNECTIONS, "animoto-fetch")
        self._decoders = ThreadPoolExecutor(_DECODERS, "animoto-decode")
        return self

    def __exit__(self, *_: object) -> None:
        self.downloader.stop()
        self._fetchers.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Still]:
        """Every picture that can be used, or its placeholder. Raises PermanentError or
        TransientError for one without which there is no movie."""
        pictures = self._pictures
        files = _ahead(
            lambda item: (item[0], self._fetchers.submit(self._fetch, *item)),
            enumerate(pictures),
            _FETCHED_AHEAD,
        )
        stills = _ahead(
            lambda item: self._decoders.submit(self._decode, *item), files, _DECODED_AHEAD
        )
        for done, future in enumerate(stills, 1):
            try:
                yield future.result()
            except _Unusable as fault:
                self._give_up(fault)
                if self.movie.on_error == "placeholder":
                    yield self._still(fault.place, Frame.plain(self._size, GREY))
            self.progress(done, len(pictures))
        if len(self.skipped) == len(pictures):
            first = self.skipped[0]
            raise PermanentError(
                f"none of the {len(pictures)} pictures can be used; the first, {first['url']}: "
                f"{first['reason']}"
            )

    def _fetch(self, place: int, wanted: Picture) -> str:
        path = os.path.join(self.folder, f"picture-{place}")
        try:
            self.downloader.fetch(wanted.url, path)
        except (Unfetchable, TransientError) as error:
            raise _Unusable(place, error) from error
        return path

    def _decode(self, place: int, file: Future[str]) -> Still:
        path = file.result()
        try:
            return self._still(place, picture.load(path, self._size, self.movie.fit))
        except picture.NotAPicture as error:
            raise _Unusable(place, error) from error
        finally:
            os.unlink(path)

    @property
    def _size(self) -> tuple[int, int]:
        moving = self.movie.motion == "kenburns"
        return motion.oversized(self.movie.size) if moving else self.movie.size

    def _still(self, place: int, frame: Frame) -> Still:
        text = self._pictures[place].caption
        return Still(place, frame, caption.render(text, self.movie.size))

    def _give_up(self, fault: _Unusable) -> None:
        """Note that a picture cannot be used, or raise."""
        url = without_query(self._pictures[fault.place].url)
        message = f"images[{fault.place}] ({url}): {fault}"
        may_pass = self.movie.on_error != "fail"
        if isinstance(fault.error, TransientError) and not (may_pass and self.last_attempt):
            raise TransientError(message, fault.error.retry_after_s) from fault.error
        if not may_pass:
            raise PermanentError(message) from fault.error
        self.skipped.append({"index": fault.place, "url": url, "reason": str(fault)})


def _ahead(start: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """`start` of each item, in order, up to `count` of them before they are asked for."""
    started: deque[R] = deque()
    for item in items:
        started.append(start(item))
        if len(started) > count:
            yield started.popleft()
    yield from started
