"""Makes one movie: music, pictures, encoding, time stamps. Owns the order of the steps and what
each step is given; not the steps themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from animoto import command, ffmpeg, motion, music, timing
from animoto.frame import Frame
from animoto.spec import SLOT_MAX_S, Movie
from animoto.stills import Still, Stills
from taskfleet.errors import PermanentError
from taskfleet.fetch.download import Downloader
from taskfleet.registry import TaskContext

_SLOT_MIN_FRAMES = 2
"""Shortest slot of a picture, in frames."""


@dataclass(frozen=True)
class FinishedMovie:
    """A finished movie.

    video: path of the MP4 file.
    poster: path of a JPEG of the first picture.
    frames: length in frames.
    pictures: number of pictures that could be used.
    skipped: the others, in the form that the result has.
    """

    video: str
    poster: str
    frames: int
    pictures: int
    skipped: list[dict[str, Any]]


@dataclass
class Maker:
    """Makes one movie.

    folder: takes all files; the caller deletes it.
    exe: path of ffmpeg.
    last_attempt: the task will not be tried again (see `animoto.stills.Stills`).
    """

    movie: Movie
    folder: str
    context: TaskContext
    downloader: Downloader
    exe: str
    last_attempt: bool
    _shown: list[int] = field(default_factory=list)
    """Indices of the pictures in the movie so far."""

    def make(self) -> FinishedMovie:
        """Makes the movie. Raises TransientError, PermanentError or TaskStopped."""
        unregister = self.context.on_stop(self.downloader.stop)
        try:
            sound, fit_s = None, None
            if self.movie.music is not None:
                sound = music.fetch(
                    self.movie.music, self.folder, self.downloader, self.exe, self.context
                )
                fit_s = sound.seconds if self.movie.music.fit_to_music else None
            planned = self._slots(range(len(self.movie.images)), fit_s)
            group = 1 if self.movie.transition == "cut" else timing.group(planned)
            with Stills(
                self.movie, self.folder, self.downloader, self.last_attempt, self.context.progress
            ) as stills:
                if self.movie.motion == "kenburns":
                    stretched = None
                    frames = self._moving(stills, planned, group)
                    self._encode(None, frames, sum(planned))
                    slots = [planned[index] for index in self._shown]
                else:
                    self._encode(group, self._standing(stills), len(planned) * group)
                    # Only now is it known which pictures were left out.
                    slots = self._slots(self._shown, fit_s)
                    # A single picture has nothing to fade to, so it was encoded as one frame.
                    group = group if len(slots) > 1 else 1
                    stretched = command.Stretch(group, timing.stretch(slots, group))
            self._finish(sum(slots), stretched, sound.track if sound else None)
        finally:
            unregister()
        return FinishedMovie(
            video=self._path("movie.mp4"),
            poster=self._path("poster.jpg"),
            frames=sum(slots),
            pictures=len(self.movie.images) - len(stills.skipped),
            skipped=stills.skipped,
        )

    def _slots(self, indices: Iterable[int], fit_s: float | None) -> list[int]:
        """Returns the frames of each picture's slot. If `fit_s` is given, the slots are scaled to
        that many seconds together; raises PermanentError if they would become too short or long."""
        pictures = self.movie.pictures
        seconds = [self.movie.slot_s(pictures[index]) for index in indices]
        if fit_s is None:
            return timing.slots(seconds, self.movie.fps)
        seconds = timing.fitted(seconds, fit_s)
        slots = timing.slots(seconds, self.movie.fps)
        if max(seconds) > SLOT_MAX_S or min(slots) < _SLOT_MIN_FRAMES:
            raise PermanentError(
                f"{len(slots)} pictures cannot be fitted to music of {fit_s:.1f} s: each can take "
                f"from {_SLOT_MIN_FRAMES} frames to {SLOT_MAX_S:g} s"
            )
        return slots

    # --- frames -----------------------------------------------------------------------------

    def _standing(self, stills: Iterable[Still]) -> Iterator[Frame]:
        """Yields one frame per picture."""
        for still in stills:
            if still.caption is not None:
                still.caption.draw(still.frame)
            self._note_shown(still.index, still.frame)
            yield still.frame

    def _moving(self, stills: Iterable[Still], slots: Sequence[int], group: int) -> Iterator[Frame]:
        """Yields every frame of a movie whose pictures move; `slots` has the frames of each
        picture's slot."""
        shots = (self._shot(still, slots, group) for still in stills)
        shot = next(shots, None)
        while shot is not None:
            self._note_shown(shot.index, shot.at(0, self.movie.size))
            following = next(shots, None)
            yield from motion.slot_frames(shot, following, group, self.movie.size)
            shot = following

    def _shot(self, still: Still, slots: Sequence[int], group: int) -> motion.Shot:
        # Nothing fades into the first picture.
        lead = group - 1 if self._shown else 0
        return motion.Shot(still.index, still.frame, still.caption, lead, slots[still.index])

    def _note_shown(self, index: int, frame: Frame) -> None:
        """Notes that a picture is in the movie; the frame of the first one becomes the poster."""
        if not self._shown:
            with open(self._path("poster.jpg"), "wb") as file:
                file.write(frame.jpeg())
        self._shown.append(index)

    # --- ffmpeg -----------------------------------------------------------------------------

    def _encode(self, group: int | None, frames: Iterator[Frame], count: int) -> None:
        """Encodes the frames, which become about `count` frames of video."""
        movie = self.movie
        stream = command.Stream(movie.size, movie.fps, movie.quality, group)
        cpu_s = round(60 + 0.3 * count * movie.relative_area)
        # The wall clock also runs while ffmpeg waits for pictures, so its limit is generous.
        limits = ffmpeg.EncodeLimits(wall_s=600 + 4 * cpu_s, cpu_s=cpu_s)
        with self._ffmpeg(command.encode(stream, self._path("video.mp4")), limits) as process:
            for frame in frames:
                process.write(frame.to_bytes())
            process.finish()

    def _finish(
        self, total_frames: int, stretch: command.Stretch | None, track: command.Track | None
    ) -> None:
        """Turns the encoded video into the movie; see `animoto.command.finish`."""
        arguments = command.finish(
            self._path("video.mp4"),
            self._path("movie.mp4"),
            fps=self.movie.fps,
            total_frames=total_frames,
            stretch=stretch,
            track=track,
        )
        limits = ffmpeg.EncodeLimits(wall_s=600, cpu_s=300)
        with self._ffmpeg(arguments, limits) as process:
            process.finish()

    def _ffmpeg(
        self, arguments: list[str], limits: ffmpeg.EncodeLimits
    ) -> AbstractContextManager[ffmpeg.Process]:
        return ffmpeg.running(
            self.exe, arguments, folder=self.folder, limits=limits, context=self.context
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)
