"""A stage: its names, its functions' policies, and its entry in `.chalice/config.json`. The
policies in `.chalice/` are those of `dev` in any region and account; from them, this module makes
those of a deployed stage, with exact resources. Owns the rewriting; the files in `.chalice/` own
what a function may do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.settings import Settings, load

DEV = Settings()
"""Settings of `dev`, whose names the policies in `.chalice/` use."""
SHARED_WITH_WORKERS = {
    "TASKFLEET_KINDS": "Kinds",
    "TASKFLEET_SLOTS": "Threads",
    "TASKFLEET_IDLE_S": "IdleSeconds",
}
"""Variables of the functions on which functions and workers must agree, with the stack's parameter
that sets the same for the workers."""
_ARN = re.compile(
    r"arn:aws:(?P<service>[a-z0-9-]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<rest>.*)"
)


@dataclass(frozen=True)
class Stage:
    """A stage in an account and a region.

    partition: that of its ARNs: `aws`, except in China and for governments.
    role_path: path of its IAM roles, with a slash at both ends.
    """

    name: str
    region: str
    account: str
    bucket: str
    partition: str = "aws"
    role_path: str = "/"

    @property
    def secret_name(self) -> str:
        """Name of the SSM parameter with the secret that signs tokens."""
        return Settings(stage=self.name).token_parameter

    @property
    def settings_name(self) -> str:
        """Name of the SSM parameter with the settings for workers and operators."""
        return Settings(stage=self.name).settings_parameter

    @property
    def function_prefix(self) -> str:
        """Name of the API's function; the other functions have it as a prefix."""
        return f"taskfleet-{self.name}"

    def role_name(self, process: str) -> str:
        """Returns the name of the role of a function, or of `worker`. It has the region in it,
        since IAM is one for all regions, and at most 60 of the 64 characters that IAM takes."""
        return f"{self.function_prefix}-{self.region}-{process}"

    def role_arn(self, process: str) -> str:
        """Returns the ARN of that role."""
        role = f"role{self.role_path}{self.role_name(process)}"
        return f"arn:{self.partition}:iam::{self.account}:{role}"

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
    if service == "iam":  # the one role that a function passes on
        return stage.role_arn("worker")
    rest = rest.replace("taskfleet-dev", stage.function_prefix)
    rest = rest.replace("/taskfleet/dev/", f"/taskfleet/{stage.name}/")
    return f"arn:{stage.partition}:{service}:{region}:{account}:{rest}"


def policies(chalice_dir: Path, stage: Stage) -> dict[str, dict[str, Any]]:
    """Returns the exact policy of each function of the stage, by the function's name in Chalice."""
    functions = json.loads((chalice_dir / "config.json").read_text())["stages"][DEV.stage]
    return {
        name: exact(json.loads((chalice_dir / function["iam_policy_file"]).read_text()), stage)
        for name, function in functions["lambda_functions"].items()
    }


def variables(chalice_dir: Path, stage: str) -> dict[str, str]:
    """Returns the variables of the stage's functions, as the last deployment from this checkout set
    them; none before the first."""
    config = json.loads((chalice_dir / "config.json").read_text())
    return dict(config["stages"].get(stage, {}).get("environment_variables", {}))


def settings_for_workers(
    chalice_dir: Path, stage: str, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables that a worker or an operator needs to work with the stage: those of its
    functions, without a secret, and what the stack says of workers.

    parameters: those of the stack.
    """
    config = json.loads((chalice_dir / "config.json").read_text())
    given = {**config.get("environment_variables", {}), **variables(chalice_dir, stage)}
    given |= {name: parameters[parameter] for name, parameter in SHARED_WITH_WORKERS.items()}
    return {name: value for name, value in given.items() if name != "TASKFLEET_TOKEN_SECRET"}


def tags_of(variables: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that TASKFLEET_TAGS among the functions' variables names."""
    return load({"TASKFLEET_TAGS": variables.get("TASKFLEET_TAGS", "")}).tag_values


def write(
    chalice_dir: Path, stage: Stage, settings: Mapping[str, str], architecture: str = "x86_64"
) -> None:
    """Writes the stage's entry in `config.json`. What a person changed in that entry stays.

    settings: further variables of the functions; they stay until they are set again.
    architecture: that of the functions, `arm64` or `x86_64`.
    """
    path = chalice_dir / "config.json"
    config = json.loads(path.read_text())
    dev = config["stages"][DEV.stage]
    entry = config["stages"].setdefault(stage.name, json.loads(json.dumps(dev)))
    entry["lambda_architecture"] = architecture
    entry["environment_variables"] = {
        **entry.get("environment_variables", {}),
        **settings,
        **stage.environment(),
    }
    entry["tags"] = tags_of(entry["environment_variables"])
    for name, function in dev["lambda_functions"].items():
        own = entry["lambda_functions"].setdefault(name, dict(function))
        own["manage_iam_role"] = False  # `infra.roles` makes the roles
        own["iam_role_arn"] = stage.role_arn(name)
    path.write_text(json.dumps(config, indent=2) + "\n")
