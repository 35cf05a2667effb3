"""Fetches and decodes the pictures of a movie in background threads and yields them in order. Owns
what runs concurrently and how unusable pictures are handled; not fetching
(`taskfleet.fetch.download`) nor decoding (`animoto.picture`).

At most `_FETCHED_AHEAD` files and `_DECODED_AHEAD` frames wait at a time, so memory and disk usage
do not grow with the number of pictures.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from animoto import caption, motion, picture
from animoto.frame import GREY, Frame
from animoto.spec import Movie, Picture, brief
from taskfleet.errors import PermanentError, TransientError
from taskfleet.fetch.connect import Unfetchable
from taskfleet.fetch.download import Downloader
from taskfleet.fetch.source import without_query

CONNECTIONS = 8
"""Files fetched at a time."""
_DECODERS = 2
"""Pictures decoded at a time."""
_FETCHED_AHEAD = 16
"""Most fetches started before their files are needed."""
_DECODED_AHEAD = 3
"""Most decodings started before their frames are needed."""

Item = TypeVar("Item")
Started = TypeVar("Started")


@dataclass(frozen=True)
class Still:
    """A decoded picture.

    index: of the picture in the params.
    frame: of the movie's size, or `animoto.motion.oversized` for Ken Burns.
    caption: not yet drawn onto the frame; None if there is none.
    """

    index: int
    frame: Frame
    caption: caption.Caption | None


class _Unusable(Exception):
    """The picture at `index` could not be fetched or decoded, because of `error`."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


@dataclass
class Stills:
    """The pictures of one movie. A context manager that is iterated once, inside its context.

    folder: takes the files until they are decoded.
    last_attempt: the task will not be tried again, so a picture that cannot be fetched now is
        treated as unusable instead of failing the attempt.
    progress: called with the number of pictures handled and the number of all.
    skipped: the pictures that `on_error` tolerated, in the form that the result has.
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
        """Yields each usable picture, and a placeholder for an unusable one if `on_error` says so.

        Raises PermanentError or TransientError for an unusable picture that `on_error` does not
        tolerate, and PermanentError if no picture can be used.
        """
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
            except _Unusable as unusable:
                self._skip(unusable)
                if self.movie.on_error == "placeholder":
                    yield self._still(unusable.index, Frame.plain(self._size, GREY))
            self.progress(done, len(pictures))
        if len(self.skipped) == len(pictures):
            first = self.skipped[0]
            raise PermanentError(
                f"none of the {len(pictures)} pictures can be used; the first, {first['url']}: "
                f"{first['reason']}"
            )

    def _fetch(self, index: int, wanted: Picture) -> str:
        """Returns the path of the fetched file."""
        path = os.path.join(self.folder, f"picture-{index}")
        try:
            self.downloader.fetch(wanted.url, path)
        except (Unfetchable, TransientError) as error:
            raise _Unusable(index, error) from error
        return path

    def _decode(self, index: int, file: Future[str]) -> Still:
        """Waits for the file, decodes it, and deletes it."""
        path = file.result()
        try:
            return self._still(index, picture.load(path, self._size, self.movie.fit))
        except picture.NotAPicture as error:
            raise _Unusable(index, error) from error
        finally:
            os.unlink(path)

    @property
    def _size(self) -> tuple[int, int]:
        """Width and height in pixels of the stills' frames."""
        moving = self.movie.motion == "kenburns"
        return motion.oversized(self.movie.size) if moving else self.movie.size

    def _still(self, index: int, frame: Frame) -> Still:
        text = self._pictures[index].caption
        return Still(index, frame, caption.render(text, self.movie.size))

    def _skip(self, unusable: _Unusable) -> None:
        """Adds the picture to `skipped`, or raises if the movie cannot go on without it."""
        index, error = unusable.index, unusable.error
        url = brief(without_query(self._pictures[index].url))
        reason = brief(str(error))
        message = f"images[{index}] ({url}): {reason}"
        tolerated = self.movie.on_error != "fail"
        if isinstance(error, TransientError) and not (tolerated and self.last_attempt):
            raise TransientError(message, error.retry_after_s) from error
        if not tolerated:
            raise PermanentError(message) from error
        self.skipped.append({"index": index, "url": url, "reason": reason})


def _ahead(
    start: Callable[[Item], Started], items: Iterable[Item], count: int
) -> Iterator[Started]:
    """Calls `start` for each item and yields its results in order. Up to `count` items are started
    before their results are asked for."""
    started: deque[Started] = deque()
    for item in items:
        started.append(start(item))
        if len(started) > count:
            yield started.popleft()
    yield from started
