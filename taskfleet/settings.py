"""Settings: read once from the environment, checked against each other, all faults told together.
Owns every `TASKFLEET_*` name but those of the client (`taskfleet.client`); nothing else reads
them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from taskfleet.errors import SettingsError

Seconds = Annotated[float, Meta(ge=0, le=43_200)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. The environment variable of a field is `TASKFLEET_` + its name
    in capitals; lists are separated by commas. Names of AWS resources carry the stage; `dev`
    keeps those of 2014."""

    stage: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,15}\Z")] = "dev"
    region: str = "us-east-1"
    bucket: str = ""
    """Name of the S3 bucket; bucket names are global, so there is no default."""
    kinds: list[str] = []
    """Modules that define task kinds, besides the built-in `sleep`."""
    allow_private_urls: bool = False
    """Lets tasks fetch from private addresses: for the local cloud only."""
    token_secret: str = ""
    token_secret_ssm: str = ""
    """Name of the SSM parameter that holds the secret; read when `token_secret` is not set."""
    lease_s: Annotated[float, Meta(ge=1, le=43_200)] = 30.0
    heartbeat_s: Annotated[float, Meta(gt=0)] = 10.0
    drain_timeout_s: Seconds = 100.0
    """Within the two minutes that a spot notice gives."""
    receive_wait_s: Annotated[float, Meta(ge=0, le=20)] = 20.0
    record_ttl_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    result_url_s: Annotated[int, Meta(ge=60, le=604_800)] = 3600
    """How long a presigned URL in a result works."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def _suffix(self) -> str:
        return "" if self.stage == "dev" else f"-{self.stage}"

    @property
    def task_queue(self) -> str:
        return f"Task_to_process{self._suffix}"

    @property
    def response_queue(self) -> str:
        return f"Processed_Task{self._suffix}"

    @property
    def monitor_table(self) -> str:
        return f"Task_Monitor{self._suffix}"

    def faults(self) -> list[str]:
        """What is wrong between the values, each fault a sentence."""
        found = []
        if self.heartbeat_s * 2 >= self.lease_s:
            found.append(
                f"TASKFLEET_HEARTBEAT_S={self.heartbeat_s:g} must be under half of "
                f"TASKFLEET_LEASE_S={self.lease_s:g}, so that one lost beat loses no lease"
            )
        if self.token_secret and len(self.token_secret) < 32:
            found.append("TASKFLEET_TOKEN_SECRET must have at least 32 characters")
        return found


PREFIX = "TASKFLEET_"


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from `environ` (the process's unless given); an override that is not None, from a
    command line, goes before. SettingsError lists every fault."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(Settings):
        name, given = field.name, overrides.pop(field.name, None)
        if given is None:
            name = PREFIX + field.name.upper()
            given = environ.get(name)
            if given is not None and get_origin(field.type) is list:
                given = [word.strip() for word in given.split(",") if word.strip()]
        if given is None:
            continue
        try:
            values[field.name] = msgspec.convert(given, field.type, strict=False)
        except msgspec.ValidationError as error:
            faults.append(f"{name}={given!r}: {error}")
    if overrides:
        raise TypeError(f"no such settings: {', '.join(overrides)}")
    settings = Settings(**values)
    faults += settings.faults()
    if faults:
        raise SettingsError("; ".join(faults))
    return settings
