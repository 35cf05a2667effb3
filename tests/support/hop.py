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
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

_REST = re.compile(r"/(?P<bucket>[^/?]+)(?:/(?P<key>[^?]+))?")
_LAMBDA = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
_SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb", "AmazonSSM": "ssm"}
_SERVICES |= {"AWSEvents": "events"}
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
class Refuse:
    """Answers with an error, in the form of the service, and passes nothing on."""

    status: int
    code: str
    message: str = "made by the fault suite"
    reasons: tuple[Mapping[str, str], ...] = ()


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
class Alter:
    """Answers with the answer's body as `change` returns it."""

    change: Callable[[bytes], bytes]


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


Fault = Refuse | Reset | Lose | Hang | Delay | Stale | Alter | Act
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
        body = await _body(head, reader)
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
            case Alter(change):
                answer = _altered(answer, change)
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
            writer.write(_closing(head) + body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()


def operation_of(head: bytes, body: bytes) -> tuple[str, str]:
    """Returns the service and the operation of a request."""
    target = _header(head, b"x-amz-target")
    if target is not None:
        service, _, operation = target.decode().partition(".")
        return _SERVICES.get(service, service), operation
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    if _LAMBDA.match(path):
        return "lambda", "Invoke"
    form = dict(parse_qsl(body.decode("latin-1"))) if path == "/" else {}
    if "Action" in form:
        return ("sns" if form["Action"] == "Publish" else "ec2"), form["Action"]
    rest = _REST.match(path)
    about = "Object" if rest and rest["key"] else "Bucket"
    return "s3", {"HEAD": "Head", "POST": "Post"}.get(method, method.capitalize()) + about


def refusal(service: str, fault: Refuse) -> bytes:
    """Returns an error's answer in the form of the service: `AWS JSON 1.0` for queues and tables,
    XML for objects and EC2 (Smithy's protocols; "Error responses", Amazon S3 API Reference)."""
    headers = ["x-amzn-requestid: 00000000-0000-4000-8000-000000000000"]
    code, message = escape(fault.code), escape(fault.message)
    if service == "s3":
        kind = "application/xml"
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    elif service in ("ec2", "sns"):
        kind = "text/xml"
        errors = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<Response><Errors>{errors}</Errors><RequestID>0</RequestID></Response>"
        if service == "sns":
            text = f"<ErrorResponse>{errors}</ErrorResponse>"
    else:
        kind = "application/x-amz-json-1.0"
        named = {"__type": f"com.amazonaws.{service}#{fault.code}", "message": fault.message}
        if fault.reasons:
            named["CancellationReasons"] = list(fault.reasons)  # type: ignore[assignment]
        text = json.dumps(named)
        if service == "lambda":
            headers.append(f"x-amzn-errortype: {fault.code}")
    head = [f"HTTP/1.1 {fault.status} Made", f"content-type: {kind}", *headers]
    head += [f"content-length: {len(text.encode())}", "connection: close"]
    return ("\r\n".join(head) + "\r\n\r\n" + text).encode()


def _header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\r\n" + re.escape(name) + rb": *([^\r]*)", head, re.IGNORECASE)
    return found[1] if found else None


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"chunked" in (_header(head, b"transfer-encoding") or b""):
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            body += size + chunk  # passed on as it came
            if len(chunk) == 2:
                return body
    return await reader.readexactly(int(_header(head, b"content-length") or 0))


def _closing(head: bytes) -> bytes:
    """Returns the head for the emulator: no wait for a 100, and an answer that ends with the
    connection."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    own = (b"expect:", b"connection:")
    kept = [line for line in lines if not line.lower().startswith(own)]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n"


def _altered(answer: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Returns an answer with another body, and with no header that depends on the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in (_header(head, b"transfer-encoding") or b""):
        body = _unchunked(body)
    body = change(body)
    own = (b"content-length:", b"x-amz-crc32:", b"transfer-encoding:")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(own)]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body)]) + b"\r\n\r\n" + body


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        body = rest[length + 2 :]
    return whole


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that the other end sees a reset."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
