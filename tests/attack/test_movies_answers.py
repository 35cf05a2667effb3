"""Whatever a server answers costs only its picture, and a movie's result stays small (D9)."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from animoto import animoto, kind
from animoto.spec import PICTURES_MAX, movie
from animoto.stills import Stills
from ec2_worker.attempt import RESULT_MAX_BYTES
from taskfleet.errors import PermanentError, TransientError
from taskfleet.fetch.connect import Unfetchable
from taskfleet.fetch.download import Downloader, DownloadLimits
from taskfleet.settings import Settings
from tests.support.animoto import Context, Web, plain, small_frames

QUICK = DownloadLimits(connect_s=5, silence_s=5, total_s=10, tries=1, pause_s=0.001)


def raw(*lines: bytes, body: bytes = b"") -> Callable[[BaseHTTPRequestHandler], None]:
    """A page whose answer is these lines as they are."""

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\r\n".join((*lines, b"", body)))
        handler.close_connection = True

    return page


def downloader() -> Downloader:
    return Downloader(
        allow_private=True, connections=1, limits=QUICK, uploaded=lambda _id, _cap: b""
    )


MALFORMED = {
    "location": raw(b"HTTP/1.1 302 Found", b"Location: http://["),
    "location in brackets": raw(b"HTTP/1.1 302 Found", b"Location: http://[::1]x:99999/"),
    "location port": raw(b"HTTP/1.1 302 Found", b"Location: http://a:" + b"9" * 5000),
    "location label": raw(b"HTTP/1.1 302 Found", b"Location: http://" + b"a" * 300 + b"/"),
    "location dots": raw(b"HTTP/1.1 302 Found", b"Location: http://..a../"),
    "location bytes": raw(b"HTTP/1.1 302 Found", b"Location: http://\xff\xfe/\x00"),
    "location unnormal": raw(b"HTTP/1.1 302 Found", b"Location: http://a\xe2\x84\x80b/"),
    "length": raw(b"HTTP/1.1 200 OK", b"Content-Length: " + b"9" * 5000),
    "length zeros": raw(b"HTTP/1.1 200 OK", b"Content-Length: " + b"0" * 5000 + b"5"),
    "reason": raw(b"HTTP/1.1 404 " + b"x" * 60_000),
    "reason of control characters": raw(b"HTTP/1.1 404 " + b"\x01" * 60_000),
    "retry after": raw(b"HTTP/1.1 503 No", b"Retry-After: " + b"9" * 5000),
    "status": raw(b"HTTP/1.1 99999 OK"),
    "chunk": raw(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", b"", body=b"f" * 5000),
    "no http": raw(b"\x00\xff" * 50),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
    monkeypatch.setattr("taskfleet.fetch.download.DownloadLimits", lambda: QUICK)
    small_frames(monkeypatch)


def test_malformed_answers_cost_only_their_pictures(web: Web, small: None) -> None:
    images = [web.add(f"/{n}", page) for n, page in enumerate(MALFORMED.values())]
    context = Context(attempt=kind.RETRY.max_attempts)
    result = animoto.run(
        animoto.parse({"images": [*images, web.add("/good", plain("red"))]}), context
    )
    assert result["pictures"] == 1
    assert [row["index"] for row in result["skipped"]] == list(range(len(MALFORMED)))
    for row in result["skipped"]:
        assert len(row["reason"]) <= 200
        assert row["reason"].isprintable()


HEADER = st.sampled_from(
    [b"Location", b"Content-Length", b"Transfer-Encoding", b"Retry-After"]
) | st.sampled_from(
    [
        b"Connection",
        b"Content-Encoding",
        b"Content-Type",
        b"Set-Cookie",
        b"Content-Range",
        b":",
        b"",
    ]
)
VALUE = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**6), 10**30).map(lambda number: b"%d" % number),
    st.text("[]:/@.%#?0123456789ahtp", max_size=20).map(lambda text: b"http://" + text.encode()),
    st.sampled_from([b"chunked", b"gzip", b"//[", b"9" * 5000, b"\xe2\x84\x80", b"5, 5", b"+5"]),
)
STATUS = st.sampled_from([b"200 OK", b"302 Found", b"503 x", b"404 \xff", b"204", b"-1 x", b"2e2"])


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STATUS, st.lists(st.tuples(HEADER, VALUE), max_size=4), st.binary(max_size=30))
@example(b"302 Found", [(b"Location", b"http://[")], b"")
@example(b"200 OK", [(b"Content-Length", b"9" * 5000)], b"")
def test_an_answer_of_any_headers_is_a_file_or_a_fault_of_its_picture(
    web: Web, tmp_path: Path, status: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    lines = [name + b": " + value for name, value in headers]
    url = web.add("/a", raw(b"HTTP/1.1 " + status, *lines, b"", body=body))
    fetcher = downloader()
    try:
        fetcher.fetch(url, str(tmp_path / "a"))
    except (Unfetchable, TransientError):
        pass
    finally:
        fetcher.close()


@pytest.mark.parametrize("char", ["x", "\x00", "\N{GRINNING FACE}", "\udc80", '"'])
def test_five_hundred_skipped_pictures_fit_into_a_result(tmp_path: Path, char: str) -> None:
    def fail(_id: str, _cap: int) -> bytes:
        raise TransientError(char * 60_000)

    wanted = movie({"images": ["http://a/" + "\N{GRINNING FACE}" * 4000] * PICTURES_MAX})
    fetcher = downloader()
    fetcher._try = lambda url, path: fail("", 0)  # type: ignore[method-assign, assignment]
    with (
        Stills(wanted, str(tmp_path), fetcher, True, lambda _done, _all: None) as stills,
        pytest.raises(PermanentError) as caught,
    ):
        list(stills)
    fetcher.close()
    assert len(str(caught.value)) < 1_000
    assert len(stills.skipped) == PICTURES_MAX
    assert len(msgspec.json.encode(stills.skipped)) < 0.95 * RESULT_MAX_BYTES
    assert stills.skipped[7]["url"].startswith("http://a/\N{GRINNING FACE}")
