"""The task kind `animoto`: a list of pictures becomes a movie in the object store. Owns what the
framework sees of it: params, result, cost, retries. Light to import: what makes movies is imported
when the first one is made."""

from __future__ import annotations

import os
from typing import Any

from animoto import spec
from taskfleet import settings
from taskfleet.errors import NotFound, TooLarge
from taskfleet.ports import ObjectStore
from taskfleet.registry import TaskContext, TaskKind
from taskfleet.retry import RetryPolicy
from taskfleet.scheduler.upload import upload_key

RETRY = RetryPolicy(max_attempts=4)
_STILL_S = 0.12
_MOVING_FRAME_S = 0.03
"""Seconds of one core for a picture that stands still, and for a frame of one that moves, at
720p."""


def key(batch_id: str, index: int, ending: str) -> str:
    """Where a movie (`mp4`) or its poster (`jpg`) lies in the store."""
    return f"movies/{batch_id}/{index}.{ending}"


def expected_s(params: Any) -> float:
    movie = spec.movie(params)
    share = movie.size[0] * movie.size[1] / (1280 * 720)
    if movie.motion == "kenburns":
        return 1 + movie.total_s * movie.fps * _MOVING_FRAME_S * share
    return 1 + len(movie.images) * _STILL_S * share


def cores() -> int:
    """Encoding keeps a core busy, so more movies at a time would only be slower each."""
    return settings.load().usable_cores


def check() -> None:
    """PermanentError on a machine that cannot make movies. Removes what a worker that died in the
    middle of a movie left in the temporary directory."""
    from animoto import ffmpeg, workspace

    try:
        import PIL.Image  # noqa: F401
        import urllib3  # noqa: F401
    except ImportError as error:
        from taskfleet.errors import PermanentError

        raise PermanentError(f"movies need taskfleet[animoto] installed: {error}") from None
    ffmpeg.check(ffmpeg.find())
    workspace.remove_leftovers()


def run(params: Any, context: TaskContext) -> dict[str, Any]:
    """Make the movie and store it. The result holds keys; `present` makes URLs of them."""
    from animoto import ffmpeg, workspace
    from animoto.download import Downloader
    from animoto.movie import Maker
    from animoto.stills import CONNECTIONS

    wanted = spec.movie(params)
    allow_private = settings.load().allow_private_urls
    downloader = Downloader(
        allow_private=allow_private,
        connections=CONNECTIONS,
        uploaded=lambda upload_id, max_bytes: _uploaded(context, upload_id, max_bytes),
    )
    video_key = key(context.batch_id, context.index, "mp4")
    poster_key = key(context.batch_id, context.index, "jpg")
    try:
        with workspace.workspace() as folder:
            made = Maker(
                movie=wanted,
                folder=folder,
                context=context,
                downloader=downloader,
                exe=ffmpeg.find(),
                last_attempt=RETRY.is_last(context.attempt),
            ).make()
            context.check_stopped()
            size_bytes = os.path.getsize(made.video)
            context.store.put_file(poster_key, made.poster, content_type="image/jpeg")
            context.store.put_file(video_key, made.video, content_type="video/mp4")
    finally:
        downloader.close()
    return {
        "key": video_key,
        "poster_key": poster_key,
        "duration_s": made.frames / wanted.fps,
        "width": wanted.size[0],
        "height": wanted.size[1],
        "bytes": size_bytes,
        "pictures": made.pictures,
        "skipped": made.skipped,
    }


def _uploaded(context: TaskContext, upload_id: str, max_bytes: int) -> bytes:
    """A file of the task's own client: another's has another key."""
    try:
        return context.store.get(upload_key(context.client_id, upload_id), max_bytes=max_bytes)
    except NotFound:
        raise NotFound(f"there is no upload {upload_id}, or it has expired") from None
    except TooLarge:
        raise TooLarge(f"upload {upload_id} is over the cap of {max_bytes} bytes a file") from None


def present(result: Any, store: ObjectStore) -> Any:
    """With URLs that anyone may open until they expire; they are never stored."""
    expires_s = settings.load().result_url_s
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
    max_concurrent=cores,
    check=check,
    present=present,
)
