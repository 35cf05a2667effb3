"""Creates or updates a stage for `make deploy`. Owns the order: the stack, the worker's software,
the functions' roles, the functions with their settings, and the same settings for workers. Each
step looks at what is there before it acts, so that a run after one that failed completes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import account, chalice, machines, roles, software, stack
from infra.stage import Stage, settings_for_workers, tags_of, variables, write
from taskfleet.aws.ec2 import STAGE_TAG

TYPES = "TASKFLEET_INSTANCE_TYPES"


@dataclass(frozen=True)
class Rollout:
    """A deployment of the stage `name`.

    account, partition: of the session's credentials.
    parameters: those of the stack to set; the others keep their values.
    settings: variables of the functions to set; the others keep their values.
    include: modules or packages with task kinds of one's own.
    root: the checkout.
    say: called with a line for each step.
    polling: how to wait for stacks.
    """

    session: Any
    name: str
    account: str
    partition: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    include: Sequence[Path]
    root: Path
    say: Callable[[str], None]
    polling: stack.Polling

    def run(self) -> tuple[str, str]:
        """Deploys the stage. Returns the API's URL and the secret that signs tokens. Raises
        StackFailed, BuildFailed, ChaliceFailed, or botocore's errors."""
        before = self._ensure_stack()
        stage = self._stage(before)
        self._give_software(stage, stack.parameters(before)["Architecture"])
        values = stack.parameters(stack.find(self._cloudformation(), stack.name_of(self.name)))
        stage = self._stage(before, values["RolePath"])
        account.create_service_roles(self.session.client("iam"))
        self._update_roles(stage, values)
        secret = account.secret(self.session.client("ssm"), stage.secret_name)
        self._write_settings(stage, values)
        self.say("deploying the functions and their API with Chalice")
        url = chalice.deploy(self.session, stage, self.root, int(values["LogDays"]))
        known = settings_for_workers(self.root / ".chalice", self.name, values)
        account.write_settings(self.session.client("ssm"), stage.settings_name, known)
        return url, secret

    def _ensure_stack(self) -> Any:
        """Returns the stage's stack, which has no launch template yet if it is new."""
        client, name = self._cloudformation(), stack.name_of(self.name)
        existing = stack.settled(client, name, polling=self.polling, say=self.say)
        if existing is None:
            self.say("creating the stack: queues, table, bucket, role")
            vpc = account.default_vpc(self.session.client("ec2"))
            self._bring_up(name, {"Stage": self.name, **vpc, **self.parameters})
            existing = stack.find(client, name)
        return existing

    def _give_software(self, stage: Stage, had: str) -> None:
        """Builds the worker's software, stores it, and updates the stack, so that new machines get
        it, and the newest image.

        had: architecture of the machines before.
        """
        self.say("building the worker's software")
        architecture = self.parameters.get("Architecture", had)
        archive = software.build(architecture, self.include)
        sha256 = software.sha256(archive)
        s3 = self.session.client("s3")
        account.upload(s3, stage.bucket, f"worker/{sha256}.tar.gz", archive, self.say)
        newest = machines.newest_image(self.session.client("ssm"), architecture)
        self.say(f"updating the stack: new machines get this software; newest image {newest}")
        changed = {**self.parameters, "WorkerSha256": sha256, "BaseImageId": newest}
        self._bring_up(stack.name_of(self.name), changed)

    def _update_roles(self, stage: Stage, values: Mapping[str, str]) -> None:
        self.say("updating the functions' roles")
        template = roles.template(
            self.root / ".chalice",
            stage,
            boundary=values["PermissionsBoundary"],
            key=values["KmsKeyArn"],
        )
        self._bring_up(stack.roles_name_of(self.name), {}, template)

    def _write_settings(self, stage: Stage, values: Mapping[str, str]) -> None:
        """Writes the stage's entry for Chalice. Unless a person chose types of machines, those of
        the region and the architecture are chosen when there are none, or no longer."""
        settings = dict(self.settings)
        chosen = self._known().get(TYPES) and "Architecture" not in self.parameters
        if not chosen and not values["InstanceType"]:
            ec2 = self.session.client("ec2")
            settings.setdefault(TYPES, machines.types_offered(ec2, values["Architecture"]))
        write(self.root / ".chalice", stage, settings, values["Architecture"])

    def _bring_up(
        self, name: str, parameters: Mapping[str, str], template: str | None = None
    ) -> None:
        stack.bring_up(
            self._cloudformation(),
            name,
            parameters,
            template=template,
            tags={**tags_of(self._known()), STAGE_TAG: self.name},
            polling=self.polling,
            say=self.say,
        )

    def _known(self) -> dict[str, str]:
        """Returns the variables of the functions, as far as this checkout knows them."""
        return {**variables(self.root / ".chalice", self.name), **self.settings}

    def _stage(self, existing: Any, role_path: str = "/") -> Stage:
        bucket = stack.outputs(existing)["BucketName"]
        region = self.session.region_name
        return Stage(self.name, region, self.account, bucket, self.partition, role_path)

    def _cloudformation(self) -> Any:
        return self.session.client("cloudformation")
