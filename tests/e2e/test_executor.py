"""FleetExecutor over HTTP against local clouds of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, as_completed
from pathlib import Path
from typing import Any

import pytest

from taskfleet.client import Client
from taskfleet.errors import Conflict
from taskfleet.executor import Disconnected, FleetExecutor, RemoteTraceback, TaskError
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pool(cloud: Any) -> Iterator[FleetExecutor]:
    with FleetExecutor(url=cloud.url, token=cloud.token, name="test") as made:
        yield made


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def note(path: Path, word: Any) -> None:
    """Append a word to a file, in one write, so that executions can be counted."""
    with path.open("a") as file:
        file.write(f"{word}\n")


def test_calls_come_back_with_results_errors_and_output(cloud, pool):
    factor = 3

    def times(number: int) -> tuple[int, int]:
        print(f"times {number}")
        return number * factor, os.getpid()

    def bad() -> None:
        raise ValueError("bad")

    futures = [pool.submit(times, n) for n in range(50)]
    assert sorted(f.result(60)[0] for f in as_completed(futures, timeout=60)) == [
        3 * n for n in range(50)
    ]
    assert futures[7].log() == "times 7\n"
    assert futures[7].task_id == f"{pool.batch_id}/7"
    with pytest.raises(ValueError, match="bad") as raised:
        pool.submit(bad).result(60)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in bad" in str(raised.value.__cause__)


def test_large_arguments_and_results_go_by_the_store(pool):
    data = os.urandom(500_000)
    made = pool.map(lambda given, end: given + end, [data] * 5, [b"a", b"b", b"c", b"d", b"e"])
    assert [bytes(each[-1:]) for each in made] == [b"a", b"b", b"c", b"d", b"e"]


def test_many_small_calls(cloud, pool):
    assert list(pool.map(lambda x: x, range(10_000), timeout=60)) == list(range(10_000))
    assert pool.batch_id is not None
    with Client(cloud.url, cloud.token) as client:
        assert client.status(pool.batch_id).succeeded == 10_000


def test_a_command_with_files(pool, tmp_path):
    (tmp_path / "in.txt").write_text("b\na\n")
    future = pool.command(
        ["sort", "in.txt", "-o", "out.txt"],
        inputs={"in.txt": tmp_path / "in.txt"},
        outputs=["*.txt"],
    )
    result = future.result(60)
    assert result["exit_status"] == 0
    assert "out.txt" in [each["name"] for each in result["outputs"]]
    with pytest.raises(TaskError, match="exit status 3") as raised:
        pool.command("echo oh >&2; exit 3").result(60)
    assert raised.value.result["exit_status"] == 3
    assert "oh" in raised.value.result["stderr"]


def test_one_call_of_200_ends_its_process_and_a_hang_its_time(cloud, tmp_path):
    path = tmp_path / "runs"

    def one(number: int) -> int:
        note(path, number)
        if number == 77:
            os._exit(3)
        if number == 78:
            time.sleep(3600)
        return number

    with FleetExecutor(url=cloud.url, token=cloud.token, timeout_s=8) as pool:
        results = list(pool.map(one, range(200), return_exceptions=True, timeout=90))
    died, hung = results[77], results[78]
    assert isinstance(died, TaskError)
    assert "exit status 3" in str(died)
    assert isinstance(hung, TaskError)
    assert "timed out after 8 s" in str(hung)
    assert results[:77] + results[79:] == [n for n in range(200) if n not in (77, 78)]
    assert sorted(map(int, words(path))) == list(range(200)), "none ran twice"


def test_what_has_not_started_is_cancelled(cloud, tmp_path):
    path = tmp_path / "runs"

    def slow(number: int) -> int:
        note(path, number)
        time.sleep(1)
        return number

    pool = FleetExecutor(url=cloud.url, token=cloud.token)
    futures = [pool.submit(slow, n) for n in range(200)]
    eventually(lambda: words(path), 30)
    pool.shutdown(cancel_futures=True)
    ran = [f for f in futures if not f.cancelled()]
    assert len(ran) <= len(words(path)) < 200
    with pytest.raises(CancelledError):
        futures[-1].result(0)


DRIVER = """
import os, sys, time
from pathlib import Path
from taskfleet import FleetExecutor

folder = Path(sys.argv[1])

def call(number):
    with open(folder / "runs", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.2)
    return number * number

with FleetExecutor(key=sys.argv[2], name="driver") as pool:
    futures = [pool.submit(call, number) for number in range(40)]
    for future in futures:
        print(future.result(), flush=True)
    print("batch", pool.batch_id)
"""


def driver(cloud: Any, folder: Path, key: str) -> subprocess.Popen[str]:
    script = folder / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), key],
        cwd=folder,
        env={**cloud.child_environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_driver_that_is_killed_and_started_again_runs_no_call_twice(cloud, tmp_path):
    first = driver(cloud, tmp_path, f"driver-{tmp_path}")
    eventually(lambda: len(words(tmp_path / "runs")) >= 10, 60)
    first.kill()
    first.communicate(timeout=30)
    again = driver(cloud, tmp_path, f"driver-{tmp_path}")
    out, _ = again.communicate(timeout=90)
    assert again.returncode == 0
    *results, (_, batch_id) = (line.split() for line in out.splitlines())
    assert [int(each[0]) for each in results] == [n * n for n in range(40)]
    assert sorted(map(int, words(tmp_path / "runs"))) == list(range(40)), "none ran twice"
    futures = FleetExecutor.attach(batch_id, url=cloud.url, token=cloud.token)
    assert [f.result(30) for f in futures] == [n * n for n in range(40)]

    with FleetExecutor(
        key=f"driver-{tmp_path}", name="driver", url=cloud.url, token=cloud.token
    ) as pool:
        other = pool.submit(len, "another call")
        with pytest.raises(Conflict, match="another one than when this key was first used"):
            other.result(30)


def test_calls_without_their_driver_are_collected_by_another(cloud, tmp_path):
    first = driver(cloud, tmp_path, f"lost-{tmp_path}")
    eventually(lambda: len(words(tmp_path / "runs")) >= 10, 60)
    first.kill()
    first.communicate(timeout=30)
    with Client(cloud.url, cloud.token) as client:
        batch = next(each for each in client.batches() if each.name == "driver" and each.total > 0)
    futures = FleetExecutor.attach(batch.batch_id, url=cloud.url, token=cloud.token)
    assert [f.result(60) for f in futures] == [n * n for n in range(batch.total)]
    assert Counter(map(int, words(tmp_path / "runs"))) == Counter(range(batch.total))


def test_a_worker_is_killed_and_no_call_is_lost(start_cloud, tmp_path):
    cloud = start_cloud(
        tmp_path / "cloud", "--workers", "2", "--threads", "2", TASKFLEET_LEASE_S="5"
    )
    runs = tmp_path / "runs"

    def slow(number: int) -> tuple[int, int]:
        note(runs, number)
        time.sleep(0.3)
        return number, os.getppid()

    with FleetExecutor(url=cloud.url, token=cloud.token) as pool:
        futures = [pool.submit(slow, n) for n in range(40)]
        eventually(lambda: len(words(runs)) >= 8, 60)
        workers = [pid for pid, line in cloud.processes().items() if "ec2_worker/run.py" in line]
        os.kill(workers[0], signal.SIGKILL)
        results = [f.result(90)[0] for f in futures]
        assert results == list(range(40))
        batch_id = pool.batch_id or ""
    with Client(cloud.url, cloud.token) as client:
        batch = client.wait(batch_id, 30)
        assert (batch.total, batch.succeeded, batch.failed) == (40, 40, 0)
        assert Counter(row.index for row in client.results(batch_id)) == Counter(range(40))
    assert cloud.stop() == 0


def test_a_cloud_that_stops_in_the_middle_of_map(start_cloud, tmp_path):
    cloud = start_cloud(tmp_path / "cloud", "--workers", "1", "--threads", "2")
    runs = tmp_path / "runs"

    def slow(number: int) -> int:
        note(runs, number)
        time.sleep(0.2)
        return number

    with FleetExecutor(url=cloud.url, token=cloud.token, outage_s=1) as pool:
        results = pool.map(slow, range(100))
        assert next(results) == 0
        assert cloud.stop() == 0
        with pytest.raises(Disconnected, match=f'FleetExecutor.attach."{pool.batch_id}"'):
            list(results)


def test_a_script_runs_with_the_clouds_env_file_and_without_a_cloud(cloud, tmp_path):
    script = textwrap.dedent(
        """
        from taskfleet import FleetExecutor

        with FleetExecutor(%s) as pool:
            print(sum(pool.map(lambda x: x * x, range(1_000))))
        """
    )
    for options, environ in (("", cloud.environ), ("local=True", {})):
        ended = subprocess.run(
            [sys.executable, "-c", script % options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.stdout == "332833500\n", ended.stderr
        assert ended.stderr == ""
