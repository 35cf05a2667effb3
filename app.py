"""The entry point of the Lambda functions. Chalice and Lambda find `app` and the handlers by their
names in this module."""

import functools

from chalice_app.application import create_app
from chalice_app.wiring import connect

services = functools.cache(connect)
app = create_app(services)

authorize = app.handler_map["authorize"]
collect_responses = app.handler_map["collect_responses"]
expand_upload = app.handler_map["expand_upload"]
tick = app.handler_map["tick"]
