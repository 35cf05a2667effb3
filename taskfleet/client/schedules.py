"""The client's calls for schedules, by which batches are submitted again and again. Owns the calls;
not the shapes of the answers (`taskfleet.wire.http`) nor HTTP (`taskfleet.client.transport`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack
from urllib.parse import quote

import msgspec

from taskfleet.client.transport import Transport
from taskfleet.options import BatchFields, read_batch
from taskfleet.wire.http.schedules import ScheduleList, ScheduleView


class ScheduleCalls:
    """The calls for schedules."""

    _http: Transport

    def schedules(self) -> list[ScheduleView]:
        """Returns your schedules, by name. One that was added within about the last second may be
        missing."""
        return self._http.call("GET", "/schedules", ScheduleList).schedules

    def add_schedule(
        self,
        name: str,
        tasks: Iterable[str | dict[str, Any]],
        *,
        every: int | str | None = None,
        cron: str | None = None,
        missed: Literal["skip", "catch_up"] = "skip",
        **options: Unpack[BatchFields],
    ) -> ScheduleView:
        """Make a schedule, by which the tasks are submitted as a batch again and again. Returns it.
        Adding the same again changes nothing.

        name: its name, and that of its batches: letters, digits, `.`, `_` and `-`.
        tasks: as for `submit`, up to 100,000 bytes as JSON.
        every: the rate, in seconds or as text such as `15m`, `12h` or `1d`; a minute at least. The
            first batch comes after so long.
        cron: a cron expression of five fields, in UTC, in the place of a rate.
        missed: what becomes of times at which the service did not look: `skip` leaves them out,
            `catch_up` makes up for the newest 60.
        options: those of each batch, as for `submit`.

        Raises ApiError if it cannot be, or if you have another schedule of this name, and
        ValueError for a malformed option.
        """
        if isinstance(tasks, str | bytes | Mapping):
            raise TypeError(
                f"tasks must be a list of several tasks, not one {type(tasks).__name__}"
            )
        read_batch(options)
        fields = {
            "name": name,
            "tasks": list(tasks),
            "every": every,
            "cron": cron,
            "missed": missed,
            **options,
        }
        body = msgspec.json.encode({k: v for k, v in fields.items() if v is not None})
        return self._http.call("POST", "/schedules", ScheduleView, body=body)

    def remove_schedule(self, name: str) -> ScheduleView:
        """Remove a schedule. Returns it as it was. Its batches stay. Raises ApiError with the
        status 404 if you have none of this name."""
        return self._http.call("DELETE", f"/schedules/{quote(name, safe='')}", ScheduleView)
