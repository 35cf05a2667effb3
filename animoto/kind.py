"""The task kind `animoto`, which turns a list of pictures into a movie in the object store. Owns
what Taskfleet sees of the kind: its params, result, cost and retries; not how a movie is made
(`animoto.movie`). Light to import: the modules that make movies are imported by the first movie."""

from __future__ import annotations

import functools
import os
from typing import Any

from animoto import spec
from taskfleet.batch import upload_key
from taskfleet.errors import NotFound, TooLarge
from taskfleet.ports import ObjectStore
from taskfleet.registry import TaskContext, TaskKind
from taskfleet.retry import RetryPolicy
from taskfleet.settings import Settings, load

RETRY = RetryPolicy(max_attempts=4)
_PICTURE_S = 0.12
"""CPU seconds for a picture that stands still, at 720p."""
_MOVING_FRAME_S = 0.03
"""CPU seconds for a frame of a picture that moves, at 720p."""


@functools.cache
def process_settings() -> Settings:
    """Returns the settings of this process, read from the environment at the first call. Nothing
    else in this package reads settings. Raises SettingsError."""
    return load()


def object_key(batch_id: str, index: int, ending: str) -> str:
    """Returns the key in the object store of a task's movie (`mp4`) or poster (`jpg`)."""
    return f"movies/{batch_id}/{index}.{ending}"


def expected_s(params: Any) -> float:
    """Returns the CPU seconds that the movie is expected to take."""
    movie = spec.movie(params)
    if movie.motion == "kenburns":
        return 1 + movie.total_s * movie.fps * _MOVING_FRAME_S * movie.relative_area
    return 1 + len(movie.images) * _PICTURE_S * movie.relative_area


def max_concurrent() -> int:
    """Returns the number of usable cores: encoding keeps a core busy, so more movies at a time
    would only slow each other down."""
    conf = process_settings()
    return conf.usable_cores


def remove_leftovers() -> None:
    """Deletes the work folders that killed workers left in the temporary directory."""
    from animoto import workspace

    workspace.remove_leftovers()


def check() -> None:
    """Raises PermanentError on a machine that cannot make movies, saying what to install."""
    from animoto import ffmpeg

    try:
        import PIL.Image  # noqa: F401
        import urllib3  # noqa: F401
    except ImportError as error:
        from taskfleet.errors import PermanentError

        raise PermanentError(f"movies need taskfleet[animoto] installed: {error}") from None
    ffmpeg.check(ffmpeg.find())


def run(params: Any, context: TaskContext) -> dict[str, Any]:
    """Makes the movie with this process's settings; see `make_movie`."""
    conf = process_settings()
    return make_movie(params, context, allow_private=conf.allow_private_urls)


def make_movie(params: Any, context: TaskContext, *, allow_private: bool) -> dict[str, Any]:
    """Makes the movie, stores it, and returns the task's result, which holds the object keys of the
    movie and its poster (`with_urls` adds URLs).

    allow_private: admits pictures and music from private addresses.
    """
    from animoto import ffmpeg, workspace
    from animoto.movie import Maker
    from animoto.stills import CONNECTIONS
    from taskfleet.fetch.download import Downloader

    wanted = spec.movie(params)
    downloader = Downloader(
        allow_private=allow_private,
        connections=CONNECTIONS,
        uploaded=lambda upload_id, max_bytes: _uploaded(context, upload_id, max_bytes),
    )
    video_key = object_key(context.batch_id, context.index, "mp4")
    poster_key = object_key(context.batch_id, context.index, "jpg")
    try:
        with workspace.workspace() as folder:
            finished = Maker(
                movie=wanted,
                folder=folder,
                context=context,
                downloader=downloader,
                exe=ffmpeg.find(),
                last_attempt=RETRY.is_last(context.attempt),
            ).make()
            context.check_stopped()
            size_bytes = os.path.getsize(finished.video)
            context.store.put_file(poster_key, finished.poster, content_type="image/jpeg")
            context.store.put_file(video_key, finished.video, content_type="video/mp4")
    finally:
        downloader.close()
    return {
        "key": video_key,
        "poster_key": poster_key,
        "duration_s": finished.frames / wanted.fps,
        "width": wanted.size[0],
        "height": wanted.size[1],
        "bytes": size_bytes,
        "pictures": finished.pictures,
        "skipped": finished.skipped,
    }


def _uploaded(context: TaskContext, upload_id: str, max_bytes: int) -> bytes:
    """Returns the bytes of a file that the task's client uploaded. Raises NotFound, also for a file
    of another client, or TooLarge."""
    try:
        return context.store.get(upload_key(context.client_id, upload_id), max_bytes=max_bytes)
    except NotFound:
        raise NotFound(f"there is no upload {upload_id}, or it has expired") from None
    except TooLarge:
        raise TooLarge(
            f"upload {upload_id} is over the cap of {max_bytes} bytes per file"
        ) from None


def present(result: Any, store: ObjectStore) -> Any:
    """Returns the result as clients see it, with this process's settings; see `with_urls`."""
    conf = process_settings()
    return with_urls(result, store, expires_s=conf.result_url_s)


def with_urls(result: Any, store: ObjectStore, *, expires_s: int) -> Any:
    """Returns the result with URLs of the movie and the poster, which anyone can open for
    `expires_s` seconds. They are never stored."""
    return {
        "url": store.url(result["key"], expires_s=expires_s),
        "poster_url": store.url(result["poster_key"], expires_s=expires_s),
        **result,
    }


animoto = TaskKind(
    name="animoto",
    run=run,
    parse=spec.parse,
    expected_s=expected_s,
    retry=RETRY,
    max_concurrent=max_concurrent,
    prepare=remove_leftovers,
    deterministic=True,
    check=check,
    present=present,
)
