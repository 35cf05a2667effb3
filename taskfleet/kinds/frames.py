"""The pipe between a runner and the interpreter of an environment: messages on a Unix socket, each
JSON with two blobs of bytes. Owns their form; both ends use this module, so it needs the standard
library only.

Each frame begins with a secret of the pipe: the user's code may write anything to the descriptors
that it finds, and such bytes must not pass for a frame.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_HEADER = struct.Struct("<QIQQ")
"""Secret of the pipe, length of the message, lengths of the two blobs."""
_READ_BYTES = 1 << 20


class BrokenPipe(Exception):
    """What came over the pipe is no frame."""


class Pipe:
    """One end of a pipe. It is used by one thread."""

    def __init__(self, sock: socket.socket, secret: int) -> None:
        self.sock = sock
        self._secret = secret

    def send(self, message: dict[str, Any], first: bytes = b"", second: bytes = b"") -> None:
        """Send a message and its blobs. Raises OSError when the other end is gone."""
        body = json.dumps(message).encode()
        self.sock.sendall(_HEADER.pack(self._secret, len(body), len(first), len(second)) + body)
        self.sock.sendall(first)
        self.sock.sendall(second)

    def receive(self) -> tuple[dict[str, Any], bytes, bytes]:
        """Returns the next message and its blobs. Raises EOFError when the other end is gone, and
        BrokenPipe when what comes is no frame."""
        secret, length, first, second = _HEADER.unpack(self._read(_HEADER.size))
        if secret != self._secret:
            raise BrokenPipe
        try:
            message = json.loads(self._read(length))
        except ValueError:
            raise BrokenPipe from None
        if type(message) is not dict:
            raise BrokenPipe
        return message, self._read(first), self._read(second)

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            read = self.sock.recv(min(length - len(data), _READ_BYTES))
            if not read:
                raise EOFError
            data += read
        return bytes(data)
