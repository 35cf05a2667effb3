"""API Gateway and Lambda between an HTTP request and the app: the event's form, the limits of
events and answers, and what API Gateway says when Lambda refuses. Owns these; routing and the
authorizer are those of Chalice's local mode, HTTP is that of `localcloud.serve`.

Sources: "Set up Lambda proxy integrations in API Gateway", Amazon API Gateway Developer Guide;
`taskfleet.wire.payload` for the limits.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from chalice.app import Chalice
from chalice.config import Config
from chalice.local import LocalGateway, LocalGatewayException

from localcloud.quotas import Quotas, Rate, Slots
from taskfleet.wire.payload import ANSWER_MAX_BYTES, EVENT_MAX_BYTES, answer_bytes

ACCOUNT = "000000000000"
"""AWS account that an event names."""


class TooLong(LocalGatewayException):
    """The event is larger than Lambda takes."""

    CODE = 413


class Throttled(LocalGatewayException):
    """The stage's quota of calls is used up."""

    CODE = 429


class NoFunctionFree(LocalGatewayException):
    """Lambda refused the call with 429, since its quota of calls at a time is used up. API Gateway
    makes a 500 of it ("API Gateway internal server error", AWS re:Post)."""

    CODE = 500


class BadGateway(LocalGatewayException):
    """Lambda returned no answer, for instance since it was too large."""

    CODE = 502


class Gateway(LocalGateway):
    """API Gateway in front of the app `app`, whose function has the configuration `config`."""

    def __init__(self, app: Chalice, config: Config, quotas: Quotas) -> None:
        super().__init__(app, config)
        # The authorizer keeps the app itself.
        self._app_object: Any = _Function(app, Slots(quotas.lambda_concurrency))
        self._rate = Rate(quotas.api_rate, time.monotonic)

    def handle_request(
        self, method: str, path: str, headers: Any, body: bytes | None
    ) -> dict[str, Any]:
        """Overrides the base class: counts the calls, also those without a token."""
        if not self._rate.take():
            kind = {"x-amzn-ErrorType": "TooManyRequestsException"}
            raise Throttled(kind, b'{"message":"Too Many Requests"}')
        answer: dict[str, Any] = super().handle_request(method, path, headers, body)
        return answer

    def _generate_lambda_event(
        self, method: str, path: str, headers: Any, body: bytes | None
    ) -> dict[str, Any]:
        """Overrides the base class: adds what its event lacks of API Gateway's."""
        event = super()._generate_lambda_event(method, path, headers, body)
        query: dict[str, list[str]] | None = event["multiValueQueryStringParameters"]
        now = time.time()
        return {
            **event,
            "resource": event["requestContext"]["resourcePath"],
            "path": path.partition("?")[0],
            "httpMethod": method,
            "multiValueHeaders": {name: [value] for name, value in event["headers"].items()},
            "queryStringParameters": query and {name: values[-1] for name, values in query.items()},
            "pathParameters": event["pathParameters"] or None,
            "stageVariables": None,
            "requestContext": {
                **event["requestContext"],
                "accountId": ACCOUNT,
                "apiId": "local",
                "protocol": "HTTP/1.1",
                "requestId": str(uuid.uuid4()),
                "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
                "requestTimeEpoch": int(now * 1000),
                "stage": "local",
            },
            "body": _text(body),
            "isBase64Encoded": False,
        }


def _text(body: bytes | None) -> str | bytes | None:
    """Returns a body as the event holds it: text, None when it is empty. Bytes that are not UTF-8
    stay bytes, so that the app refuses them; what API Gateway makes of them is not documented."""
    try:
        return body.decode() if body else None
    except UnicodeDecodeError:
        return body


class _Function:
    """The app as Lambda runs it: measures the event that it gets and the answer that it gives."""

    def __init__(self, app: Chalice, slots: Slots) -> None:
        self._app = app
        self._slots = slots
        self.routes = app.routes
        self.api = app.api

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        shown = {**event, "body": "" if isinstance(event["body"], bytes) else event["body"]}
        sent = json.dumps(shown, ensure_ascii=False).encode()
        if len(sent) > EVENT_MAX_BYTES:
            raise TooLong({}, b'{"message":"Request Too Long"}')
        if not self._slots.take():
            raise NoFunctionFree({}, b'{"message": "Internal server error"}')
        try:
            answer: dict[str, Any] = self._app({**json.loads(sent), "body": event["body"]}, context)
        finally:
            self._slots.leave()
        body = answer_bytes((answer["body"] or "").encode())
        if len(json.dumps({**answer, "body": None})) - len("null") + body > ANSWER_MAX_BYTES:
            raise BadGateway({}, b'{"message": "Internal server error"}')
        return answer
