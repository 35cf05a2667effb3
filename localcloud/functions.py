"""What the stage's configuration says of a function of the app. Owns the reading of
`.chalice/config.json`, which owns the values."""

from __future__ import annotations

import functools
import json

from chalice.config import Config

from localcloud.options import ROOT

STAGE = "dev"
"""Stage whose values count, since `make deploy` makes those of every other stage from them."""
API = "api_handler"
"""Function that answers requests of the API, as Chalice names it."""


@functools.cache
def config(function: str) -> Config:
    """Returns the configuration of the function `function`, such as `tick`; that of the stage if
    the file does not name the function."""
    from_disk = json.loads((ROOT / ".chalice" / "config.json").read_text())
    return Config(chalice_stage=STAGE, function_name=function, config_from_disk=from_disk)


def timeout_s(function: str) -> float:
    """Returns the seconds after which Lambda ends a call of the function."""
    return float(config(function).lambda_timeout)
