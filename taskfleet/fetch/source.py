"""The form of the sources that clients name for files: a URL, or `upload:` and the id of a file
that they uploaded. Owns that form; not which address a URL leads to (`taskfleet.fetch.address`)."""

from __future__ import annotations

from urllib.parse import urlsplit

from taskfleet.batch import is_upload_id

UPLOAD = "upload:"
"""Prefix of the id of a file that the client uploaded (`POST /uploads`); stands where a URL may."""
URL_MAX_CHARS = 4096


def source_fault(source: str) -> str | None:
    """Returns what is wrong with the form of a source, or None."""
    if not source.startswith(UPLOAD):
        return url_fault(source)
    if is_upload_id(source.removeprefix(UPLOAD)):
        return None
    return f"{source!r:.60} is not the id of an upload"


def without_query(url: str) -> str:
    """Returns `url` without its query and fragment, for messages and results: a query may hold a
    secret, such as the signature of a presigned URL."""
    return url.partition("#")[0].partition("?")[0]


def url_fault(url: str) -> str | None:
    """Returns what is wrong with the form of `url`, or None. Which address it leads to is checked
    when it is fetched (`taskfleet.fetch.address`)."""
    if len(url) > URL_MAX_CHARS:
        return f"URL of {len(url)} characters is over the cap of {URL_MAX_CHARS}"
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        return "URL has blanks, control characters or backslashes"
    shown = repr(without_query(url))[:100]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"URL {shown}: {error}"
    if parts.scheme not in ("http", "https"):
        return f"URL {shown} must begin with http:// or https://"
    if "@" in parts.netloc:
        return "URL must not hold a user name or password"
    if not host:
        return f"URL {shown} names no host"
    if not host.isascii():
        return f"URL {shown}: write the host in ASCII (punycode)"
    if port == 0:
        return f"URL {shown}: port 0"
    return None
