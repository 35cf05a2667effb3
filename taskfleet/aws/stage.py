"""Finds a stage on AWS by credentials, region and name alone. Owns where its settings are read;
`taskfleet.settings` owns their precedence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskfleet import settings
from taskfleet.aws.session import Aws
from taskfleet.aws.ssm import read_settings
from taskfleet.clock import SystemClock
from taskfleet.errors import NotFound, SettingsError
from taskfleet.settings import Settings


def settings_of_stage(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Returns the settings of a stage (`taskfleet.settings.load_deployed`), with what its
    deployment wrote to SSM. Raises SettingsError when there is no such stage or no region,
    PermanentError without credentials or rights.

    environ: that of the process unless given.
    """
    return settings.load_deployed(_read, environ, **overrides)


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
