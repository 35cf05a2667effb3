"""Who may call a port of the local cloud. Any page that a developer visits can send requests to
loopback, so each port refuses what a browser sends for a foreign page. Owns that rule, and its
adapters to WSGI, ASGI and `http.server`; which ports there are belongs to their own modules.

The rule stands on headers that no page can change: `Host`, `Origin` and `Sec-Fetch-Site`. A browser
that sends neither of the latter two, for an image for instance, meets the signatures and tokens
that the ports demand besides.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

Headers = Iterable[tuple[str, str]]
"""Names and values, in any case and order; a name may come twice."""
Scope = MutableMapping[str, Any]
"""What ASGI tells of a request."""
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_SIGNED_READ = re.compile(r"x-amz-[a-z0-9-]+|x-id|versionid|partnumber|response-[a-z-]+")
"""Names, in lower case, of the parameters that a presigned URL of an object may have."""
_KEY_ID = re.compile(r"AWS4-HMAC-SHA256\s+(?:.*[\s,])?Credential=(?P<id>[^/,\s]+)/")


def refusal(
    method: str,
    target: str,
    headers: Headers,
    port: int,
    *,
    own_origin: bool = False,
    signed_reads: bool = False,
    page_port: int | None = None,
) -> str | None:
    """Returns why a request is refused, or None when it may pass.

    target: path and query, as sent.
    port: port that the request came to.
    own_origin: whether pages that this port itself serves may call it.
    signed_reads: whether any page may show objects by presigned URLs, such as a movie. A page
        cannot read what it shows so, and needs the signature, which the port must check.
    page_port: port whose pages may send files by upload forms (presigned POSTs), such as the
        dashboard's. They cannot read the answer, and the port must check the form's signature.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.strip())
    hosts = found.get("host", [])
    if len(hosts) != 1 or not _is_loopback(hosts[0], port):
        return f"the Host header must be a loopback address or localhost, with the port {port}"
    if method == "OPTIONS" and "access-control-request-method" in found:
        return "no page may call this port from another origin"
    origins = found.get("origin", [])
    if (
        page_port is not None
        and origins in ([f"http://{name}:{page_port}"] for name in ("127.0.0.1", "localhost"))
        and _is_upload_form(method, target, found.get("content-type", []))
    ):
        return None
    if origins and not (own_origin and origins == [f"http://{hosts[0]}"]):
        return "no page of this Origin may call this port"
    sites = found.get("sec-fetch-site", [])
    if any(site not in ("same-origin", "none") for site in sites):
        if signed_reads and not origins and _is_signed_read(method, target):
            return None
        return "no page of another site may call this port"
    return None


def _is_loopback(host: str, port: int) -> bool:
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 80) != port:
        return False
    if match["name"].lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(match["name"].strip("[]")).is_loopback
    except ValueError:
        return False


def _is_signed_read(method: str, target: str) -> bool:
    """Tells whether a request has the form of a presigned GET or HEAD of an object. A call of
    another service has not: it has parameters, such as `Action`, that no such URL has."""
    path, _, query = target.partition("?")
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    return (
        method in ("GET", "HEAD")
        and re.match(r"/[a-z0-9][a-z0-9.-]+/.", path) is not None
        and "x-amz-signature" in names
        and all(_SIGNED_READ.fullmatch(name) for name in names)
    )


def _is_upload_form(method: str, target: str, kinds: list[str]) -> bool:
    """Tells whether a request has the form of a presigned POST of a file into a bucket."""
    return (
        method == "POST"
        and re.fullmatch(r"/[a-z0-9][a-z0-9.-]+/?\??", target) is not None
        and len(kinds) == 1
        and kinds[0].lower().startswith("multipart/form-data;")
    )


def names_key(authorization: str | None, key_id: str) -> bool:
    """Tells whether an `Authorization` header is a signature (version 4) by the access key
    `key_id`. Does not check the signature: it is for ports that check none, which a page thus
    cannot call without knowing the id."""
    match = _KEY_ID.match(authorization or "")
    return match is not None and match["id"] == key_id


def kept(headers: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Returns an answer's headers (names as text or bytes) without those that tell a browser to let
    foreign pages read it."""

    def name_of(name: Any) -> str:
        return (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()

    return [(n, v) for n, v in headers if not name_of(n).startswith("access-control-")]


def of_handler(handler: BaseHTTPRequestHandler, *, own_origin: bool = False) -> str | None:
    """Returns why the request that a handler of `http.server` has read is refused, or None."""
    port = int(handler.connection.getsockname()[1])
    headers = handler.headers.items()
    return refusal(handler.command, handler.path, headers, port, own_origin=own_origin)


def wsgi(app: Wsgi, port: int, refuses: Callable[[dict[str, Any]], str | None]) -> Wsgi:
    """Returns a WSGI app that stands before `app` at `port`. `refuses`, a further rule of the port,
    says of an environ why it is refused, or None."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        headers = [
            (key.removeprefix("HTTP_").replace("_", "-"), str(value))
            for key, value in environ.items()
            if key.startswith("HTTP_")
        ]
        target = f"{environ.get('PATH_INFO', '')}?{environ.get('QUERY_STRING', '')}"
        reason = refusal(environ["REQUEST_METHOD"], target, headers, port) or refuses(environ)
        if reason is not None:
            start_response("403 Forbidden", [("Content-Type", "text/xml")])
            return [_aws_error(reason)]

        def start(status: str, answer: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, kept(answer), *rest)

        return app(environ, start)

    return guarded


def asgi(
    app: Asgi,
    port: int,
    refuses: Callable[[Scope], str | None],
    page_port: int | None = None,
) -> Asgi:
    """Returns an ASGI app that stands before `app` at `port`, for HTTP and for WebSockets, and lets
    pages show objects by presigned URLs, and those of `page_port` send files by upload forms: `app`
    must check signatures. `refuses`, a further rule of the port, says of a request's scope why it
    is refused, or None."""

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        method, target = scope.get("method", "GET"), target_of(scope)
        headers = headers_of(scope)
        reason = refusal(
            method, target, headers, port, signed_reads=True, page_port=page_port
        ) or refuses(scope)
        if reason is None:
            await app(scope, receive, _without_cors(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            xml = [(b"content-type", b"text/xml")]
            await send({"type": "http.response.start", "status": 403, "headers": xml})
            await send({"type": "http.response.body", "body": _aws_error(reason)})

    return guarded


def _aws_error(reason: str) -> bytes:
    """Returns an answer's body that boto3 reads as an error of EC2, SQS or CloudFormation."""
    error = f"<Error><Code>AccessDenied</Code><Message>{reason}</Message></Error>"
    return f"<Response><Errors>{error}</Errors><RequestID>none</RequestID></Response>".encode()


def target_of(scope: Scope) -> str:
    """Returns path and query of an ASGI request."""
    return f"{scope['path']}?{scope.get('query_string', b'').decode('latin-1')}"


def headers_of(scope: Scope) -> list[tuple[str, str]]:
    """Returns names, in lower case, and values of an ASGI request's headers."""
    return [(n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in scope["headers"]]


def _without_cors(send: Any) -> Any:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message.get("headers"):
            message = {**message, "headers": kept(message["headers"])}
        await send(message)

    return sending
