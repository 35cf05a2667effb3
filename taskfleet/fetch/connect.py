"""Connections to allowed addresses only. Owns resolving, checking and connecting, and closing a
connection from another thread; not HTTP (`taskfleet.fetch.download`) nor the rule
(`taskfleet.fetch.address`).

A host name is resolved once, its addresses are checked, and the socket connects to a checked
address. A name that resolves to another address a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from taskfleet.errors import TransientError
from taskfleet.fetch import address

Resolve = Callable[[str, int], list[str]]
"""(host, port) -> numeric addresses; raises socket.gaierror."""

_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Unfetchable(Exception):
    """The file cannot be fetched, and trying again is pointless. The message says why, without
    the URL."""


def resolve(host: str, port: int) -> list[str]:
    """Returns the numeric addresses of `host`, each once, in the system's order of preference.
    Raises socket.gaierror."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))


class Transfer:
    """One try to fetch one file, in one thread. Decides which addresses its connections may
    lead to; another thread can cut it whatever it waits for.

    resolver: finds the addresses of a host name.
    allow_private: admits private addresses (see `taskfleet.fetch.address.fault`).
    """

    def __init__(self, resolver: Resolve, *, allow_private: bool) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False
        self.expired = False
        """True once the time given to `within` is up."""

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Context in which this thread's connections belong to the transfer. After `seconds` the
        transfer expires and is cut."""
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
        """Closes the connection in use, and each later one as soon as it is in use."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def use(self, handle: socket.socket | None) -> None:
        """Notes the socket of the connection in use; shuts it down if the transfer is cut."""
        with self._lock:
            self._socket = handle
            cut = self._cut
        if cut:
            self.cut()

    def begin(self, sock: socket.socket, target: tuple[str, int]) -> None:
        """Begins to connect `sock`, which does not block, and notes it as the one in use. Raises
        OSError at once if the transfer is cut."""
        # A socket can only be shut down once it connects, so `cut` must come before or after.
        with self._lock:
            self._check()
            self._socket = sock
            failure = sock.connect_ex(target)
        if failure not in (0, errno.EINPROGRESS):
            raise OSError(failure, os.strerror(failure))

    def check(self) -> None:
        """Raises OSError if the transfer is cut."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        if self._cut:
            raise OSError(errno.ECANCELED, "the transfer was cut")

    def addresses(self, host: str, port: int) -> list[str]:
        """Returns the allowed addresses of `host`, at least one. Raises Unfetchable if it has
        none, TransientError if it cannot be resolved now."""
        try:
            resolved = self._resolver(host, port)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_HOST:
                raise Unfetchable(f"there is no host {host!r}") from error
            raise TransientError(f"cannot resolve {host!r}: {error.strerror}") from error
        except UnicodeError as error:
            raise Unfetchable(f"{host!r} is not a valid host name") from error
        faults = {ip: address.fault(ip, allow_private=self._allow_private) for ip in resolved}
        allowed = [ip for ip, fault in faults.items() if fault is None]
        if not allowed:
            refused = next(iter(faults), "no address")
            raise Unfetchable(f"{host!r} ({refused}) {faults.get(refused) or 'has no address'}")
        return allowed

    def _expire(self) -> None:
        self.expired = True
        self.cut()


_current: ContextVar[Transfer] = ContextVar("transfer")
"""The transfer that the thread's connections belong to; urllib3 offers no way to pass it."""


class _Guarded(HTTPConnection):
    """A connection that asks the current transfer which addresses are allowed."""

    _handle: socket.socket | None = None
    """A duplicate of the socket, which can be shut down while TLS owns the original."""

    def _new_conn(self) -> socket.socket:
        transfer = _current.get()
        failure: OSError | None = None
        for ip in transfer.addresses(self.host, self.port):
            try:
                sock = self._connect_to(ip)
            except OSError as error:
                failure = error
                transfer.check()
                continue
            self._handle = sock.dup()
            transfer.use(self._handle)
            return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from failure
        raise NewConnectionError(self, str(failure)) from failure

    def _connect_to(self, ip: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        timeout_s = self.timeout if isinstance(self.timeout, int | float) else None
        transfer = _current.get()
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.setblocking(False)
            transfer.begin(sock, (ip, self.port))
            _wait_connected(sock, timeout_s)
            transfer.check()
            sock.settimeout(timeout_s)
        except BaseException:
            transfer.use(None)
            sock.close()
            raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        # A kept-open connection may now serve another transfer than the one that opened it.
        _current.get().use(self._handle)
        super().request(*args, **kwargs)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        try:
            super().close()
        finally:
            if handle is not None:
                handle.close()


def _wait_connected(sock: socket.socket, timeout_s: float | None) -> None:
    """Waits until the connection that `sock` began is made or has failed. Raises OSError."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(None if timeout_s is None else 1000 * timeout_s):
        raise TimeoutError("timed out")
    failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


class _GuardedTLS(_Guarded, HTTPSConnection):
    """A guarded connection with TLS; the certificate is checked against the host name."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


def pool_manager(connections: int) -> urllib3.PoolManager:
    """Returns a urllib3 pool that keeps up to `connections` open to each server. Its requests must
    be made inside `Transfer.within`."""
    manager = urllib3.PoolManager(num_pools=16, maxsize=connections)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
    return manager
