"""Connections that lead only where they may. Owns resolving, checking and connecting, and cutting
a connection from outside; not HTTP (`animoto.download`) nor the rule itself (`animoto.address`).

A name is resolved once, its addresses are checked, and the socket is connected to a checked
address, so a name that resolves to something else a moment later gains nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from animoto import address
from taskfleet.errors import TransientError

Resolve = Callable[[str, int], list[str]]
"""(host, port) -> numeric addresses; raises socket.gaierror."""

_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Unfetchable(Exception):
    """The file cannot be had, whoever tries again; the message says why, without the URL."""


def resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Transfer:
    """One try at one file, in one thread: decides which addresses its connections may lead to,
    and can be cut from another thread whatever it waits for."""

    def __init__(self, resolver: Resolve, *, allow_private: bool) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._cut = False
        self.expired = False

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Connections of this thread belong to the transfer; it is cut when the time is up."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            timer.cancel()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            if self._line is not None:
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)

    def use(self, line: socket.socket | None) -> None:
        """The line of the connection in use; cut at once when the transfer is already."""
        with self._lock:
            self._line = line
            cut = self._cut
        if cut:
            self.cut()

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of `host` that may be connected to, at least one. Unfetchable when the
        name has none, TransientError when it cannot be resolved now."""
        try:
            found = self._resolver(host, port)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_HOST:
                raise Unfetchable(f"there is no host {host!r}") from error
            raise TransientError(f"cannot resolve {host!r}: {error.strerror}") from error
        except UnicodeError as error:
            raise Unfetchable(f"{host!r} is no valid host name") from error
        faults = {ip: address.fault(ip, allow_private=self._allow_private) for ip in found}
        allowed = [ip for ip, fault in faults.items() if fault is None]
        if not allowed:
            refused = next(iter(faults), "no address")
            raise Unfetchable(f"{host!r} ({refused}) {faults.get(refused) or 'has no address'}")
        return allowed

    def _expire(self) -> None:
        self.expired = True
        self.cut()


_current: ContextVar[Transfer] = ContextVar("transfer")


class _Guarded(HTTPConnection):
    """A connection that asks the current transfer where it may lead. Its `line` is a second handle
    on the socket, which stays good for cutting it while TLS owns the first."""

    _line: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        transfer = _current.get()
        failure: OSError | None = None
        for ip in transfer.addresses(self.host, self.port):
            try:
                sock = self._connect_to(ip)
            except OSError as error:
                failure = error
                continue
            self._line = sock.dup()
            transfer.use(self._line)
            return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, str(failure)) from failure

    def _connect_to(self, ip: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            if isinstance(self.timeout, int | float):
                sock.settimeout(self.timeout)
            sock.connect((ip, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        _current.get().use(self._line)
        super().request(*args, **kwargs)

    def close(self) -> None:
        line, self._line = self._line, None
        try:
            super().close()
        finally:
            if line is not None:
                line.close()


class _GuardedTLS(_Guarded, HTTPSConnection):
    """The same under TLS; the certificate is checked against the host's name."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


def pool_manager(connections: int) -> urllib3.PoolManager:
    """Keeps up to `connections` open to each server; usable only within a `Transfer`."""
    manager = urllib3.PoolManager(num_pools=16, maxsize=connections)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
    return manager
