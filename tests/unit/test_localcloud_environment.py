"""The environment of the parts, and the env file that gives it to a shell."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from localcloud import environment
from localcloud.options import ROOT, Options
from taskfleet.client import envfile
from taskfleet.settings import Settings, load

OPTIONS = Options(api_port=8000, aws_port=4566, ec2_port=4567, max_capacity=3)
EVENTS = "http://127.0.0.1:4569"
SECRET = "s" * 40
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


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


def test_the_way_to_the_cloud_uses_no_proxy() -> None:
    assert environment.inherited({})["NO_PROXY"] == "127.0.0.1"
    assert environment.inherited({"no_proxy": "a,b"})["NO_PROXY"] == "a,b,127.0.0.1"
    twice = environment.inherited(environment.inherited({"NO_PROXY": "a"}))
    assert twice["NO_PROXY"] == "a,127.0.0.1"


def test_modules_are_found_in_the_checkout_and_in_the_callers_folder(
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
    found = environment.for_processes(
        options, Settings(cores=cores), (), SECRET, CREDENTIALS, EVENTS
    )
    assert load(found).usable_cores == each


def test_the_settings_of_a_process_are_those_of_the_cloud() -> None:
    settings = load({"TASKFLEET_STAGE": "beta", "TASKFLEET_REGION": "eu-west-1"})
    found = environment.for_processes(
        OPTIONS, settings, ("animoto", "my_tasks"), SECRET, CREDENTIALS, EVENTS
    )
    read = load(found)
    assert (read.stage, read.region, read.bucket) == ("beta", "eu-west-1", "taskfleet-local")
    assert (read.kinds, read.allow_private_urls, read.token_secret) == (
        ["animoto", "my_tasks"],
        True,
        SECRET,
    )
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert found["AWS_ENDPOINT_URL_EC2"] == "http://127.0.0.1:4567"
    assert (found["AWS_ENDPOINT_URL_EVENTBRIDGE"], read.events) == (EVENTS, True)
    assert found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert found["TASKFLEET_MAX_CAPACITY"] == "3"
    assert found.items() >= CREDENTIALS.items()


def test_the_env_file_holds_what_clients_and_processes_need(tmp_path: Path) -> None:
    processes = environment.for_processes(OPTIONS, Settings(), (), SECRET, CREDENTIALS, EVENTS)
    variables = environment.for_shell(OPTIONS, processes, "tok en", "a,127.0.0.1")
    path = tmp_path / "env"
    environment.write(path, variables)
    read = envfile.read(path)
    assert read == variables
    assert (read["TASKFLEET_URL"], read["TASKFLEET_TOKEN"]) == ("http://127.0.0.1:8000", "tok en")
    assert read["NO_PROXY"] == "a,127.0.0.1"


def test_the_env_file_is_its_owners_alone_and_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "env"
    for value in ("first", "second"):
        environment.write(path, {"A": value})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert envfile.read(path) == {"A": "second"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_keeps_its_secret_and_shares_it_with_no_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first = environment.secret(one)
    assert len(first) >= 32
    assert environment.secret(one) == first
    assert environment.secret(other) != first
    assert (one / "token_secret").stat().st_mode & 0o777 == 0o600


def test_a_folder_keeps_its_credentials_and_shares_them_with_no_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first = environment.credentials(one)
    assert tuple(first) == environment.CREDENTIALS
    assert environment.credentials(one) == first
    assert set(environment.credentials(other).values()).isdisjoint(first.values())
    assert len(first["AWS_SECRET_ACCESS_KEY"]) >= 32
    assert (one / "aws_credentials").stat().st_mode & 0o777 == 0o600
