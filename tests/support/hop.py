"""A hop between processes and an emulator of AWS, on the wire: it sees each request of each
process, and can make it fail in the ways in which AWS fails, or take a step of the test at an exact
point, before or after the request's effect.

The hop knows each process by an address of its own: 127.0.0.2 and up, with the emulator's port, so
that signatures, which are over the `Host`, and the emulator's guard let a request pass as it is. A
connection carries one request.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.awswire import Refuse, closing, operation_of, read_body, refusal

_TIME = re.compile(rb'":until": *\{"N": *"[^"]*"\}')
"""The time in a request for what is due, which differs from one such request to the next."""
_ONCE = ("CreateFleet",)
"""Operations with a client token: EC2 answers an equal request as it did the first one. moto would
launch again."""


@dataclass(frozen=True)
class Call:
    """One request.

    sender: whose address it came to.
    service: as boto3 names it, such as `dynamodb`.
    operation: as AWS names it, such as `UpdateItem`.
    number: of the sender's requests of this operation, counted from 1; retries of the SDK count.
    body: the request's body.
    target: method and path, as sent.
    """

    sender: str
    service: str
    operation: str
    number: int
    body: bytes
    target: str

    @property
    def given(self) -> Mapping[str, Any]:
        """The parameters of a request in JSON; empty for others."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


# --- faults ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reset:
    """Resets the connection before the request takes effect."""


@dataclass(frozen=True)
class Lose:
    """Lets the request take effect, and resets the connection instead of answering."""


@dataclass(frozen=True)
class Hang:
    """Does not pass the request on, and answers nothing for these seconds; then resets."""

    seconds: float


@dataclass(frozen=True)
class Delay:
    """Passes the request on after these seconds."""

    seconds: float


@dataclass(frozen=True)
class Stale:
    """Answers with what an equal request was answered before, as an eventually consistent read may
    be. Passes the request on, and does not count as fired, if there was none."""


@dataclass(frozen=True)
class Act:
    """Takes steps of the test in a thread of their own: `before` the request is passed on, `after`
    its effect and before its answer. The request goes on when the step is over; without
    `passes_on` it ends there, since its sender had not sent it yet. `applies` is called with the
    answer, in the hop's own thread, and says whether `after` takes place."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    passes_on: bool = True
    applies: Callable[[bytes], bool] = lambda _answer: True


Fault = Refuse | Reset | Lose | Hang | Delay | Stale | Act
Decide = Callable[[Call], Fault | None]


def pass_on(_call: Call) -> None:
    """Decides on no fault."""


# --- the hop ----------------------------------------------------------------------------------


@dataclass
class Hop:
    """A hop to the emulator at `upstream`, a URL. A context manager.

    others: URLs of further emulators, at other ports of the same host.
    decide: says what happens to a request; may be replaced at any time. It is called in the hop's
        own thread and must return at once.
    fired: each fault that took place, in order.
    calls: requests by sender, service and operation.
    """

    upstream: str
    decide: Decide = pass_on
    fired: list[tuple[Call, Fault]] = field(default_factory=list)
    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    others: Sequence[str] = ()

    def __enter__(self) -> Hop:
        self._loop = asyncio.new_event_loop()
        # A step may take long, and many may be taken at a time.
        self._loop.set_default_executor(ThreadPoolExecutor(32, "hop-step"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="hop", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._hosts = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._before: dict[tuple[str, bytes], bytes] = {}
        return self

    def __exit__(self, *_error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def environ(self, sender: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Opens the address of a process. Returns its environment, in which it speaks to the hop
        where `environ` names an emulator."""
        opened = asyncio.run_coroutine_threadsafe(self._open(sender), self._loop)
        host = opened.result(10)
        urls = {url: f"http://{host}:{urlsplit(url).port}" for url in (self.upstream, *self.others)}
        named = {name: urls.get(value, value) for name, value in environ.items()}
        return {**named, "NO_PROXY": f"{environ.get('NO_PROXY', '')},{host}"}

    async def _open(self, sender: str) -> str:
        """Opens the address of a process. Returns it."""
        self._hosts += 1
        host = f"127.0.0.{1 + self._hosts}"
        for url in (self.upstream, *self.others):
            await self._listen(sender, host, url)
        return host

    async def _listen(self, sender: str, host: str, upstream: str) -> None:
        """Serves the emulator at `upstream` to a process."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(sender, upstream, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # one of the two ends has gone, as processes do here, or the hop
            finally:
                self._tasks.discard(task)
                writer.close()

        port = urlsplit(upstream).port
        self._servers.append(await asyncio.start_server(serve, host, port, limit=2**20))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self,
        sender: str,
        upstream: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if re.search(rb"\r\nexpect: *100-continue", head, re.IGNORECASE):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await read_body(head, reader)
        call = self._call(sender, head, body)
        fault = self.decide(call)
        if fault is not None and not isinstance(fault, Stale):
            self.fired.append((call, fault))
        match fault:
            case Refuse():
                made = refusal(call.service, fault)
                if call.target.startswith("HEAD "):  # an answer to HEAD has no body
                    made = made.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                writer.write(made)
                await writer.drain()
                return
            case Hang(seconds):
                await asyncio.sleep(seconds)
                _reset(writer)
                return
            case Reset():
                _reset(writer)
                return
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Act(before=step) if step is not None:
                await self._step(step)
                if not fault.passes_on:
                    _reset(writer)
                    return
        like = call.target, _TIME.sub(b"", body)
        known = self._before.get(like)
        if known is not None and isinstance(fault, Stale):
            self.fired.append((call, fault))
            answer = known
        elif known is not None and call.operation in _ONCE and known.split(b" ", 2)[1] == b"200":
            answer = known
        else:
            answer = await self._ask(upstream, head, body)
            self._before[like] = answer
        match fault:
            case Lose():
                _reset(writer)
                return
            case Act(after=step, applies=applies) if step is not None and applies(answer):
                await self._step(step)
        writer.write(answer)
        await writer.drain()

    def _step(self, step: Callable[[], None]) -> Awaitable[None]:
        return self._loop.run_in_executor(None, step)

    def _call(self, sender: str, head: bytes, body: bytes) -> Call:
        service, operation = operation_of(head, body)
        self.calls[sender, service, operation] += 1
        number = self.calls[sender, service, operation]
        target = head.split(b"\r\n", 1)[0].rpartition(b" ")[0].decode()
        if target == "POST /":  # the operation stands in a header
            target += f" {service}.{operation}"
        return Call(sender, service, operation, number, body, target)

    async def _ask(self, upstream: str, head: bytes, body: bytes) -> bytes:
        """Passes the request on. Returns the whole answer."""
        to = urlsplit(upstream)
        reader, writer = await asyncio.open_connection(to.hostname, to.port)
        try:
            writer.write(closing(head) + body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that the other end sees a reset."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
