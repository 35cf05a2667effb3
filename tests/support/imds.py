"""A fake of EC2's instance metadata service, version 2, which requires a token."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TTL_MAX_S = 21_600
INSTANCE_ID = "i-0abc"


class FakeImds:
    """The service; port 0 means a free one. `found` maps paths below `/latest/` to texts, `tokens`
    are the valid tokens, `asked` counts the questions, and `refused` lists the requests that
    version 2 does not allow."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.found = {"meta-data/instance-id": INSTANCE_ID}
        self.tokens: set[str] = set()
        self.given = 0
        self.asked = 0
        self.refused: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                ttl_s = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                lasting = ttl_s.isdigit() and 0 < int(ttl_s) <= TTL_MAX_S
                if self.path != "/latest/api/token" or not lasting:
                    self._refuse(400)
                    return
                token = f"token-{fake.given}"
                fake.given += 1
                fake.tokens.add(token)
                self._answer(200, token)

            def do_GET(self) -> None:
                fake.asked += 1
                if self.headers.get("X-aws-ec2-metadata-token") not in fake.tokens:
                    self._refuse(401)
                    return
                text = fake.found.get(self.path.removeprefix("/latest/"))
                self._answer(200 if text else 404, text or "")

            def _refuse(self, status: int) -> None:
                fake.refused.append(f"{self.command} {self.path}")
                self._answer(status, "")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def served(self) -> Iterator[FakeImds]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
