"""Connects the services of the Lambda functions with their adapters on AWS. Owns which adapter is
used for each port.
"""

from __future__ import annotations

import os

from chalice_app.secret import FreshSecret
from chalice_app.services import Services, assemble
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.errors import SettingsError
from taskfleet.log import set_up
from taskfleet.measure import Recorder
from taskfleet.registry import Registry
from taskfleet.settings import Settings, load
from taskfleet.wire.keys import Keys


def connect() -> Services:
    """Returns the services on AWS, or on the endpoint in `AWS_ENDPOINT_URL`, with the settings of
    the environment. Makes no call yet. Raises SettingsError, which lists what is missing."""
    settings = load()
    set_up(settings.log_level)
    _check(settings)
    clock = SystemClock()
    aws = Aws(settings, clock)

    def read_secret() -> str:
        return settings.token_secret or aws.secret(settings.token_secret_ssm)

    return assemble(
        registry=Registry.load(settings.kinds),
        task_queue=aws.task_queue(),
        response_queue=aws.response_queue(),
        upload_queue=aws.upload_queue(),
        monitor=aws.monitor(),
        store=aws.store(),
        clock=clock,
        random_bytes=os.urandom,
        token_secret=FreshSecret(read_secret, clock),
        records=aws.fleet_records(),
        schedule_records=aws.schedule_records(),
        fleet=aws.fleet() if settings.max_capacity else None,
        nudge=aws.nudge() if settings.nudge else None,
        settings=settings,
        spent=aws.meter.spend,
        recorder=Recorder(aws.meter.counts),
        sinks=aws.event_sinks(),
        high_queue=aws.high_queue(),
    )


def _check(settings: Settings) -> None:
    faults = []
    if not settings.bucket:
        faults.append("TASKFLEET_BUCKET must name the S3 bucket")
    if not (settings.token_secret or settings.token_secret_ssm):
        faults.append(
            "TASKFLEET_TOKEN_SECRET must hold the secret that signs tokens, or "
            "TASKFLEET_TOKEN_SECRET_SSM must name the SSM parameter that does"
        )
    if settings.token_secret:
        try:
            Keys.parse(settings.token_secret)
        except SettingsError as error:
            faults.append(f"TASKFLEET_TOKEN_SECRET: {error}")
    if faults:
        raise SettingsError("; ".join(faults))
