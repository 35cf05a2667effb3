"""How requests to AWS and its refusals look on the wire. Owns the forms; what happens to a request
belongs to `tests.support.hop`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

_REST = re.compile(r"/(?P<bucket>[^/?]+)(?:/(?P<key>[^?]+))?")
_LAMBDA = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
_SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb", "AmazonSSM": "ssm"}
_SERVICES |= {"AWSEvents": "events"}


@dataclass(frozen=True)
class Refuse:
    """Answers with an error, in the form of the service, and passes nothing on."""

    status: int
    code: str
    message: str = "made by the fault suite"
    reasons: tuple[Mapping[str, str], ...] = ()


def operation_of(head: bytes, body: bytes) -> tuple[str, str]:
    """Returns the service and the operation of a request."""
    target = header(head, b"x-amz-target")
    if target is not None:
        service, _, operation = target.decode().partition(".")
        return _SERVICES.get(service, service), operation
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    if _LAMBDA.match(path):
        return "lambda", "Invoke"
    form = dict(parse_qsl(body.decode("latin-1"))) if path == "/" else {}
    if "Action" in form:
        return ("sns" if form["Action"] == "Publish" else "ec2"), form["Action"]
    rest = _REST.match(path)
    about = "Object" if rest and rest["key"] else "Bucket"
    return "s3", {"HEAD": "Head", "POST": "Post"}.get(method, method.capitalize()) + about


def refusal(service: str, fault: Refuse) -> bytes:
    """Returns an error's answer in the form of the service: `AWS JSON 1.0` for queues and tables,
    XML for objects and EC2 (Smithy's protocols; "Error responses", Amazon S3 API Reference)."""
    headers = ["x-amzn-requestid: 00000000-0000-4000-8000-000000000000"]
    code, message = escape(fault.code), escape(fault.message)
    if service == "s3":
        kind = "application/xml"
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    elif service in ("ec2", "sns"):
        kind = "text/xml"
        errors = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<Response><Errors>{errors}</Errors><RequestID>0</RequestID></Response>"
        if service == "sns":
            text = f"<ErrorResponse>{errors}</ErrorResponse>"
    else:
        kind = "application/x-amz-json-1.0"
        named = {"__type": f"com.amazonaws.{service}#{fault.code}", "message": fault.message}
        if fault.reasons:
            named["CancellationReasons"] = list(fault.reasons)  # type: ignore[assignment]
        text = json.dumps(named)
        if service == "lambda":
            headers.append(f"x-amzn-errortype: {fault.code}")
    head = [f"HTTP/1.1 {fault.status} Made", f"content-type: {kind}", *headers]
    head += [f"content-length: {len(text.encode())}", "connection: close"]
    return ("\r\n".join(head) + "\r\n\r\n" + text).encode()


def header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\r\n" + re.escape(name) + rb": *([^\r]*)", head, re.IGNORECASE)
    return found[1] if found else None


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"chunked" in (header(head, b"transfer-encoding") or b""):
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            body += size + chunk  # passed on as it came
            if len(chunk) == 2:
                return body
    return await reader.readexactly(int(header(head, b"content-length") or 0))


def closing(head: bytes) -> bytes:
    """Returns the head for the emulator: no wait for a 100, and an answer that ends with the
    connection."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    own = (b"expect:", b"connection:")
    kept = [line for line in lines if not line.lower().startswith(own)]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n"
