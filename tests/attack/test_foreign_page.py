"""Foreign pages and a local cloud: what a browser sends for a page that a developer visits is
refused at every port that the cloud opens, and changes nothing. Whoever has the env file is served.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import boto3
import psutil
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e.conftest import Cloud, StartCloud, start_cloud

__all__ = ["start_cloud"]  # a fixture

pytestmark = pytest.mark.e2e

QUEUE = "Task_to_process"
KEPT = "notes/kept.txt"


@pytest.fixture(scope="module")
def cloud(
    start_cloud: StartCloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """A local cloud whose pump and EC2 serve, with an object in its bucket; no worker runs, so that
    what is enqueued stays."""
    folder = tmp_path_factory.mktemp("attacked") / "cloud"
    started = start_cloud(folder, "--workers", "0", "--max-capacity", "1", "--keep")
    started.client("s3").put_object(
        Bucket=started.environ["TASKFLEET_BUCKET"], Key=KEPT, Body=b"here"
    )
    yield started
    if started.process.poll() is None:
        started.stop()


def listening(cloud: Cloud) -> dict[int, str]:
    """Port -> address of every TCP socket that a process of the cloud listens on."""
    top = psutil.Process(cloud.process.pid)
    found = {}
    for process in [top, *top.children(recursive=True)]:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = connection.laddr.ip
    return found


class Attack(NamedTuple):
    """What a page wants to do. A page may send any body as text/plain without a preflight."""

    method: str
    path: str
    body: bytes = b""
    kind: str = "text/plain;charset=UTF-8"
    target: str | None = None
    """`X-Amz-Target`, for which a browser would ask by a preflight."""


def attacks(cloud: Cloud, marker: Path) -> list[Attack]:
    """Every attack that was tried, each of which worked on a cloud without a guard."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.py", f"def h(e, c):\n    open({str(marker)!r}, 'w').write('owned')\n")
    function = {
        "FunctionName": "evil",
        "Runtime": "python3.11",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Handler": "a.h",
        "Code": {"ZipFile": base64.b64encode(zipped.getvalue()).decode()},
    }
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    queue = f"http://127.0.0.1/000000000000/{QUEUE}"
    form = "application/x-www-form-urlencoded"
    send = {"Action": "SendMessage", "QueueUrl": queue, "MessageBody": "evil"}
    run = {"Action": "RunInstances", "ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1}
    ec2 = "&X-Amz-Credential=test/20260101/us-east-1/ec2/aws4_request"
    return [
        Attack("POST", "/2015-03-31/functions", json.dumps(function).encode()),
        Attack("POST", "/2015-03-31/functions/evil/invocations", b"{}"),
        Attack("POST", "/2015-03-31/functions/taskfleet-dev-tick/invocations", b"{}"),
        Attack("GET", f"/{bucket}"),
        Attack("GET", f"/{bucket}/{KEPT}"),
        Attack("DELETE", f"/{bucket}/{KEPT}"),
        Attack("POST", "/", urlencode(send).encode(), form),
        Attack("GET", f"/000000000000/{QUEUE}?{urlencode(send)}"),
        Attack("GET", f"/000000000000/{QUEUE}?{urlencode(send)}&X-Amz-Signature=0"),
        Attack(
            "POST",
            "/",
            json.dumps({"QueueUrl": queue, "MessageBody": "evil"}).encode(),
            target="AmazonSQS.SendMessage",
        ),
        Attack("POST", "/", urlencode(run).encode(), form),
        Attack("GET", f"/?{urlencode(run)}{ec2}"),
        Attack("GET", "/moto-api/data.json"),
        Attack("POST", "/moto-api/reset"),
        Attack("GET", "/health"),
        Attack("GET", "/batches"),
        Attack("POST", "/batches", b"sleep 1"),
        Attack("POST", "/_ministack/reset"),  # last, since it would hide what the others did
    ]


def ways(port: int) -> Iterator[dict[str, str]]:
    """The headers by which a browser marks a request: each kind of page, old and new browsers, and
    each name by which a page can reach the port."""
    evil, neighbour = "http://evil.example", "http://localhost:3000"
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        yield {"Host": host, "Origin": evil}
        yield {"Host": host, "Origin": "null"}
        yield {"Host": host, "Origin": evil, "Sec-Fetch-Site": "cross-site"}
        yield {"Host": host, "Origin": neighbour, "Sec-Fetch-Site": "same-site"}
        yield {"Host": host, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
        yield {"Host": host, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "document"}
    for host in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}"):
        # To the browser the rebound name is the page's own origin, and no trustworthy one.
        yield {"Host": host}
        yield {"Host": host, "Origin": f"http://{host}"}
        yield {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}


def sent(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
    """Sends exactly these headers to a port; returns status and headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        return answer.status, [name.lower() for name in answer.headers]
    finally:
        connection.close()


def state(cloud: Cloud) -> dict[str, Any]:
    """What an attack could have changed."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    depth = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    return {
        "messages": depth["ApproximateNumberOfMessages"],
        "objects": [
            o["Key"]
            for o in cloud.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
            if not o["Key"].startswith("uploads/")
        ],
        "functions": client(cloud, "lambda", cloud.environ["AWS_ENDPOINT_URL"]).list_functions()[
            "Functions"
        ],
        "instances": ec2_of(cloud).describe_instances()["Reservations"],
        "batches": cloud.api("GET", "/batches").json()["batches"],
    }


def ec2_of(cloud: Cloud, **changed: str) -> Any:
    return client(cloud, "ec2", cloud.environ["AWS_ENDPOINT_URL_EC2"], **changed)


def client(cloud: Cloud, service: str, endpoint: str, **changed: str) -> Any:
    """A boto3 client with the env file's credentials, or with `changed` ones."""
    environ = {**cloud.environ, **changed}
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint,
        region_name=environ["AWS_DEFAULT_REGION"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            proxies={},
            retries={"max_attempts": 0},
            signature_version="s3v4" if service == "s3" else None,
        ),
    )


def test_every_port_is_on_loopback(cloud: Cloud) -> None:
    found = listening(cloud)
    named = [v for k, v in cloud.environ.items() if "_URL" in k and v.startswith("http://")]
    assert {urlsplit(url).port for url in named} <= set(found)
    assert len(found) >= 4
    assert set(found.values()) == {"127.0.0.1"}


def test_a_foreign_page_is_refused_at_every_port_and_changes_nothing(
    cloud: Cloud, tmp_path: Path
) -> None:
    marker = tmp_path / "owned"
    before = state(cloud)
    wrong = []
    for port in listening(cloud):
        for attack in attacks(cloud, marker):
            for way in ways(port):
                headers = {**way, "Content-Type": attack.kind}
                if attack.target:
                    headers["X-Amz-Target"] = attack.target
                status, names = sent(port, attack.method, attack.path, headers, attack.body)
                allowed = [name for name in names if name.startswith("access-control-")]
                if status != 403 or allowed:
                    wrong.append((port, attack.method, attack.path[:40], way, status, allowed))
    assert not wrong, f"{len(wrong)} were let in: {wrong[:12]}"
    assert not marker.exists()
    assert state(cloud) == before


def test_no_preflight_is_answered(cloud: Cloud, tmp_path: Path) -> None:
    for port in listening(cloud):
        for attack in attacks(cloud, tmp_path / "owned"):
            for way in ways(port):
                asked = {
                    **way,
                    "Access-Control-Request-Method": attack.method,
                    "Access-Control-Request-Headers": "x-amz-target,authorization",
                    "Access-Control-Request-Private-Network": "true",
                }
                status, names = sent(port, "OPTIONS", attack.path, asked)
                assert status == 403, (port, attack.path, way)
                assert not [n for n in names if n.startswith("access-control-")]


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_request_without_a_host_is_refused(cloud: Cloud, version: str) -> None:
    for port in listening(cloud):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"GET /health {version}\r\nConnection: close\r\n\r\n".encode())
            status = connection.makefile("rb").readline().split(b" ")[1]
        assert status in (b"400", b"403"), port


def test_whoever_has_the_env_file_is_served_and_nobody_else(cloud: Cloud) -> None:
    endpoint = cloud.environ["AWS_ENDPOINT_URL"]
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    assert cloud.client("s3").get_object(Bucket=bucket, Key=KEPT)["Body"].read() == b"here"
    assert cloud.client("sqs").get_queue_url(QueueName=QUEUE)
    assert ec2_of(cloud).describe_instances()["Reservations"] == []
    for changed in (
        {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
        {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        {"AWS_ACCESS_KEY_ID": "000000000000", "AWS_SECRET_ACCESS_KEY": "test"},
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
    ):
        calls = {
            "sqs": lambda c: c.send_message(
                QueueUrl=f"{endpoint}/000000000000/{QUEUE}", MessageBody="e"
            ),
            "s3": lambda c: c.get_object(Bucket=bucket, Key=KEPT),
            "dynamodb": lambda c: c.list_tables(),
            "lambda": lambda c: c.list_functions(),
            "ssm": lambda c: c.describe_parameters(),
            "cloudformation": lambda c: c.list_stacks(),
        }
        for service, call in calls.items():
            with pytest.raises(ClientError) as refused:
                call(client(cloud, service, endpoint, **changed))
            status = refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
            assert status == 403 or "Signature" in str(refused.value), (service, changed)
    with pytest.raises(ClientError):
        ec2_of(cloud, AWS_ACCESS_KEY_ID="test").describe_instances()
    # By hand, without any header of a browser: no signature, no answer.
    assert requests.get(f"{endpoint}/{bucket}", timeout=10).status_code == 403
    assert requests.get(f"{endpoint}/{bucket}/{KEPT}", timeout=10).status_code == 403
    assert requests.post(f"{endpoint}/_ministack/reset", timeout=10).status_code == 403
    moto = cloud.environ["AWS_ENDPOINT_URL_EC2"]
    assert requests.post(f"{moto}/moto-api/reset", timeout=10).status_code == 403
    assert requests.get(f"{moto}/moto-api/data.json", timeout=10).status_code == 403
    invoke = cloud.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/2015-03-31/functions/x/invocations"
    assert requests.post(invoke, data=b"{}", timeout=10).status_code == 403


def test_signed_urls_and_forms_work_and_a_page_may_show_a_movie(cloud: Cloud) -> None:
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    endpoint = cloud.environ["AWS_ENDPOINT_URL"]
    s3 = client(cloud, "s3", endpoint)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": KEPT})
    assert requests.get(url, timeout=10).content == b"here"
    port, target = urlsplit(url).port, url.partition(urlsplit(url).netloc)[2]
    assert port is not None
    movie = {"Host": urlsplit(url).netloc, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "video"}
    assert sent(port, "GET", target, movie)[0] == 200
    forged = target.replace("X-Amz-Signature=", "X-Amz-Signature=0")
    assert sent(port, "GET", forged, movie)[0] == 403
    assert sent(port, "GET", target, {**movie, "Origin": "http://localhost:3000"})[0] == 403
    form = s3.generate_presigned_post(bucket, "notes/sent.txt")
    answer = requests.post(form["url"], form["fields"], files={"file": b"sent"}, timeout=10)
    assert answer.status_code == 204, answer.text
    del form["fields"]["policy"]
    answer = requests.post(form["url"], form["fields"], files={"file": b"sent"}, timeout=10)
    assert answer.status_code in (400, 403)
    s3.delete_object(Bucket=bucket, Key="notes/sent.txt")


def test_a_page_of_the_apis_own_origin_may_call_the_api(cloud: Cloud) -> None:
    host = urlsplit(cloud.url).netloc
    own = {"Origin": cloud.url, "Sec-Fetch-Site": "same-origin"}
    assert cloud.api("GET", "/batches", headers=own).status_code == 200
    assert requests.get(cloud.url + "/health", headers=own, timeout=10).status_code == 200
    port = urlsplit(cloud.url).port
    assert port is not None
    typed = {"Host": host, "Sec-Fetch-Site": "none"}
    assert sent(port, "GET", "/health", typed)[0] == 200
    other = {"Host": host, "Origin": f"http://localhost:{port}"}
    assert sent(port, "GET", "/health", other)[0] == 403


def test_what_the_cloud_leaves_in_its_folder_is_its_owners_alone(cloud: Cloud) -> None:
    """The last one, since it stops the cloud, so that the kept state is there too."""
    assert cloud.stop() == 0
    paths = [cloud.directory, *cloud.directory.rglob("*")]
    assert {"logs", "state", "token_secret", "aws_credentials"} <= {path.name for path in paths}
    open_to_others = [
        f"{p} {p.stat().st_mode & 0o777:o}" for p in paths if p.stat().st_mode & 0o077
    ]
    assert open_to_others == []
