"""Settings: read once from the environment, checked against each other, all faults told together.
Owns every `TASKFLEET_*` name but those of the client (`taskfleet.client.client`); nothing else
reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.errors import SettingsError
from taskfleet.lease import heartbeat_interval_s

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
    drain_timeout_s: Seconds = 100.0
    """Within the two minutes that a spot notice gives."""
    receive_wait_s: Annotated[float, Meta(ge=0, le=20)] = 20.0
    record_ttl_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    result_url_s: Annotated[int, Meta(ge=60, le=604_800)] = 3600
    """How long a presigned URL in a result works."""
    upload_max_bytes: Annotated[int, Meta(ge=1, le=5_000_000_000)] = 1_000_000_000
    """Of a task file; S3 takes 5 GB in one POST."""
    upload_url_s: Annotated[int, Meta(ge=60, le=43_200)] = 3600
    """How long a file may be sent to the form of `POST /uploads`."""
    # --- provisioning; sizes and prices are of one machine ---
    max_capacity: Annotated[int, Meta(ge=0, le=5_000)] = 10
    """Most instances at a time; 0: none are launched."""
    max_usd_per_hour: Annotated[float, Meta(ge=0)] | None = None
    instance_usd_per_hour: Annotated[float, Meta(gt=0)] = 0.0725
    """For the budget and the bill; the on-demand price of c7g.large in us-east-1."""
    instance_types: list[str] = []
    """Tried in this order; none: the launch template's own."""
    launch_template: str = ""
    """Name; none: `taskfleet-<stage>`, as the stack creates it."""
    ami_id: str = ""
    """An image to launch by itself, with no template, as in 2014."""
    subnets: list[str] = []
    spot: bool = True
    """Spot first, on demand when it has no capacity."""
    slots: Annotated[int, Meta(ge=1, le=512)] = DEFAULT_SLOTS
    cores: Annotated[int, Meta(ge=0, le=1_024)] = 0
    """That a worker's CPU-bound tasks may keep busy; 0: all that it may run on."""
    idle_s: Seconds = 45.0
    """After which an idle worker ends its machine."""
    boot_s: Annotated[float, Meta(gt=0, le=1_800)] = 40.0
    """A first guess; then learned."""
    beat_s: Annotated[float, Meta(ge=1, le=60)] = 15.0
    """How often a worker tells of itself."""
    look_s: Annotated[float, Meta(ge=1, le=60)] = 15.0
    policy: Literal["work", "threshold"] = "work"
    threshold: Annotated[int, Meta(ge=0)] = 16
    """Of the policy of that name: one machine more at each look with more tasks waiting."""
    nudge: bool = False
    """Whether a batch that finds no machine calls the provisioner at once."""
    instance_id: str = ""
    """Of a worker that cannot ask its machine, as in the local cloud."""
    imds_url: str = "http://169.254.169.254"
    """Where a worker asks its machine; empty: it is on none."""
    aws_latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    """Put before every AWS call; for benchmarks against an emulator only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def _suffix(self) -> str:
        return "" if self.stage == "dev" else f"-{self.stage}"

    @property
    def heartbeat_s(self) -> float:
        """Seconds between two renewals of a lease."""
        return heartbeat_interval_s(self.lease_s)

    @property
    def usable_cores(self) -> int:
        if self.cores:
            return self.cores
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @property
    def task_queue(self) -> str:
        return f"Task_to_process{self._suffix}"

    @property
    def response_queue(self) -> str:
        return f"Processed_Task{self._suffix}"

    @property
    def upload_queue(self) -> str:
        return f"Upload_to_expand{self._suffix}"

    @property
    def monitor_table(self) -> str:
        return f"Task_Monitor{self._suffix}"

    @property
    def worker_template(self) -> str:
        return self.launch_template or f"taskfleet-{self.stage}"

    @property
    def provisioner_function(self) -> str:
        """The Lambda function, by Chalice's naming: `<app>-<stage>-<handler>`."""
        return f"taskfleet-{self.stage}-tick"

    def faults(self) -> list[str]:
        """What is wrong between the values, each fault a sentence."""
        found = []
        if self.ami_id and self.launch_template:
            found.append(
                "TASKFLEET_AMI_ID and TASKFLEET_LAUNCH_TEMPLATE exclude each other: "
                "set the one to launch from"
            )
        if self.ami_id and len(self.instance_types) != 1:
            found.append("TASKFLEET_AMI_ID needs exactly one of TASKFLEET_INSTANCE_TYPES")
        budget = self.max_usd_per_hour
        if budget is not None and self.max_capacity and budget < self.instance_usd_per_hour:
            found.append(
                f"TASKFLEET_MAX_USD_PER_HOUR={budget:g} pays for no machine at "
                f"TASKFLEET_INSTANCE_USD_PER_HOUR={self.instance_usd_per_hour:g}; "
                "TASKFLEET_MAX_CAPACITY=0 launches none"
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
