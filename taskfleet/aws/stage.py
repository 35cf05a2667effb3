"""Finds a stage on AWS by credentials, region and name alone. Owns where its settings are read;
`taskfleet.settings` owns their precedence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from taskfleet import settings
from taskfleet.aws.session import Aws
from taskfleet.aws.ssm import read_settings
from taskfleet.clock import SystemClock
from taskfleet.errors import NotFound, SettingsError
from taskfleet.settings import Settings


def environment_of_stage(environ: Mapping[str, str], **overrides: Any) -> dict[str, str]:
    """Returns `environ` with what the stage's deployment wrote to SSM
    (`taskfleet.settings.complete`). Raises SettingsError when there is no such stage or no region,
    PermanentError without credentials or rights."""
    return settings.complete(_read, environ, **overrides)


def settings_of_stage(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Returns the settings of a stage: an override goes before `environ`, that before what the
    deployment wrote, and that before the default. Raises as `environment_of_stage`.

    environ: that of the process unless given.
    """
    found = environment_of_stage(os.environ if environ is None else environ, **overrides)
    return settings.load(found, **overrides)


def _read(known: Settings) -> dict[str, str]:
    client = Aws(known, SystemClock()).client("ssm")
    stage, name = known.stage, known.settings_parameter
    try:
        return read_settings(client, name)
    except NotFound:
        raise SettingsError(
            f"stage {stage} is not deployed in {client.meta.region_name} "
            f"(no SSM parameter {name}): make deploy STAGE={stage}"
        ) from None
