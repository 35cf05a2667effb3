"""Downloads from hostile and broken servers, over real sockets on loopback."""

import socket
import struct
import threading
import time
from dataclasses import replace

import pytest

from taskfleet.errors import NotFound, PermanentError, TaskStopped, TooLarge, TransientError
from taskfleet.fetch.connect import Unfetchable
from taskfleet.fetch.download import Downloader, DownloadLimits
from tests.support.animoto import answer, redirect
from tests.support.ports import free_port

QUICK = DownloadLimits(
    file_bytes=100_000,
    job_bytes=250_000,
    connect_s=1,
    silence_s=0.5,
    total_s=0.8,
    tries=2,
    pause_s=0.01,
)

HASTY = replace(QUICK, silence_s=0.2, total_s=0.4)
"""For files that never come whole: their time is waited for, twice."""


def no_uploads(upload_id, max_bytes):
    raise NotFound(f"there is no upload {upload_id}")


@pytest.fixture
def fetch(tmp_path):
    """Fetches a URL and returns the stored bytes. Private addresses are allowed by default."""
    opened = []

    def fetch(url, *, allow_private=True, limits=QUICK, **options):
        downloader = Downloader(
            allow_private=allow_private,
            connections=4,
            limits=limits,
            **{"uploaded": no_uploads, **options},
        )
        opened.append(downloader)
        path = tmp_path / "file"
        size = downloader.fetch(url, str(path))
        data = path.read_bytes()
        assert len(data) == size
        return data

    yield fetch
    for downloader in opened:
        downloader.close()


def test_a_file_arrives_as_it_is(web, fetch):
    data = bytes(range(256)) * 300
    assert fetch(web.add("/a.jpg", data)) == data


def test_compressed_answers_are_not_unpacked(web, fetch):
    bomb = b"\x1f\x8b not really gzip"
    web.add("/a", lambda h: answer(h, bomb, headers={"Content-Encoding": "gzip"}))
    assert fetch(web.url("/a")) == bomb


def test_files_from_one_server_share_a_connection(web, tmp_path):
    web.add("/a", b"x" * 1000)
    downloader = Downloader(allow_private=True, connections=4, limits=QUICK, uploaded=no_uploads)
    for n in range(5):
        downloader.fetch(web.url("/a"), str(tmp_path / str(n)))
    downloader.close()
    assert web.connections == 1


# --- where a URL leads ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1"]
)
def test_loopback_is_refused_however_it_is_spelled(web, fetch, host):
    web.add("/a", b"secret")
    with pytest.raises(Unfetchable, match=r"not a public address|no host"):
        fetch(f"http://{host}:{web.port}/a", allow_private=False)
    assert web.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "0.0.0.0",
        "224.0.0.1",
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_metadata_is_never_fetched(fetch, host, allow_private):
    with pytest.raises(Unfetchable, match="never allowed"):
        fetch(f"http://{host}/latest/meta-data/", allow_private=allow_private)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.0.1", "100.64.0.1", "[fc00::1]"])
def test_private_networks_are_refused(fetch, host):
    with pytest.raises(Unfetchable, match="not a public address"):
        fetch(f"http://{host}/a", allow_private=False)


def test_a_redirect_is_followed(web, fetch):
    web.add("/b", b"there")
    assert fetch(web.add("/a", redirect("/b"))) == b"there"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("http://169.254.169.254/latest/meta-data/", "never allowed"),
        ("http://[::ffff:127.0.0.1]/", "never allowed"),
        ("file:///etc/passwd", "must begin with http"),
        ("gopher://127.0.0.1/", "must begin with http"),
        ("http://user:secret@127.0.0.1/", "user name"),
        ("/a", "more than 3 times"),
    ],
)
def test_a_redirect_to_a_forbidden_place_is_refused(web, fetch, to, said):
    with pytest.raises(Unfetchable, match=said):
        fetch(web.add("/a", redirect(to)))


def test_a_redirect_from_a_public_host_into_the_private_network_is_refused(web, fetch, monkeypatch):
    def fault(ip, *, allow_private):
        return None if ip == "127.0.0.1" else "is not a public address"

    monkeypatch.setattr("taskfleet.fetch.address.fault", fault)
    addresses = {"public": "127.0.0.1", "inside": "127.0.0.2"}
    web.add("/a", redirect(f"http://inside:{web.port}/secret"))
    with pytest.raises(Unfetchable, match=r"'inside' .127.0.0.2. is not a public"):
        fetch(
            f"http://public:{web.port}/a",
            allow_private=False,
            resolver=lambda host, port: [addresses[host]],
        )
    assert web.asked == {"/a": 1}


def test_a_name_that_changes_its_address_is_connected_to_the_one_that_was_checked(web, fetch):
    """DNS rebinding: the second answer would lead to the metadata service."""
    web.add("/a", b"checked")
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    got = fetch(f"http://rebind.example:{web.port}/a", resolver=lambda host, port: next(answers))
    assert got == b"checked"
    assert next(answers) == ["169.254.169.254"]


def test_of_several_addresses_only_the_allowed_are_tried(web, fetch):
    web.add("/a", b"fine")
    addresses = ["169.254.169.254", "fd00:ec2::254", "127.0.0.1"]
    assert fetch(f"http://x:{web.port}/a", resolver=lambda *_: addresses) == b"fine"


def test_proxies_from_the_environment_are_not_asked(web, fetch, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(web.add("/a", b"direct")) == b"direct"


def resolver_error(number):
    def fail(host, port):
        raise socket.gaierror(number, "of the resolver")

    return fail


def test_a_host_that_does_not_exist_is_permanent(fetch):
    with pytest.raises(Unfetchable, match="no host 'nowhere'"):
        fetch("http://nowhere/", resolver=resolver_error(socket.EAI_NONAME))


def test_a_resolver_that_is_down_is_transient(fetch):
    with pytest.raises(TransientError, match="cannot resolve"):
        fetch("http://nowhere/", resolver=resolver_error(socket.EAI_AGAIN))


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 204, 206, 304])
def test_an_answer_that_will_not_change_is_permanent(web, fetch, status):
    url = web.add("/a", lambda h: answer(h, status=status))
    with pytest.raises(Unfetchable, match=f"answered {status}"):
        fetch(url)
    assert web.asked["/a"] == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_an_answer_that_may_change_is_asked_for_again(web, fetch, status):
    url = web.add("/a", lambda h: answer(h, status=status, headers={"Retry-After": "0"}))
    with pytest.raises(TransientError, match=f"answered {status}"):
        fetch(url)
    assert web.asked["/a"] == QUICK.tries


def test_the_second_try_may_succeed(web, fetch):
    def shaky(handler):
        if web.asked["/a"] == 1:
            answer(handler, status=503)
        else:
            answer(handler, b"at last")

    assert fetch(web.add("/a", shaky)) == b"at last"


def test_a_refused_connection_is_transient(fetch):
    with pytest.raises(TransientError, match="refused"):
        fetch(f"http://127.0.0.1:{free_port()}/")


def test_a_reset_connection_is_transient(web, fetch):
    def reset(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    begun = time.monotonic()
    with pytest.raises(TransientError, match="no complete answer"):
        fetch(web.add("/a", reset))
    assert time.monotonic() - begun < QUICK.silence_s, "nobody waited for more"


def test_an_answer_that_breaks_off_is_transient(web, fetch):
    def short(handler):
        answer(handler, b"x" * 500, headers={"Content-Length": "1000"})
        handler.close_connection = True

    with pytest.raises(TransientError):
        fetch(web.add("/a", short))


# --- too much, too slow ---------------------------------------------------------------------


def test_a_file_with_a_huge_content_length_is_not_read(web, fetch):
    url = web.add("/a", lambda h: answer(h, headers={"Content-Length": "99999999999"}))
    with pytest.raises(Unfetchable, match="over the cap of 100000"):
        fetch(url)


def test_a_huge_file_without_a_content_length_is_cut_off(web, fetch):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 10_000)
            sent.append(10_000)

    with pytest.raises(Unfetchable, match="over the cap of 100000"):
        fetch(web.add("/a", endless))
    assert sum(sent) < 20_000_000


def test_all_files_of_a_job_share_one_cap(web, tmp_path):
    web.add("/a", b"x" * 90_000)
    downloader = Downloader(allow_private=True, connections=4, limits=QUICK, uploaded=no_uploads)
    downloader.fetch(web.url("/a"), str(tmp_path / "1"))
    downloader.fetch(web.url("/a"), str(tmp_path / "2"))
    with pytest.raises(PermanentError, match="over the cap of 250000"):
        downloader.fetch(web.url("/a"), str(tmp_path / "3"))
    downloader.close()


def drip(part):
    """Returns a page that is sent slowly, without a pause and without an end."""

    def page(handler):
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "50000")
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return page


@pytest.mark.parametrize("part", ["body", "headers"])
def test_a_slow_drip_ends_at_the_total_time(web, fetch, part):
    begun = time.monotonic()
    with pytest.raises(TransientError, match=r"longer than 0.4 s"):
        fetch(web.add("/a", drip(part)), limits=HASTY)
    assert time.monotonic() - begun < HASTY.tries * HASTY.total_s + 1


def test_silence_ends_sooner(web, fetch):
    with pytest.raises(TransientError, match="no complete answer"):
        fetch(web.add("/a", lambda handler: time.sleep(0.6)), limits=HASTY)


@pytest.mark.parametrize("part", ["body", "headers"])
def test_stopping_ends_a_download_at_once(web, tmp_path, part):
    limits = DownloadLimits(total_s=30, silence_s=30)
    downloader = Downloader(allow_private=True, connections=4, limits=limits, uploaded=no_uploads)
    threading.Timer(0.2, downloader.stop).start()
    begun = time.monotonic()
    with pytest.raises(TaskStopped):
        downloader.fetch(web.add("/a", drip(part)), str(tmp_path / "a"))
    assert time.monotonic() - begun < 2
    with pytest.raises(TaskStopped):
        downloader.fetch(web.add("/b", b"x"), str(tmp_path / "b"))
    downloader.close()


def test_a_disk_that_cannot_be_written_is_transient_and_not_tried_again(web, tmp_path):
    web.add("/a", b"x")
    downloader = Downloader(allow_private=True, connections=4, limits=QUICK, uploaded=no_uploads)
    with pytest.raises(TransientError, match="cannot write"):
        downloader.fetch(web.url("/a"), str(tmp_path / "missing" / "a"))
    with pytest.raises(TransientError, match="No space left"):
        downloader.fetch(web.url("/a"), "/dev/full")
    downloader.close()
    assert web.asked["/a"] == 2


# --- files that the client uploaded ---------------------------------------------------------


def test_an_uploaded_file_is_copied_under_the_same_caps(fetch):
    files = {"1": b"picture", "2": b"x" * 200_000}

    def uploaded(upload_id, max_bytes):
        if upload_id not in files:
            raise NotFound(f"there is no upload {upload_id}")
        if len(files[upload_id]) > max_bytes:
            raise TooLarge("over the cap")
        return files[upload_id]

    assert fetch("upload:1", uploaded=uploaded) == b"picture"
    for missing in ("upload:2", "upload:3"):
        with pytest.raises(Unfetchable):
            fetch(missing, uploaded=uploaded)


def test_nobody_is_redirected_to_an_upload(web, fetch):
    web.add("/a", redirect("upload:1"))
    with pytest.raises(Unfetchable, match="redirected to an invalid URL"):
        fetch(web.url("/a"), uploaded=lambda upload_id, max_bytes: b"secret")
