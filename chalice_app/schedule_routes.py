"""The routes for schedules. Each calls one method of the core and returns its result. Owns paths
and methods; those of batches are in `chalice_app.routes`.
"""

from __future__ import annotations

from chalice_app.api import Api
from chalice_app.body import JSON_TYPE, read_schedule
from chalice_app.errors import answer
from chalice_app.query import NoQuery, read_query
from taskfleet.wire.http.schedules import ScheduleList, ScheduleView


def add_schedule_routes(api: Api) -> None:
    """Adds the routes to the app."""
    services = api.services

    @api.route("/schedules")
    @answer()
    def list_schedules() -> ScheduleList:
        read_query(api.query, NoQuery)
        return services().schedules.page(api.client_id)

    @api.route("/schedules", "POST", content_types=[JSON_TYPE])
    @answer(201)
    def add_schedule() -> ScheduleView:
        wanted = read_schedule(api.raw, api.query)
        return services().schedules.add(
            wanted.name,
            wanted.tasks,
            client_id=api.client_id,
            every=wanted.every,
            cron=wanted.cron,
            missed=wanted.missed,
            options=wanted.whole,
        )

    @api.route("/schedules/{name}", "DELETE")
    @answer()
    def remove_schedule(name: str) -> ScheduleView:
        read_query(api.query, NoQuery)
        return services().schedules.remove(name, client_id=api.client_id)
