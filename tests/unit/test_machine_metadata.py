"""The one program of a worker's machine that asks the metadata service, against an imitation."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.machine.metadata import Imds, credentials, notice, unreachable, write

ROLE = "/latest/meta-data/iam/security-credentials/"
KEYS = {
    "Code": "Success",
    "AccessKeyId": "AKID",
    "SecretAccessKey": "secret",
    "Token": "session",
    "Expiration": "2099-01-01T00:00:00Z",
}


class Server(http.server.ThreadingHTTPServer):
    """`found` maps paths to texts; `puts` counts tokens given."""

    found: dict[str, str]
    puts = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_PUT(self) -> None:
        self.server.puts += 1
        wanted = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if wanted == "21600" else 400, "a-token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._answer(401, "")
        elif self.path in self.server.found:
            self._answer(200, self.server.found[self.path])
        else:
            self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.found = {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def imds(service: Server) -> Imds:
    return Imds(f"http://127.0.0.1:{service.server_address[1]}/latest/")


def test_credentials_are_told_as_botocore_wants_them(service: Server, imds: Imds) -> None:
    service.found = {ROLE: "worker\n", ROLE + "worker": json.dumps(KEYS)}
    told = credentials(imds)
    assert told is not None
    assert json.loads(told) == {
        "Version": 1,
        "AccessKeyId": "AKID",
        "SecretAccessKey": "secret",
        "SessionToken": "session",
        "Expiration": "2099-01-01T00:00:00Z",
    }


def test_a_machine_without_a_role_has_none(imds: Imds) -> None:
    assert credentials(imds) is None


@pytest.mark.parametrize("path", ["spot/instance-action", "events/recommendations/rebalance"])
def test_both_kinds_of_notice_are_seen(service: Server, imds: Imds, path: str) -> None:
    assert notice(imds) is None
    service.found[f"/latest/meta-data/{path}"] = '{"action": "terminate"}'
    assert notice(imds) == f'meta-data/{path}: {{"action": "terminate"}}'


def test_reaching_the_service_is_noticed_whatever_it_answers(service: Server, imds: Imds) -> None:
    assert not unreachable(imds)
    service.found["/latest/meta-data/"] = "ami-id"
    assert not unreachable(imds)


def test_nobody_there_is_unreachable() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    assert unreachable(Imds(f"http://127.0.0.1:{port}/latest/"))


def test_what_is_written_is_whole_and_for_the_group_only(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    for text in ("first", "second"):
        write(path, text)
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    assert list(tmp_path.iterdir()) == [path]
