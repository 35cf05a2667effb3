"""The making of one movie: music, pictures, encoding, time stamps. Owns their order and what each
is given; not any one step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from animoto import command, ffmpeg, motion, music, timing
from animoto.download import Downloader
from animoto.frame import Frame
from animoto.spec import SLOT_MAX_S, Movie
from animoto.stills import Still, Stills
from taskfleet.errors import PermanentError
from taskfleet.registry import TaskContext

_SLOT_MIN_FRAMES = 2


@dataclass(frozen=True)
class Made:
    """A finished movie: the paths of its file and poster, its length in frames, how many of the
    pictures could be used, and what `on_error` let pass."""

    video: str
    poster: str
    frames: int
    pictures: int
    skipped: list[dict[str, Any]]


@dataclass
class Maker:
    """Makes one movie in `folder`, which it fills and does not clean.

    last_attempt: the task will not be tried again (see `Stills`).
    """

    movie: Movie
    folder: str
    context: TaskContext
    downloader: Downloader
    exe: str
    last_attempt: bool
    _shown: list[int] = field(default_factory=list)

    def make(self) -> Made:
        """Raises TransientError, PermanentError and TaskStopped as every task does."""
        take_back = self.context.on_stop(self.downloader.stop)
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
                    slots = [planned[place] for place in self._shown]
                else:
                    self._encode(group, self._standing(stills), len(planned) * group)
                    # Pictures may have been left out, which only now is known.
                    slots = self._slots(self._shown, fit_s)
                    # One alone has nothing to fade to, so it is one frame.
                    group = group if len(slots) > 1 else 1
                    stretched = command.Stretch(group, timing.stretch(slots, group))
            self._finish(sum(slots), stretched, sound.track if sound else None)
        finally:
            take_back()
        return Made(
            video=self._path("movie.mp4"),
            poster=self._path("poster.jpg"),
            frames=sum(slots),
            pictures=len(self.movie.images) - len(stills.skipped),
            skipped=stills.skipped,
        )

    def _slots(self, places: Iterable[int], fit_s: float | None) -> list[int]:
        """Frames of each picture's slot; together `fit_s` seconds long, if given."""
        pictures = self.movie.pictures
        seconds = [self.movie.slot_s(pictures[place]) for place in places]
        if fit_s is None:
            return timing.slots(seconds, self.movie.fps)
        seconds = timing.fitted(seconds, fit_s)
        slots = timing.slots(seconds, self.movie.fps)
        if max(seconds) > SLOT_MAX_S or min(slots) < _SLOT_MIN_FRAMES:
            raise PermanentError(
                f"{len(slots)} pictures cannot be fitted to music of {fit_s:.1f} s: each may have "
                f"from {_SLOT_MIN_FRAMES} frames to {SLOT_MAX_S:g} s"
            )
        return slots

    # --- frames -----------------------------------------------------------------------------

    def _standing(self, stills: Iterable[Still]) -> Iterator[Frame]:
        """One frame a picture."""
        for still in stills:
            if still.caption is not None:
                still.caption.draw(still.frame)
            self._note(still.place, still.frame)
            yield still.frame

    def _moving(self, stills: Iterable[Still], slots: Sequence[int], group: int) -> Iterator[Frame]:
        """Every frame of the movie."""
        shots = (self._shot(still, slots, group) for still in stills)
        shot = next(shots, None)
        while shot is not None:
            self._note(shot.number, shot.at(0, self.movie.size))
            following = next(shots, None)
            yield from motion.slot_frames(shot, following, group, self.movie.size)
            shot = following

    def _shot(self, still: Still, slots: Sequence[int], group: int) -> motion.Shot:
        # Nothing fades into the first one.
        lead = group - 1 if self._shown else 0
        return motion.Shot(still.place, still.frame, still.caption, lead, slots[still.place])

    def _note(self, place: int, frame: Frame) -> None:
        """That a picture is in the movie; the first one makes the poster."""
        if not self._shown:
            with open(self._path("poster.jpg"), "wb") as file:
                file.write(frame.jpeg())
        self._shown.append(place)

    # --- ffmpeg -----------------------------------------------------------------------------

    def _encode(self, group: int | None, frames: Iterator[Frame], count: int) -> None:
        """Write the frames, which become about `count` frames of video."""
        movie = self.movie
        stream = command.Stream(movie.size, movie.fps, movie.quality, group)
        share = movie.size[0] * movie.size[1] / (1280 * 720)
        cpu_s = round(60 + 0.3 * count * share)
        # Waiting for pictures counts as well, so the wall clock is generous.
        limits = ffmpeg.Limits(wall_s=600 + 4 * cpu_s, cpu_s=cpu_s)
        with self._ffmpeg(command.encode(stream, self._path("video.mp4")), limits) as process:
            for frame in frames:
                process.write(frame.to_bytes())
            process.finish()

    def _finish(
        self, total_frames: int, stretch: command.Stretch | None, track: command.Track | None
    ) -> None:
        arguments = command.finish(
            self._path("video.mp4"),
            self._path("movie.mp4"),
            fps=self.movie.fps,
            total_frames=total_frames,
            stretch=stretch,
            track=track,
        )
        limits = ffmpeg.Limits(wall_s=600, cpu_s=300)
        with self._ffmpeg(arguments, limits) as process:
            process.finish()

    def _ffmpeg(
        self, arguments: list[str], limits: ffmpeg.Limits
    ) -> AbstractContextManager[ffmpeg.Process]:
        return ffmpeg.running(
            self.exe, arguments, folder=self.folder, limits=limits, context=self.context
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)
