"""A first deployment that fails half-way, a second one that succeeds, and a teardown that leaves
nothing. moto plays AWS, and a stand-in plays Chalice, so this shows what `infra` does with what is
left, not how AWS or Chalice fail; `tests/deploy` lets the real Chalice fail once, on ministack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends

from infra import account, chalice, deploy, functions, software, stack
from tests.support.deployed import left
from tests.support.deployment import ACCOUNT, REGION, StandIn, checkout, client, run


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with checkout(tmp_path) as folder:
        yield folder


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception) -> None:
    """Makes the function fail at its first call, before it does anything."""
    real = getattr(module, name)

    def failing(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        raise error

    monkeypatch.setattr(module, name, failing)


def rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the first creation of a stack end as CloudFormation's does that fails."""
    real = stack.bring_up

    def failing(client: Any, name: str, *arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(stack, "bring_up", real)
        client.create_stack(StackName=name, TemplateBody=json.dumps(NOTHING))
        (made,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
        made.status = "ROLLBACK_COMPLETE"
        raise stack.StackFailed("ROLLBACK_COMPLETE")

    monkeypatch.setattr(stack, "bring_up", failing)


NOTHING = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the stack": rolled_back,
    "the software": lambda patch: once(patch, account, "upload", software.BuildFailed("no")),
    "the service roles": lambda patch: once(
        patch, account, "create_service_roles", software.BuildFailed("no")
    ),
    "the secret": lambda patch: once(patch, account, "secret", software.BuildFailed("no")),
    "before Chalice": lambda patch: once(patch, chalice, "run", chalice.ChaliceFailed("no")),
    "what Chalice cannot set": lambda patch: once(
        patch, functions, "configure", chalice.ChaliceFailed("no")
    ),
}


@pytest.mark.parametrize("step", [*FAULTS, "api", "record"])
def test_after_a_deployment_that_failed_the_next_succeeds_and_a_teardown_leaves_nothing(
    step: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left(client)
    monkeypatch.setattr(chalice, "run", StandIn(root, "" if step in FAULTS else step))
    if step in FAULTS:
        FAULTS[step](monkeypatch)
    first = run("up")
    assert isinstance(first.exception, deploy.FAILURES), first.output
    second = run("up")
    assert second.exit_code == 0, second.output
    assert "export TASKFLEET_URL=https://" in second.stdout
    assert run("destroy", "--yes").exit_code == 0
    assert left(client) == before


@pytest.mark.parametrize("step", ["the stack", "the software", "mappings", "api"])
def test_a_teardown_leaves_nothing_of_a_deployment_that_failed(
    step: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left(client)
    monkeypatch.setattr(chalice, "run", StandIn(root, "" if step in FAULTS else step))
    if step in FAULTS:
        FAULTS[step](monkeypatch)
    assert run("up").exit_code != 0
    shutil.rmtree(root / ".chalice" / "deployed", ignore_errors=True)
    for _ in range(2):  # a second time there is nothing to do
        done = run("destroy", "--yes")
        assert done.exit_code == 0, (done.output, done.exception)
        assert left(client) == before
