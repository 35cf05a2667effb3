"""The program that calls the instance metadata service, against an imitation of that service."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.machine.metadata import (
    ADVICE,
    COMMANDS,
    END,
    Imds,
    credentials,
    new_notices,
    unreachable,
    write,
)

ROLE = "/latest/meta-data/iam/security-credentials/"
KEYS = {
    "Code": "Success",
    "AccessKeyId": "AKID",
    "SecretAccessKey": "secret",
    "Token": "session",
    "Expiration": "2099-01-01T00:00:00Z",
}


class Server(http.server.ThreadingHTTPServer):
    """An imitation of the service. `answers` maps paths to answers; `puts` counts the tokens."""

    answers: dict[str, str]
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
        elif self.path in self.server.answers:
            self._answer(200, self.server.answers[self.path])
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
        server.answers = {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def imds(service: Server) -> Imds:
    return Imds(f"http://127.0.0.1:{service.server_address[1]}/latest/")


def test_credentials_have_the_form_of_credential_process(service: Server, imds: Imds) -> None:
    service.answers = {ROLE: "worker\n", ROLE + "worker": json.dumps(KEYS)}
    printed = credentials(imds)
    assert printed is not None
    assert json.loads(printed) == {
        "Version": 1,
        "AccessKeyId": "AKID",
        "SecretAccessKey": "secret",
        "SessionToken": "session",
        "Expiration": "2099-01-01T00:00:00Z",
    }


def test_a_machine_without_a_role_has_none(imds: Imds) -> None:
    assert credentials(imds) is None


def test_a_notice_ends_the_machine_and_advice_only_tells_the_worker(
    service: Server, imds: Imds
) -> None:
    assert list(new_notices(imds, set())) == []
    service.answers[f"/latest/{ADVICE}"] = '{"noticeTime": "now"}'
    assert [path for path, _ in new_notices(imds, set())] == [ADVICE]
    assert list(new_notices(imds, {ADVICE})) == [], "each is told once"
    service.answers[f"/latest/{END}"] = '{"action": "terminate"}'
    assert list(new_notices(imds, {ADVICE})) == [(END, '{"action": "terminate"}')]
    assert [command[:2] for command in COMMANDS[END]] == [
        ["systemctl", "stop"],
        ["systemctl", "poweroff"],
    ]
    assert COMMANDS[ADVICE] == [
        ["systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR1", "taskfleet-worker.service"]
    ]


def test_the_service_is_reachable_whatever_it_answers(service: Server, imds: Imds) -> None:
    assert not unreachable(imds)
    service.answers["/latest/meta-data/"] = "ami-id"
    assert not unreachable(imds)


def test_a_service_that_does_not_listen_is_unreachable() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    assert unreachable(Imds(f"http://127.0.0.1:{port}/latest/"))


def test_files_are_written_whole_and_for_the_group_only(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    for text in ("first", "second"):
        write(path, text)
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    assert list(tmp_path.iterdir()) == [path]
