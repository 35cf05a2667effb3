"""A movie that is stopped, killed or out of disk leaves nothing behind but its error."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from animoto import animoto, command, ffmpeg, kind, workspace
from taskfleet.errors import PermanentError, TaskStopped, TransientError
from taskfleet.settings import Settings
from tests.support.animoto import Context, answer, photograph_jpeg, plain, small_frames


@pytest.fixture
def temp(monkeypatch, tmp_path):
    monkeypatch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    small_frames(monkeypatch)
    return folder


def encoders() -> list[int]:
    """Returns the ids of the ffmpeg processes that this process started and has not yet reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition(") ")
        except OSError:
            continue
        if "(ffmpeg" in name and int(rest.split()[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def threads() -> set[str]:
    names = (thread.name for thread in threading.enumerate())
    return {name for name in names if name.startswith("animoto")}


def run(context, images, **params):
    return animoto.run(animoto.parse({"images": images, **params}), context)


def assert_nothing_left(temp):
    assert list(temp.iterdir()) == []
    assert encoders() == []
    assert threads() == set()


@pytest.mark.parametrize("motion", ["none", "kenburns"])
def test_a_movie_stopped_in_the_middle_leaves_nothing(web, temp, motion):
    url = web.add("/a", photograph_jpeg("coffee.png"))
    seen = []

    def stop_at_ten(done, total):
        if done == 10:
            seen.append((encoders(), len(list(temp.iterdir()))))
            context.stop()

    context = Context(on_progress=stop_at_ten)
    with pytest.raises(TaskStopped):
        run(context, [url] * 300, motion=motion, duration=0.6)
    ((running, folders),) = seen
    assert len(running) == 1
    assert folders == 1
    assert_nothing_left(temp)
    assert context.seen[-1][0] < 60
    assert context.store.etag("movies/b1/0.mp4") is None


def test_a_movie_stopped_while_it_waits_for_a_picture_ends_at_once(web, temp):
    def silent(handler):
        threading.Timer(0.2, context.stop).start()
        time.sleep(3)

    images = [web.add("/a", plain("red")), web.add("/b", silent)]
    context = Context()
    begun = time.monotonic()
    with pytest.raises(TaskStopped):
        run(context, images)
    assert time.monotonic() - begun < 2
    assert_nothing_left(temp)


def test_a_movie_stopped_before_it_began_does_not_begin(web, temp):
    context = Context()
    context.stop()
    with pytest.raises(TaskStopped):
        run(context, [web.add("/a", plain("red"))])
    assert_nothing_left(temp)


def test_a_killed_ffmpeg_is_transient_and_leaves_nothing(web, temp):
    url = web.add("/a", photograph_jpeg("coffee.png"))

    def kill_at_five(done, total):
        if done == 5:
            os.kill(encoders()[0], signal.SIGKILL)

    with pytest.raises(TransientError, match="killed by SIGKILL"):
        run(Context(on_progress=kill_at_five), [url] * 300)
    assert_nothing_left(temp)


def test_a_permanent_fault_in_the_middle_leaves_nothing(web, temp):
    url = web.add("/a", photograph_jpeg("coffee.png"))
    images = [url] * 20 + [web.url("/missing")] + [url] * 20
    with pytest.raises(PermanentError, match=r"images\[20\]"):
        run(Context(), images, on_error="fail")
    assert_nothing_left(temp)


def test_a_store_that_fails_leaves_nothing(web, temp):
    class Broken:
        def put_file(self, key, path, *, content_type):
            raise TransientError("throttled")

    with pytest.raises(TransientError, match="throttled"):
        run(Context(store=Broken()), [web.add("/a", plain("red"))])
    assert_nothing_left(temp)


# --- limits ---------------------------------------------------------------------------------

STREAM = command.Stream((1280, 720), 25, "fast", 1)
NOISE = os.urandom(1280 * 720 * 3 // 2)


def encode(tmp_path, limits, frames, out="out.mp4"):
    arguments = command.encode(STREAM, out)
    with ffmpeg.running(
        ffmpeg.find(), arguments, folder=str(tmp_path), limits=limits, context=Context()
    ) as process:
        for _ in range(frames):
            process.write(NOISE)
        process.finish()


def test_a_full_disk_is_transient(tmp_path):
    with pytest.raises(TransientError, match="No space left"):
        encode(tmp_path, ffmpeg.EncodeLimits(wall_s=60, cpu_s=60), 40, "/dev/full")
    assert encoders() == []


def test_a_movie_over_the_cap_of_its_size_is_permanent(tmp_path):
    with pytest.raises(PermanentError, match="cap on its size"):
        encode(tmp_path, ffmpeg.EncodeLimits(wall_s=60, cpu_s=60, file_bytes=1_000_000), 40)
    assert (tmp_path / "out.mp4").stat().st_size <= 1_000_000


def test_an_ffmpeg_that_burns_cpu_is_ended(tmp_path):
    with pytest.raises(PermanentError, match="more CPU time"):
        encode(tmp_path, ffmpeg.EncodeLimits(wall_s=60, cpu_s=1), 2000)


def test_an_ffmpeg_that_hangs_is_killed(tmp_path):
    begun = time.monotonic()
    with pytest.raises(TransientError, match="took too long"):
        encode(tmp_path, ffmpeg.EncodeLimits(wall_s=0.3, cpu_s=60), 2000)
    assert time.monotonic() - begun < 5
    assert encoders() == []


def test_a_download_onto_a_full_disk_is_transient(web, temp):
    """Mounts a tiny file system, which needs root; skipped otherwise."""
    small = temp / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        small.rmdir()
        pytest.skip("optional: needs the right to mount")
    try:
        noise = os.urandom(400_000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tempfile.tempdir", str(small))
            with pytest.raises(TransientError, match="No space left"):
                run(Context(), [web.add("/a", noise)])
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_memory_and_files_do_not_grow_with_the_number_of_pictures(web, temp):
    """Even if the encoder is slow, no more than a window of pictures waits for it."""
    data = photograph_jpeg("coffee.png")
    url = web.add("/a", data)
    most = 0

    def look(done, total):
        nonlocal most
        time.sleep(0.01)
        (folder,) = temp.iterdir()
        most = max(most, len(list(folder.glob("picture-*"))))

    run(Context(on_progress=look), [url] * 120)
    assert 1 < most <= 24


# --- leftovers and ffmpeg itself ------------------------------------------------------------


def old(path):
    os.utime(path, (1, 1))
    return path


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    program = (
        "import os, sys; sys.path.insert(0, os.getcwd())\n"
        "from animoto.workspace import workspace\n"
        f"w = workspace({str(tmp_path)!r}); print(w.__enter__(), flush=True)\n"
        "sys.stdin.read(); os._exit(0)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        theirs = Path(child.stdout.readline().strip())
        old(theirs)
        assert workspace.remove_leftovers(str(tmp_path)) == []
        assert theirs.is_dir()
        child.stdin.close()
        child.wait(timeout=10)
    old(theirs)
    young = tmp_path / f"{workspace.PREFIX}young"
    young.mkdir()
    foreign = tmp_path / "something-else"
    foreign.mkdir()
    old(foreign)
    assert workspace.remove_leftovers(str(tmp_path)) == [str(theirs)]
    assert sorted(tmp_path.iterdir()) == sorted([young, foreign])


def test_a_worker_with_ffmpeg_takes_movies(temp):
    animoto.check()
    assert animoto.max_concurrent() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "does not run"),
        ("exit 3", "does not run"),
        ("echo V..... mpeg4", "lacks aac, framerate, libx264, setts"),
    ],
)
def test_a_worker_without_a_usable_ffmpeg_says_what_to_install(
    temp, tmp_path, monkeypatch, script, said
):
    exe = tmp_path / "ffmpeg"
    if script is not None:
        exe.write_text(f"#!/bin/sh\n{script}\n")
        exe.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(exe))
    with pytest.raises(PermanentError, match=said) as caught:
        animoto.check()
    assert "IMAGEIO_FFMPEG_EXE" in str(caught.value)


@pytest.mark.parametrize("missing", ["PIL", "imageio_ffmpeg", "urllib3"])
def test_a_worker_without_a_library_says_what_to_install(temp, monkeypatch, missing):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PermanentError, match=r"taskfleet\[animoto\]"):
        animoto.check()


def test_the_systems_ffmpeg_makes_the_same_kind_of_movie(web, temp, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/usr/bin/ffmpeg")
    url = web.add("/a", plain("red"))
    animoto.check()
    for params in ({}, {"transition": "cut"}, {"motion": "kenburns"}):
        context = Context()
        result = run(context, [url, {"url": url, "duration": 1}], **params)
        assert result["duration_s"] == pytest.approx(3.4)
        assert len(context.store.get(result["key"])) == result["bytes"]


def test_paths_in_a_url_are_never_paths_on_the_disk(web, temp):
    """Files are named by number; names in a URL or a header are ignored."""
    named = {"Content-Disposition": 'attachment; filename="../../etc/x"'}
    web.add("/etc/cron.d/x", lambda h: answer(h, plain("red"), headers=named))
    web.add("/%2E%2E%2Fx", plain("blue"))
    images = [web.url("/../../../../etc/cron.d/x"), web.url("/%2E%2E%2Fx")]
    context = Context()
    assert run(context, images)["pictures"] == 2
    assert_nothing_left(temp)
