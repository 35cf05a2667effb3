"""The Chalice app, put together. Owns which parts it has."""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Chalice

from chalice_app.auth import add_authorizer
from chalice_app.events import add_events
from chalice_app.routes import add_routes
from chalice_app.services import Services


def create_app(services: Callable[[], Services]) -> Chalice:
    """`services` is called by each handler and should answer the same each time; not at import,
    which Chalice does on machines that have no settings."""
    # Chalice would set up a logger of its own and write to the process's environment.
    app = Chalice("taskfleet", configure_logs=False, env={})
    add_routes(app, services, add_authorizer(app, services))
    add_events(app, services)
    return app
