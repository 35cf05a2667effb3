"""ffmpeg decodes only sound of what users hand in, and inherits no environment (D10)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from animoto import animoto, command, ffmpeg, kind, music, spec
from animoto.ffmpeg import EncodeLimits
from taskfleet.errors import PermanentError
from taskfleet.fetch.download import Downloader
from taskfleet.settings import Settings
from tests.support.animoto import Context, Web, plain, small_frames
from tests.support.tools import needs

BUNDLED = imageio_ffmpeg.get_ffmpeg_exe()
SYSTEM = needs("ffmpeg")
SECRETS = {
    "TASKFLEET_TOKEN_SECRET": "secret-1",
    "TASKFLEET_BUCKET": "secret-2",
    "AWS_SECRET_ACCESS_KEY": "secret-3",
    "AWS_SESSION_TOKEN": "secret-4",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "secret-5",
    "SOMETHING_ELSE": "secret-6",
}
PICTURE = ["-f", "lavfi", "-i", "testsrc=d=0.2:s=64x36:r=10"]
COVERED = {
    "mp3": ["-c:v", "mjpeg", "-frames:v", "1", "-disposition:v", "attached_pic"],
    "m4a": ["-c:v", "libx264", "-c:a", "aac", "-f", "mp4", "-brand", "M4A "],
    "flac": ["-c:v", "png", "-frames:v", "1", "-disposition:v", "attached_pic"],
}
SOUNDS = {
    "mp3": ["-c:a", "libmp3lame"],
    "m4a": ["-c:a", "aac", "-f", "mp4", "-brand", "M4A "],
    "alac.m4a": ["-c:a", "alac", "-f", "mp4", "-brand", "M4A "],
    "aac": ["-c:a", "aac"],
    "flac": ["-c:a", "flac"],
    "flac.ogg": ["-c:a", "flac"],
    "vorbis.ogg": ["-c:a", "libvorbis"],
    "opus.ogg": ["-c:a", "libopus"],
    "wav": ["-c:a", "pcm_s16le"],
    "24.wav": ["-c:a", "pcm_s24le"],
    "float.wav": ["-c:a", "pcm_f32le"],
    "u8.wav": ["-c:a", "pcm_u8"],
    "adpcm.wav": ["-c:a", "adpcm_ms"],
}


def sound(path: Path, arguments: list[str], *inputs: str) -> command.Track:
    """Writes a file of 0.5 s of sound, and whatever else `inputs` have."""
    maps = ["-map", "0", "-map", "1"] if inputs else []
    done = [SYSTEM, "-v", "error", "-y", "-f", "lavfi", "-i", "sine=d=0.5", *inputs, *maps]
    subprocess.run([*done, *arguments, str(path)], check=True, timeout=30)
    form = command.music_format(path.read_bytes()[:16])
    assert form is not None
    return command.Track(str(path), form, 1)


def opened(exe: str, arguments: list[str]) -> str:
    """What ffmpeg says about the decoders that it opens."""
    loud = ["debug" if part == "error" else part for part in arguments]
    done = subprocess.run([exe, *loud], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stderr.decode(errors="replace")


@pytest.mark.parametrize("exe", [SYSTEM, BUNDLED], ids=["system", "bundled"])
@pytest.mark.parametrize("name", COVERED)
def test_the_pictures_in_music_are_not_decoded(tmp_path: Path, name: str, exe: str) -> None:
    track = sound(tmp_path / f"a.{name}", COVERED[name], *PICTURE)
    said = opened(exe, command.measure(track))
    # A decoder that runs chooses a format for its pictures. Parsers may still split the stream.
    assert "not on whitelist" in said
    assert "get_format" not in said


@pytest.mark.parametrize("exe", [SYSTEM, BUNDLED], ids=["system", "bundled"])
@pytest.mark.parametrize("name", SOUNDS)
def test_every_usual_kind_of_sound_is_decoded(tmp_path: Path, name: str, exe: str) -> None:
    track = sound(tmp_path / f"a.{name}", SOUNDS[name])
    done = subprocess.run([exe, *command.measure(track)], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr[-500:]
    assert command.measured_s(done.stdout) == pytest.approx(0.5, abs=0.15)


def test_music_of_an_odd_codec_is_a_clear_error(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = sound(tmp_path / "odd.wav", ["-c:a", "adpcm_yamaha"])
    url = web.add("/music", Path(track.path).read_bytes())
    fetcher = Downloader(allow_private=True, connections=1, uploaded=lambda _id, _cap: b"")
    with pytest.raises(PermanentError, match=r"cannot be played|no sound"):
        music.fetch(spec.Music(url), str(tmp_path), fetcher, BUNDLED, Context())
    fetcher.close()


# --- the environment ------------------------------------------------------------------------


@pytest.fixture
def teller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that passes for ffmpeg and notes its environment, one file a run."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    told = tmp_path / "told"
    told.mkdir()
    exe = tmp_path / "ffmpeg"
    exe.write_text(
        f"#!{sys.executable} -IS\nimport json, os, sys\n"
        f"with open({str(told)!r} + '/' + str(os.getpid()), 'w') as file:\n"
        "    json.dump(dict(os.environ), file)\n"
        f"os.execv({BUNDLED!r}, [{BUNDLED!r}, *sys.argv[1:]])\n"
    )
    exe.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(exe))
    return told


def assert_told_nothing(told: Path, runs: int) -> None:
    files = list(told.iterdir())
    assert len(files) == runs
    for file in files:
        env = json.loads(file.read_text())
        assert set(env) <= {"PATH", "LD_LIBRARY_PATH", "LC_CTYPE"}
        assert not any("secret" in value for value in env.values())


def test_no_ffmpeg_of_a_movie_inherits_the_workers_environment(
    web: Web, tmp_path: Path, teller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
    small_frames(monkeypatch)
    track = sound(tmp_path / "a.mp3", SOUNDS["mp3"])
    params = {
        "images": [web.add("/a", plain("red"))],
        "duration": 0.4,
        "music": {"url": web.add("/music", Path(track.path).read_bytes())},
    }
    animoto.run(animoto.parse(params), Context())
    assert_told_nothing(teller, 3)


def test_no_ffmpeg_that_is_only_asked_for_its_parts_inherits_it(teller: Path) -> None:
    ffmpeg.check(ffmpeg.find())
    assert_told_nothing(teller, 3)


def test_finding_ffmpeg_starts_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    imageio_ffmpeg._utils._get_ffmpeg_exe.cache_clear()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert Path(ffmpeg.find()).is_file()


def test_the_environment_of_a_running_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    limits = EncodeLimits(wall_s=20, cpu_s=20)
    arguments = command.encode(command.Stream((64, 36), 25, "fast", 1), "out.mp4")
    with ffmpeg.running(
        BUNDLED, arguments, folder=str(tmp_path), limits=limits, context=Context()
    ) as process:
        raw = Path(f"/proc/{process._child.pid}/environ").read_bytes()
        process.write(bytes(64 * 36 * 3 // 2))
        process.finish()
    assert b"secret" not in raw
