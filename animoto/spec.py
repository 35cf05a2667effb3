"""What a movie shall be: the params of the task, checked and made canonical. Owns their names,
limits and defaults; not how the movie is made. Light to import, since the API imports it.

Pictures are named by their place from 0, as in `images[3]`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from taskfleet.batch import is_id
from taskfleet.errors import InvalidTask

UPLOAD = "upload:"
"""Before the id of a file that the client uploaded (`POST /uploads`), in the place of a URL."""
PICTURES_MAX = 500
URL_MAX_CHARS = 4096
CAPTION_MAX_CHARS = 200
SLOT_MIN_S = 0.2
SLOT_MAX_S = 60.0
MOVIE_MAX_S = 3600.0
DURATION_DEFAULT_S = 2.4

PRESETS = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "square": (1080, 1080),
    "story": (1080, 1920),
}
"""Width and height in pixels."""

SlotSeconds = Annotated[float, Meta(ge=SLOT_MIN_S, le=SLOT_MAX_S)]
Transition = Literal["crossfade", "cut"]
Fit = Literal["blur", "contain", "cover"]
Motion = Literal["none", "kenburns"]
Quality = Literal["fast", "good"]


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One picture. `duration` is its slot in seconds, the fade to the next one included, or unset
    for the movie's; `caption` is one or more lines of text, empty for none."""

    url: str
    duration: SlotSeconds | UnsetType = UNSET
    caption: Annotated[str, Meta(max_length=CAPTION_MAX_CHARS)] = ""

    @property
    def plain(self) -> bool:
        return self.duration is UNSET and not self.caption


class Music(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Played again and again until the movie ends, silent over its last `fade_out` seconds; with
    `fit_to_music` the slots are scaled so that the movie is as long as the music."""

    url: str
    fade_out: Annotated[float, Meta(ge=0, le=30)] = 3.0
    fit_to_music: bool = False


class Movie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole movie; the defaults are those of the task's params."""

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
        return [Picture(image) if isinstance(image, str) else image for image in self.images]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return PRESETS[self.preset]

    def slot_s(self, picture: Picture) -> float:
        return self.duration if picture.duration is UNSET else picture.duration

    @property
    def total_s(self) -> float:
        """Its length when every picture can be used and it is not fitted to music."""
        return math.fsum(self.slot_s(picture) for picture in self.pictures)


def movie(params: Any) -> Movie:
    """What a client handed in, or the canonical params, as a `Movie`: text is a list of URLs
    between blanks. InvalidTask says what is wrong, and with which picture."""
    if isinstance(params, str):
        params = {"images": params.split()}
    if not isinstance(params, dict):
        raise InvalidTask('animoto needs {"images": [URL, ...]} or URLs between blanks')
    try:
        found = msgspec.convert(params, Movie)
    except msgspec.ValidationError as error:
        raise InvalidTask(f"animoto: {_in_words(error)}") from None
    for place, picture in enumerate(found.pictures):
        _check_url(picture.url, f"images[{place}]")
        _check_finite(found.slot_s(picture), f"duration of images[{place}]")
        if any(ord(char) < 32 and char not in "\n\t" for char in picture.caption):
            raise InvalidTask(f"animoto: caption of images[{place}] has control characters")
    if found.music is not None:
        _check_url(found.music.url, "music")
        _check_finite(found.music.fade_out, "fade_out of the music")
    if found.total_s > MOVIE_MAX_S:
        raise InvalidTask(
            f"animoto: {found.total_s:g} s of movie is over the cap of {MOVIE_MAX_S:g} s"
        )
    return found


def parse(raw: Any) -> dict[str, Any]:
    """Canonical params: every default written out, pictures with nothing but a URL as text."""
    found = movie(raw)
    images = [picture.url if picture.plain else picture for picture in found.pictures]
    canonical: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(found, images=images))
    return canonical


def without_query(url: str) -> str:
    """The URL as it may be shown: a query may hold a secret, such as a presigned URL's."""
    return url.partition("#")[0].partition("?")[0]


def _in_words(error: msgspec.ValidationError) -> str:
    """`$.images[0].x` is how msgspec names a place; `images[0].x` is how people do."""
    return str(error).replace("`$.", "`").replace(" - at `$`", "")


def _check_finite(seconds: float, what: str) -> None:
    if not math.isfinite(seconds):
        raise InvalidTask(f"animoto: {what} must be a number, not {seconds}")


def _check_url(url: str, where: str) -> None:
    if url.startswith(UPLOAD):
        fault = None if is_id(url.removeprefix(UPLOAD)) else f"{url!r:.60} is no id of an upload"
    else:
        fault = url_fault(url)
    if fault:
        raise InvalidTask(f"animoto: {where}: {fault}")


def url_fault(url: str) -> str | None:
    """What is wrong with the form of a URL, or None; where it leads is checked when it is
    fetched (`animoto.address`)."""
    if len(url) > URL_MAX_CHARS:
        return f"URL of {len(url)} characters is over the cap of {URL_MAX_CHARS}"
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        return "URL has blanks, control characters or backslashes"
    shown = repr(without_query(url))[:100]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"URL {shown}: {error}"
    if parts.scheme not in ("http", "https"):
        return f"URL {shown} must begin with http:// or https://"
    if "@" in parts.netloc:
        return "URL must not hold a user name or password"
    if not host:
        return f"URL {shown} names no host"
    if not host.isascii():
        return f"URL {shown}: write the host in ASCII (punycode)"
    if port == 0:
        return f"URL {shown}: port 0"
    return None
