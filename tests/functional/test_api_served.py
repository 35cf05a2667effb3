"""The local HTTP server around the app: many clients at a time, large bodies, a clean shutdown."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from localcloud.serve import main
from taskfleet.clock import SystemClock
from taskfleet.wire.token import Role
from tests.support.frontend import Frontend
from tests.support.worker import Cloud

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024


@pytest.fixture
def api():
    return Frontend(Cloud(clock=SystemClock()))


@pytest.fixture
def server(api):
    with api.served() as server:
        yield server


def connect(server):
    return http.client.HTTPConnection(*server.server_address, timeout=20)


def bearer(api, client_id="alice"):
    return {"Authorization": f"Bearer {api.token(client_id)}"}


def test_a_reader_is_refused_as_by_api_gateway(api, server):
    host, port = server.server_address
    reader = {"Authorization": f"Bearer {api.token(role=Role.READER)}"}
    batch_id = api.submit(["sleep 1"])
    url = f"http://{host}:{port}/batches"
    assert requests.get(f"{url}/{batch_id}", headers=reader, timeout=20).status_code == 200
    for method, path in (("POST", ""), ("POST", f"/{batch_id}/close"), ("DELETE", f"/{batch_id}")):
        answer = requests.request(method, url + path, headers=reader, json={}, timeout=20)
        assert answer.status_code == 403
        assert "not authorized" in answer.json()["Message"]
    assert api.cloud.monitor.batch(batch_id).cancelled_at is None


def test_requests_at_the_same_time_do_not_mix_up(api, server):
    batches = {}
    for name in ("alice", "bob"):
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1"]}, as_client=name)
        batches[name] = answer.json_body["batch_id"]

    def ask(name):
        line = connect(server)
        line.request("GET", "/batches", headers=bearer(api, name))
        (batch,) = json.loads(line.getresponse().read())["batches"]
        line.close()
        return batch["batch_id"]

    # Each request waits until the other has come to the same step.
    together = threading.Barrier(2, timeout=10)
    api.on_services = together.wait
    with ThreadPoolExecutor(2) as pool:
        assert dict(zip(batches, pool.map(ask, batches), strict=True)) == batches


def test_one_connection_serves_many_requests_without_delay(api, server):
    line = connect(server)
    line.connect()
    port = line.sock.getsockname()[1]
    slow = 0
    for _ in range(20):
        started = time.monotonic()
        line.request("GET", "/health")
        assert line.getresponse().read()
        slow += time.monotonic() - started > 0.035  # delayed acknowledgements cost 40 ms each
        assert line.sock.getsockname()[1] == port
    line.close()
    assert slow < 10


def test_a_poller_that_waits_holds_up_nobody(api, server):
    batch_id = api.submit(["sleep 1"])
    answers = []

    def wait():
        line = connect(server)
        line.request("GET", f"/batches/{batch_id}?wait=20", headers=bearer(api))
        answers.append(json.loads(line.getresponse().read())["status"])
        line.close()

    poller = threading.Thread(target=wait)
    poller.start()
    line = connect(server)
    line.request("GET", "/health")
    assert line.getresponse().status == 200
    line.close()
    api.run()
    poller.join(10)
    assert answers[0] in ("RUNNING", "DONE")


def test_250_000_tasks_in_5_mib_are_taken_in_within_seconds(api, server):
    lines = [f"sleep 0.{n:07d}" for n in range(250_000)]  # all different, so that no cache helps
    body = json.dumps({"tasks": lines}, separators=(",", ":")).encode()
    assert 4 * MIB < len(body) <= 5 * MIB
    line = connect(server)
    started = time.monotonic()
    headers = {**bearer(api), "Content-Type": "application/json"}
    line.request("POST", "/batches", body, headers)
    answer = line.getresponse()
    assert (answer.status, json.loads(answer.read())["total"]) == (202, 250_000)
    assert time.monotonic() - started < 15  # 2 s on an idle machine
    line.close()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_of_exactly_the_cap_is_taken(api, server, content_type):
    body = b'{"tasks": ["sleep 1"]}' if "json" in content_type else b"sleep 1\n"
    body += b" " * (5 * MIB - len(body))
    line = connect(server)
    line.request("POST", "/batches", body, {**bearer(api), "Content-Type": content_type})
    assert line.getresponse().status == 202
    line.close()


def test_a_client_that_asks_first_is_told_to_go_on(api, server):
    body = b'{"tasks": ["sleep 1"]}'
    head = (
        "POST /batches HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.server_address[1]}\r\nContent-Type: application/json\r\n"
        f"Authorization: {bearer(api)['Authorization']}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(server.server_address, timeout=10) as line:
        line.sendall(head.encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 100 ")
        line.sendall(body)
        heard = b""
        while chunk := line.recv(10_000):
            heard += chunk
    assert heard.startswith(b"HTTP/1.1 202 ")


def test_head_has_no_body(api, server):
    with socket.create_connection(server.server_address, timeout=10) as line:
        host = f"Host: localhost:{server.server_address[1]}"
        line.sendall(f"HEAD /health HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode())
        heard = b""
        while chunk := line.recv(10_000):
            heard += chunk
    assert heard.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "QUERY"])
def test_a_method_that_no_route_has_is_the_fault_of_the_client(api, server, method):
    line = connect(server)
    line.request(method, "/batches", headers=bearer(api))
    answer = line.getresponse()
    assert answer.status == 405
    assert b"Unsupported method" in answer.read()
    line.close()


def test_a_client_that_leaves_makes_no_noise(api, server, caplog):
    for _ in range(5):
        with socket.create_connection(server.server_address) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            line.sendall(b"POST /batches HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    line = connect(server)
    line.request("GET", "/health")
    assert line.getresponse().status == 200
    line.close()
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


def test_closing_hangs_up_idle_clients_and_ends_every_thread(api):
    before = threading.active_count()
    with api.served() as server:
        lines = [connect(server) for _ in range(5)]
        for line in lines:
            line.request("GET", "/health")
            assert line.getresponse().read()
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert threading.active_count() == before
    for line in lines:
        assert line.sock.recv(1) == b""
        line.close()


# --- python -m localcloud.serve ---------------------------------------------------------------

SETTINGS = {
    "TASKFLEET_BUCKET": "taskfleet-local",
    "TASKFLEET_TOKEN_SECRET": "a secret of more than thirty-two characters",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    # Nobody listens there, so that the adapters fail fast.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}


def serve(*arguments, **environ):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TASKFLEET_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "localcloud.serve", *arguments],
        cwd=ROOT,
        env={**kept, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_the_settings_of_its_environment_and_ends_on_a_signal(number):
    with serve("--port", "0", **SETTINGS) as process:
        try:
            url = process.stdout.readline().removeprefix("serving ").strip()
            assert requests.get(f"{url}/health", timeout=10).json()["status"] == "ok"
            assert requests.get(f"{url}/batches", timeout=10).status_code == 401
            process.send_signal(number)
            _, noise = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert noise == ""


@pytest.mark.parametrize(
    ("arguments", "environ", "tells"),
    [
        (["--port", "99999"], SETTINGS, "99999 is not a port"),
        (["--port", "http"], SETTINGS, "--port"),
        ([], {**SETTINGS, "TASKFLEET_TOKEN_SECRET": ""}, "TASKFLEET_TOKEN_SECRET"),
        ([], {**SETTINGS, "TASKFLEET_KINDS": "no_such_module"}, "no_such_module"),
        ([], {**SETTINGS, "TASKFLEET_LEASE_S": "soon"}, "TASKFLEET_LEASE_S"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, environ, tells, monkeypatch, capsys):
    """In this process; `test_a_port_in_use_is_told` sees an exit code arrive outside."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "TASKFLEET_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    monkeypatch.setattr("chalice_app.wiring.set_up", lambda level: None)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert tells in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.e2e
def test_a_port_in_use_is_told(server):
    port = str(server.server_address[1])
    with serve("--port", port, **SETTINGS) as process:
        _, noise = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in noise
