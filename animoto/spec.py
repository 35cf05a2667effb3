"""The params of an `animoto` task: which movie is wanted. Owns their names, limits and defaults and
the form of URLs; not how the movie is made. Light to import, because the API imports it.

Messages name a picture by its index from 0, as in `images[3]`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from taskfleet.errors import InvalidTask
from taskfleet.fetch.source import source_fault

PICTURES_MAX = 500
"""Most pictures of one movie."""
CAPTION_MAX_CHARS = 200
BRIEF_CHARS = 200
"""Most characters that a result quotes of a URL or a reason. Twice as many, for each of
`PICTURES_MAX` pictures and at 4 bytes a character, stay below the 1 MB that a result may have."""
SLOT_MIN_S = 0.2
SLOT_MAX_S = 60.0
"""Shortest and longest time of one picture, in seconds."""
MOVIE_MAX_S = 3600.0
"""Longest movie, in seconds."""
DURATION_DEFAULT_S = 2.4
"""Seconds per picture unless the params say otherwise."""

PRESETS = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "square": (1080, 1080),
    "story": (1080, 1920),
}
"""Width and height in pixels, by the name of the preset."""
_REFERENCE_PIXELS = 1280 * 720
"""Pixels of the frame that costs were measured with."""

SlotSeconds = Annotated[float, Meta(ge=SLOT_MIN_S, le=SLOT_MAX_S)]
Transition = Literal["crossfade", "cut"]
Fit = Literal["blur", "contain", "cover"]
Motion = Literal["none", "kenburns"]
Quality = Literal["fast", "good"]


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One picture of a movie.

    url: a URL, or an upload's id behind `upload:`.
    duration: its seconds in the movie, including the fade to the next picture; unset for the
        movie's `duration`.
    caption: one or more lines of text; empty for none.
    """

    url: str
    duration: SlotSeconds | UnsetType = UNSET
    caption: Annotated[str, Meta(max_length=CAPTION_MAX_CHARS)] = ""

    @property
    def plain(self) -> bool:
        """True if the picture has nothing but a URL."""
        return self.duration is UNSET and not self.caption


class Music(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The music of a movie, played in a loop until the movie ends.

    url: a URL, or an upload's id behind `upload:`.
    fade_out: seconds over which the music fades out at the end of the movie.
    fit_to_music: scales the times of the pictures so that the movie is as long as the music.
    """

    url: str
    fade_out: Annotated[float, Meta(ge=0, le=30)] = 3.0
    fit_to_music: bool = False


class Movie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The params of one movie; the defaults here are the defaults of the task's params."""

    images: Annotated[list[str | Picture], Meta(min_length=1, max_length=PICTURES_MAX)]
    preset: Literal["720p", "1080p", "square", "story"] = "720p"
    fps: Literal[25, 30] = 25
    duration: SlotSeconds = DURATION_DEFAULT_S
    transition: Transition = "crossfade"
    fit: Fit = "blur"
    motion: Motion = "none"
    quality: Quality = "fast"
    music: Music | None = None
    on_error: Literal["skip", "fail", "placeholder"] = "skip"

    @property
    def pictures(self) -> list[Picture]:
        """The images, each as a `Picture`."""
        return [Picture(image) if isinstance(image, str) else image for image in self.images]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return PRESETS[self.preset]

    @property
    def relative_area(self) -> float:
        """Pixels of a frame, relative to 720p; the cost of a frame is proportional to it."""
        return self.size[0] * self.size[1] / _REFERENCE_PIXELS

    def slot_s(self, picture: Picture) -> float:
        """Returns the seconds that `picture` has in the movie."""
        return self.duration if picture.duration is UNSET else picture.duration

    @property
    def total_s(self) -> float:
        """Seconds of the movie if every picture can be used and it is not fitted to music."""
        return math.fsum(self.slot_s(picture) for picture in self.pictures)


def movie(params: Any) -> Movie:
    """Returns checked params as a `Movie`.

    params: as the client sent them or canonical: an object, or text of URLs separated by blanks.

    Raises InvalidTask that says what is wrong, and with which picture.
    """
    if isinstance(params, str):
        params = {"images": params.split()}
    if not isinstance(params, dict):
        raise InvalidTask('animoto needs {"images": [URL, ...]} or URLs separated by blanks')
    try:
        wanted = msgspec.convert(params, Movie)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"animoto: {_readable(error)}") from None
    for index, picture in enumerate(wanted.pictures):
        _check_url(picture.url, f"images[{index}]")
        _check_finite(wanted.slot_s(picture), f"duration of images[{index}]")
        if any(ord(char) < 32 and char not in "\n\t" for char in picture.caption):
            raise InvalidTask(f"animoto: caption of images[{index}] has control characters")
    if wanted.music is not None:
        _check_url(wanted.music.url, "music")
        _check_finite(wanted.music.fade_out, "fade_out of the music")
    if wanted.total_s > MOVIE_MAX_S:
        raise InvalidTask(
            f"animoto: a movie of {wanted.total_s:g} s is over the cap of {MOVIE_MAX_S:g} s"
        )
    return wanted


def parse(raw: Any) -> dict[str, Any]:
    """Returns the canonical params: with every default, and a picture that has nothing but a URL
    as text. Raises InvalidTask."""
    wanted = movie(raw)
    images = [picture.url if picture.plain else picture for picture in wanted.pictures]
    canonical: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(wanted, images=images))
    return canonical


def brief(text: str) -> str:
    """Returns the beginning of `text`, at most `BRIEF_CHARS` printable characters: the form in
    which results and messages quote URLs and what servers and files say."""
    if len(text) > BRIEF_CHARS:
        text = text[: BRIEF_CHARS - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in text)


def _readable(error: msgspec.ValidationError) -> str:
    # msgspec writes `$.images[0].url` for what the client knows as `images[0].url`.
    return str(error).replace("`$.", "`").replace(" - at `$`", "")


def _check_finite(seconds: float, name: str) -> None:
    if not math.isfinite(seconds):
        raise InvalidTask(f"animoto: {name} must be a finite number, not {seconds}")


def _check_url(url: str, name: str) -> None:
    fault = source_fault(url)
    if fault:
        raise InvalidTask(f"animoto: {name}: {fault}")
