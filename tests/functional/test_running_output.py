"""What a task prints can be read while it runs: a real worker process, the API and the command line
on a cloud in memory."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ec2_worker.output import OUTPUT_MAX_BYTES, ROOM_BYTES, BundleOutput, punch, unnamed_file
from taskfleet.cli import task as command
from taskfleet.cli.main import main
from taskfleet.clock import SystemClock
from taskfleet.registry import Registry
from taskfleet.task import TaskStatus
from tests.functional.test_worker import Fleet
from tests.support import remote
from tests.support.frontend import Frontend
from tests.support.waiting import eventually
from tests.support.worker import Cloud, HandWorker

REGISTRY = Registry.load(["tests.support.poison"])


class Told:
    """The file from which a task of kind `tells` takes what it prints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("")

    def __call__(self, *lines: str) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    @property
    def task(self):
        return {"kind": "tells", "params": str(self.path)}


@pytest.fixture
def api():
    return Frontend(Cloud(clock=SystemClock()), REGISTRY)


@pytest.fixture
def worker(api):
    """A worker process whose lease is a second, and whose heartbeat therefore a third of one."""
    started = remote.start(remote.serve(api.cloud), 0)
    yield started
    started.terminate()
    started.wait(15)


def view(api, batch_id, index=0):
    return api.call("GET", f"/batches/{batch_id}/tasks/{index}").json_body


def log(api, batch_id, index=0, query=""):
    answer = api.call("GET", f"/batches/{batch_id}/tasks/{index}/log{query}")
    return answer.body.decode() if answer.status_code == 200 else None


def test_a_task_is_read_while_it_runs(api, worker, tmp_path):
    first, second = Told(tmp_path / "first"), Told(tmp_path / "second")
    batch_id = api.submit([first.task, second.task, "says", "says"])
    first("one")
    eventually(lambda: log(api, batch_id) == "one\n")
    seen = view(api, batch_id)
    assert (seen["status"], seen["attempts"], seen["log_tail"]) == ("RUNNING", 0, "one\n")
    (running,) = seen["history"]
    assert (running["attempt"], running["outcome"], running["log_bytes"]) == (1, "RUNNING", 4)
    assert log(api, batch_id, 0, "?attempt=1") == "one\n"
    assert log(api, batch_id, 1) is None

    second("x" * 3 * ROOM_BYTES)
    eventually(lambda: view(api, batch_id, 1)["log_bytes"] == 3 * ROOM_BYTES + 1)
    first("two")
    eventually(lambda: log(api, batch_id) == "one\ntwo\n")
    assert log(api, batch_id, 0, "?offset=4") == "two\n"

    first("three", "end")
    second("end")
    eventually(lambda: api.cloud.collect() and api.cloud.monitor.batch(batch_id).finished)
    assert log(api, batch_id) == "one\ntwo\nthree\n"
    assert log(api, batch_id, 1) == "x" * 3 * ROOM_BYTES + "\n"
    done = view(api, batch_id)
    assert (done["status"], done["attempts"], done["log_bytes"]) == ("SUCCEEDED", 1, 14)


def test_what_a_killed_worker_had_shown_stays_and_charges_nobody(api, worker, tmp_path):
    told = Told(tmp_path / "told")
    batch_id = api.submit([told.task])
    told("one")
    eventually(lambda: log(api, batch_id) == "one\n")
    worker.kill()
    worker.wait(15)
    with successor(api):
        eventually(lambda: view(api, batch_id)["log_bytes"] == 4)
        told("two", "end")
        eventually(lambda: api.cloud.collect() and api.cloud.monitor.batch(batch_id).finished)
    done = view(api, batch_id)
    assert (done["status"], done["attempts"], done["worker_id"]) == ("SUCCEEDED", 1, "w-1")
    assert log(api, batch_id) == "one\ntwo\n"


@contextlib.contextmanager
def successor(api):
    started = remote.start(remote.serve(api.cloud), 1)
    try:
        yield
    finally:
        started.terminate()
        started.wait(15)


def test_following_shows_it_growing(api, worker, tmp_path, monkeypatch):
    told = Told(tmp_path / "told")
    batch_id = api.submit([told.task])
    written: list[str] = []
    monkeypatch.setattr(command, "POLL_S", 0.05)
    keep = command._Output.write_rest

    def write(*args):
        page = keep(*args)
        written.append(page.text)
        return page

    monkeypatch.setattr(command._Output, "write_rest", write)
    with api.served() as server:
        host, port = server.server_address[:2]
        monkeypatch.setenv("TASKFLEET_URL", f"http://{host}:{port}")
        monkeypatch.setenv("TASKFLEET_TOKEN", api.token())

        def tell():
            for line in ("one", "two", "three"):
                told(line)
                eventually(lambda line=line: "".join(written).endswith(f"{line}\n"))
            told("end")
            eventually(lambda: api.cloud.collect() and api.cloud.monitor.batch(batch_id).finished)

        telling = threading.Thread(target=tell)
        telling.start()
        result = CliRunner().invoke(main, ["log", batch_id, "0", "--follow"])
        telling.join()
    assert result.exit_code == 0, result.output
    assert result.stdout == "one\ntwo\nthree\n"
    assert written[:3] == ["one\n", "two\n", "three\n"]


# --- what it costs ------------------------------------------------------------------------------


class Counted:
    """A store that counts the calls that write."""

    def __init__(self, store):
        self._store = store
        self.puts: list[tuple[str, int]] = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put_file(self, key, path, *, content_type):
        self._store.put_file(key, path, content_type=content_type)
        self.puts.append((key, len(self._store.get(key))))


@pytest.fixture
def fleet():
    one = Fleet()
    one.registry = REGISTRY
    counted = Counted(one.cloud.store)
    one.ports = one.ports.__class__(**{**vars(one.ports), "store": counted})
    one.puts = counted.puts
    yield one
    one.stop()


def rows(fleet, batch_id):
    return {row.index: row for row in fleet.cloud.rows(REGISTRY, batch_id)}


def logs(fleet, batch_id):
    """The references to all outputs, by index."""
    found = {}
    number = 0
    while records := fleet.cloud.monitor.bundles([f"{batch_id}:{number}"]):
        found |= {row.index: row.log for row in records[0].results}
        number += 1
    return found


def test_of_ten_megabytes_of_one_task_one_is_kept_and_the_rest_counted(fleet):
    batch_id = fleet.submit([{"kind": "says", "params": 10_000_000}])
    fleet.start()
    fleet.finished(batch_id)
    ((key, size),) = fleet.puts
    assert size == OUTPUT_MAX_BYTES
    (ref,) = logs(fleet, batch_id).values()
    assert ref == (key, 0, OUTPUT_MAX_BYTES, 9_000_001)
    api = Frontend(fleet.cloud, REGISTRY)
    seen = view(api, batch_id)
    assert (seen["log_bytes"], seen["log_dropped"]) == (OUTPUT_MAX_BYTES, 9_000_001)
    assert log(api, batch_id) == "x" * OUTPUT_MAX_BYTES


def test_ten_kilobytes_of_each_of_ten_thousand_tasks_are_all_readable(fleet):
    batch_id = fleet.submit([{"kind": "says", "params": 10_000}] * 10_000)
    fleet.start()
    fleet.finished(batch_id, within_s=60)
    refs = logs(fleet, batch_id)
    assert len(refs) == 10_000
    bundles = {key for key, *_ in refs.values()}
    assert len(fleet.puts) == len(bundles) <= 100  # one call for each bundle, none for a task
    assert sum(size for _, size in fleet.puts) == 10_000 * 10_001
    whole = {key: fleet.cloud.store.get(key) for key in bundles}
    for key, offset, length, dropped in refs.values():
        assert (length, dropped) == (10_001, 0)
        assert whole[key][offset : offset + length] == b"x" * 10_000 + b"\n"
    assert log(Frontend(fleet.cloud, REGISTRY), batch_id, 9_999) == "x" * 10_000 + "\n"


def test_tasks_that_print_nothing_cost_no_call_while_they_run(fleet):
    batch_id = fleet.submit(["holds", *["says"] * 3])
    fleet.start(lease_s=1.0, drain_timeout_s=0.1)
    eventually(lambda: fleet.cloud.store._objects.get("pid/0"))
    renewed = lambda: fleet.cloud.monitor.bundles([f"{batch_id}:0"])[0].lease.expires_at  # noqa: E731
    first = renewed()
    eventually(lambda: renewed() > first + 1.0)
    assert fleet.puts == []


def test_no_lease_waits_for_a_store_that_does_not_answer(fleet, tmp_path, monkeypatch):
    answers, asked = threading.Event(), threading.Event()
    keep = Counted.put_file

    def put_file(*args, **options):
        asked.set()
        assert answers.wait(30)
        keep(*args, **options)

    monkeypatch.setattr(Counted, "put_file", put_file)
    told = Told(tmp_path / "told")
    batch_id = fleet.submit([told.task])
    fleet.start(lease_s=1.0)
    told("one")
    assert asked.wait(20)
    renewed = lambda: fleet.cloud.monitor.bundles([f"{batch_id}:0"])[0].lease.expires_at  # noqa: E731
    first = renewed()
    eventually(lambda: renewed() > first + 1.5)
    answers.set()
    told("end")
    assert fleet.finished(batch_id).tally.succeeded == 1
    assert [ref[1:] for ref in logs(fleet, batch_id).values()] == [(0, 4, 0)]


def test_output_is_stored_no_faster_than_its_size_allows():
    """A bundle that prints on and on is stored at most once a heartbeat, and 100 kB a second on
    average."""
    cloud = Cloud()
    cloud.submit(REGISTRY, ["says one"])
    worker = HandWorker(cloud, REGISTRY)
    counted = Counted(cloud.store)
    worker.heartbeat._logs._store = counted
    assert worker.poll()
    claimed = worker.take().claimed
    source = unnamed_file(appended=True)
    for _ in range(600):
        os.write(source, b"x" * 10_000)
        claimed.output.keep_running(0, source, 0, os.fstat(source).st_size, 1.0)
        worker.heartbeat.beat()
        cloud.clock.sleep(1)
    assert len(counted.puts) <= 60
    assert len(counted.puts) >= 15
    assert sum(size for _, size in counted.puts) <= 600 * 100_000 + 4_000_000
    worker.executor.close()


# --- places -----------------------------------------------------------------------------------

Step = st.tuples(
    st.sampled_from(["print", "print", "look", "end", "again", "store"]),
    st.integers(0, 3),
    st.sampled_from([1, 100, 5_000, 40_000, 700_000]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(Step, max_size=40))
def test_an_older_place_reads_the_right_bytes_of_a_newer_copy(steps):
    """Whatever tasks print, end and do again, and whenever it is looked at and stored."""
    output, random_bytes = BundleOutput(), random.Random(1).randbytes
    source = unnamed_file(appended=True)
    sources: dict[int, bytes] = {}
    said: dict[int, bytes] = {}
    given_out: list[tuple[int, int, bytes]] = []
    ended: set[int] = set()
    try:
        for step, index, size in steps:
            if index in ended:
                continue
            text = sources.setdefault(index, b"")
            if step == "print":
                sources[index] = text + random_bytes(size)
            elif step in ("look", "end"):
                os.ftruncate(source, 0)
                os.write(source, text)
                if step == "look":
                    output.keep_running(index, source, 0, len(text), 1.0)
                elif text:
                    output.keep(index, source, 0, len(text))
                if text:
                    said[index] = text
                if step == "end":
                    ended.add(index)
            elif step == "again":
                output.forget_running([index])
                sources[index] = b""
                said.pop(index, None)
            else:
                taken = output.snapshot()
                with open(taken.file, "rb") as file:
                    copy = file.read()
                assert taken.places.keys() == said.keys()
                for each, place in taken.places.items():
                    kept = said[each][:OUTPUT_MAX_BYTES]
                    assert place[1:] == (len(kept), len(said[each]) - len(kept))
                    given_out.append((place.offset, place.length, kept))
                for offset, length, kept in given_out:
                    assert copy[offset : offset + length] == kept
                printed = sum(map(len, said.values()))
                assert len(copy) <= 8 * max(printed, ROOM_BYTES) + 20 * 40 * ROOM_BYTES
    finally:
        os.close(source)


def test_the_row_of_a_running_task_charges_no_attempt():
    cloud = Cloud()
    cloud.submit(REGISTRY, ["says one"])
    worker = HandWorker(cloud, REGISTRY)
    worker.poll()
    (claimed,) = worker.workload.in_hand()
    claimed.logs.shown = {0: (("logs/b/0/x", 0, 4, 0), 123.0), 7: (("logs/b/0/x", 4, 4, 0), None)}
    (row,) = claimed.rows()
    assert (row.index, row.status, row.attempts, row.started_at) == (
        0,
        TaskStatus.RUNNING,
        0,
        123.0,
    )
    assert not row.is_note
    assert row.as_attempt is None
    claimed.note(0, 124.0, "w-1")
    (row,) = claimed.rows()
    assert (row.is_note, row.attempts, row.log) == (True, 1, ("logs/b/0/x", 0, 4, 0))
    worker.executor.close()


@pytest.mark.parametrize("holes", [True, False])
def test_disk_space_that_is_given_back(holes, monkeypatch):
    if not holes:  # as on a file system without them
        monkeypatch.setattr(
            "ctypes.CDLL", lambda *_a, **_k: SimpleNamespace(fallocate=lambda *_: -1)
        )
    fd = unnamed_file(appended=True)
    try:
        os.write(fd, b"x" * 1_000_000)
        if holes:
            os.write(fd, b"of the next task")
        punch(fd, 100_000, 1_000_000)
        assert os.fstat(fd).st_size == (1_000_016 if holes else 100_000)
        assert os.fstat(fd).st_blocks * 512 < 200_000
        assert os.pread(fd, 100_000, 0) == b"x" * 100_000
        if holes:
            assert os.pread(fd, 100, 1_000_000) == b"of the next task"
        size = os.fstat(fd).st_size
        punch(fd, size, size)
        assert os.fstat(fd).st_size == size
    finally:
        os.close(fd)
