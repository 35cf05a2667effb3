"""The options of the local cloud are checked before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from localcloud.options import HOST, OptionFault, Options, kind_modules, with_ports


def test_the_kinds_of_users_own_work_are_on_in_a_local_cloud():
    assert "taskfleet.kinds.command" in kind_modules([], [])


def test_port_zero_means_free_ports_all_different() -> None:
    options = with_ports(Options(api_port=0, aws_port=0))
    ports = {options.api_port, options.aws_port, options.ec2_port}
    assert len(ports) == 3
    assert 0 not in ports
    assert options.url == f"http://127.0.0.1:{options.api_port}"


def test_ec2_is_after_aws_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binds nothing: another process may have the port that is asked for."""
    monkeypatch.setattr("localcloud.options._bind", lambda _held, _option, port: port)
    assert with_ports(Options(aws_port=5_000)).ec2_port == 5_001
    assert with_ports(Options(aws_port=5_000, ec2_port=7_000)).ec2_port == 7_000


@pytest.mark.parametrize("option", ["api_port", "aws_port", "ec2_port"])
def test_a_port_in_use_is_named_with_its_option(option: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        ports = {"api_port": 0, "aws_port": 0, "ec2_port": 0, option: port}
        with pytest.raises(OptionFault) as caught:
            with_ports(Options(**ports))  # type: ignore[arg-type]
    assert f"port {port} " in str(caught.value)
    assert "--" + option.replace("_", "-") in str(caught.value)


def test_two_options_cannot_share_a_port() -> None:
    port = with_ports(Options(api_port=0, aws_port=0)).api_port
    with pytest.raises(OptionFault, match="--aws-port"):
        with_ports(Options(api_port=port, aws_port=port))


def test_the_port_after_the_last_one_is_a_fault() -> None:
    with pytest.raises(OptionFault, match=r"65536 .*--ec2-port"):
        with_ports(Options(api_port=0, aws_port=65_535))


def test_kinds_are_loaded_once_each_and_must_be_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tasks.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert kind_modules(["my_tasks", "json"], ["json"])[-2:] == ("json", "my_tasks")
    for missing in ("no_such_module", "no_such.package", ""):
        with pytest.raises(OptionFault, match="no module named"):
            kind_modules([missing], [])
