"""The arguments of ffmpeg. Owns every option that is passed to it; runs nothing.

Only options that ffmpeg 5.1 has too. Two steps: frames to a stream of pictures and fades
(`encode`), which needs no timing, then time stamps, music and container without touching a pixel
(`finish`), once it is known which pictures could be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_QUIET = ["-v", "error", "-nostdin", "-y"]
_SAME_BYTES = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
_GROUPS_A_KEYFRAME = 6

_STILL = {
    # Constant quantiser: x264's lookahead has nothing to find out about frames that stand still.
    "fast": ("ultrafast", "cabac=1:8x8dct=1:partitions=i4x4,i8x8:deblock=0,0:qp=18"),
    "good": ("veryfast", "8x8dct=1:deblock=0,0:rc-lookahead=0:mbtree=0:qp=14"),
}
_MOVING = {
    "fast": ("veryfast", "crf=20"),
    "good": ("medium", "crf=17"),
}

# All three, in the stream itself: browsers that miss one take the colours for BT.709's.
_COLOURS = "colorprim=bt709:transfer=bt709:colormatrix=smpte170m"

Quality = Literal["fast", "good"]


@dataclass(frozen=True)
class Stream:
    """What the encoder is given. `group`: encoded frames per picture when they stand still (1 for
    cuts), None when each frame of the movie is given."""

    size: tuple[int, int]
    fps: int
    quality: Quality
    group: int | None


def encode(stream: Stream, out: str) -> list[str]:
    """Raw frames on standard input to `out`. Of pictures that stand still one frame each is
    given; n of them become n * group frames, each a picture followed by its fade."""
    width, height = stream.size
    group = stream.group
    rate = str(stream.fps) if group is None else f"{stream.fps}/{group}"
    fades = group is not None and group > 1
    # Every frame between two pictures is their weighted mean; no guessing at scene changes.
    blend = f"framerate=fps={stream.fps}:interp_start=0:interp_end=255:scene=100:flags=0"
    preset, options = _x264(stream)
    return [
        *_QUIET,
        *("-filter_threads", "1"),
        *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}"),
        *("-framerate", rate, "-i", "pipe:0"),
        *(["-vf", blend] if fades else []),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", preset, "-threads", "1"),
        *("-x264-params", f"{options}:{_COLOURS}"),
        *("-color_range", "tv", "-colorspace", "smpte170m"),
        *_SAME_BYTES,
        *("-f", "mp4", out),
    ]


def _x264(stream: Stream) -> tuple[str, str]:
    """Preset and parameters."""
    group = stream.group
    if group is None:
        preset, options = _MOVING[stream.quality]
        return preset, f"{options}:keyint={4 * stream.fps}"
    preset, options = _STILL[stream.quality]
    if group == 1:
        return preset, f"{options}:bframes=0:scenecut=0:keyint=1"
    # A linear fade is what B-frames predict: between two pictures they cost next to nothing.
    return preset, (
        f"{options}:bframes={group - 1}:b-adapt=0:b-pyramid=none:weightb=1:scenecut=0:pbratio=2"
        f":keyint={_GROUPS_A_KEYFRAME * group}:min-keyint=1"
    )


@dataclass(frozen=True)
class Track:
    """Music: a file whose format is known from its first bytes. `format` is ffmpeg's name of the
    demuxer, which is not left to guess: a guess may take the file for a list of other files."""

    path: str
    format: str
    fade_out_s: float

    @property
    def source(self) -> list[str]:
        drefs = ["-enable_drefs", "0"] if self.format == "mov" else []
        return ["-protocol_whitelist", "file,pipe", "-f", self.format, *drefs, "-i", self.path]


@dataclass(frozen=True)
class Stretch:
    """How long holds become: `group` as encoded, `pieces` as `timing.stretch` made them."""

    group: int
    pieces: Sequence[tuple[int, int, int]]


def finish(
    video: str,
    out: str,
    *,
    fps: int,
    total_frames: int,
    stretch: Stretch | None,
    track: Track | None,
) -> list[str]:
    """The encoded `video` becomes the movie: its holds stretched (unless None), with music, ready
    to play before it is loaded whole."""
    total_s = total_frames / fps
    music: list[str] = []
    sound = ["-an"]
    if track is not None:
        fade_s = min(track.fade_out_s, total_s)
        fade = f"afade=t=out:st={total_s - fade_s:.6f}:d={fade_s:.6f}"
        music = ["-stream_loop", "-1", "-t", f"{total_s:.6f}", *track.source]
        sound = [
            *("-map", "1:a:0", *(("-af", fade) if fade_s else ())),
            *("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "44100", "-flags:a", "+bitexact"),
        ]
    return [
        *_QUIET,
        *("-f", "mov", "-i", video),
        *music,
        *("-map", "0:v:0", "-c:v", "copy"),
        *(["-bsf:v", _setts(fps, stretch)] if stretch is not None else []),
        *sound,
        *("-map_chapters", "-1", *_SAME_BYTES, "-movflags", "+faststart", "-f", "mp4", out),
    ]


def _setts(fps: int, stretch: Stretch) -> str:
    """The bitstream filter that moves time stamps. Register 0 holds the frame's number as it was
    encoded, 1 the number of holds before it."""
    group = stretch.group

    def moved(number: str, holds: str) -> str:
        return f"st(0,{number});st(1,{holds});(ld(0)+{_piecewise(stretch.pieces)})/({fps}*TB)"

    shown = f"round(PTS*TB*{fps})"
    passed = f"ceil(ld(0)/{group})"
    if group == 1:
        # Decoded as they are shown; the last one has no other after it to say how long.
        filters = f"setts=ts='{moved(shown, passed)}'"
        following = moved(f"{shown}+1", passed)
        return f"{filters}:duration='({following})-({moved(shown, passed)})'"
    # The next picture is decoded before the fade to it, at the end of the hold. Were it at the
    # beginning, the last frame of the movie would be taken to last as long as the last hold.
    decoded = moved(f"round(DTS*TB*{fps})", f"max(0,floor(ld(0)/{group})+1)")
    return f"setts=pts='{moved(shown, passed)}':dts='{decoded}'"


def _piecewise(pieces: Sequence[tuple[int, int, int]]) -> str:
    """A linear piece by the value of register 1: a balanced tree, since ffmpeg parses only
    expressions less than about 100 levels deep."""
    if len(pieces) == 1:
        first, offset, step = pieces[0]
        return f"({offset}+(ld(1)-{first})*{step})"
    middle = len(pieces) // 2
    return (
        f"if(lt(ld(1),{pieces[middle][0]}),"
        f"{_piecewise(pieces[:middle])},{_piecewise(pieces[middle:])})"
    )


def measure(track: Track) -> list[str]:
    """Decode the music and print, on standard output, how far it got (`out_time_us=...`)."""
    return [
        *_QUIET,
        *track.source,
        *("-map", "0:a:0", "-progress", "pipe:1", "-f", "null", "-"),
    ]


def measured_s(report: bytes) -> float:
    """Seconds of sound, from what `measure` printed; 0 when there were none."""
    times = [line.partition(b"=")[2] for line in report.split() if line[:12] == b"out_time_us="]
    return int(times[-1]) / 1e6 if times and times[-1].isdigit() else 0.0


def music_format(head: bytes) -> str | None:
    """ffmpeg's name of the demuxer for a file that begins with `head` (12 bytes or more); None
    when it is no kind of music known here."""
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "mp3"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] == b"ftyp" and head[8:11] in (b"M4A", b"mp4", b"iso", b"M4B", b"das"):
        return "mov"
    return None
