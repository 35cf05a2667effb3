"""The whole table of bad input against the real HTTP server: each input, its status, and what the
message must tell."""

import json
import socket
import threading

import pytest
import requests

from tests.support.frontend import Frontend

MIB = 1024 * 1024
JSON = "application/json"
TEXT = "text/plain"


@pytest.fixture(scope="module")
def api():
    return Frontend()


@pytest.fixture(scope="module")
def server(api):
    with api.served() as server:
        yield server


@pytest.fixture(scope="module")
def url(server):
    return "http://{}:{}".format(*server.server_address)


@pytest.fixture(scope="module")
def session(api):
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {api.token()}"
        yield session


def nested(depth, inside="1"):
    return b'{"tasks":' + b"[" * depth + inside.encode() + b"]" * depth + b"}"


def tasks(*given):
    return json.dumps({"tasks": given}).encode()


def with_fields(**fields):
    return json.dumps({"tasks": ["sleep 1"], **fields}).encode()


def from_upload(upload_id, **fields):
    return json.dumps({"upload_id": upload_id, **fields}).encode()


# id: (content type, body, status, what the message tells)
BODIES = {
    "empty": (JSON, b"", 400, "malformed JSON"),
    "blank": (JSON, b"  \n", 400, "malformed JSON"),
    "malformed": (JSON, b'{"tasks": ["sleep 1"', 400, "line 1, column"),
    "trailing comma": (JSON, b'{"tasks": ["sleep 1",]}', 400, "malformed JSON"),
    "two values": (JSON, b"{} {}", 400, "malformed JSON"),
    "control character": (JSON, b'{"tasks": ["sleep\x001"]}', 400, "malformed JSON"),
    "single quotes": (JSON, b"{'tasks': ['sleep 1']}", 400, "malformed JSON"),
    "100,000 brackets": (JSON, b"[" * 100_000, 400, "deep"),
    "100,000 closed brackets": (JSON, nested(100_000), 400, "deep"),
    "100,000 objects": (JSON, b'{"tasks":' * 100_000, 400, "deep"),
    "just over the depth": (JSON, nested(64), 400, "deep"),
    "as deep as a reader goes": (JSON, nested(950), 400, "deep"),
    "NaN": (JSON, b'{"tasks": [{"kind": "sleep", "params": NaN}]}', 400, "NaN"),
    "Infinity": (JSON, b'{"tasks": [-Infinity]}', 400, "Infinity"),
    "1e400": (JSON, b'{"tasks": [{"kind": "sleep", "params": 1e400}]}', 400, "too large"),
    "too many digits": (JSON, b'{"tasks": [' + b"9" * 5_000 + b"]}", 400, "too many digits"),
    "duplicate key": (JSON, b'{"tasks": ["sleep 1"], "tasks": []}', 400, "'tasks' occurs twice"),
    "duplicate key inside": (
        JSON,
        b'{"tasks": [{"kind": "sleep", "kind": "animoto"}]}',
        400,
        "'kind' occurs twice",
    ),
    "bad UTF-8": (JSON, b'{"tasks": ["sleep \xff"]}', 400, "not UTF-8: byte 18"),
    "UTF-16": (JSON, '{"tasks": ["sleep 1"]}'.encode("utf-16"), 400, "not UTF-8"),
    "encoded surrogate": (JSON, b'{"tasks": ["\xed\xa0\x80"]}', 400, "not UTF-8"),
    "lone surrogate": (JSON, b'{"tasks": ["\\ud800"]}', 400, "half a character"),
    "lone surrogate as a key": (JSON, b'{"\\udfff": 1}', 400, "half a character"),
    "an array": (JSON, b'["sleep 1"]', 400, "JSON object"),
    "a string": (JSON, b'"sleep 1"', 400, "JSON object"),
    "null": (JSON, b"null", 400, "JSON object"),
    "bad UTF-8 in text": (TEXT, b"sleep 1\nsleep \xff", 400, "not UTF-8: byte 14"),
    "text sent as JSON": (JSON, b"sleep 1\nsleep 2", 400, "malformed JSON"),
    "a form": ("application/x-www-form-urlencoded", b"tasks=sleep", 415, "urlencoded"),
    "XML": ("application/xml", b"<tasks/>", 415, "xml"),
    "anything": ("*/*", tasks("sleep 1"), 415, "*/*"),
    "two types": (f"{JSON}, {TEXT}", tasks("sleep 1"), 415, JSON),
    "latin-1": (f"{TEXT}; charset=iso-8859-1", b"sleep 1", 415, "iso-8859-1"),
    "no tasks field": (JSON, b"{}", 422, "tasks"),
    "no tasks": (JSON, tasks(), 422, "at least one"),
    "no tasks in text": (TEXT, b"", 422, "at least one"),
    "only comments": (TEXT, b"# sleep 1\n\n", 422, "at least one"),
    "tasks not a list": (JSON, b'{"tasks": "sleep 1"}', 422, "$.tasks"),
    "tasks null": (JSON, b'{"tasks": null}', 422, "$.tasks"),
    "unknown field": (JSON, with_fields(priority=1), 422, "priority"),
    "name not text": (JSON, with_fields(name=1), 422, "$.name"),
    "name too long": (JSON, with_fields(name="x" * 201), 422, "200"),
    "key not text": (JSON, with_fields(idempotency_key=["k"]), 422, "$.idempotency_key"),
    "key empty": (JSON, with_fields(idempotency_key=""), 422, "$.idempotency_key"),
    "key too long": (JSON, with_fields(idempotency_key="x" * 201), 422, "200"),
    "tasks and upload": (JSON, with_fields(upload_id="0" * 26), 422, "not both"),
    "upload that is none": (JSON, from_upload("0" * 26), 404, "POST /uploads"),
    "upload that cannot be one": (JSON, from_upload("../x"), 404, "POST /uploads"),
    "upload not text": (JSON, from_upload(1), 422, "$.upload_id"),
    "upload with an unknown field": (JSON, from_upload("0" * 26, part=1), 422, "part"),
    "unknown kind": (JSON, tasks("sleep 1", "dance 1"), 422, "task 1: unknown kind 'dance'"),
    "unknown kind in text": (TEXT, b"sleep 1\n\ndance 1", 422, "task 1: unknown kind 'dance'"),
    "negative sleep": (JSON, tasks("sleep 1", "sleep 2", "sleep -1"), 422, "task 2: sleep -1"),
    "absurd sleep": (JSON, tasks("sleep 1e18"), 422, "task 0: sleep 1e+18 is over the cap"),
    "sleep of what": (JSON, tasks("sleep"), 422, "task 0: sleep needs a number"),
    "sleep nan": (JSON, tasks("sleep nan"), 422, "task 0"),
    "sleep inf": (TEXT, b"sleep inf", 422, "task 0"),
    "a number as a task": (JSON, tasks("sleep 1", 5), 422, "task 1"),
    "null as a task": (JSON, tasks(None), 422, "task 0"),
    "a list as a task": (JSON, tasks([]), 422, "task 0"),
    "an empty task": (JSON, tasks("sleep 1", " "), 422, "task 1"),
    "a task without kind": (JSON, tasks({"params": 1}), 422, "task 0"),
    "a task with more fields": (JSON, tasks({"kind": "sleep", "url": "x"}), 422, "'url'"),
    "a kind that is no text": (JSON, tasks({"kind": 1}), 422, "task 0"),
    "a malformed line": (TEXT, b'sleep 1\n\n{"kind": }', 422, "task 1: line 3: malformed JSON"),
    "a line with a duplicate key": (TEXT, b'{"kind": "a", "kind": "b"}', 422, "occurs twice"),
    "too many tasks": (JSON, tasks(*["sleep 0"] * 250_001), 422, "250000"),
    "too many lines": (TEXT, b"sleep 0\n" * 250_001, 422, "250000"),
    "over 5 MiB of JSON": (JSON, tasks("sleep 1" + " " * 5 * MIB), 413, "5 MiB"),
    "over 5 MiB of text": (TEXT, b"#" * (5 * MIB + 1), 413, "/uploads"),
    "over 5 MiB, as characters count": (TEXT, ("é" * 2_700_000).encode(), 413, "5400000 bytes"),
    "over 10 MiB": (TEXT, b"#" * (10 * MIB + 1), 413, "/uploads"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body(api, session, url, case):
    content_type, body, status, tells = BODIES[case]
    before = api.cloud.tasks.depth()
    answer = session.post(f"{url}/batches", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert tells in error.get("Message", error.get("message"))
    if "Message" in error:
        assert set(error) == {"Code", "Message"}
    assert api.cloud.tasks.depth() == before


QUERIES = {
    "limit zero": ("/batches?limit=0", "$.limit"),
    "limit negative": ("/batches?limit=-1", "$.limit"),
    "limit too high": ("/batches?limit=101", "100"),
    "limit of letters": ("/batches?limit=many", "$.limit"),
    "limit empty": ("/batches?limit=", "$.limit"),
    "limit huge": ("/batches?limit=" + "9" * 500, "$.limit"),
    "limit twice": ("/batches?limit=1&limit=2", "2 times"),
    "unknown parameter": ("/batches?page=2", "page"),
    "cursor of somebody else": ("/batches?cursor=nonsense", "cursor"),
    "cursor not UTF-8": ("/batches?cursor=%ff%fe", "cursor"),
    "cursor too long": ("/batches?cursor=" + "x" * 3000, "cursor"),
    "results limit too high": ("/batches/{id}/results?limit=5001", "5000"),
    "results cursor": ("/batches/{id}/results?cursor=1", "cursor"),
    "results cursor negative": ("/batches/{id}/results?cursor=-1--1", "cursor"),
    "wait too long": ("/batches/{id}?wait=26", "25"),
    "wait negative": ("/batches/{id}?wait=-1", "$.wait"),
    "wait nan": ("/batches/{id}?wait=nan", "$.wait"),
    "wait of letters": ("/batches/{id}?wait=long", "$.wait"),
}


@pytest.mark.parametrize("case", QUERIES)
def test_a_bad_query(api, session, url, case):
    path, tells = QUERIES[case]
    answer = session.get(url + path.replace("{id}", api.submit(["sleep 1"])))
    assert answer.status_code == 422, answer.text
    assert answer.json()["Code"] == "UnprocessableEntityError"
    assert tells in answer.json()["Message"]


@pytest.mark.parametrize(
    ("query", "body", "content_type"),
    [
        ("?idempotency_key=", b"sleep 1", TEXT),
        ("?name=" + "x" * 201, b"sleep 1", TEXT),
        ("?idempotency-key=k", b"sleep 1", TEXT),
        ("?idempotency_key=k", tasks("sleep 1"), JSON),
    ],
    ids=["empty key", "long name", "misspelt", "with JSON"],
)
def test_a_bad_query_of_a_submission(session, url, query, body, content_type):
    headers = {"Content-Type": content_type}
    answer = session.post(f"{url}/batches{query}", data=body, headers=headers)
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", b"sleep 1", 400),
        ("", b'{"a":1}', 422),
        ("", b'{"sha256":"' + b"0" * 63 + b'","bytes":1}', 422),
        ("", b'{"sha256":"' + b"0" * 64 + b'","bytes":-1}', 422),
        ("", b'{"sha256":"' + b"0" * 64 + b'","bytes":100000000000}', 413),
        ("?name=x", b"", 422),
    ],
)
def test_an_upload_takes_nothing_but_a_file(session, url, query, body, status):
    headers = {"Content-Type": "application/json"} if body else {}
    answer = session.post(f"{url}/uploads{query}", data=body, headers=headers)
    assert answer.status_code == status, answer.text


class TestTokens:
    @pytest.mark.parametrize("path", ["/batches", "/openapi.json", f"/batches/{'0' * 26}"])
    def test_none_is_401(self, url, path):
        answer = requests.get(url + path)
        assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})

    @pytest.mark.parametrize("value", ["nonsense", "Bearer x.y.z", "Bearer "])
    def test_a_bad_one_is_403(self, url, value):
        assert requests.get(f"{url}/batches", headers={"Authorization": value}).status_code == 403

    def test_an_expired_one_is_403(self, api, url):
        headers = {"Authorization": f"Bearer {api.token(ttl_s=-1)}"}
        assert requests.get(f"{url}/batches", headers=headers).status_code == 403

    def test_another_clients_batch_is_404(self, api, url):
        batch_id = api.submit(["sleep 1"])
        headers = {"Authorization": f"Bearer {api.token('bob')}"}
        answer = requests.get(f"{url}/batches/{batch_id}", headers=headers)
        assert (answer.status_code, answer.json()["Code"]) == (404, "NotFoundError")

    def test_another_clients_upload_is_404(self, api, url):
        upload_id = api.upload(b"sleep 1")
        headers = {"Authorization": f"Bearer {api.token('bob')}"}
        answer = requests.post(f"{url}/batches", headers=headers, json={"upload_id": upload_id})
        assert (answer.status_code, answer.json()["Code"]) == (404, "NotFoundError")

    def test_a_token_is_asked_for_before_a_body_is_read(self, url):
        answer = requests.post(f"{url}/batches", data=b"[" * 100_000)
        assert answer.status_code == 401


def test_a_method_that_a_route_has_not_is_405(session, url):
    answer = session.put(f"{url}/batches", data=b"{}")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, GET")


def test_an_unknown_path_is_403_as_api_gateway_has_it(session, url):
    assert session.get(f"{url}/nothing").status_code == 403


class TestCompressedBodies:
    def test_are_refused_not_misread(self, session, url):
        headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
        answer = session.post(f"{url}/batches", data=b"\x1f\x8b", headers=headers)
        assert answer.status_code == 415
        assert "gzip" in answer.json()["Message"]


# --- bytes that no HTTP library would send ----------------------------------------------------


def speak(server, *pieces):
    """What the server says to these bytes until it hangs up."""
    port = server.server_address[1]
    with socket.create_connection(server.server_address, timeout=10) as line:
        for piece in pieces:
            line.sendall(piece.replace(b"Host: localhost\r\n", b"Host: localhost:%d\r\n" % port, 1))
        line.shutdown(socket.SHUT_WR)
        heard = b""
        while chunk := line.recv(65_536):
            heard += chunk
    return heard


def post(api, *headers, body=b"", path="/batches"):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {api.token()}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


CHUNKED = b'15\r\n{"tasks":["sleep 1"]}\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (["Transfer-Encoding: chunked"], CHUNKED, 411),
        (["Content-Length: many"], b"", 400),
        (["Content-Length: -1"], b"", 400),
        (["Content-Length: 1_0"], b"0123456789", 400),
        (["Content-Length: 2", "Content-Length: 3"], b"{}", 400),
        ([], b"", 400),
        (["Content-Length: " + "9" * 40], b"", 413),
        ([f"Content-Length: {20 * MIB}"], b" " * (20 * MIB), 413),
        ([f"Content-Length: {11 * MIB}", "Expect: 100-continue"], b"", 413),
        (["X-Odd: \xe9"], b"", 400),
        (["X-Long: " + "x" * 70_000], b"", 431),
        ([f"X-{n}: 1" for n in range(200)], b"", 431),
    ],
    ids=[
        *("chunked", "letters", "negative", "underscore", "contradicting", "no length, no body"),
        *(
            "absurd",
            "sent in full",
            "refused before it is sent",
            "not ASCII",
            "long header",
            "many headers",
        ),
    ],
)
def test_a_bad_head(api, server, headers, body, status):
    heard = speak(server, post(api, *headers, body=body))
    assert heard.startswith(b"HTTP/1.1 %d " % status), heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1
    assert b"application/json" in heard


@pytest.mark.parametrize(
    "line", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_not_http_is_400(server, line):
    assert speak(server, line).split(b" ")[1] == b"400"


def test_a_very_long_path_is_414(server):
    heard = speak(server, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
    assert heard.split(b" ")[1] == b"414"


def test_a_body_that_ends_early_does_nothing(api, server):
    before = api.cloud.tasks.depth()
    assert speak(server, post(api, "Content-Length: 100", body=tasks("sleep 1"))) == b""
    assert api.cloud.tasks.depth() == before


def test_after_all_this_the_server_still_serves(api, session, url):
    answer = session.post(f"{url}/batches", json={"tasks": ["sleep 1"]})
    assert answer.status_code == 202
    assert answer.json()["url"] == f"{url}/batches/{answer.json()['batch_id']}"
    assert threading.active_count() < 20
