"""A stage's configuration for Chalice: its entry in `.chalice/config.json`, and a policy for each
function. The policies in `.chalice/` are those of `dev` in any region and account. From them, this
module writes those of a deployed stage, with exact resources, to `.chalice/stages/<stage>/`. Owns
the rewriting; the files in `.chalice/` own what a function may do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.settings import Settings

DEV = Settings()
"""Settings of `dev`, whose names the policies in `.chalice/` use."""
_ARN = re.compile(
    r"arn:aws:(?P<service>[a-z0-9-]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<rest>.*)"
)


@dataclass(frozen=True)
class Stage:
    """A stage in an account and a region. `partition` is that of its ARNs: `aws`, except in China
    and for governments."""

    name: str
    region: str
    account: str
    bucket: str
    partition: str = "aws"

    @property
    def secret_name(self) -> str:
        """Name of the SSM parameter with the secret that signs tokens."""
        return f"/taskfleet/{self.name}/token-secret"

    @property
    def function_prefix(self) -> str:
        """Name of the API's function; the other functions have it as a prefix."""
        return f"taskfleet-{self.name}"

    def environment(self) -> dict[str, str]:
        """Returns the variables that every deployment sets for the functions."""
        return {
            "TASKFLEET_STAGE": self.name,
            "TASKFLEET_BUCKET": self.bucket,
            "TASKFLEET_TOKEN_SECRET_SSM": self.secret_name,
        }


def exact(policy: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Returns a policy of `dev` rewritten for `stage`: every ARN names its region, account and
    resources, every condition its tag."""
    statements = []
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        resources = [resources] if isinstance(resources, str) else resources
        statements.append(
            {
                **statement,
                "Resource": [_exact_arn(resource, stage) for resource in resources],
                **_exact_condition(statement, stage),
            }
        )
    return {**policy, "Statement": statements}


def _exact_condition(statement: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    if "Condition" not in statement:
        return {}
    exacted: dict[str, Any] = {}
    for operator, tests in statement["Condition"].items():
        exacted[operator] = {key: _exact_value(value, stage) for key, value in tests.items()}
    return {"Condition": exacted}


def _exact_value(value: Any, stage: Stage) -> Any:
    if isinstance(value, list):
        return [_exact_value(one, stage) for one in value]
    if isinstance(value, str):
        return stage.name if value == DEV.stage else _exact_arn(value, stage)
    return value


def _exact_arn(text: str, stage: Stage) -> str:
    """Returns an ARN of `dev` as that of `stage`, and any other text unchanged."""
    match = _ARN.fullmatch(text)
    if match is None:
        return text
    service = match["service"]
    region = stage.region if match["region"] == "*" else match["region"]
    account = stage.account if match["account"] == "*" else match["account"]
    rest = match["rest"]
    names = Settings(stage=stage.name)
    for dev, own in (
        (DEV.task_queue, names.task_queue),
        (DEV.response_queue, names.response_queue),
        (DEV.upload_queue, names.upload_queue),
        (DEV.monitor_table, names.monitor_table),
    ):
        rest = re.sub(rf"(?<![\w-]){dev}(?=$|[/*_])", own, rest)
    if service == "s3":
        rest = re.sub(r"^taskfleet-\*", stage.bucket, rest)
    rest = rest.replace("taskfleet-dev", f"taskfleet-{stage.name}")
    rest = rest.replace("/taskfleet/dev/", f"/taskfleet/{stage.name}/")
    return f"arn:{stage.partition}:{service}:{region}:{account}:{rest}"


def write(chalice_dir: Path, stage: Stage, settings: Mapping[str, str]) -> None:
    """Writes the stage's policies, and its entry in `config.json`. What a person changed in that
    entry stays.

    settings: further variables of the functions; they stay until they are set again.
    """
    path = chalice_dir / "config.json"
    config = json.loads(path.read_text())
    dev = config["stages"][DEV.stage]
    entry = config["stages"].setdefault(stage.name, json.loads(json.dumps(dev)))
    entry["environment_variables"] = {
        **entry.get("environment_variables", {}),
        **settings,
        **stage.environment(),
    }
    folder = chalice_dir / "stages" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, function in dev["lambda_functions"].items():
        source = Path(function["iam_policy_file"]).name
        policy = exact(json.loads((chalice_dir / source).read_text()), stage)
        (folder / source).write_text(json.dumps(policy, indent=2) + "\n")
        own = entry["lambda_functions"].setdefault(name, dict(function))
        own["iam_policy_file"] = f"stages/{stage.name}/{source}"
    path.write_text(json.dumps(config, indent=2) + "\n")
