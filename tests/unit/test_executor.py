"""FleetExecutor against a service in memory: what it sends, and what its futures do."""

from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import os
import pickle
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    as_completed,
    wait,
)
from typing import Any

import pytest

from taskfleet.client import ApiError, Unreachable
from taskfleet.errors import Conflict, SettingsError
from taskfleet.executor import Disconnected, FleetExecutor, RemoteTraceback, TaskError
from taskfleet.executor import executor as module
from taskfleet.task import TaskStatus
from tests.support.desk import Service
from tests.support.waiting import eventually

Make = Callable[..., FleetExecutor]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def make(service: Service, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes executors whose desk is the service in memory."""
    monkeypatch.setattr(module, "_desks", lambda *_: service.desk)
    return FleetExecutor


@pytest.fixture
def pool(make: Make) -> Iterator[FleetExecutor]:
    with make() as made:
        yield made


def divide(a: int, b: int) -> float:
    return a / b


# --- the face of concurrent.futures -----------------------------------------------------------


def test_a_call_gives_its_result(pool):
    future = pool.submit(pow, 2, 5)
    assert future.result(10) == 32
    assert (future.index, future.task_id, future.batch_id) == (0, "b0/0", "b0")
    assert future.log() == "log of 0"
    assert future.done()
    assert not future.running()


def test_keywords_and_values_that_are_no_json(pool):
    def both(*, key: tuple[int, ...], other: set[str]) -> tuple[Any, ...]:
        return key, other

    assert pool.submit(both, key=(1, 2), other={"a"}).result(10) == ((1, 2), {"a"})
    assert pool.submit(dict, self=1, fn=2, function=3).result(10) == {
        "self": 1,
        "fn": 2,
        "function": 3,
    }


def test_the_calls_own_exception_with_the_frames_on_the_worker(pool):
    with pytest.raises(ZeroDivisionError, match="division") as raised:
        pool.submit(divide, 1, 0).result(10)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in divide" in str(raised.value.__cause__)


def test_map_takes_several_iterables_and_ends_with_the_shortest(pool):
    assert list(pool.map(operator.add, [1, 2, 3], itertools.count(10))) == [11, 13, 15]
    assert list(pool.map(divide, [], [])) == []


def test_map_raises_at_the_place_of_the_exception(pool):
    results = pool.map(divide, [1, 2, 3], [1, 0, 3])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_gives_exceptions_as_results_if_asked(pool):
    first, second, third = pool.map(divide, [1, 2, 3], [1, 0, 3], return_exceptions=True)
    assert (first, third) == (1, 1)
    assert isinstance(second, ZeroDivisionError)


def test_map_gives_results_as_they_come_if_asked(service, pool):
    assert sorted(pool.map(abs, range(-50, 0), ordered=False)) == list(range(1, 51))
    late = threading.Event()

    service.call = lambda task: late.wait(10) if task["params"]["args"][0] == 0 else 1
    results = pool.map(abs, [0, 1], ordered=False, timeout=10)
    assert next(results) == 1
    late.set()
    assert next(results) is True


def test_map_has_a_timeout(service, pool):
    service.hold()
    with pytest.raises(TimeoutError):
        list(pool.map(abs, [1, 2], timeout=0.05))
    with pytest.raises(TimeoutError):
        list(pool.map(abs, [1, 2], timeout=0.05, ordered=False))
    service.release()


def test_map_reads_an_endless_generator_lazily(pool, monkeypatch):
    monkeypatch.setattr("taskfleet.executor.mapping.AHEAD", 20)
    taken = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = pool.map(abs, endless())
    assert list(itertools.islice(results, 30)) == list(range(30))
    results.close()
    assert 30 <= len(taken) <= 51


def test_a_chunksize_below_one_is_refused_as_everywhere(pool):
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(abs, [1], chunksize=0)


def test_wait_and_as_completed(service, pool):
    service.hold()
    held = [pool.submit(abs, n) for n in range(3)]
    done, pending = wait(held, timeout=0.05)
    assert not done
    assert len(pending) == 3
    with pytest.raises(TimeoutError):
        list(as_completed(held, timeout=0.05))
    service.release()
    done, _ = wait(held, timeout=10, return_when=FIRST_COMPLETED)
    assert done
    assert {f.result() for f in as_completed(held, timeout=10)} == {0, 1, 2}
    failed = [pool.submit(divide, 1, 0)]
    assert wait(failed, timeout=10, return_when=FIRST_EXCEPTION).done == set(failed)


def test_a_result_that_is_late_is_a_timeout_and_comes_later(service, pool):
    service.hold()
    future = pool.submit(abs, -1)
    with pytest.raises(TimeoutError):
        future.result(0.05)
    service.release()
    assert future.result(10) == 1


def test_asyncio_takes_it(pool):
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        one = asyncio.wrap_future(pool.submit(abs, -1))
        return await asyncio.gather(one, loop.run_in_executor(pool, abs, -2))

    assert asyncio.run(main()) == [1, 2]


def test_callbacks_may_submit(pool):
    ended = threading.Event()
    more: list[Any] = []

    def again(_future: Any) -> None:
        more.append(pool.submit(abs, -7))
        ended.set()

    pool.submit(abs, -1).add_done_callback(again)
    assert ended.wait(10)
    assert more[0].result(10) == 7


# --- cancelling -------------------------------------------------------------------------------


def test_a_call_that_waits_can_be_cancelled_and_one_handed_over_cannot(service, make):
    gate = threading.Event()
    arrived = threading.Event()

    def block(name: str) -> None:
        if name == "add":
            arrived.set()
            assert gate.wait(10)

    service.fault = block
    with make() as pool:
        first = pool.submit(abs, -1)
        assert arrived.wait(10)
        second, third = pool.submit(abs, -2), pool.submit(abs, -3)
        assert first.running()
        assert not first.cancel()
        assert not second.running()
        assert second.cancel()
        assert second.cancel()
        assert second.cancelled()
        assert wait([second], timeout=1).done == {second}
        assert "1 waiting, 1 running" in repr(pool)
        gate.set()
        assert (first.result(10), third.result(10)) == (1, 3)
        assert third.index == 1, "a cancelled call has no index"
        with pytest.raises(CancelledError):
            second.result()


def test_shutdown_cancels_what_has_not_started(service, make):
    service.hold()
    pool = make()
    futures = [pool.submit(abs, n) for n in range(10)]
    wait_until(lambda: all(f.running() for f in futures))
    pool.shutdown(wait=False, cancel_futures=True)
    assert len(wait(futures, timeout=10).done) == 10
    assert all(f.cancelled() for f in futures)
    assert set(service.named("cancel")) == {"b0"}


def test_what_is_being_handed_over_while_all_is_cancelled_is_cancelled_too(service, make):
    gate, arrived = threading.Event(), threading.Event()

    def block(name: str) -> None:
        if name == "add":
            arrived.set()
            assert gate.wait(10)

    service.fault = block
    pool = make()
    first = pool.submit(abs, -1)
    assert arrived.wait(10)
    second = pool.submit(abs, -2)
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    assert service.batches["b0"].cancelled, "although the sender is busy"
    gate.set()
    with pytest.raises(CancelledError):
        first.result(10)


def test_ctrl_c_while_waiting_for_the_end_cancels_and_is_raised(service, make, monkeypatch):
    service.hold()
    pool = make()
    future = pool.submit(abs, -1)
    wait_until(future.running)
    join = pool._crew.join

    def interrupted() -> None:
        monkeypatch.setattr(pool._crew, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(pool._crew, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.shutdown()
    with pytest.raises(CancelledError):
        future.result(10)
    wait_until(lambda: not fleet_threads())


def test_ctrl_c_in_the_block_cancels_the_batch(service, make):
    service.hold()
    with pytest.raises(KeyboardInterrupt), make() as pool:  # noqa: PT012
        future = pool.submit(abs, -1)
        wait_until(future.running)
        raise KeyboardInterrupt
    assert future.cancelled()


def test_leaving_a_map_cancels_what_waits(service, make):
    gate = threading.Event()
    service.fault = lambda name: None if name != "open" else gate.wait(10) and None
    with make() as pool:
        results = pool.map(abs, range(5), timeout=0.05)
        with pytest.raises(TimeoutError):
            next(results)
        late = pool.submit(abs, -9)
        gate.set()
        assert late.result(10) == 9
    assert service.named("add") == [(0, 1)]


# --- the end ----------------------------------------------------------------------------------


def test_shutdown_ends_all_calls_and_closes_the_batch(service, make):
    with make(name="n", timeout_s=5, max_attempts=2, memory_mb=300, retry_timeouts=True) as pool:
        futures = [pool.submit(abs, -n) for n in range(100)]
    assert [f.result(0) for f in futures] == list(range(100))
    assert service.named("close_batch") == ["b0"]
    assert service.named("open") == [
        {
            "name": "n",
            "idempotency_key": None,
            "timeout_s": 5,
            "max_attempts": 2,
            "memory_mb": 300,
            "retry_timeouts": True,
        }
    ]
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, 1)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.map(abs, [1])
    pool.shutdown()
    assert not fleet_threads()


def test_an_executor_without_calls_asks_for_nothing(service, make):
    with make():
        pass
    assert not service.seen


def test_shutdown_without_waiting_lets_the_calls_end(service, make):
    service.hold()
    pool = make()
    future = pool.submit(abs, -1)
    pool.shutdown(wait=False)
    service.release()
    assert future.result(10) == 1


def test_a_block_that_raises_closes_its_batch(service, make):
    with pytest.raises(LookupError), make() as pool:  # noqa: PT012
        pool.submit(abs, -1)
        raise LookupError
    assert service.named("close_batch") == ["b0"]


def test_a_block_that_raises_leaves_the_batch_of_a_key_open(service, make):
    with pytest.raises(LookupError), make(key="k") as pool:  # noqa: PT012
        pool.submit(abs, -1)
        raise LookupError
    assert not service.named("close_batch")
    with make(key="k") as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    assert sorted(service.named("run")) == [0, 1]
    assert service.named("close_batch") == ["b0"]


def test_one_that_is_forgotten_ends_its_calls_and_threads(service, make):
    pool = make()
    gone = weakref.ref(pool)
    future = pool.submit(abs, -1)
    del pool
    gc.collect()
    assert gone() is None
    assert future.result(10) == 1
    wait_until(lambda: not fleet_threads())
    assert service.named("close_batch") == ["b0"]


def test_it_cannot_be_pickled_nor_used_after_a_fork(service, make):
    with make() as pool:
        with pytest.raises(TypeError, match="FleetExecutor cannot be pickled"):
            pickle.dumps(pool)
        with pytest.raises(TypeError, match="FleetExecutor cannot be pickled"):
            pool.submit(lambda: pool)
        pool.submit(abs, -1).result(10)
        child = os.fork()
        if not child:
            try:
                pool.submit(abs, 1)
            except RuntimeError as error:
                os._exit(0 if "before a fork" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.submit(abs, -2).result(10) == 2


def test_many_threads_may_use_it(pool):
    results: list[int] = []

    def use(start: int) -> None:
        results.extend(pool.map(abs, range(start, start + 100)))

    threads = [threading.Thread(target=use, args=(n * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == list(range(800))


def test_what_waits_to_be_sent_is_bounded(service, make, monkeypatch):
    monkeypatch.setattr("taskfleet.executor.book.UNSENT_MAX_BYTES", 1_000)
    gate = threading.Event()
    service.fault = lambda name: None if name != "add" else gate.wait(10) and None
    made: list[Any] = []
    with make() as pool:

        def flood() -> None:
            made.extend(pool.submit(len, "x" * 100) for _ in range(30))

        thread = threading.Thread(target=flood)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive(), "submit waits"
        gate.set()
        thread.join(10)
        assert [f.result(10) for f in made] == [100] * 30


# --- what is sent -----------------------------------------------------------------------------


def test_a_function_is_stored_once_and_calls_travel_together(service, make):
    with make() as pool:
        assert list(pool.map(abs, range(5_000))) == list(range(5_000))
    assert len(service.named("put")) == 1
    parts = service.named("add")
    assert len(parts) < 50
    assert [first for first, _ in parts] == [
        sum(count for _, count in parts[:n]) for n in range(len(parts))
    ]


def test_a_call_that_comes_alone_goes_at_once(service, pool):
    for number in range(5):
        assert pool.submit(abs, -number).result(10) == number
    assert service.named("add") == [(n, 1) for n in range(5)]


def test_large_arguments_are_stored_beside_the_task(service, pool):
    assert pool.submit(len, "x" * 200_000).result(10) == 200_000
    assert pool.submit(len, b"x" * 300_000).result(10) == 300_000
    batch = service.batches["b0"]
    assert all("stored" in task["params"] for task in batch.tasks)
    assert all(len(str(task)) < 1_000 for task in batch.tasks)


def test_a_large_result_is_fetched(service, pool):
    service.store["there"] = pickle.dumps((1, 2))
    service.call = lambda _task: {"$stored": "results/b0/0.pickle", "bytes": 9, "url": "there"}
    assert pool.submit(abs, 1).result(10) == (1, 2)


def test_a_command_and_its_files(service, pool, tmp_path):
    path = tmp_path / "a.mov"
    path.write_bytes(b"movie")
    future = pool.command(
        ["ffmpeg", path],
        inputs={"in.mov": path, "b": b"bytes", "c": "https://example.org/c", "d": "upload:1"},
        outputs=["*.mp4"],
        env={"A": "1"},
        stdin="in",
    )
    assert future.result(10)["exit_status"] == 0
    (task,) = service.batches["b0"].tasks
    inputs = task["params"].pop("inputs")
    assert task == {
        "kind": "command",
        "params": {
            "argv": ["ffmpeg", str(path)],
            "outputs": ["*.mp4"],
            "env": {"A": "1"},
            "stdin": "in",
        },
    }
    assert inputs["c"] == "https://example.org/c"
    assert inputs["d"] == "upload:1"
    assert service.store[inputs["in.mov"].removeprefix("upload:")] == b"movie"
    assert service.store[inputs["b"].removeprefix("upload:")] == b"bytes"
    assert pool.command("ls | wc -l").result(10)
    assert service.batches["b0"].tasks[1]["params"] == {"shell": "ls | wc -l"}
    with pytest.raises(FileNotFoundError):
        pool.command(["cat"], inputs={"a": tmp_path / "none"})
    with pytest.raises(TypeError, match="outputs is a list"):
        pool.command(["cat"], outputs="*.png")


# --- errors of users --------------------------------------------------------------------------


def test_a_function_that_cannot_be_pickled_names_what(pool):
    with socket.socket() as connection:
        with pytest.raises(TypeError, match=r"it uses 'connection' \(socket\)"):
            pool.submit(lambda: connection.fileno())
        with pytest.raises(TypeError, match="cannot send a call of len: the arguments"):
            pool.submit(len, [connection])
    with pytest.raises(TypeError, match="5 is no function"):
        pool.submit(5)  # type: ignore[arg-type]


def test_a_result_that_cannot_be_read_here(service, pool):
    service.call = lambda _task: {"$pickle": "bm90IGEgcGlja2xl", "repr": "thing"}
    with pytest.raises(TaskError, match="the result"):
        pool.submit(abs, 1).result(10)


def test_a_failure_without_an_exception_is_a_task_error(service, pool):
    service.run = lambda batch, index: service.end(
        batch,
        index,
        status=TaskStatus.FAILED,
        result={"exit_status": 3},
        error="timed out after 2 s",
    )
    with pytest.raises(TaskError, match="timed out after 2 s") as raised:
        pool.submit(abs, 1).result(10)
    assert raised.value.task_id == "b0/0"
    assert raised.value.result == {"exit_status": 3}
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (str(copied), copied.task_id) == (str(raised.value), "b0/0")


def test_a_kind_that_the_stage_does_not_have(service, make):
    service.names = ["sleep"]
    with make() as pool, pytest.raises(SettingsError, match=r"=taskfleet\.kinds\.python"):
        pool.submit(abs, 1).result(10)
    assert {name for name, _ in service.seen} == {"kinds", "close"}, "nothing was sent"
    with make() as pool, pytest.raises(SettingsError, match=r"taskfleet\.kinds\.command"):
        pool.command(["ls"]).result(10)


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ({"python": ["3.99"]}, r"workers have Python 3\.99"),
        ({"cloudpickle": ["0.1.0"]}, r"install cloudpickle==0\.1\.\*"),
    ],
)
def test_other_versions_than_the_workers_are_an_error_before_anything_is_sent(
    service, make, workers, says
):
    service.workers = workers
    with make() as pool:
        with pytest.raises(SettingsError, match=says):
            pool.submit(abs, 1).result(10)
        with pytest.raises(SettingsError, match=says):
            pool.submit(abs, 1).result(10)
    assert {name for name, _ in service.seen} == {"kinds", "close"}


def test_an_upload_that_is_refused_ends_only_its_call(service, pool):
    big = "x" * 150_000

    def refuse(name: str) -> None:
        if name == "put" and len(service.store) == 1:
            raise ApiError(413, "the file has 9 bytes, over the cap of 8")

    assert pool.submit(len, "").result(10) == 0
    service.fault = refuse
    with pytest.raises(TaskError, match="over the cap of 8"):
        pool.submit(len, big).result(10)
    assert pool.submit(len, "abc").result(10) == 3
    assert [task["params"].get("args") for task in service.batches["b0"].tasks] == [[""], ["abc"]]


def test_a_task_that_is_refused_ends_only_its_call(service, make):
    add = service.add

    def refuse(batch: Any, first: int, tasks: Any) -> int:
        for place, task in enumerate(tasks):
            if b"bad" in bytes(task):
                raise ApiError(422, f"task {place}: is bad")
        return add(batch, first, tasks)

    service.add = refuse
    gate = threading.Event()
    service.fault = lambda name: None if name != "open" else gate.wait(10) and None
    with make() as pool:
        futures = [pool.submit(str, word) for word in ("a", "bad", "c", "bad", "e")]
        gate.set()
        ended = [f.exception(10) or f.result() for f in futures]
    assert [str(each) for each in ended] == [
        "a",
        "the call was refused: is bad",
        "c",
        "the call was refused: is bad",
        "e",
    ]


def test_a_refusal_of_all_reaches_every_call(service, make):
    def refuse(name: str) -> None:
        if name == "open":
            raise ApiError(403, "no")

    service.fault = refuse
    with make() as pool:
        futures = [pool.submit(abs, n) for n in range(5)]
        assert all(isinstance(f.exception(10), ApiError) for f in futures)
        with pytest.raises(ApiError):
            pool.submit(abs, 1)
    assert not fleet_threads()


# --- a service that is away -------------------------------------------------------------------


def test_a_short_outage_is_waited_out(service, make, monkeypatch):
    monkeypatch.setattr("taskfleet.executor.patience.PAUSE_S", 0.01)
    failures = itertools.count()

    def away(name: str) -> None:
        if name in ("add", "completed") and next(failures) < 6:
            raise Unreachable("gone")

    service.fault = away
    with make() as pool:
        assert list(pool.map(abs, range(5))) == list(range(5))


@pytest.mark.parametrize("call", ["add", "completed"])
def test_after_a_long_outage_the_futures_say_how_to_attach(service, make, call):
    with make(outage_s=0.05) as pool:
        assert pool.submit(abs, -1).result(10) == 1
        service.hold()

        def away(name: str) -> None:
            if name == call:
                raise Unreachable("cannot reach http://there")

        service.fault = away
        futures = [pool.submit(abs, n) for n in range(3)]
        for future in futures:
            with pytest.raises(Disconnected, match=r'attach\("b0"\)'):
                future.result(10)
        wait_until(lambda: pool._book._error is not None)
        with pytest.raises(Disconnected):
            pool.submit(abs, 1)
    assert not fleet_threads()


def test_a_service_that_was_never_there_fails_at_once(service, make):
    def away(name: str) -> None:
        raise Unreachable("cannot reach http://there")

    service.fault = away
    with make() as pool, pytest.raises(Disconnected, match="nothing was handed over"):
        pool.submit(abs, 1).result(10)


# --- again, with a key ------------------------------------------------------------------------


def test_running_again_with_the_key_takes_the_recorded_results(service, make):
    pool = make(key="k")
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    pool.shutdown()
    service.batches["b0"].closed = False  # the driver was killed before it could close
    with make(key="k") as pool:
        assert list(pool.map(abs, [-1, -2, -3, -4, -5])) == [1, 2, 3, 4, 5]
    assert sorted(service.named("run")) == [0, 1, 2, 3, 4]


def test_another_call_than_the_recorded_one_is_a_conflict(service, make):
    with pytest.raises(LookupError), make(key="k") as pool:  # noqa: PT012
        pool.submit(abs, -1)
        pool.submit(str, (1, 2))
        pool.submit(sorted, {"a", "b"})
        raise LookupError
    with make(key="k") as pool:
        changed, other, same = (
            pool.submit(abs, -2),
            pool.submit(repr, (1, 2)),
            pool.submit(sorted, {"b", "a"}),
        )
        with pytest.raises(Conflict, match=r"\(-1\) then and has \(-2\) now"):
            changed.result(10)
        with pytest.raises(Conflict, match="it called str then and calls repr now"):
            other.result(10)
        assert same.result(10) == ["a", "b"]


def test_more_calls_than_a_closed_batch_has_say_so(service, make):
    with make(key="k") as pool:
        assert pool.submit(abs, -1).result(10) == 1
    with make(key="k") as pool:
        first, second = pool.submit(abs, -1), pool.submit(abs, -2)
        with pytest.raises(Conflict, match="use another key"):
            second.result(10)
        assert first.result(10) == 1
    assert not fleet_threads()


def test_attaching_gives_the_futures_by_index(service, make):
    service.hold()
    pool = make()
    mine = [pool.submit(abs, -n) for n in range(4)]
    wait_until(lambda: all(f.running() for f in mine))
    futures = FleetExecutor.attach("b0")
    assert [f.index for f in futures] == [0, 1, 2, 3]
    assert not futures[0].cancel()
    assert not futures[0].done()
    service.release()
    assert [f.result(10) for f in futures] == [0, 1, 2, 3]
    assert futures[2].log() == "log of 2"
    pool.shutdown()
    assert [f.result(10) for f in FleetExecutor.attach("b0")] == [0, 1, 2, 3]
    wait_until(lambda: not fleet_threads())


def test_a_batch_that_was_closed_elsewhere(service, make):
    pool = make()
    assert pool.submit(abs, -1).result(10) == 1
    service.desk().close_batch("b0")
    with pytest.raises(ApiError, match="closed"):
        pool.submit(abs, -2).result(10)
    pool.shutdown()
    assert not fleet_threads()


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout_s": -1}, "timeout_s"),
        ({"slots": 2}, "local=True"),
        ({"local": True, "url": "http://x"}, "local=True"),
        ({"requirements": "numpy"}, r"\['numpy'\]"),
    ],
)
def test_options_that_cannot_work(options, says):
    with pytest.raises(ValueError, match=says):
        FleetExecutor(**options)


def test_url_and_token_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        FleetExecutor(url="http://127.0.0.1:1")


def fleet_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("fleet-")]


def wait_until(true: Callable[[], bool]) -> None:
    eventually(true, 10.0, poll_s=0.005)
