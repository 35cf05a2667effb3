"""Functions with requirements, in environments that uv builds from packages of the tests. Real
runner processes and interpreters; no index."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import cloudpickle
import pytest

from ec2_worker.runner.forkserver import tree
from taskfleet.options import Options
from taskfleet.task import TaskStatus
from tests.functional.test_runner import alive
from tests.support.calls import Calls
from tests.support.waiting import eventually
from tests.support.wheels import unbuildable, wheel

F, S = TaskStatus.FAILED, TaskStatus.SUCCEEDED
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of packages that uv finds, and a folder of environments of the test's own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel(folder, "tinypack", "1.0", "VALUE = 7\ndef tool():\n    print('tool ran')\n", "tool")
    wheel(folder, "tinypack", "2.0", "VALUE = 8\n")
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("TASKFLEET_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def slot(shelf):
    made = Calls()
    yield made
    made.executor.close()


def processes(slot):
    return list(tree(slot.executor._pool._server._process.pid))


def value(*_):
    import tinypack

    return tinypack.VALUE, sys.prefix, os.getpid()


class Point:
    def __init__(self, x):
        self.x = x


def test_calls_run_in_an_environment_of_their_own_that_is_built_once(slot, tmp_path):
    params = [slot.params(value, i, requirements=["tinypack<2"]) for i in range(20)]
    begun = time.monotonic()
    values = {slot.outcome(row) for row in slot.run(params)}
    took_s = time.monotonic() - begun
    assert len(values) == 1  # one process for all of them
    ((number, prefix, _),) = values
    assert number == 7
    assert prefix.startswith(str(tmp_path / "cache" / "environments"))
    assert len(slot.store.reads) == 1
    assert slot.claimed.output.read(0, 200).startswith(b"taskfleet: an environment is built for")
    assert slot.claimed.output.read(1, 200) == b""
    begun = time.monotonic()
    slot.run(params)
    assert time.monotonic() - begun < took_s


def test_two_lists_of_requirements_are_two_environments(slot):
    pins = ["tinypack==1.0", "tinypack==2.0"]
    params = [slot.params(value, requirements=[pins[i % 2]]) for i in range(6)]
    values = [slot.outcome(row) for row in slot.run(params)]
    assert [number for number, _, _ in values] == [7, 8, 7, 8, 7, 8]
    assert len({pid for _, _, pid in values}) == 2


def test_an_environment_has_what_was_required_and_nothing_of_the_worker(slot):
    def look():
        import importlib.util

        import taskfleet.errors  # noqa: F401 - functions may raise its errors

        return [importlib.util.find_spec(name) for name in ("msgspec", "boto3", "pytest")]

    assert slot.call(look, requirements=["tinypack"]) == [None] * 3


def test_programs_of_the_environment_are_on_the_path(slot):
    def runs():
        import subprocess

        return subprocess.run(["tool"], capture_output=True, check=True, text=True).stdout

    assert slot.call(runs, requirements=["tinypack<2"]) == "tool ran\n"


def test_values_failures_and_output_are_as_in_a_runner(slot):
    def fails(x):
        print("said", x)
        raise ValueError("bad", x)

    def large(point):
        return [point.x] * 100_000, {point.x}

    rows = slot.run([slot.params(fails, 3, requirements=["tinypack"])])
    assert rows[0].error == "ValueError: ('bad', 3)"
    assert ", in fails" in rows[0].traceback
    assert "call.py" not in rows[0].traceback
    assert b"said 3\n" in slot.claimed.output.read(0, 1000)
    with pytest.raises(ValueError, match="bad"):
        slot.outcome(rows[0])
    value = slot.call(large, Point(b"x" * 200), requirements=["tinypack"])
    assert value == ([b"x" * 200] * 100_000, {b"x" * 200})
    point = slot.call(lambda data: len(data), b"x" * 300_000, requirements=["tinypack"])
    assert point == 300_000


def test_each_call_starts_in_an_empty_folder(slot):
    def leaves(x):
        found = os.listdir()
        with open(f"left-{x}", "w"):
            pass
        return found

    rows = slot.run([slot.params(leaves, i, requirements=["tinypack"]) for i in range(3)])
    assert [row.result for row in rows] == [[], [], []]


def test_a_module_that_is_not_required_is_named(slot):
    def needs():
        import elsewhere  # noqa: F401

    row = slot.run([slot.params(needs, requirements=["tinypack"])])[0]
    assert "No module named 'elsewhere'; the workers do not have it" in row.error


@pytest.mark.parametrize(
    ("requirement", "says"),
    [
        ("nowhere-to-be-found", "nowhere-to-be-found was not found"),
        ("tinypack==9", "there is no version of tinypack==9"),
        ("tinypack=>1", "Failed to parse"),
        ("./no/such/tinypack-1.0-py3-none-any.whl", "no/such/tinypack-1.0-py3-none-any.whl"),
    ],
)
def test_a_requirement_that_does_not_exist_fails_with_uvs_words(slot, requirement, says):
    params = slot.params(value, requirements=[requirement])
    first, second = slot.run([params])[0], slot.run([params])[0]
    assert first.error.startswith("the environment cannot be built: ")
    assert says in first.error
    assert "\n" not in first.error
    assert len(first.error) < 1_800
    assert (first.status, first.attempts) == (F, 1)
    assert second.error.startswith(first.error + " (tried ")


def test_a_package_that_does_not_build_fails_with_the_builds_words(slot, shelf):
    path = unbuildable(shelf, "fortran")
    row = slot.run([slot.params(value, requirements=[f"fortran @ {path.as_uri()}"])])[0]
    assert "no compiler: gfortran" in row.error
    assert b"no compiler: gfortran" in slot.claimed.output.read(0, 10_000)


def test_without_uv_the_error_says_what_to_install(slot, monkeypatch, tmp_path):
    empty = tmp_path / "uv"
    empty.mkdir()
    (empty / "uv.py").write_text("def find_uv_bin():\n    raise FileNotFoundError\n")
    monkeypatch.syspath_prepend(str(empty))
    monkeypatch.setenv("PATH", str(empty))
    made = Calls()
    try:
        row = made.run([made.params(value, requirements=["tinypack"])])[0]
    finally:
        made.executor.close()
    assert row.error.startswith("requirements need uv on the workers: install")


# --- deaths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "error"),
    [
        ("exit", "its process died: exit status 7"),
        ("segv", "its process died: SIGSEGV"),
        ("kill", "its process died: SIGKILL"),
        ("term", "its process died: SIGTERM"),
        ("garbage", "it wrote to its process's pipe"),
        ("fork", "its process died: exit status 5"),
    ],
)
def test_a_death_in_the_environment_costs_one_call(slot, deed, error):
    def act(x):
        if x != "do":
            return x
        if deed == "exit":
            os._exit(7)
        if deed == "fork":  # a child that keeps the pipe open
            if os.fork() == 0:
                time.sleep(60)
            os._exit(5)
        if deed == "garbage":
            for fd in range(3, 64):
                with contextlib.suppress(OSError):
                    os.write(fd, b"x" * 200)
            time.sleep(60)
        name = {"segv": "SIGSEGV", "kill": "SIGKILL", "term": "SIGTERM"}[deed]
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(60)
        return None

    params = [slot.params(act, x, requirements=["tinypack"]) for x in (1, "do", 3)]
    rows = slot.run(params)
    assert [row.error for row in rows] == [None, error, None]
    assert [row.result for row in rows] == [1, None, 3]
    assert {row.attempts for row in rows} == {1}


def test_an_interpreter_that_was_killed_between_two_calls_costs_nothing(slot):
    params = slot.params(value, requirements=["tinypack"])
    _, _, pid = slot.outcome(slot.run([params])[0])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), 5)
    assert slot.run([params])[0].status is S


def test_a_hang_in_the_environment_ends_at_the_time_out_with_its_process(slot):
    def hangs():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)

    slot.call(value, requirements=["tinypack"])
    known = set(processes(slot))
    params = slot.params(hangs, requirements=["tinypack"])
    row = slot.run([params], options=Options(timeout_s=0.5))[0]
    assert row.error == "timed out after 0.5 s"
    eventually(lambda: len(set(processes(slot)) & known) == 1, 5, "the fork server alone")


def test_interpreters_end_with_the_worker(shelf):
    slot = Calls()
    _, _, pid = slot.call(value, requirements=["tinypack"])
    assert alive(pid)
    slot.executor.close()
    eventually(lambda: not alive(pid), 5)


def test_many_runners_build_once(shelf, tmp_path):
    log = tmp_path / "built"
    backend = f"""
import time

def build_wheel(*_, **__):
    with open({str(log)!r}, "a") as file:
        file.write("once ")
    time.sleep(0.5)
    raise SystemExit("no compiler: gfortran")
"""
    path = unbuildable(shelf, "counted", backend)
    requirement = f"counted @ {path.as_uri()}"
    slots = [Calls() for _ in range(4)]
    rows = []

    def one(slot):
        rows.append(slot.run([slot.params(value, requirements=[requirement])])[0])

    threads = [threading.Thread(target=one, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for slot in slots:
        slot.executor.close()
    assert len(rows) == 4
    assert all("no compiler: gfortran" in row.error for row in rows)
    assert log.read_text() == "once "


def test_an_interpreter_ends_with_its_runner_however_that_ends(slot):
    def both():
        return os.getpid(), os.getppid()

    interpreter, runner = slot.call(both, requirements=["tinypack"])
    os.kill(runner, signal.SIGKILL)
    eventually(lambda: not alive(interpreter), 5)
    assert slot.call(both, requirements=["tinypack"])[0] != interpreter


def test_a_build_that_takes_longer_than_the_call_may_is_ended_with_all_it_started(slot, tmp_path):
    started = tmp_path / "started"
    backend = f"""
import os, subprocess, time

def build_wheel(*_, **__):
    other = subprocess.Popen(["sleep", "600"])
    with open({str(started)!r}, "w") as file:
        file.write(f"{{os.getpid()}} {{other.pid}}")
    time.sleep(600)
"""
    path = unbuildable(tmp_path, "slowly", backend)
    params = slot.params(value, requirements=[f"slowly @ {path.as_uri()}"])
    row = slot.run([params], options=Options(timeout_s=3))[0]
    assert row.error == "timed out after 3 s"
    pids = [int(pid) for pid in started.read_text().split()]
    eventually(lambda: not any(map(alive, pids)), 5)
    left = [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]
    assert [path.name for path in left] == ["uv"]
    assert slot.call(value, requirements=["tinypack<2"])[0] == 7


def test_variables_that_lead_to_the_workers_packages_are_not_passed(slot, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    made = Calls()

    def environ():
        import subprocess

        words = ["python", "-c", "import msgspec"]
        return subprocess.run(words, capture_output=True).returncode, dict(os.environ)

    try:
        code, found = made.call(environ, requirements=["tinypack"])
    finally:
        made.executor.close()
    assert code == 1
    assert "PYTHONPATH" not in found
    assert found["PATH"].split(os.pathsep)[0] == found["VIRTUAL_ENV"] + "/bin"
