"""The entry point of the Lambda functions. Chalice and Lambda find `app` and the handlers by their
names in this module."""

import functools
import gc

from chalice_app.application import create_app
from chalice_app.services import Services
from chalice_app.wiring import connect


@functools.cache
def services() -> Services:
    """Returns the services of this process, which are connected once."""
    connected = connect()
    gc.freeze()  # a collection during a request then skips what stays as long as the process
    return connected


app = create_app(services)

authorize = app.handler_map["authorize"]
collect_responses = app.handler_map["collect_responses"]
expand_upload = app.handler_map["expand_upload"]
tick = app.handler_map["tick"]
