"""Runs moto's server behind the guard: `python -m localcloud.moto --port N`.

moto checks no signatures, so the guard demands that a request names the access key of this cloud's
folder, which no page knows.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

from localcloud import guard
from localcloud.options import HOST

READY_PATH = "/ready"
"""Path that answers 200 to whoever passes the guard; `localcloud.emulator` asks it."""


def application(port: int, key_id: str) -> guard.Wsgi:
    """Returns moto's WSGI app behind the guard of `port`. Requests must name the access key
    `key_id`; only `READY_PATH` needs none."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == READY_PATH:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"ready"]
        answered: Iterable[bytes] = moto(environ, start_response)
        return answered

    def refuses(environ: dict[str, Any]) -> str | None:
        ready = environ["PATH_INFO"] == READY_PATH
        if ready or guard.names_key(environ.get("HTTP_AUTHORIZATION"), key_id):
            return None
        return "the request is not signed with this cloud's access key, which its file env holds"

    return guard.wsgi(answer, port, refuses)


def main() -> None:
    """Serves until SIGINT or SIGTERM. AWS_ACCESS_KEY_ID is the access key that it demands."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.moto", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of EC2")
    port = parser.parse_args().port
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    app = application(port, os.environ["AWS_ACCESS_KEY_ID"])
    os.environ["MOTO_PORT"] = str(port)
    run_simple(HOST, port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
