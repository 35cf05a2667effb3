"""Assembles the Chalice app from its authorizer, routes, page and event handlers."""

from __future__ import annotations

import os
from collections.abc import Callable

from chalice.app import Chalice

from chalice_app.api import Api
from chalice_app.auth import add_authorizer
from chalice_app.dashboard import add_dashboard
from chalice_app.events import add_events, stage_settings
from chalice_app.routes import add_routes
from chalice_app.schedule_routes import add_schedule_routes
from chalice_app.services import Services
from chalice_app.stage_routes import add_stage_routes
from chalice_app.telemetry import add_telemetry


def create_app(
    services: Callable[[], Services], random_bytes: Callable[[int], bytes] = os.urandom
) -> Chalice:
    """Returns the app.

    services: returns the services, the same at each call. Handlers call it, so that the app can be
        imported on a machine without settings, as `chalice deploy` does.
    random_bytes: returns the given number of random bytes.
    """
    # The name is the API's in API Gateway, whose metrics tell APIs apart by their names. Without
    # the other arguments Chalice sets up a logger of its own and writes to os.environ.
    app = Chalice(f"taskfleet-{stage_settings().stage}", configure_logs=False, env={})
    add_telemetry(app, services, random_bytes)
    api = Api(app, services, add_authorizer(app, services))
    add_routes(api)
    add_stage_routes(api)
    add_schedule_routes(api)
    add_dashboard(api)
    add_events(app, services)
    return app
