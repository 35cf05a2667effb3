"""The folder of environments: who builds, who waits, what is deleted; with a builder of its own."""

from __future__ import annotations

import threading

import pytest

from taskfleet.errors import PermanentError, TaskStopped
from taskfleet.kinds import uv
from taskfleet.kinds.environment import READY, Environments, key_of, own_folder
from tests.support.waiting import eventually


class Context:
    """As much of a task's context as a build uses."""

    def __init__(self):
        self.stopped = threading.Event()
        self.waits = 0

    def sleep(self, seconds):
        self.waits += 1
        if self.stopped.wait(min(seconds, 0.01)):
            raise TaskStopped("stop")


class Builder:
    """Writes environments of 100 kB. `gate`, if there is one, holds a build up."""

    def __init__(self):
        self.built = []
        self.fails = None
        self.gate = None

    def __call__(self, folder, requirements, cache, context):
        self.built.append(list(requirements))
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
        if self.gate is not None:
            while not self.gate.wait(0.005):
                context.sleep(0.005)
        if self.fails:
            raise self.fails
        (folder / "data").write_bytes(b"x" * 100_000)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "environments"


class Clock:
    now = 1_000_000.0

    def __call__(self):
        Clock.now += 1
        return Clock.now


def made(place, builder, most=10**9):
    return Environments(place, most, builder, Clock())


def folders(place):
    return {path.name for path in place.iterdir() if path.is_dir()}


def test_the_key_is_of_the_set_of_requirements():
    assert key_of(["a", "b "]) == key_of(["b", "a", "a"])
    assert key_of(["a"]) != key_of(["a==1"])


def test_an_environment_is_built_once_and_kept_for_other_processes(place):
    builder = Builder()
    first = made(place, builder).use(["a"], Context())
    second = made(place, builder).use(["a"], Context())
    assert builder.built == [["a"]]
    assert first.folder == second.folder
    assert first.environ()["PATH"].startswith(f"{first.folder}/bin:")


def test_who_comes_while_it_is_built_waits_and_heeds_a_stop(place):
    builder = Builder()
    builder.gate = threading.Event()
    building = threading.Thread(target=made(place, builder).use, args=(["a"], Context()))
    building.start()
    eventually(lambda: builder.built, 5)
    context, ended = Context(), []

    def wait():
        try:
            made(place, builder).use(["a"], context)
        except TaskStopped:
            ended.append("stopped")

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: context.waits > 2, 5)
    context.stopped.set()
    waiting.join(5)
    assert ended == ["stopped"]
    builder.gate.set()
    building.join(5)
    assert builder.built == [["a"]]


def test_a_build_that_is_stopped_leaves_nothing_and_is_done_again(place):
    builder, context = Builder(), Context()
    builder.gate = threading.Event()
    context.stopped.set()
    with pytest.raises(TaskStopped):
        made(place, builder).use(["a"], context)
    assert folders(place) == set()
    builder.gate.set()
    made(place, builder).use(["a"], Context())
    assert len(builder.built) == 2


def test_what_a_killed_builder_left_is_deleted(place):
    place.mkdir(mode=0o700)
    for key in (key_of(["a"]), "another"):
        (place / key).mkdir()
        (place / key / "half").write_bytes(b"x")
    builder = Builder()
    found = made(place, builder).use(["a"], Context())
    assert folders(place) == {found.folder.name}
    assert (found.folder / "data").exists()


def test_a_sweep_spares_what_is_being_built(place):
    builder = Builder()
    builder.gate = threading.Event()
    building = threading.Thread(target=made(place, builder).use, args=(["a"], Context()))
    building.start()
    eventually(lambda: builder.built, 5)
    made(place, builder).sweep()
    assert folders(place) == {key_of(["a"])}
    builder.gate.set()
    building.join(5)
    assert (place / key_of(["a"]) / READY).exists()


def test_a_failure_counts_for_a_minute(place):
    builder = Builder()
    builder.fails = uv.CannotBuild("no such package")
    environments = made(place, builder)
    for _ in range(3):
        with pytest.raises(PermanentError, match="no such package"):
            environments.use(["a"], Context())
    assert len(builder.built) == 1
    assert folders(place) == set()
    Clock.now += 60
    builder.fails = None
    environments.use(["a"], Context())
    assert len(builder.built) == 2


def test_a_machine_without_uv_is_looked_at_again_at_once(place):
    builder = Builder()
    builder.fails = PermanentError("needs uv")
    with pytest.raises(PermanentError, match="needs uv"):
        made(place, builder).use(["a"], Context())
    builder.fails = None
    made(place, builder).use(["a"], Context())
    assert len(builder.built) == 2


def test_a_full_disk_is_told_and_leaves_nothing(place):
    builder = Builder()
    builder.fails = OSError(28, "No space left on device", "/x/data")
    with pytest.raises(PermanentError, match="cannot be built: No space left on device: /x/data"):
        made(place, builder).use(["a"], Context())
    assert folders(place) == set()


def test_the_least_recently_used_go_when_there_is_no_room(place):
    builder = Builder()
    environments = made(place, builder, most=350_000)
    for name in ("a", "b", "c"):
        environments.use([name], Context()).close()
    environments.use(["a"], Context()).close()
    environments.use(["d"], Context()).close()
    assert folders(place) == {key_of([name]) for name in "acd"}


def test_an_environment_in_use_stays_and_downloads_go_first(place):
    builder = Builder()
    environments = made(place, builder, most=250_000)
    held = environments.use(["a"], Context())
    environments.use(["b"], Context()).close()
    (place / "uv").mkdir()
    (place / "uv" / "wheel").write_bytes(b"x" * 90_000)
    environments.use(["c"], Context()).close()
    assert folders(place) == {key_of(["a"]), key_of(["c"])}
    held.close()
    environments.use(["d"], Context())
    assert folders(place) == {key_of(["c"]), key_of(["d"])}


def test_a_spoilt_environment_is_built_again(place):
    builder = Builder()
    found = made(place, builder).use(["a"], Context())
    found.spoil()
    found.close()
    made(place, builder).use(["a"], Context())
    assert len(builder.built) == 2


def test_a_folder_that_others_can_write_is_refused(place, tmp_path):
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(PermanentError, match="not a folder of this user alone"):
        made(place, Builder()).use(["a"], Context())
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(PermanentError, match="not a folder of this user alone"):
        own_folder(link)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(PermanentError, match="TASKFLEET_CACHE_DIR"):
        own_folder(file / "below")


def test_uvs_last_lines_are_bounded():
    assert uv.last_lines("a\n\n b \n") == "a | b"
    assert uv.last_lines("\n".join(map(str, range(50)))).startswith("42 | 43")
    assert len(uv.last_lines("x" * 10_000)) == uv.LINES_MAX_CHARS
