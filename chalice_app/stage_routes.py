"""The routes for the stage: who calls, its kinds, its fleet, its dead letters, its health, and the
description of the API. Each calls one method of the core and returns its result. Owns paths and
methods; those of batches are in `chalice_app.routes`.
"""

from __future__ import annotations

from typing import Any

from chalice_app.api import Api
from chalice_app.body import JSON_TYPE, read_redrive
from chalice_app.errors import answer
from chalice_app.query import HistoryQuery, LettersQuery, NoQuery, read_query
from taskfleet import __version__
from taskfleet.wire.http.fleet import FleetHistory, FleetView
from taskfleet.wire.http.kinds import KindList
from taskfleet.wire.http.letters import LetterList, Redriven
from taskfleet.wire.http.service import Health, Me


def add_stage_routes(api: Api) -> None:
    """Adds the routes to the app."""
    services = api.services

    @api.route("/me")
    @answer()
    def read_me() -> Me:
        read_query(api.query, NoQuery)
        return api.me

    @api.route("/kinds")
    @answer()
    def read_kinds() -> KindList:
        read_query(api.query, NoQuery)
        return services().kinds.view()

    @api.route("/fleet")
    @answer()
    def read_fleet() -> FleetView:
        return services().fleet_views.view()

    @api.route("/fleet/history")
    @answer()
    def read_history() -> FleetHistory:
        wanted = read_query(api.query, HistoryQuery)
        return services().histories.view(wanted.minutes)

    @api.route("/dead-letters")
    @answer()
    def read_letters() -> LetterList:
        wanted = read_query(api.query, LettersQuery)
        return services().dead_letters.page(
            wanted.queue, client_id=api.client_id, limit=wanted.limit
        )

    @api.route("/dead-letters/redrive", "POST", content_types=[JSON_TYPE])
    @answer(202)
    def redrive_letters() -> Redriven:
        wanted = read_redrive(api.raw, api.query)
        return services().dead_letters.redrive(wanted.queue, client_id=api.client_id)

    @api.public("/health")
    @answer()
    def health() -> Health:
        return Health("ok", __version__)

    @api.route("/openapi.json")
    @answer()
    def openapi() -> dict[str, Any]:
        from chalice_app.openapi import spec  # imported here to keep cold starts short

        return spec()
