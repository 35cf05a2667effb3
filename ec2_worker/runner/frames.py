"""The pipe between a worker and one of its runners: messages in frames on a Unix socket. Owns the
form of frames and messages; not what they lead to.

A frame is a header of three numbers, then a message in JSON, then bytes that go with it. The first
number is a secret of the pipe: a task may write anything to the descriptors that it finds, and such
bytes must not pass for a frame.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Any

import msgspec

from ec2_worker.attempt import Outcome
from taskfleet.options import Options
from taskfleet.task import Task

_HEADER = struct.Struct("<III")
"""Key of the pipe, length of the message, length of the bytes after it."""
_READ_BYTES = 1 << 18
"""Most bytes that one read takes."""


class BrokenFrames(Exception):
    """What came over the pipe is no frame."""


class Work(msgspec.Struct, frozen=True, array_like=True, tag="work"):
    """To a runner: run these tasks, all of one kind, in order.

    attempts: the number of the attempt at each task.
    give_back_after_s: seconds after which no further task is started.
    options: those of the batch. The tasks' own are the same for all of them.
    """

    kind: str
    batch_id: str
    client_id: str
    worker_id: str
    tasks: list[Task]
    attempts: list[int]
    give_back_after_s: float
    options: Options | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """To a runner: what a call to the store returned, or the error that it raised, as the name of
    its class and its message. The bytes are the object's content."""

    value: Any = None
    error: str | None = None
    reason: str = ""


class Printed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From where to where in its runner's output file a task's output is."""

    index: int
    start: int
    end: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """From a runner: how tasks ended.

    done: whether the runner waits for other work now.
    run: number of tasks of the work that were started, once it is done.
    resident_mb: memory of the runner, once it is done.
    """

    outcomes: list[Outcome] = []
    printed: list[Printed] = []
    done: bool = False
    run: int = 0
    resident_mb: int = 0


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """From a runner: how far a running task is."""

    index: int
    started_at: float
    progress: list[Any]


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """From a runner: call a method of the store. The bytes are the data to store; of `put_file`, a
    descriptor of the file comes along."""

    method: str
    key: str
    options: dict[str, Any]


_encode = msgspec.json.Encoder().encode
_for_runner = msgspec.json.Decoder(Work | Answer).decode
_for_worker = msgspec.json.Decoder(Ended | Progress | Call).decode
Sent = tuple[Any, bytes]
"""A message, and the bytes that came with it."""


def encoded_end(outcomes: list[Outcome], printed: list[Printed]) -> bytes:
    """Returns how tasks ended as bytes, to be kept until it is sent."""
    return _encode(Ended(outcomes, printed))


def decoded_end(data: bytes) -> Ended | None:
    """Returns what `encoded_end` made into bytes; None if these are others, as when a task wrote
    over them."""
    try:
        message = _for_worker(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return message if isinstance(message, Ended) and not message.done else None


def new_key() -> int:
    """Returns a key for a new pipe."""
    return int.from_bytes(os.urandom(4), "little")


class Pipe:
    """One end of a pipe. `send` may be called from any thread, `received` from one.

    broken: whether something came that is no frame.
    """

    def __init__(self, sock: socket.socket, key: int, *, in_runner: bool) -> None:
        self.sock = sock
        self.broken = False
        self._key = key
        self._decode = _for_runner if in_runner else _for_worker
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    def send(self, message: Any, data: bytes = b"", descriptor: int | None = None) -> None:
        """Send a message, and with it bytes, or an open file. Raises OSError when the other end is
        gone, or takes nothing for as long as the socket's time-out."""
        body = _encode(message)
        header = _HEADER.pack(self._key, len(body), len(data))
        with self._sending:
            if descriptor is not None:
                sent = socket.send_fds(self.sock, [header], [descriptor])
                header = header[sent:]
            self.sock.sendall(b"".join((header, body, data)))

    def received(self) -> list[Sent]:
        """Read once, and return the messages that are complete. Raises EOFError when the other end
        is gone, and BlockingIOError when the socket does not block and there is nothing. When what
        comes is no frame, sets `broken`, and what follows does not count."""
        if self.broken:
            raise BrokenFrames
        read, descriptors, _, _ = socket.recv_fds(self.sock, _READ_BYTES, 4)
        self._descriptors += descriptors
        if not read:
            raise EOFError
        buffer = self._buffer
        buffer += read
        messages: list[Sent] = []
        while len(buffer) >= _HEADER.size:
            key, length, data_length = _HEADER.unpack_from(buffer)
            if key != self._key:
                self.broken = True
                break
            data_at = _HEADER.size + length
            end = data_at + data_length
            if len(buffer) < end:
                break
            try:
                message = self._decode(bytes(buffer[_HEADER.size : data_at]))
            except msgspec.MsgspecError:
                self.broken = True
                break
            messages.append((message, bytes(buffer[data_at:end])))
            del buffer[:end]
        return messages

    def descriptor(self) -> int | None:
        """Returns the descriptor of the oldest file that came and was not asked for yet."""
        return self._descriptors.pop(0) if self._descriptors else None

    def close(self) -> None:
        self.sock.close()
        while (descriptor := self.descriptor()) is not None:
            os.close(descriptor)
