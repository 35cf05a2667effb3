"""The how-to pages do what they say: their files are written and run, and their methods are tried
on both implementations of the port. `tests/unit/test_docs_words.py` checks their commands, and
`tests/e2e/test_docs_pages.py` runs those that need a cloud."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import msgspec
import pytest
from moto import mock_aws

from docs import settings_page
from taskfleet import settings
from taskfleet.aws import session
from taskfleet.aws.errors import translated
from taskfleet.aws.s3 import S3Store
from taskfleet.batch import BatchRecord
from taskfleet.errors import NotFound
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryStore
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.iam import test_policies

ROOT = Path(__file__).resolve().parents[2]
HOWTO = ROOT / "docs" / "howto"
KIND = (HOWTO / "write-a-kind.md").read_text()
SETTING = (HOWTO / "add-a-setting.md").read_text()
CALL = (HOWTO / "add-an-aws-call.md").read_text()
HANGS = (HOWTO / "debug-a-batch-that-hangs.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def file(page: str, name: str) -> str:
    """The block that stands below the file's name."""
    found = re.search(rf"^`{re.escape(name)}`.*?\n\n```\w+\n(.*?)^```$", page, re.M | re.S)
    assert found, f"no block below `{name}`"
    return found[1]


# --- write a kind ---------------------------------------------------------------------------


def run(*command: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kind_runs_in_the_local_worker_and_passes_its_own_tests(tmp_path: Path) -> None:
    for name in ("primes.py", "test_primes.py", "primes.txt"):
        (tmp_path / name).write_text(file(KIND, name))
    (command,) = [block for block in blocks(KIND, "sh") if "--local" in block]
    program, script, *options = shlex.split(command)
    assert program == "python"
    run(sys.executable, str(ROOT / script), *options, folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["result"] for row in rows] == [{"primes": n} for n in (25, 78_498, 100)]
    pytest_here = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    run(sys.executable, *pytest_here, str(tmp_path / "test_primes.py"), folder=tmp_path)


# --- add a setting --------------------------------------------------------------------------


def test_the_setting_is_a_valid_field_with_a_row_of_its_own() -> None:
    (field,) = blocks(SETTING, "python")
    source = f"class Example(msgspec.Struct, kw_only=True):\n{field}"
    namespace: dict[str, Any] = {"msgspec": msgspec, **vars(settings)}
    exec(source, namespace)
    described = settings_page.descriptions(source, "Example")
    (name,) = described
    row = settings_page.row(namespace["Example"], name, described, {name: {"ec2_worker"}})
    assert f"`TASKFLEET_{name.upper()}` | number, 0.5 to 60; `2` | The seconds" in row
    assert f"`TASKFLEET_{name.upper()}`" in SETTING
    assert name not in settings.Settings.__struct_fields__, "the page needs another example"


def test_the_constant_that_the_page_names_is_there() -> None:
    assert re.search(r"^REFRESH_S = 2\.0$", (ROOT / "ec2_worker/batchwatch.py").read_text(), re.M)


# --- add an AWS call ------------------------------------------------------------------------


def function(block: str, **names: Any) -> Callable[..., Any]:
    """The one function that a block defines."""
    namespace: dict[str, Any] = {"pytest": pytest, "NotFound": NotFound, **names}
    before = set(namespace)
    exec("from __future__ import annotations\n" + _dedented(block), namespace)
    (made,) = (
        value
        for name, value in namespace.items()
        if name not in before and isinstance(value, types.FunctionType)
    )
    return made


def _dedented(block: str) -> str:
    return (
        "\n".join(line.removeprefix("    ") for line in block.splitlines())
        if (block.startswith("    "))
        else block
    )


@pytest.fixture(params=["memory", "aws"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="some-bucket")
        yield S3Store(client, "some-bucket")


def test_the_call_keeps_its_promise_on_aws_and_in_memory(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise, contract, on_aws, in_memory, _requests = blocks(CALL, "python")
    name = function(promise).__name__
    assert not hasattr(store, name), "the page needs another example"
    implementation = on_aws if isinstance(store, S3Store) else in_memory
    made = function(implementation, translated=translated)
    assert made.__name__ == name
    monkeypatch.setattr(type(store), name, made, raising=False)
    function(contract)(SimpleNamespace(store=store))


def test_the_statement_allows_what_the_page_says_and_no_more() -> None:
    (statement,) = (json.loads(block) for block in blocks(CALL, "json"))
    api = json.loads((ROOT / ".chalice" / "policy-api.json").read_text())
    assert set(statement) == set(api["Statement"][0])
    assert statement["Sid"] not in {known["Sid"] for known in api["Statement"]}
    allowed, refused = blocks(CALL, "python")[-1].splitlines()
    for line in (allowed, refused):
        request = eval(line, vars(test_policies))
        assert (request.action in statement["Action"]) == (line == allowed)
        assert request not in [*test_policies.ALLOWED["api"], *test_policies.DENIED["api"]]


# --- debug a batch that hangs ---------------------------------------------------------------


def test_the_script_tells_of_bundles_that_are_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = MemoryMonitor(ManualClock(1e9))
    batch = BatchRecord("b", "me", None, 1e9, 3, 3, "hash", closed=True, enqueued=3)
    monitor.create_batch(batch)
    done = monitor.claim("b:0", owner="w-1/x", lease_s=30)
    held = monitor.claim("b:1", owner="w-2/y", lease_s=30)
    assert done.lease is not None
    assert held.lease is not None
    rows = [TaskResult(0, TaskStatus.SUCCEEDED)]
    monitor.commit("b:0", done.lease, tasks=[Task(0, "sleep", 1)], results=rows)
    waiting = [TaskResult(1, TaskStatus.QUEUED, error="not yet", attempts=2)]
    monitor.renew("b:1", held.lease, lease_s=30, tasks=[Task(1, "sleep", 1)], results=waiting)
    monkeypatch.setattr(session.Aws, "__init__", lambda *_: None)
    monkeypatch.setattr(session.Aws, "monitor", lambda _aws: monitor)
    monkeypatch.setattr(sys, "argv", ["open_bundles.py", "b"])
    exec(compile(file(HANGS, "open_bundles.py"), "open_bundles.py", "exec"), {})
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "3 of 3 tasks enqueued, closed: True"
    assert re.fullmatch(r"b:1 RUNNING: w-2/y holds it for -\d+ s more", told[1])
    assert told[2:] == [
        "  task 1: QUEUED, 2 attempts, not yet",
        "b:2 was never claimed",
        "1 of 3 bundles done, 0 of 3 tasks counted",
    ]


def test_the_actions_that_are_explained_are_logged_by_the_worker() -> None:
    (table,) = re.findall(r"^\| `action` \|.*?\n\n", HANGS, re.M | re.S)
    actions = set(re.findall(r"`([a-z_]+)`", table)) - {"action"}
    sources = "".join(path.read_text() for path in (ROOT / "ec2_worker").glob("*.py"))
    assert len(actions) >= 8
    assert {action for action in actions if f'"{action}"' not in sources} == set()
