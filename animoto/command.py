"""The arguments of ffmpeg. Owns every option that is passed to it; runs nothing
(`animoto.ffmpeg` does).

A movie is made in two steps. `encode` turns raw frames into a video stream of pictures and fades;
it needs no timing. `finish` then sets the time stamps and adds music and container without
decoding a frame; by then it is known which pictures could be used. All options exist since
ffmpeg 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from animoto.spec import Quality

_QUIET = ["-v", "error", "-nostdin", "-y"]
"""Print errors only, read no terminal, overwrite the output."""
_REPRODUCIBLE = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
"""Write neither metadata nor version strings, so the same input gives the same bytes."""
_PICTURES_PER_KEYFRAME = 6

_STILL = {
    # Constant quantiser: x264's lookahead gains nothing on frames that stand still.
    "fast": ("ultrafast", "cabac=1:8x8dct=1:partitions=i4x4,i8x8:deblock=0,0:qp=18"),
    "good": ("veryfast", "8x8dct=1:deblock=0,0:rc-lookahead=0:mbtree=0:qp=14"),
}
"""x264's preset and parameters, by quality, for pictures that stand still."""
_MOVING = {
    "fast": ("veryfast", "crf=20"),
    "good": ("medium", "crf=17"),
}
"""x264's preset and parameters, by quality, for pictures that move."""

_SOUND_CODECS = (
    *("mp3float", "mp3", "aac", "aac_fixed", "alac", "flac", "vorbis", "libvorbis", "opus"),
    *("libopus", "speex", "libspeex", "adpcm_ms", "adpcm_ima_wav", "pcm_alaw", "pcm_mulaw"),
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le"),
    *("pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)
"""The decoders that may read music, by ffmpeg's names. A name that an ffmpeg does not know is no
error."""

# A browser that misses one of the three in the stream itself assumes BT.709 for all.
_COLOURS = "colorprim=bt709:transfer=bt709:colormatrix=smpte170m"


@dataclass(frozen=True)
class Stream:
    """The frames that the encoder is given.

    size: width and height in pixels.
    fps: frames per second of the movie.
    group: encoded frames per picture when pictures stand still (1 for cuts); None when every frame
        of the movie is given.
    """

    size: tuple[int, int]
    fps: int
    quality: Quality
    group: int | None


def encode(stream: Stream, out: str) -> list[str]:
    """Returns the arguments that encode raw frames from standard input into the file `out`.

    Pictures that stand still are given as one frame each: n pictures become n * group frames,
    each picture followed by its fade.
    """
    width, height = stream.size
    group = stream.group
    rate = str(stream.fps) if group is None else f"{stream.fps}/{group}"
    fades = group is not None and group > 1
    # Each frame between two pictures is their weighted mean; scene detection is off.
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
        *_REPRODUCIBLE,
        *("-f", "mp4", out),
    ]


def _x264(stream: Stream) -> tuple[str, str]:
    """Returns x264's preset and parameters."""
    group = stream.group
    if group is None:
        preset, options = _MOVING[stream.quality]
        return preset, f"{options}:keyint={4 * stream.fps}"
    preset, options = _STILL[stream.quality]
    if group == 1:
        return preset, f"{options}:bframes=0:scenecut=0:keyint=1"
    # B-frames predict a linear fade exactly, so the frames of a fade cost next to nothing.
    return preset, (
        f"{options}:bframes={group - 1}:b-adapt=0:b-pyramid=none:weightb=1:scenecut=0:pbratio=2"
        f":keyint={_PICTURES_PER_KEYFRAME * group}:min-keyint=1"
    )


@dataclass(frozen=True)
class Track:
    """A music file and how it ends.

    path: the file.
    format: ffmpeg's name of the demuxer. It is always given, because ffmpeg's own guess may take
        the file for a playlist and open other files.
    fade_out_s: seconds over which the music fades out at the end of the movie.
    """

    path: str
    format: str
    fade_out_s: float

    @property
    def source(self) -> list[str]:
        """The arguments that open the file as an input."""
        # "drefs" let an MP4 file refer to other files.
        drefs = ["-enable_drefs", "0"] if self.format == "mov" else []
        # Without the list of codecs, ffmpeg decodes covers and video tracks to learn their form.
        return [
            *("-codec_whitelist", ",".join(_SOUND_CODECS)),
            *("-protocol_whitelist", "file,pipe", "-f", self.format, *drefs, "-i", self.path),
        ]


@dataclass(frozen=True)
class Stretch:
    """The rule that moves encoded frames in time: `group` as encoded, `pieces` as
    `animoto.timing.stretch` returns them."""

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
    """Returns the arguments that turn the encoded file `video` into the movie `out`.

    total_frames: length of the movie.
    stretch: how the frames are moved in time; None leaves them as they are.
    track: the music, played in a loop; None for a silent movie.

    The index of the file comes first, so it plays before it is loaded whole.
    """
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
        *("-map_chapters", "-1", *_REPRODUCIBLE, "-movflags", "+faststart", "-f", "mp4", out),
    ]


def _setts(fps: int, stretch: Stretch) -> str:
    """Returns ffmpeg's bitstream filter `setts` that moves the time stamps. In its expressions
    register 0 holds the frame's number as encoded, register 1 the number of holds before it."""
    group = stretch.group

    def moved(number: str, holds: str) -> str:
        return f"st(0,{number});st(1,{holds});(ld(0)+{_piecewise(stretch.pieces)})/({fps}*TB)"

    shown_number = f"round(PTS*TB*{fps})"
    holds_before = f"ceil(ld(0)/{group})"
    shown = moved(shown_number, holds_before)
    if group == 1:
        # Frames are decoded in the order shown. The duration is set as well, because no frame
        # follows the last one and ends it.
        next_shown = moved(f"{shown_number}+1", holds_before)
        return f"setts=ts='{shown}':duration='({next_shown})-({shown})'"
    # The next picture is decoded just before the fade to it, at the end of the hold. If it were
    # decoded at the beginning, the movie's last frame would last as long as the last hold.
    decoded = moved(f"round(DTS*TB*{fps})", f"max(0,floor(ld(0)/{group})+1)")
    return f"setts=pts='{shown}':dts='{decoded}'"


def _piecewise(pieces: Sequence[tuple[int, int, int]]) -> str:
    """Returns the expression that picks a piece by register 1 and evaluates it. The conditions
    form a balanced tree, because ffmpeg rejects expressions about 100 levels deep."""
    if len(pieces) == 1:
        first, offset, step = pieces[0]
        return f"({offset}+(ld(1)-{first})*{step})"
    middle = len(pieces) // 2
    return (
        f"if(lt(ld(1),{pieces[middle][0]}),"
        f"{_piecewise(pieces[:middle])},{_piecewise(pieces[middle:])})"
    )


def measure(track: Track) -> list[str]:
    """Returns the arguments that decode the music and report the position reached on standard
    output (`out_time_us=...`)."""
    return [
        *_QUIET,
        *track.source,
        *("-map", "0:a:0", "-progress", "pipe:1", "-f", "null", "-"),
    ]


def measured_s(report: bytes) -> float:
    """Returns the seconds of sound in the `report` that `measure` printed; 0 if there is none."""
    times = [line.partition(b"=")[2] for line in report.split() if line[:12] == b"out_time_us="]
    return int(times[-1]) / 1e6 if times and times[-1].isdigit() else 0.0


def music_format(head: bytes) -> str | None:
    """Returns ffmpeg's name of the demuxer for a file that begins with `head` (at least 12 bytes),
    or None if it is not MP3, AAC, WAV, FLAC, Ogg or MP4."""
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
