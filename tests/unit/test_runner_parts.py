"""The pure parts of runner processes: frames, notes, environment, and the words of an end."""

from __future__ import annotations

import functools
import os
import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ec2_worker.attempt import Outcome, own_traceback
from ec2_worker.deadlines import Deadlines
from ec2_worker.runner.chunk import cause, decision_for
from ec2_worker.runner.forks import environment
from ec2_worker.runner.frames import (
    BrokenFrames,
    Call,
    Ended,
    Pipe,
    Printed,
    decoded_end,
    encoded_end,
)
from ec2_worker.runner.handle import Exit
from ec2_worker.runner.note import NOBODY, PAGE, UNTOLD_MAX_BYTES, Note
from ec2_worker.runner.remotestore import RemoteStore, serve
from taskfleet.errors import NotFound, PermanentError, TooLarge, TransientError
from taskfleet.memory import MemoryStore
from taskfleet.registry import TaskKind
from taskfleet.retry import RetryDecision, RetryPolicy
from taskfleet.task import TaskResult, TaskStatus
from tests.support.worker import Faulty, run_nothing

ENDED = Ended([Outcome(TaskResult(3, TaskStatus.SUCCEEDED, {"a": [1]}))], [Printed(3, 0, 5)], True)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    worker, runner = Pipe(ours, 7, in_runner=False), Pipe(theirs, 7, in_runner=True)
    yield worker, runner
    worker.close()
    runner.close()


class TestPipe:
    def test_messages_arrive_whole_with_their_bytes(self, ends):
        worker, runner = ends
        runner.send(ENDED)
        runner.send(Call("put", "k", {}), b"data")
        assert worker.received() == [(ENDED, b""), (Call("put", "k", {}), b"data")]

    def test_a_message_in_pieces_is_put_together(self, ends):
        worker, runner = ends
        data = os.urandom(3_000_000)
        thread = threading.Thread(target=runner.send, args=(Call("put", "k", {}), data))
        thread.start()
        messages = []
        while not messages:
            messages = worker.received()
        thread.join(10)
        assert messages == [(Call("put", "k", {}), data)]

    @pytest.mark.parametrize("garbage", [b"x" * 12, b"\0" * 100, b"\7\0\0\0\3\0\0\0\0\0\0\0{}x"])
    def test_garbage_is_noticed_and_what_came_before_counts(self, ends, garbage):
        worker, runner = ends
        runner.send(ENDED)
        runner.sock.sendall(garbage)
        runner.send(ENDED)
        assert worker.received() == [(ENDED, b"")]
        assert worker.broken
        with pytest.raises(BrokenFrames):
            worker.received()

    def test_the_other_ends_close_is_an_end(self, ends):
        worker, runner = ends
        runner.close()
        with pytest.raises(EOFError):
            worker.received()


def test_a_note_is_read_at_the_other_end():
    fd = Note.new()
    worker, runner = Note(fd), Note(fd)
    os.close(fd)
    assert worker.read().task == NOBODY
    runner.write(12.5, 41, 1000)
    assert worker.read() == (12.5, 41, 1000)
    runner.clear()
    assert worker.read().task == NOBODY
    worker.close()
    runner.close()


def test_what_a_runner_keeps_is_read_until_it_is_told():
    fd = Note.new()
    worker, runner = Note(fd), Note(fd)
    os.close(fd)
    assert worker.untold() == []
    ends = [encoded_end(ENDED.outcomes, ENDED.printed), encoded_end([], [Printed(4, 5, 9)])]
    assert [runner.keep(end) for end in ends] == [True, True]
    runner.write(12.5, 41, 1000)
    assert worker.untold() == ends
    assert decoded_end(ends[0]) == Ended(ENDED.outcomes, ENDED.printed)
    assert not runner.keep(b"x" * UNTOLD_MAX_BYTES)
    assert worker.untold() == ends
    runner.told()
    assert worker.untold() == []
    assert runner.keep(b"x" * (UNTOLD_MAX_BYTES - 4))
    assert worker.untold() == [b"x" * (UNTOLD_MAX_BYTES - 4)]
    worker.close()
    runner.close()


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff", b"[]", b'["progress",1,2,[]]'])
def test_what_a_task_wrote_over_the_kept_ends_is_ignored(garbage):
    assert decoded_end(garbage) is None
    assert decoded_end(msgspec.json.encode(ENDED)) is None, "it would end the work"


@given(st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_any_bytes_in_the_shared_memory_are_read_without_an_error(content, length):
    fd = Note.new()
    os.pwrite(fd, length.to_bytes(4, "little"), 24)
    os.pwrite(fd, content, PAGE)
    note = Note(fd)
    os.close(fd)
    for data in note.untold():
        decoded_end(data)
    note.close()


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Exit(-11), "its process died: SIGSEGV"),
        (Exit(-9), "its process died: SIGKILL"),
        (Exit(-250), "its process died: signal 250"),
        (Exit(0), "its process died: exit status 0"),
        (Exit(119), "it closed or replaced the descriptors of its process"),
        (Exit(-9, 612, 512), "used 612 MB, over its 512 MB"),
        (Exit(None), "its process died"),
    ],
)
def test_the_words_of_an_end(ended, words):
    assert cause(ended) == words


def test_what_follows_an_end_from_outside():
    kind = TaskKind("k", run_nothing, retry=RetryPolicy(max_attempts=2))
    assert decision_for(kind, 1, again=True) is RetryDecision.RETRY
    assert decision_for(kind, 2, again=True) is RetryDecision.EXHAUSTED
    assert decision_for(kind, 1, again=False) is RetryDecision.FAIL


def test_tasks_see_neither_credentials_nor_settings():
    kept = {"PATH": "/bin", "LANG": "C", "MINE": "1", "TASKFLEET_CORES": "2"}
    dropped = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": "x",
        "TASKFLEET_TOKEN": "x",
        "TASKFLEET_TOKEN_SECRET": "x",
        "TASKFLEET_BUCKET": "x",
        "CREDENTIALS_DIRECTORY": "x",
        "NOTIFY_SOCKET": "x",
    }
    assert environment({**kept, **dropped}) == kept


class TestRemoteStore:
    def call(self, ends, store, method):
        """Make one call in a thread, as a runner does, and serve it here."""
        worker, runner = ends
        remote, told = RemoteStore(runner), []

        def run():
            try:
                told.append(method(remote))
            except Exception as error:  # noqa: BLE001 - looked at by the test
                told.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        received = []
        while not received:  # what has a descriptor comes in two parts
            received = worker.received()
        ((call, data),) = received
        serve(store, call, data, worker)
        (answer,) = runner.received()
        remote.answered(answer)
        thread.join(10)
        return told[0]

    def test_errors_keep_their_class(self, ends):
        store = MemoryStore()
        error = self.call(ends, store, lambda remote: remote.get("none"))
        assert isinstance(error, NotFound)
        faulty = Faulty(store, lambda _name: "before")
        error = self.call(ends, faulty, lambda remote: remote.get("none"))
        assert isinstance(error, TransientError)

    def test_an_object_is_written_to_a_file_that_the_runner_opened(self, ends, tmp_path):
        store, path = MemoryStore(), tmp_path / "copy"
        store.put("a", b"12345", content_type="text/plain")
        call = functools.partial(self.call, ends, store)
        assert call(lambda remote: remote.get_file("a", str(path), max_bytes=5)) == 5
        assert path.read_bytes() == b"12345"
        error = call(lambda remote: remote.get_file("a", str(path), max_bytes=4))
        assert isinstance(error, TooLarge)

    def test_only_a_stores_methods_can_be_called(self, ends):
        error = self.call(ends, MemoryStore(), lambda remote: remote._call("__init__", "k"))
        assert isinstance(error, PermanentError)
        error = self.call(ends, MemoryStore(), lambda remote: remote._call("put_file", "/etc/x"))
        assert isinstance(error, PermanentError)


class TestDeadlines:
    def test_calls_come_in_the_order_of_their_times(self):
        called, last = [], threading.Event()
        deadlines = Deadlines()
        deadlines.after(0.06, last.set)
        deadlines.after(0.04, lambda: called.append("later"))
        deadlines.after(0.02, lambda: called.append("soon"))
        cancel = deadlines.after(0.01, lambda: called.append("cancelled"))
        cancel()
        assert last.wait(10)
        assert called == ["soon", "later"]
        cancel()


class TestTraceback:
    def test_of_a_deep_recursion_is_short(self):
        def deep():
            return 1 + deep()

        with pytest.raises(RecursionError) as caught:
            deep()
        assert len(own_traceback(caught.value)) < 3000

    def test_of_a_long_error_is_cut_in_its_middle(self):
        try:
            raise ValueError("é" * 100_000 + "END")
        except ValueError as error:
            text = own_traceback(error)
        assert len(text.encode()) <= 8_000
        assert text.endswith("END\n")

    def test_an_error_of_taskfleet_has_none(self):
        with pytest.raises(PermanentError) as caught:
            raise PermanentError("no such picture")
        assert own_traceback(caught.value) is None
