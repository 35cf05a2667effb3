"""FleetExecutor without a cloud: real runner processes on ports in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from taskfleet.executor import FleetExecutor, RemoteTraceback, TaskError
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pool() -> Iterator[FleetExecutor]:
    """One executor for all tests that leave it as it was."""
    with FleetExecutor(local=True, slots=2) as made:
        yield made


def note(path: Path, word: Any) -> None:
    """Append a word to a file, in one write, so that executions can be counted."""
    with path.open("a") as file:
        file.write(f"{word}\n")


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_calls_run_in_other_processes_with_their_closures(pool):
    factor = 3

    def times(number: int) -> tuple[int, int]:
        return number * factor, os.getpid()

    results = list(pool.map(times, range(50)))
    assert [value for value, _ in results] == [3 * n for n in range(50)]
    assert os.getpid() not in {pid for _, pid in results}


def test_what_a_call_prints_can_be_read(pool):
    def loud(text: str) -> None:
        print(text)
        print("to stderr", file=sys.stderr)

    futures = [pool.submit(loud, f"line {n}") for n in range(3)]
    wait(futures, timeout=30)
    assert [f.log() for f in futures] == [f"line {n}\nto stderr\n" for n in range(3)]
    assert pool.submit(len, "").log() == ""


def test_the_calls_own_exception(pool):
    class OfMine(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    def bad() -> None:
        raise ValueError("bad") from KeyError("inner")

    def worse() -> None:
        raise OfMine(1, 2)  # it cannot be unpickled: its __init__ takes two arguments

    with pytest.raises(ValueError, match=r"^bad$") as raised:
        pool.submit(bad).result(30)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in bad" in str(raised.value.__cause__)
    with pytest.raises(TaskError, match="1 and 2") as failed:
        pool.submit(worse).result(30)
    assert "in worse" in str(failed.value.__cause__)


def test_large_arguments_and_results(pool):
    data = os.urandom(1_000_000)
    assert pool.submit(lambda given: given + b"!", data).result(30) == data + b"!"


def test_a_result_that_cannot_be_pickled_fails_with_a_sentence(pool):
    with pytest.raises(TaskError, match="cannot be pickled"):
        pool.submit(threading.Lock).result(30)


def test_a_module_that_is_not_there_fails_with_its_name(pool):
    def uses() -> Any:
        import no_such_module_anywhere

        return no_such_module_anywhere

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        pool.submit(uses).result(30)


def test_a_command_with_files(pool, tmp_path):
    future = pool.command(
        ["sort", "in.txt", "-o", "sorted/out.txt"],
        inputs={"in.txt": b"b\na\n", "sorted/x": b""},
        outputs=["sorted/*.txt"],
    )
    assert pool.download(future.result(30), tmp_path / "made") == [tmp_path / "made/sorted/out.txt"]
    assert (tmp_path / "made/sorted/out.txt").read_text() == "a\nb\n"
    with pytest.raises(TaskError, match="exit status 3") as raised:
        pool.command("echo oh >&2; exit 3").result(30)
    assert (raised.value.result["exit_status"], raised.value.result["stderr"]) == (3, "oh\n")
    with pytest.raises(TaskError, match="no program 'no-such-program'"):
        pool.command(["no-such-program"]).result(30)


def test_outputs_that_lead_out_of_the_folder_are_not_written(pool, tmp_path):
    result = {"outputs": [{"name": "../evil", "url": "memory://x"}]}
    with pytest.raises(ValueError, match="evil"):
        pool.download(result, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_one_call_of_200_ends_its_process_and_hurts_no_other(tmp_path):
    path = tmp_path / "runs"

    def one(number: int) -> int:
        note(path, number)
        if number == 77:
            os._exit(3)
        return number

    with FleetExecutor(local=True, slots=2) as pool:
        results = list(pool.map(one, range(200), return_exceptions=True))
    failure = results.pop(77)
    assert isinstance(failure, TaskError)
    assert "exit status 3" in str(failure)
    assert results == [n for n in range(200) if n != 77]
    assert sorted(map(int, words(path))) == list(range(200)), "none ran twice"


def test_a_hang_ends_at_its_time_out_and_the_others_go_on():
    with FleetExecutor(local=True, slots=2, timeout_s=1) as pool:
        hung = pool.submit(time.sleep, 3600)
        others = list(pool.map(abs, range(20)))
        with pytest.raises(TaskError, match="timed out after 1 s"):
            hung.result(30)
    assert others == list(range(20))


def test_failures_are_tried_again_only_if_asked(tmp_path):
    path = tmp_path / "runs"

    def flaky() -> int:
        note(path, "run")
        if len(words(path)) < 2:
            raise ConnectionError("not yet")
        return len(words(path))

    with FleetExecutor(local=True, slots=1) as pool, pytest.raises(ConnectionError):
        pool.submit(flaky).result(30)
    path.unlink()
    with FleetExecutor(local=True, slots=1, max_attempts=3) as pool:
        assert pool.submit(flaky).result(60) == 2


def test_shutdown_cancels_what_has_not_started(tmp_path):
    path = tmp_path / "started"

    def slow(number: int) -> int:
        note(path, number)
        time.sleep(0.3)
        return number

    pool = FleetExecutor(local=True, slots=1)
    futures = [pool.submit(slow, n) for n in range(50)]
    eventually(lambda: words(path), 30)
    began = time.monotonic()
    pool.shutdown(cancel_futures=True)
    assert time.monotonic() - began < 10
    done = [f for f in futures if not f.cancelled()]
    assert 1 <= len(done) < 20
    assert all(f.result(0) is not None for f in done)
    with pytest.raises(CancelledError):
        futures[-1].result(0)


def test_results_come_as_they_end(pool):
    slow = pool.submit(time.sleep, 0.6)
    eventually(slow.running, 10)  # handed over alone, so that the next is in a bundle of its own
    quick = pool.submit(time.sleep, 0.0)
    assert list(as_completed([slow, quick], timeout=30)) == [quick, slow]


SCRIPT = """
import sys, time
from concurrent.futures import wait
from taskfleet import FleetExecutor

def call(number):
    time.sleep(0.02)
    with open(sys_argv[0], "a") as file:
        file.write(f"{number}\\n")
    return number

sys_argv = sys.argv[1:]
pool = FleetExecutor(local=True, slots=2)
futures = [pool.submit(call, n) for n in range(10)]
futures[-1].add_done_callback(lambda f: print("last", f.result(), flush=True))
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(4)", 4),
        ("raise RuntimeError('own')", 1),
        ("pool.shutdown(wait=False)", 0),
        ("del pool", 0),
    ],
)
def test_no_call_is_lost_and_no_process_left_at_exit(tmp_path, end, status):
    path = tmp_path / "ran"
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT) + end + "\n")
    process = subprocess.Popen(
        [sys.executable, str(script), str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MARK_OF_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "last 9" in out
    assert sorted(map(int, words(path))) == list(range(10))
    assert ("RuntimeError: own" in err) == ("RuntimeError" in end)
    eventually(lambda: not _left_of(tmp_path), 10, "no process is left")


def test_failures_are_told_by_the_futures_and_not_printed_as_well(tmp_path):
    script = textwrap.dedent(
        """
        import os, sys
        from taskfleet import FleetExecutor
        %s
        with FleetExecutor(local=True, slots=1) as pool:
            print(pool.submit(lambda: os._exit(3)).exception())
        """
    )
    said = []
    for set_up in ("", "import logging; logging.basicConfig(format='%(name)s: %(message)s')"):
        ended = subprocess.run(
            [sys.executable, "-c", script % set_up],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ended.stdout == "its process died: exit status 3\n"
        said.append(ended.stderr)
    assert said == ["", "ec2_worker.execute.failures: a task failed\n"]


def test_ctrl_c_cancels_what_has_not_started_and_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from taskfleet import FleetExecutor

            def call(number):
                with open(sys_argv[0], "a") as file:
                    file.write(f"{number}\\n")
                time.sleep(0.3)

            sys_argv = sys.argv[1:]
            with FleetExecutor(local=True, slots=2) as pool:
                futures = [pool.submit(call, n) for n in range(200)]
                print("ready", flush=True)
                futures[-1].result()
            """
        )
    )
    ran = tmp_path / "ran"
    process = subprocess.Popen(
        [sys.executable, str(script), str(ran)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MARK_OF_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    eventually(lambda: words(ran), 60)
    assert len(_left_of(tmp_path)) >= 3, "the script, its fork server, its runners"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert out == "ready\n"
    assert "KeyboardInterrupt" in err
    assert process.returncode in (-signal.SIGINT, 130)
    assert len(words(ran)) < 100
    eventually(lambda: not _left_of(tmp_path), 10, "no process is left")


def test_a_script_that_is_killed_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from taskfleet import FleetExecutor
            pool = FleetExecutor(local=True, slots=2)
            pool.submit(abs, 1).result()
            futures = [pool.submit(time.sleep, 60) for _ in range(2)]
            print("ready", flush=True)
            time.sleep(60)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MARK_OF_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait(10)
    eventually(lambda: not any(child.is_running() for child in children), 20)


def test_a_forked_child_is_told_and_does_no_harm(pool):
    assert pool.submit(abs, -1).result(30) == 1
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def child() -> None:
        try:
            pool.submit(abs, 1)
        except RuntimeError as error:
            said.put(str(error))

    process = context.Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert "before a fork" in said.get()
    assert pool.submit(abs, -2).result(30) == 2


def _left_of(folder: Path) -> list[int]:
    """The processes that still run of those that a test started with its folder as mark. Runner
    processes have sessions of their own, but inherit the variable."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK_OF_TEST") == str(folder):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
