"""Whole movies, from pictures on a web server to the finished file."""

import math
import struct
import subprocess
import wave
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from animoto import animoto, kind, picture
from taskfleet.errors import PermanentError, TransientError
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from tests.support.animoto import (
    PHOTOGRAPHS,
    SMALL,
    Context,
    answer,
    boxes,
    frames,
    photograph_jpeg,
    plain,
    probe,
    similarity,
    small_frames,
    video,
)

MIDDLING = (480, 270)


@pytest.fixture(autouse=True)
def local(monkeypatch, tmp_path):
    """Allows loopback addresses; the temporary directory must be empty after each test."""
    monkeypatch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture
def small(monkeypatch):
    """For tests of time, sound and order."""
    small_frames(monkeypatch)


@pytest.fixture
def middling(monkeypatch):
    """For tests that compare what is seen with what was given."""
    small_frames(monkeypatch, MIDDLING)


@pytest.fixture
def make(tmp_path):
    """Makes a movie of params; returns the result and the path of the file."""

    def make(params, **context):
        ctx = Context(**context)
        result = animoto.run(animoto.parse(params), ctx)
        path = tmp_path / "movie.mp4"
        path.write_bytes(ctx.store.get(result["key"]))
        return result, path

    return make


@pytest.fixture
def photos(web):
    return [web.add(f"/{name}.jpg", photograph_jpeg(name)) for name in PHOTOGRAPHS]


def expected(name, tmp_path, size=MIDDLING, fit="blur"):
    """Returns the Y plane of the frame that the photograph becomes."""
    path = tmp_path / "expected.jpg"
    path.write_bytes(photograph_jpeg(name))
    return np.asarray(picture.load(str(path), size, fit).y)


# --- the file -------------------------------------------------------------------------------


def test_the_result_says_what_was_made_and_where_it_lies(make, photos):
    context = Context(batch_id="abc", index=7)
    result = animoto.run(animoto.parse({"images": photos}), context)
    assert result == {
        "key": "movies/abc/7.mp4",
        "poster_key": "movies/abc/7.jpg",
        "duration_s": 12.0,
        "width": 1280,
        "height": 720,
        "bytes": len(context.store.get("movies/abc/7.mp4")),
        "pictures": 5,
        "skipped": [],
    }
    assert context.seen == [(n, 5) for n in range(1, 6)]


def test_urls_are_signed_when_the_result_is_read_and_not_stored(make, photos):
    context = Context()
    result = animoto.run(animoto.parse({"images": photos[:1]}), context)
    assert not [key for key in result if "url" in key]
    seen = Registry.load(["animoto"])["animoto"].present(result, context.store)
    assert seen["url"] == context.store.url(result["key"], expires_s=3600)
    assert seen["poster_url"] == context.store.url(result["poster_key"], expires_s=3600)


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        ("720p", (1280, 720)),
        ("1080p", (1920, 1080)),
        ("square", (1080, 1080)),
        ("story", (1080, 1920)),
    ],
)
@pytest.mark.parametrize("transition", ["crossfade", "cut"])
def test_the_file_plays_anywhere(make, web, preset, size, transition):
    images = [web.add(f"/{colour}", plain(colour)) for colour in ("red", "green", "blue")]
    _, path = make({"images": images, "preset": preset, "transition": transition})
    found = video(path)
    assert (found["width"], found["height"]) == size
    assert found["codec_name"] == "h264"
    assert found["pix_fmt"] == "yuv420p"
    assert found["color_range"] == "tv"
    assert found["color_space"] == "smpte170m"
    assert found["color_primaries"] == found["color_transfer"] == "bt709"
    assert float(found["start_time"]) == 0
    assert len(probe(path)["streams"]) == 1
    assert boxes(path).index("moov") < boxes(path).index("mdat")


@pytest.mark.parametrize("fps", [25, 30])
@pytest.mark.parametrize("motion", ["none", "kenburns"])
@pytest.mark.parametrize("transition", ["crossfade", "cut"])
@pytest.mark.parametrize("duration", [0.2, 0.5, 1.1])
@pytest.mark.usefixtures("small")
def test_n_pictures_of_d_seconds_make_n_times_d(make, web, fps, motion, transition, duration):
    url = web.add("/a", plain("red"))
    params = {"images": [url] * 5, "duration": duration, "fps": fps}
    result, path = make({**params, "transition": transition, "motion": motion})
    assert abs(result["duration_s"] - 5 * duration) <= 1 / fps
    for seconds in (probe(path)["format"]["duration"], video(path)["duration"]):
        assert abs(float(seconds) - 5 * duration) <= 1 / fps + 1e-3
    assert len(frames(path, fps)) == round(result["duration_s"] * fps)


@pytest.mark.parametrize("transition", ["crossfade", "cut"])
@pytest.mark.parametrize("motion", ["none", "kenburns"])
@pytest.mark.usefixtures("small")
def test_one_picture_is_a_movie(make, web, transition, motion):
    images = [web.add("/a", plain("red")), web.url("/missing")]
    result, path = make({"images": images, "transition": transition, "motion": motion})
    assert result["duration_s"] == 2.4
    assert abs(float(video(path)["duration"]) - 2.4) <= 0.04
    assert len(frames(path, 25)) == 60


@pytest.mark.usefixtures("small")
def test_durations_of_their_own_do_not_drift(make, web):
    levels = [30 + 20 * n for n in range(9)]
    images = [
        {"url": web.add(f"/{n}", plain((level,) * 3)), "duration": 0.3 + 0.17 * n}
        for n, level in enumerate(levels)
    ]
    _, path = make({"images": images, "transition": "cut"})
    seen = frames(path, 25)[:, SMALL[1] // 2, SMALL[0] // 2].astype(int)
    ends = np.cumsum([image["duration"] for image in images])
    for level, start, end in zip(levels, [0, *ends], ends, strict=False):
        middle = seen[round((start + end) / 2 * 25)]
        assert abs(middle - (16 + level * 219 / 255)) <= 3
    assert len(seen) == round(ends[-1] * 25)


@pytest.mark.usefixtures("small")
def test_five_hundred_pictures_of_different_lengths(make, web):
    """The expression that moves the time stamps then has one piece per picture."""
    url = web.add("/a", plain("navy", (32, 18)))
    images = [{"url": url, "duration": 0.2 + 0.04 * (n % 3)} for n in range(500)]
    result, path = make({"images": images})
    total = sum(image["duration"] for image in images)
    assert result["pictures"] == 500
    assert abs(float(video(path)["duration"]) - total) <= 0.04


@pytest.mark.usefixtures("small")
def test_the_same_job_twice_gives_the_same_bytes(photos, web):
    web.add("/music", music(0.5))
    params = {
        "images": [*photos, {"url": photos[0], "duration": 1.5, "caption": "Twice"}],
        "music": {"url": web.url("/music")},
        "duration": 0.6,
    }
    for motion in ("none", "kenburns"):
        made = []
        for _ in range(2):
            context = Context()
            result = animoto.run(animoto.parse({**params, "motion": motion}), context)
            made.append([context.store.get(result[key]) for key in ("key", "poster_key")])
        assert made[0] == made[1]


# --- what is seen ---------------------------------------------------------------------------


@pytest.mark.parametrize("quality", ["fast", "good"])
@pytest.mark.parametrize("fit", ["blur", "contain", "cover"])
@pytest.mark.usefixtures("middling")
def test_the_middle_of_a_slot_is_the_picture_and_of_a_fade_the_mean(
    make, photos, tmp_path, fit, quality
):
    _, path = make({"images": photos, "fit": fit, "quality": quality})
    seen = frames(path, 25)
    pictures = [expected(name, tmp_path, fit=fit) for name in PHOTOGRAPHS]
    for number, wanted in enumerate(pictures):
        assert similarity(seen[60 * number + 30], wanted) >= 0.97
        assert similarity(seen[60 * number], wanted) >= 0.97
    for number, (one, other) in enumerate(pairwise(pictures)):
        # The eighth of the 16 steps from one picture to the next is the middle of the fade.
        mean = (one.astype(int) + other) // 2
        assert similarity(seen[60 * number + 44 + 8], mean.astype(np.uint8)) >= 0.97


@pytest.mark.usefixtures("small")
def test_a_cut_shows_nothing_between_two_pictures(make, web):
    images = [web.add("/a", plain("black")), web.add("/b", plain("white"))]
    _, path = make({"images": images, "transition": "cut", "duration": 0.4})
    levels = frames(path, 25)[:, SMALL[1] // 2, SMALL[0] // 2]
    assert max(levels[:10]) < 20
    assert min(levels[10:]) > 230


@pytest.mark.usefixtures("small")
def test_a_fade_is_even(make, web):
    images = [web.add("/a", plain("black")), web.add("/b", plain("white"))]
    _, path = make({"images": images})
    levels = frames(path, 25)[:, SMALL[1] // 2, SMALL[0] // 2].astype(int)
    wanted = [16] * 45 + [16 + round(219 * n / 16) for n in range(1, 16)] + [235] * 60
    assert np.abs(levels - wanted).max() <= 4


def test_a_caption_is_seen_on_its_picture_only(make, web):
    url = web.add("/a", plain((60, 60, 60)))
    images = [url, {"url": url, "caption": "Here %{pts} ' : \\"}, url]
    _, path = make({"images": images, "duration": 0.8})
    lit = (frames(path, 25)[[2, 22, 42]] > 200).sum(axis=(1, 2))
    assert lit[0] == lit[2] == 0
    assert lit[1] > 500


@pytest.mark.usefixtures("middling")
def test_ken_burns_moves_smoothly_and_fades(make, web, tmp_path):
    url = web.add("/a", photograph_jpeg("retina.jpg"))
    _, path = make({"images": [url, url], "motion": "kenburns", "fit": "cover", "duration": 2})
    seen = frames(path, 25).astype(int)
    assert len(seen) == 100
    steps = np.abs(np.diff(seen[2:30, ::2, ::2], axis=0)).mean(axis=(1, 2))
    assert steps.min() > 0.05
    assert steps.max() < 6 * np.median(steps)
    still = expected("retina.jpg", tmp_path, fit="cover")
    assert similarity(seen[0].astype(np.uint8), still) > 0.97
    assert similarity(seen[34].astype(np.uint8), still) < 0.8


def test_the_poster_is_the_first_picture(photos, tmp_path):
    """And so is the first slot, here with as many pixels as users get."""
    context = Context()
    result = animoto.run(animoto.parse({"images": photos[:2], "duration": 0.6}), context)
    path = tmp_path / "poster.jpg"
    path.write_bytes(context.store.get(result["poster_key"]))
    with Image.open(path) as poster:
        assert poster.size == (1280, 720)
        light = np.asarray(poster.convert("L")) * (219 / 255) + 16
    wanted = expected(PHOTOGRAPHS[0], tmp_path, (1280, 720))
    assert similarity(light.astype(np.uint8), wanted) > 0.95
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(context.store.get(result["key"]))
    assert similarity(frames(movie, 25)[3], wanted) >= 0.97


# --- music ----------------------------------------------------------------------------------


def music(seconds: float, level: float = 0.5) -> bytes:
    """Returns a WAV file with a steady tone."""
    times = np.arange(int(44100 * seconds)) / 44100
    samples = (np.sin(2 * math.pi * 440 * times) * 32767 * level).astype("<i2").tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 44100, 88200, 2, 16)
    return head + b"data" + struct.pack("<I", len(samples)) + samples


def loudness(path, tmp_path) -> np.ndarray:
    """Returns the root mean square of each tenth of a second of the movie's sound, 0 to 1."""
    out = tmp_path / "sound.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", path, "-ac", "1", out], check=True)
    with wave.open(str(out)) as sound:
        data = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768
    tenths = data[: len(data) // 4410 * 4410].reshape(-1, 4410)
    return np.sqrt((tenths**2).mean(axis=1))


def converted(web, tmp_path, ending: str, *options: str) -> bytes:
    (tmp_path / "tone.wav").write_bytes(music(1))
    out = tmp_path / f"tone.{ending}"
    command = ["ffmpeg", "-v", "error", "-y", "-i", tmp_path / "tone.wav", *options, out]
    subprocess.run(command, check=True)
    return out.read_bytes()


@pytest.mark.usefixtures("small")
def test_music_is_looped_and_faded_out(make, web, tmp_path):
    url, tune = web.add("/a", plain("red")), web.add("/m", music(0.7))
    _, path = make({"images": [url] * 2, "music": {"url": tune, "fade_out": 2}})
    streams = {s["codec_type"]: s for s in probe(path)["streams"]}
    assert streams["audio"]["codec_name"] == "aac"
    assert abs(float(streams["audio"]["duration"]) - 4.8) <= 0.04
    assert abs(float(probe(path)["format"]["duration"]) - 4.8) <= 0.04
    loud = loudness(path, tmp_path)
    assert loud[2:27].min() > 0.23
    assert loud[46] < 0.1
    assert all(later < earlier for earlier, later in pairwise(loud[29:47]))


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mp3", ()),
        ("flac", ()),
        ("ogg", ("-c:a", "libvorbis")),
        ("m4a", ("-c:a", "aac")),
        ("aac", ("-c:a", "aac", "-f", "adts")),
    ],
)
@pytest.mark.usefixtures("small")
def test_every_kind_of_music_plays(make, web, tmp_path, ending, options):
    tune = web.add("/m", converted(web, tmp_path, ending, *options))
    _, path = make({"images": [web.add("/a", plain("red"))], "music": {"url": tune}})
    assert loudness(path, tmp_path)[5] > 0.1


@pytest.mark.parametrize("motion", ["none", "kenburns"])
@pytest.mark.usefixtures("small")
def test_a_movie_is_fitted_to_its_music(make, web, motion):
    url, tune = web.add("/a", plain("red")), web.add("/m", music(5.3))
    images = [url, url, {"url": url, "duration": 4.8}]
    result, path = make(
        {"images": images, "motion": motion, "music": {"url": tune, "fit_to_music": True}}
    )
    assert abs(result["duration_s"] - 5.3) <= 0.04
    assert abs(float(probe(path)["format"]["duration"]) - 5.3) <= 0.05


@pytest.mark.usefixtures("small")
def test_a_picture_left_out_does_not_shorten_a_movie_fitted_to_music(make, web):
    url, tune = web.add("/a", plain("red")), web.add("/m", music(5.3))
    images = [url, web.url("/missing"), {"url": url, "duration": 4}]
    result, _ = make({"images": images, "music": {"url": tune, "fit_to_music": True}})
    assert result["pictures"] == 2
    assert abs(result["duration_s"] - 5.3) <= 0.04


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is not MP3"),
        (b"#EXTM3U\n#EXTINF:1\n/etc/passwd\n", "is not MP3"),
        (plain("red"), "is not MP3"),
        (b"", "is not MP3"),
        (b"ID3\x04\0\0\0\0\0\0", "cannot be played|contains no sound"),
        (b"ID3ffconcat version 1.0\nfile /etc/passwd\n", "cannot be played|contains no sound"),
        (b"fLaC" + bytes(200), "cannot be played|contains no sound"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(100), "cannot be played|contains no sound"),
        (music(0.01), "contains no sound"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_file_that_is_no_music_fails_the_movie_with_a_reason(make, web, data, said):
    params = {"images": [web.add("/a", plain("red"))], "music": {"url": web.add("/m", data)}}
    with pytest.raises(PermanentError, match=said):
        make(params)


def test_missing_music_fails_the_movie_and_is_named_without_its_query(make, web):
    params = {"images": [web.add("/a", plain("red"))], "music": {"url": web.url("/m?key=hush")}}
    with pytest.raises(PermanentError, match=r"music \(http://.*/m\): answered 404") as caught:
        make(params)
    assert "hush" not in str(caught.value)


def test_too_short_music_cannot_carry_many_pictures(make, web):
    params = {
        "images": [web.add("/a", plain("red"))] * 20,
        "music": {"url": web.add("/m", music(1)), "fit_to_music": True},
    }
    with pytest.raises(PermanentError, match="cannot be fitted"):
        make(params)


# --- pictures that cannot be used -----------------------------------------------------------


@pytest.fixture
def mixed(web):
    """Four images: black, missing, white, and a file that is no picture."""
    return [
        {"url": web.add("/0", plain("black")), "duration": 0.4},
        {"url": web.url("/1?token=hush"), "duration": 0.6},
        {"url": web.add("/2", plain("white")), "duration": 0.8},
        {"url": web.add("/3", b"<html></html>"), "duration": 1.0},
    ]


@pytest.mark.parametrize("transition", ["crossfade", "cut"])
@pytest.mark.parametrize("motion", ["none", "kenburns"])
@pytest.mark.usefixtures("small")
def test_bad_pictures_are_left_out_and_named(make, web, mixed, transition, motion):
    result, path = make({"images": mixed, "transition": transition, "motion": motion})
    assert result["pictures"] == 2
    assert [(one["index"], one["url"]) for one in result["skipped"]] == [
        (1, web.url("/1")),
        (3, web.url("/3")),
    ]
    assert "404" in result["skipped"][0]["reason"]
    assert "not a picture" in result["skipped"][1]["reason"]
    assert result["duration_s"] == pytest.approx(1.2)
    levels = frames(path, 25)[:, SMALL[1] // 2, SMALL[0] // 2]
    assert len(levels) == 30
    assert levels[4] < 20
    assert min(levels[10:]) > 225


@pytest.mark.usefixtures("small")
def test_a_placeholder_keeps_the_time_of_a_bad_picture(make, mixed):
    result, path = make({"images": mixed, "on_error": "placeholder", "transition": "cut"})
    assert result["pictures"] == 2
    assert [one["index"] for one in result["skipped"]] == [1, 3]
    assert result["duration_s"] == pytest.approx(2.8)
    levels = frames(path, 25)[:, SMALL[1] // 2, SMALL[0] // 2]
    assert [round(int(levels[at]), -1) for at in (5, 17, 35, 60)] == [20, 60, 240, 60]


def test_a_bad_picture_fails_the_movie_if_asked(make, mixed):
    with pytest.raises(PermanentError, match=r"images\[1\] \(http://[^?]*/1\): answered 404"):
        make({"images": mixed, "on_error": "fail"})


@pytest.mark.parametrize("on_error", ["skip", "placeholder"])
@pytest.mark.parametrize("motion", ["none", "kenburns"])
@pytest.mark.usefixtures("small")
def test_without_any_picture_there_is_no_movie(make, web, on_error, motion):
    images = [web.url("/1"), web.url("/2")]
    with pytest.raises(PermanentError, match=r"none of the 2 pictures .*404"):
        make({"images": images, "on_error": on_error, "motion": motion})


@pytest.mark.parametrize("on_error", ["skip", "placeholder", "fail"])
@pytest.mark.usefixtures("small")
def test_a_server_in_trouble_is_asked_again_later(make, web, on_error):
    busy = web.add("/b", lambda h: answer(h, status=503, headers={"Retry-After": "0"}))
    images = [web.add("/a", plain("red")), busy]
    with pytest.raises(TransientError, match=r"images\[1\] .*503"):
        make({"images": images, "on_error": on_error})


@pytest.mark.usefixtures("small")
def test_a_server_that_stays_in_trouble_costs_its_picture_not_the_movie(make, web):
    busy = web.add("/b", lambda h: answer(h, status=503, headers={"Retry-After": "0"}))
    images = [web.add("/a", plain("red")), busy]
    result, _ = make({"images": images}, attempt=animoto.retry.max_attempts)
    assert result["pictures"] == 1
    assert "503" in result["skipped"][0]["reason"]
    with pytest.raises(TransientError):
        make({"images": images, "on_error": "fail"}, attempt=animoto.retry.max_attempts)


def test_private_addresses_need_the_setting(make, web, monkeypatch):
    monkeypatch.setattr(kind, "process_settings", Settings)
    with pytest.raises(PermanentError, match="not a public address"):
        make({"images": [web.add("/a", plain("red"))]})
    assert web.connections == 0
