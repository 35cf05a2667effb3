"""Settings: read once from the environment, checked against each other, all faults told together.
Owns every `TASKFLEET_*` name but those of the client (`taskfleet.client.endpoint`); nothing else
reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.errors import SettingsError
from taskfleet.lease import heartbeat_interval_s

SECRET_MIN_BYTES = 32
"""Least length of the secret that signs tokens: that of an HS256 digest. A shorter secret is easier
to guess than the signature."""
TAG = r"^(?!aws:|taskfleet:)[\w.:/+@-]{1,128}=[\w .:/+=@-]{0,256}\Z"
"""Form of a tag. The two prefixes are AWS's and ours; the letters are those that every service
takes ("Tag naming limits and requirements", AWS Tagging User Guide)."""
TOPIC = r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?\Z"
"""Form of the ARN of a topic, or of nothing."""
Seconds = Annotated[float, Meta(ge=0, le=43_200)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. The environment variable of a field is `TASKFLEET_` and the field's name in
    capitals; a list is written as words separated by commas.

    The string below each field is its row in `docs/settings.md` (`make docs`), so it must be
    readable alone."""

    stage: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,15}\Z")] = "dev"
    """The stage, which separates deployments in one account. Every stage but `dev` is a suffix of
    the names of its queues and its table; `dev` keeps the names of 2014."""
    region: str = ""
    """The AWS region of the queues, the table, the bucket and the machines. Empty means that of
    `AWS_REGION`, which Lambda sets, or else of `AWS_DEFAULT_REGION` or the profile."""
    bucket: str = ""
    """The name of the S3 bucket for large results, movies, uploads and the worker's software. Where
    it is not set, workers and the command line read the settings that `make deploy` wrote."""
    kinds: list[str] = []
    """The Python modules that define task kinds, in addition to the built-in kind `sleep`. API and
    workers must name the same modules."""
    allow_private_urls: bool = False
    """Whether `animoto` and `command` may fetch files from private addresses. The local cloud sets
    it; on AWS it would let clients reach hosts inside the network."""
    token_secret: str = ""
    """The secret that signs bearer tokens, at least 32 characters long, or a JSON document of keys
    (`taskfleet.wire.keys`). Set it only where no SSM parameter holds it, as in the local cloud."""
    token_secret_ssm: str = ""
    """The name of the SSM parameter that holds the secret of the bearer tokens. It is read when
    `TASKFLEET_TOKEN_SECRET` is not set."""
    lease_s: Annotated[float, Meta(ge=1, le=43_200)] = 30.0
    """The seconds for which a worker's claim of a bundle is valid unless renewed. The worker renews
    it after a third of them; the tasks of a worker that died run again after all of them."""
    drain_timeout_s: Seconds = 100.0
    """The seconds for which running tasks may continue after SIGTERM, before the worker gives them
    back to the queue. The default is less than the two minutes of a spot interruption notice."""
    runner_max_tasks: Annotated[int, Meta(ge=0)] = 0
    """The tasks after which a worker replaces a runner process by a new one, for kinds whose code
    leaks memory. With 0 it never does."""
    runner_max_mb: Annotated[int, Meta(ge=0)] = 0
    """The memory in MB above which a worker replaces a runner process between two tasks. With 0 it
    never does."""
    task_user: str = ""
    """The user of the machine as whom a worker runs the processes of tasks, so that tasks cannot
    read the worker's files or end it. The worker must be root or have the capabilities for it
    (`docs/security.md`). Empty means the worker's own user."""
    task_disk_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """The most MB of disk that the folder of one task of the kind `command` may take, with its
    inputs. A task that takes more is ended."""
    cache_dir: str = ""
    """The folder where workers keep what tasks use again, such as the environments of functions
    with requirements. It must belong to the user that runs tasks. Empty means a folder of that user
    in `/var/tmp`, or else in the temporary directory."""
    environments_max_mb: Annotated[int, Meta(ge=100, le=1_000_000)] = 4_000
    """The MB that environments of functions with requirements may take together on a machine. Above
    it, those are deleted that no task uses, the least recently used first."""
    receive_wait_s: Annotated[float, Meta(ge=0, le=20)] = 20.0
    """The longest time in seconds that one call to SQS waits for a message (long polling)."""
    record_ttl_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """The days for which DynamoDB keeps the record of a batch or bundle after its last change. The
    stack's parameter `SpillDays` must be larger by about ten."""
    result_url_s: Annotated[int, Meta(ge=60, le=604_800)] = 3600
    """The seconds for which a presigned URL in a result is valid, such as the URL of a movie."""
    upload_max_bytes: Annotated[int, Meta(ge=1, le=5_000_000_000)] = 1_000_000_000
    """The largest file in bytes that the form of `POST /uploads` accepts. S3 accepts at most 5 GB
    in one POST."""
    upload_url_s: Annotated[int, Meta(ge=60, le=43_200)] = 3600
    """The seconds for which the form of `POST /uploads` accepts a file."""
    open_idle_s: Annotated[float, Meta(ge=60, le=604_800)] = 86_400.0
    """The seconds without a new part after which an open batch is closed by whoever reads it next,
    so that it ends when its tasks have."""
    client_max_waiting: Annotated[int, Meta(ge=1)] | None = None
    """The most tasks that one client may have waiting or running. At the limit, further batches are
    refused for now, and a larger batch is refused for good. Unset means no limit, and no read."""
    collectors: Annotated[int, Meta(ge=2, le=1_000)] = 20
    """The most functions that count responses at a time, at least 2. Each takes one of the
    functions that the account may run at a time, and counts 700 to 1,300 bundles a second if
    workers answer in tens, 140 if each answer comes alone (`docs/scale.md`). Raise it when
    `Processed_Task` falls behind; lower it where the account may run only 10 functions."""
    # --- provisioning; sizes and prices are of one machine ---
    max_capacity: Annotated[int, Meta(ge=0, le=5_000)] = 10
    """The most machines that may exist at a time. With 0 the provisioner launches none."""
    max_usd_per_hour: Annotated[float, Meta(ge=0)] | None = None
    """The most US dollars that all machines together may cost in an hour, each counted as
    `TASKFLEET_INSTANCE_USD_PER_HOUR`. Unset means no such limit."""
    instance_usd_per_hour: Annotated[float, Meta(gt=0)] = 0.0725
    """The price of one machine in US dollars an hour, for the budget and the cost that
    `taskfleet fleet` shows. The default is the on-demand price of c7g.large in us-east-1."""
    instance_types: list[str] = []
    """The EC2 instance types to launch, in order of preference. Empty means the type that the
    launch template names."""
    launch_template: str = ""
    """The name of the EC2 launch template that machines are launched from. Empty means
    `taskfleet-<stage>`, which `infra/stack.yaml` creates."""
    subnets: list[str] = []
    """The ids of the subnets to launch machines in. Empty means the subnet of the launch template
    or the default VPC."""
    tags: list[Annotated[str, Meta(pattern=TAG)]] = []
    """The tags of machines and their fleets, as `key=value`, such as those of a cost report.
    `make deploy` tags the stacks, their resources and the functions with them, too."""
    spot: bool = True
    """Whether to ask for spot machines first, and for on-demand machines only when there is no spot
    capacity."""
    slots: Annotated[int, Meta(ge=1, le=512)] = DEFAULT_SLOTS
    """The number of tasks that a worker runs at a time, and that API and provisioner assume of a
    machine. A worker's `--threads` goes before."""
    cores: Annotated[int, Meta(ge=0, le=1_024)] = 0
    """The number of cores that a worker's CPU-bound tasks may use, such as those of `animoto`. With
    0 they may use all cores of the process."""
    idle_s: Seconds = 45.0
    """The seconds without work after which the worker of an EC2 instance ends itself and its
    machine. A worker elsewhere stays; a worker's `--exit-when-idle` goes before."""
    boot_s: Annotated[float, Meta(gt=0, le=1_800)] = 40.0
    """The first estimate of the seconds from a machine's launch until its worker runs. The
    provisioner corrects it by the boots that it sees."""
    machine_max_s: Annotated[float, Meta(ge=600, le=604_800)] = 604_800.0
    """The seconds after which the provisioner asks a machine's worker to finish its tasks and
    leave, whatever there is to do. The machine shuts itself down at an age of eight days."""
    beat_s: Annotated[float, Meta(ge=1, le=60)] = 15.0
    """The seconds between two reports of a worker's state to the provisioner. API, provisioner and
    workers must agree on it, since a worker that misses three reports counts as dead."""
    look_s: Annotated[float, Meta(ge=1, le=60)] = 15.0
    """The seconds between two rounds of the provisioner while there are tasks or machines."""
    policy: Literal["work", "threshold"] = "work"
    """The rule that decides how many machines there should be: `work` balances cost and waiting
    time, `threshold` is the rule of 2014 (`docs/provisioning.md`)."""
    threshold: Annotated[int, Meta(ge=0)] = 16
    """The number of waiting tasks above which the policy `threshold` adds one machine in a
    round. The policy `work` ignores it."""
    nudge: bool = False
    """Whether the API calls the provisioner's Lambda function at once when a batch arrives and no
    machine exists."""
    instance_id: str = ""
    """The EC2 instance id of the worker's machine, for a worker that cannot ask the metadata
    service. The worker's systemd unit and the local cloud set it."""
    imds_url: str = "http://169.254.169.254"
    """The URL of the EC2 instance metadata service, which tells a worker its instance id and gives
    notice of an interruption. Empty means that the worker asks nobody."""
    aws_latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    """The milliseconds to wait before every AWS call, so that a benchmark against an emulator sees
    the latency of a distant AWS. Leave it at 0 otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that functions and workers write to their logs."""
    metrics: Literal["off", "emf"] = "off"
    """Whether functions and workers write metrics to their logs, from which CloudWatch makes custom
    metrics, which it bills (`docs/metrics.md`)."""
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """The port on which a worker serves its metrics for Prometheus, under `/metrics`. With 0 it
    serves none. The worker's option `--metrics-port` goes before."""
    metrics_host: str = "127.0.0.1"
    """The address of the worker at which it serves its metrics. Anyone who reaches it can read
    them."""
    events: bool = False
    """Whether an event goes to the default bus of Amazon EventBridge when a batch has ended
    (`docs/howto/hear-of-the-end-of-a-batch.md`). It costs a call a batch."""
    events_topic: Annotated[str, Meta(pattern=TOPIC)] = ""
    """The ARN of the Amazon SNS topic to which the same event goes, with or without EventBridge.
    The topic's name begins with `taskfleet-`, the stage and `-`. Empty means none."""

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
    def high_queue(self) -> str:
        """The queue of the bundles of high priority. Its dead letters go where those of
        `task_queue` go."""
        return f"{self.task_queue}_high"

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
    def tag_values(self) -> dict[str, str]:
        """The values of `tags`, by key."""
        return dict(tag.split("=", 1) for tag in self.tags)

    @property
    def token_parameter(self) -> str:
        """The SSM parameter that holds the secret of the bearer tokens on AWS."""
        return self.token_secret_ssm or f"/taskfleet/{self.stage}/token-secret"

    @property
    def settings_parameter(self) -> str:
        """The SSM parameter to which a deployment writes settings for workers and operators."""
        return f"/taskfleet/{self.stage}/settings"

    @property
    def worker_template(self) -> str:
        return self.launch_template or f"taskfleet-{self.stage}"

    @property
    def provisioner_function(self) -> str:
        """The Lambda function, by Chalice's naming: `<app>-<stage>-<handler>`."""
        return f"taskfleet-{self.stage}-tick"

    def faults(self) -> list[str]:
        """Returns the faults between the values, each as a sentence."""
        found = []
        budget = self.max_usd_per_hour
        if budget is not None and self.max_capacity and budget < self.instance_usd_per_hour:
            found.append(
                f"TASKFLEET_MAX_USD_PER_HOUR={budget:g} pays for no machine at "
                f"TASKFLEET_INSTANCE_USD_PER_HOUR={self.instance_usd_per_hour:g}; "
                "TASKFLEET_MAX_CAPACITY=0 launches none"
            )
        topic = self.events_topic.rpartition(":")[2]
        if topic and not topic.startswith(f"taskfleet-{self.stage}-"):
            found.append(
                f"TASKFLEET_EVENTS_TOPIC names the topic {topic!r}; its name must begin with "
                f"taskfleet-{self.stage}-, the only topics that the functions may use"
            )
        if self.token_secret and len(self.token_secret.encode()) < SECRET_MIN_BYTES:
            found.append(f"TASKFLEET_TOKEN_SECRET must have at least {SECRET_MIN_BYTES} characters")
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


def complete(
    read: Callable[[Settings], Mapping[str, str]], environ: Mapping[str, str], **overrides: Any
) -> dict[str, str]:
    """Returns `environ` with what a deployment wrote for the stage; what `environ` has stays. Where
    TASKFLEET_BUCKET is set, as on machines and in a local cloud, the environment has all, and
    nothing is read. Raises SettingsError and what `read` raises.

    read: returns the variables of the stage; its argument has the stage and the region to look in.
    overrides: as in `load`, before which they go.
    """
    known = load(environ, **overrides)
    return dict(environ) if known.bucket else {**read(known), **environ}
