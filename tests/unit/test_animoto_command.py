import signal

import pytest

from animoto import command, ffmpeg
from taskfleet.errors import PermanentError, TransientError

STREAM = command.Stream((1280, 720), 25, "fast", 16)


def after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


@pytest.mark.parametrize("group", [2, 4, 8, 16])
def test_fades_are_b_frames_between_pictures(group: int) -> None:
    arguments = command.encode(command.Stream((1280, 720), 25, "fast", group), "out.mp4")
    assert after(arguments, "-framerate") == f"25/{group}"
    assert f":bframes={group - 1}:" in after(arguments, "-x264-params")


def test_cuts_have_a_keyframe_each_and_no_filter() -> None:
    arguments = command.encode(command.Stream((1280, 720), 25, "fast", 1), "out.mp4")
    assert "-vf" not in arguments
    assert ":keyint=1:" in after(arguments, "-x264-params")


def test_moving_pictures_come_frame_by_frame() -> None:
    arguments = command.encode(command.Stream((1080, 1080), 30, "good", None), "out.mp4")
    assert after(arguments, "-framerate") == "30"
    assert after(arguments, "-s") == "1080x1080"
    assert "-vf" not in arguments


def test_ffmpeg_is_always_told_the_format_of_its_inputs() -> None:
    track = command.Track("music", "mp3", 3.0)
    finish = command.finish(
        "in.mp4", "out.mp4", fps=25, total_frames=250, stretch=None, track=track
    )
    for arguments in (finish, command.measure(track)):
        at = arguments.index("music")
        source = arguments[at - 5 : at]
        assert source == ["-protocol_whitelist", "file,pipe", "-f", "mp3", "-i"]
    assert command.encode(STREAM, "out.mp4").count("-i") == 1
    assert after(command.encode(STREAM, "out.mp4"), "-i") == "pipe:0"


def test_an_mp4_of_music_may_not_refer_to_other_files() -> None:
    assert after(command.Track("music", "mov", 0).source, "-enable_drefs") == "0"


@pytest.mark.parametrize(
    ("fade_out_s", "expected"),
    [(3.0, "afade=t=out:st=7.000000:d=3.000000"), (30.0, "afade=t=out:st=0.000000:d=10.000000")],
)
def test_music_fades_out_at_the_end(fade_out_s: float, expected: str) -> None:
    track = command.Track("music", "mp3", fade_out_s)
    arguments = command.finish("a", "b", fps=25, total_frames=250, stretch=None, track=track)
    assert after(arguments, "-af") == expected
    assert after(arguments, "-t") == "10.000000"


def test_music_without_a_fade_is_left_alone() -> None:
    track = command.Track("music", "mp3", 0)
    assert "-af" not in command.finish(
        "a", "b", fps=25, total_frames=250, stretch=None, track=track
    )


def test_many_pieces_make_a_shallow_expression() -> None:
    pieces = [(place, place * 40, 40 + place % 2) for place in range(500)]
    stretch = command.Stretch(16, pieces)
    arguments = command.finish("a", "b", fps=25, total_frames=1, stretch=stretch, track=None)
    (setts,) = [argument for argument in arguments if argument.startswith("setts")]
    depth = deepest = 0
    for char in setts:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    assert depth == 0
    assert deepest < 20


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"ID3\x04" + bytes(12), "mp3"),
        (b"\xff\xfb\x90\x00" + bytes(12), "mp3"),
        (b"\xff\xf3\x90\x00" + bytes(12), "mp3"),
        (b"\xff\xf1\x50\x80" + bytes(12), "aac"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "wav"),
        (b"fLaC" + bytes(12), "flac"),
        (b"OggS" + bytes(12), "ogg"),
        (b"\x00\x00\x00\x20ftypM4A " + bytes(4), "mov"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", None),
        (b"ffconcat version 1.0\n", None),
        (b"#EXTM3U\nfile.ts", None),
        (b"<svg xmlns=", None),
        (b"<!DOCTYPE html>", None),
        (b"\xff\xd8\xff\xe0" + bytes(12), None),
        (b"\x00\x00\x00\x14ftypqt  " + bytes(4), None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_music_is_recognised_by_its_first_bytes(head: bytes, expected: str | None) -> None:
    assert command.music_format(head) == expected


@pytest.mark.parametrize(
    ("report", "seconds"),
    [
        (b"out_time_us=1000000\nprogress=continue\nout_time_us=2500000\nprogress=end\n", 2.5),
        (b"out_time_us=N/A\nprogress=end\n", 0.0),
        (b"", 0.0),
    ],
)
def test_the_length_of_music_is_the_last_position_that_ffmpeg_reported(
    report: bytes, seconds: float
) -> None:
    assert command.measured_s(report) == seconds


@pytest.mark.parametrize(
    ("code", "log", "flags", "expected"),
    [
        (-signal.SIGKILL, "", {"timed_out"}, TransientError),
        (-signal.SIGKILL, "", set(), TransientError),
        (-signal.SIGSEGV, "", set(), TransientError),
        (-signal.SIGKILL, "", {"cpu_exceeded"}, PermanentError),
        (255, "Immediate exit requested", {"cpu_exceeded"}, PermanentError),
        (255, "Immediate exit requested", set(), TransientError),
        (-signal.SIGXFSZ, "", set(), PermanentError),
        (228, "av_interleaved_write_frame(): No space left on device", set(), TransientError),
        (1, "Cannot allocate memory", set(), TransientError),
        (1, "av_interleaved_write_frame(): File too large", set(), PermanentError),
        (1, "Invalid argument", set(), PermanentError),
    ],
)
def test_a_failed_ffmpeg_is_transient_or_permanent(
    code: int, log: str, flags: set[str], expected: type[Exception]
) -> None:
    error = ffmpeg.exit_error(
        code, log, timed_out="timed_out" in flags, cpu_exceeded="cpu_exceeded" in flags
    )
    assert type(error) is expected
