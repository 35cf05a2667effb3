"""Opens a stage on AWS for the commands that call AWS themselves. Owns the option `--stage` and the
import of the AWS SDK, which no other command loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskfleet.aws.session import Aws


def open_stage(stage: str | None, environ: Mapping[str, str] | None = None) -> Aws:
    """Returns the AWS clients of a stage, with the settings of its deployment. Raises SettingsError
    or PermanentError, which say what is missing.

    stage: None means TASKFLEET_STAGE, or else dev.
    environ: that of the process unless given.
    """
    from taskfleet.aws.session import Aws
    from taskfleet.aws.stage import settings_of_stage
    from taskfleet.clock import SystemClock

    return Aws(settings_of_stage(environ, stage=stage), SystemClock())
