"""The environment: what the parts see, and what `DIR/env` gives a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from localcloud import environment
from localcloud.options import ROOT, Options
from taskfleet.settings import Settings, load

OPTIONS = Options(api_port=8000, aws_port=4566, ec2_port=4567, max_capacity=3)
SECRET = "s" * 40


def test_no_part_sees_the_callers_aws_account() -> None:
    found = environment.inherited(
        {
            "AWS_PROFILE": "production",
            "AWS_SESSION_TOKEN": "x",
            "AWS_ENDPOINT_URL": "https://elsewhere",
            "PATH": "/bin",
            "TASKFLEET_LEASE_S": "30",
        }
    )
    assert {name for name in found if name.startswith("AWS_")} == {
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
    }
    assert (found["PATH"], found["TASKFLEET_LEASE_S"]) == ("/bin", "30")


def test_a_proxy_is_never_asked_for_the_way_to_the_cloud() -> None:
    assert environment.inherited({})["NO_PROXY"] == "127.0.0.1"
    assert environment.inherited({"no_proxy": "a,b"})["NO_PROXY"] == "a,b,127.0.0.1"
    again = environment.inherited(environment.inherited({"NO_PROXY": "a"}))
    assert again["NO_PROXY"] == "a,127.0.0.1"


def test_modules_are_found_in_the_checkout_and_where_the_caller_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search = environment.inherited({"PYTHONPATH": "/mine"})["PYTHONPATH"].split(":")
    assert search == [str(ROOT), str(Path.cwd()), "/mine"]


@pytest.mark.parametrize(
    ("cores", "workers", "each"), [(8, 2, 4), (2, 2, 1), (2, 3, 1), (2, 0, 2), (3, 1, 3)]
)
def test_workers_share_the_cores_of_their_computer(cores: int, workers: int, each: int) -> None:
    options = Options(api_port=8000, aws_port=4566, ec2_port=4567, workers=workers)
    found = environment.for_processes(options, Settings(cores=cores), (), SECRET)
    assert load(found).usable_cores == each


def test_the_settings_read_back_are_those_of_the_cloud() -> None:
    settings = load({"TASKFLEET_STAGE": "beta", "TASKFLEET_REGION": "eu-west-1"})
    found = environment.for_processes(OPTIONS, settings, ("animoto", "my_tasks"), SECRET)
    read = load(found)
    assert (read.stage, read.region, read.bucket) == ("beta", "eu-west-1", "taskfleet-local")
    assert (read.kinds, read.allow_private_urls, read.token_secret) == (
        ["animoto", "my_tasks"],
        True,
        SECRET,
    )
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert found["AWS_ENDPOINT_URL_EC2"] == "http://127.0.0.1:4567"
    assert found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert found["TASKFLEET_MAX_CAPACITY"] == "3"


def test_the_file_is_for_a_shell_and_for_its_owner_alone(tmp_path: Path) -> None:
    processes = environment.for_processes(OPTIONS, Settings(), (), SECRET)
    variables = environment.for_shell(OPTIONS, processes, "tok en", "a,127.0.0.1")
    path = tmp_path / "env"
    environment.write(path, variables | {"ODD": "it's $HOME; `x`"})
    environment.write(path, variables | {"ODD": "it's $HOME; `x`"})
    assert path.stat().st_mode & 0o777 == 0o600
    read = dict(shlex.split(line)[1].split("=", 1) for line in path.read_text().splitlines())
    assert read == variables | {"ODD": "it's $HOME; `x`"}
    assert (read["TASKFLEET_URL"], read["TASKFLEET_TOKEN"]) == ("http://127.0.0.1:8000", "tok en")
    assert [entry.name for entry in tmp_path.iterdir()] == ["env"]


def test_a_folder_keeps_its_secret_and_shares_it_with_no_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first = environment.secret(one)
    assert len(first) >= 32
    assert environment.secret(one) == first
    assert environment.secret(other) != first
    assert (one / "token_secret").stat().st_mode & 0o777 == 0o600
