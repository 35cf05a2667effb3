"""One function of the app in a process of its own, as on Lambda, with every request to AWS that it
makes written to a file, one a line:

    python one_function.py FUNCTION FILE [options of what serves it]

The checkout and `tests` are to be on PYTHONPATH. The API is served by `localcloud.serve`, events
come from `localcloud.pump`; the authorizer is called once, with the token on standard input.
Patience is short: readers of uploads are always late, and machines that do not beat have their
strikes after seconds. TICK_S, if set, is the seconds of a tick, and from one tick to the next;
REDELIVERY_S the longest until a message that a handler did not take is delivered again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import app
from chalice_app import events
from localcloud import events as sources
from localcloud import functions, pump, serve
from taskfleet.aws.session import Aws
from taskfleet.provisioner import policy
from tests.support.iam import Request
from tests.support.recorder import Recorder


def main(function: str, path: str, *options: str) -> None:
    with Path(path).open("a") as file:

        def note(request: Request) -> None:
            file.write(json.dumps(request) + "\n")
            file.flush()

        Aws._make_client = Recorder(note).patched()  # type: ignore[method-assign]
        if function == "api_handler":
            serve.main(options)
        elif function == "authorize":
            bearer = f"Bearer {sys.stdin.read()}"
            event = {
                "type": "TOKEN",
                "authorizationToken": bearer,
                "methodArn": "arn:aws:x:y:z:a/b",
            }
            print(app.authorize(event, None)["principalId"])
        else:
            app.app.event_sources[:] = [s for s in app.app.event_sources if s.name == function]
            functions.timeout_s = lambda _function: 5.0
            policy.STRIKE_S, policy.BETWEEN_STRIKES_S = 1.0, 0.0
            if "TICK_S" in os.environ:
                events.TICK_S = float(os.environ["TICK_S"])
                pump.interval_s = lambda _expression: events.TICK_S
            if "REDELIVERY_S" in os.environ:
                sources.MAX_REDELIVERY_S = float(os.environ["REDELIVERY_S"])
            sys.argv[1:] = options
            pump.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
