"""Fetches the music of a movie, recognises its format, and measures its length. Owns what counts as
music; ffmpeg decodes it, but is always told the format."""

from __future__ import annotations

import os
from dataclasses import dataclass

from animoto import command, ffmpeg
from animoto.spec import Music, brief
from taskfleet.errors import PermanentError, TransientError
from taskfleet.fetch.connect import Unfetchable
from taskfleet.fetch.download import Downloader
from taskfleet.fetch.source import without_query

_SHORTEST_S = 0.1
"""Shortest piece of music, in seconds."""
_MEASURE_LIMITS = ffmpeg.EncodeLimits(wall_s=120, cpu_s=60)


@dataclass(frozen=True)
class Sound:
    """A piece of music and its length in seconds."""

    track: command.Track
    seconds: float


def fetch(
    music: Music, folder: str, downloader: Downloader, exe: str, context: ffmpeg.Stoppable
) -> Sound:
    """Fetches the music into `folder` and measures it; `exe` is the path of ffmpeg. Raises
    PermanentError if it cannot be used, TransientError if a later try may succeed."""
    shown = f"music ({brief(without_query(music.url))})"
    path = os.path.join(folder, "music")
    try:
        downloader.fetch(music.url, path)
    except Unfetchable as error:
        raise PermanentError(f"{shown}: {brief(str(error))}") from error
    except TransientError as error:
        raise TransientError(f"{shown}: {brief(str(error))}", error.retry_after_s) from error
    with open(path, "rb") as file:
        demuxer = command.music_format(file.read(16))
    if demuxer is None:
        raise PermanentError(f"{shown} is not MP3, AAC, M4A, FLAC, Ogg or WAV")
    track = command.Track(path, demuxer, music.fade_out)
    try:
        with ffmpeg.running(
            exe, command.measure(track), folder=folder, limits=_MEASURE_LIMITS, context=context
        ) as process:
            seconds = command.measured_s(process.finish())
    except PermanentError as error:
        raise PermanentError(f"{shown} cannot be played: {error}") from error
    # ffmpeg would loop a file without sound forever.
    if seconds < _SHORTEST_S:
        raise PermanentError(f"{shown} contains no sound")
    return Sound(track, seconds)
