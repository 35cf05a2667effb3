"""The dashboard's page and its parts, the files in `chalice_app/ui`. Owns their addresses and
headers; what the page shows comes from the API, with the reader's token.

The page and its parts are public and hold no data. A fixed table answers requests: nothing of a
request ever becomes a path of the file system.

The address of a part has the version of all parts, a hash, so that a browser keeps parts for good
and asks for the page only.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from chalice.app import Response

from chalice_app.api import Api
from chalice_app.errors import answer
from taskfleet.errors import NotFound
from taskfleet.ports import UploadStore

FOLDER = Path(__file__).parent / "ui"
PAGE = "index.html"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types by the ending of a file's name."""
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
"""Values of Cache-Control: the browser may keep the answer and must ask whether it still counts."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_OWN_PARTS = "{parts}"
"""Stands in the page for the address of its parts."""
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


class Files(NamedTuple):
    """The files of the dashboard: content by name, such as `lib/dom.js`, and a hash of them all."""

    content: Mapping[str, str]
    version: str


@functools.cache
def files() -> Files:
    """Reads the files, at the first call only: most calls of a function need none. Scripts are
    given without their comments and blanks, a quarter of their size."""
    from rjsmin import jsmin  # imported here to keep cold starts short

    content = {
        path.relative_to(FOLDER).as_posix(): path.read_text("utf-8")
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in TYPES
    }
    content |= {name: str(jsmin(text)) for name, text in content.items() if name.endswith(".js")}
    text = "\0".join(f"{name}\0{text}" for name, text in content.items())
    return Files(content, hashlib.sha256(text.encode()).hexdigest()[:16])


def add_dashboard(api: Api) -> None:
    """Adds the routes of the dashboard to the app."""

    @functools.cache
    def store_origins() -> tuple[str, ...]:
        return origins(api.services().store)

    # `answer` makes answers of errors only, since these views return answers.
    @api.public("/")
    @answer()
    def dashboard() -> Response:
        path = str(api.request.context.get("path") or "/")
        return page(path, store_origins(), api.request.headers.get("if-none-match"))

    @api.public("/ui/{version}/{name}")
    @answer()
    def dashboard_part(version: str, name: str) -> Response:
        return part(version, name)

    @api.public("/ui/{version}/{name}/{file}")
    @answer()
    def dashboard_part_in_folder(version: str, name: str, file: str) -> Response:
        return part(version, f"{name}/{file}")


def origins(store: UploadStore) -> tuple[str, ...]:
    """Returns the origins of the addresses that the store signs, such as
    `https://bucket.s3.eu-west-1.amazonaws.com`. Signing makes no call."""
    form, _ = store.upload_form("any", max_bytes=1, expires_s=1)
    found = (urlsplit(address) for address in (form, store.url("any", expires_s=1)))
    return tuple(
        dict.fromkeys(
            f"{one.scheme}://{one.netloc}" for one in found if one.scheme in ("http", "https")
        )
    )


def page(path: str, store_origins: tuple[str, ...], known_tag: str | None) -> Response:
    """Returns the answer with the page.

    path: path of the request, with the stage of API Gateway. The page names its parts by it, since
        a relative address would miss the stage where the path does not end with a slash.
    store_origins: origins of files in the bucket, to which the page sends files and from which it
        shows pictures and movies.
    known_tag: ETag of the page that the browser has.
    """
    stage = path.rstrip("/") if _PLAIN_PATH.fullmatch(path) else "."
    version = files().version
    html = files().content[PAGE].replace(_OWN_PARTS, f"{stage}/ui/{version}")
    tag = f'"{hashlib.sha256(html.encode()).hexdigest()[:16]}"'
    headers: dict[str, str | list[str]] = {
        **HEADERS,
        "Cache-Control": ASK_FIRST,
        "Content-Security-Policy": policy(store_origins),
        "Content-Type": TYPES[".html"],
        "ETag": tag,
    }
    if known_tag == tag:
        return Response("", headers=headers, status_code=304)
    return Response(html, headers=headers)


def part(version: str, name: str) -> Response:
    """Returns the answer with a part of the page. One that is asked for by the version of another
    release is this release's and not to be kept: a page that stays open over an update still finds
    the parts it loads late."""
    text = files().content.get(name)
    if text is None or name == PAGE:
        raise NotFound(f"the dashboard has no part {name!r:.60}")
    kept = FOR_GOOD if version == files().version else ASK_FIRST
    kind = TYPES[Path(name).suffix]
    return Response(text, headers={**HEADERS, "Cache-Control": kept, "Content-Type": kind})


def policy(store_origins: tuple[str, ...]) -> str:
    """Returns the Content-Security-Policy of the page: nothing but its own parts, the API and the
    bucket."""
    bucket = "".join(f" {origin}" for origin in store_origins)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' blob: data:{bucket}",
            f"media-src 'self' blob:{bucket}",
            f"connect-src 'self'{bucket}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
