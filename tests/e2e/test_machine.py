"""A worker's machine for real: Debian in a container with a systemd of its own, brought up by the
user data that the stack gives to EC2, against a local cloud. Slow (some two minutes; debootstrap's
part is kept for the next run), needs root, debootstrap and systemd-nspawn, and puts the metadata
service's address on the loopback device while it runs: hence only when asked for,

    make machine
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import software
from tests.support.imds import INSTANCE_ID, FakeImds
from tests.support.waiting import eventually

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

IMDS = "169.254.169.254"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taskfleet"
PROBE = '''
"""A kind that tells what a task can reach, and as whom it runs."""
import os, pwd, socket
from taskfleet.registry import task_kind

@task_kind("probe")
def run(params, context):
    try:
        socket.create_connection((params["host"], params["port"]), timeout=3).close()
        reached = True
    except OSError:
        reached = False
    machine = os.environ["TASKFLEET_INSTANCE_ID"]
    return {"reached": reached, "user": pwd.getpwuid(os.getuid()).pw_name, "machine": machine}
'''
BOOT = """
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart=/root/user_data
[Install]
WantedBy=multi-user.target
"""


NOTICE = "meta-data/spot/instance-action"
ROLE = "meta-data/iam/security-credentials/"


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    address = f"{IMDS}/32"
    subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    try:
        fake = FakeImds(IMDS, 80)
        fake.found[ROLE] = "worker"
        with fake.served():
            yield fake
    finally:
        subprocess.run(["ip", "address", "del", address, "dev", "lo"], check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A fresh Debian 12, as an image has it: Python is among it, the AWS command line is not."""
    base = CACHE / "debian-12"
    if not base.exists():
        draft = base.with_name("debian-12.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        packages = "systemd,systemd-sysv,dbus,ca-certificates,python3"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm"]
        subprocess.run([*command, draft], check=True, stdout=subprocess.DEVNULL)
        draft.rename(base)
    fresh = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", base, fresh], check=True)
    shutil.copy("/etc/resolv.conf", fresh / "etc/resolv.conf")
    for name in ("sources.list", "sources.list.d", "apt.conf.d"):  # this machine's mirror and proxy
        given, there = Path("/etc/apt", name), fresh / "etc/apt" / name
        if given.is_dir():
            shutil.copytree(given, there, dirs_exist_ok=True)
        elif given.exists():
            shutil.copy(given, there)
    return fresh


class Machine:
    """The container; it ends when its systemd powers off."""

    def __init__(self, root: Path, log: Path) -> None:
        self.log = log
        nspawn = f"systemd-nspawn --quiet --directory={root} --register=no --keep-unit --boot"
        # systemd's firewall of units is a BPF program, which containers may not load by themselves.
        nspawn += " --system-call-filter=bpf --capability=CAP_BPF,CAP_NET_ADMIN"
        # It needs the unified hierarchy, too, whatever this machine has.
        own_cgroups = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f"{own_cgroups}; exec {nspawn} --console=read-only"],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_off(self, timeout_s: float) -> None:
        self.process.wait(timeout_s)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def workers() -> list[int]:
    """Process ids, as this machine counts them, of the workers in the container."""
    found = subprocess.run(
        ["pgrep", "-f", "^python3.11 /opt/taskfleet/current/ec2_worker/run.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in found.stdout.split()]


def journal(root: Path) -> str:
    command = ["journalctl", "--directory", str(root / "var/log/journal"), "--no-pager"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_user_data_makes_a_stock_debian_a_worker_that_leaves_by_itself(
    start_cloud: Callable[..., Any], root: Path, imds: FakeImds, tmp_path: Path
) -> None:
    (tmp_path / "probe_kind.py").write_text(PROBE)
    cloud = start_cloud(
        tmp_path / "cloud",
        "--workers",
        "0",
        "--no-provisioner",
        "--kinds",
        "probe_kind",
        PYTHONPATH=str(tmp_path),
    )
    keys = {
        "AccessKeyId": cloud.environ["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": cloud.environ["AWS_SECRET_ACCESS_KEY"],
        "Token": "",  # the emulator refuses a token beside the cloud's own key
        "Expiration": "2099-01-01T00:00:00Z",
    }
    imds.found[f"{ROLE}worker"] = json.dumps(keys)
    archive = software.build("x86_64", include=[tmp_path / "probe_kind.py"])
    sha256 = software.sha256(archive)
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    cloud.client("s3").put_object(Bucket=bucket, Key=f"worker/{sha256}.tar.gz", Body=archive)
    (root / "root/user_data").write_text(launch_user_data(cloud, bucket, sha256))
    (root / "root/user_data").chmod(0o755)
    (root / "etc/systemd/system/boot.service").write_text(BOOT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "boot.service").symlink_to("/etc/systemd/system/boot.service")
    (root / "var/log/journal").mkdir(exist_ok=True)

    machine = Machine(root, tmp_path / "console.log")
    try:
        host, _, port = cloud.environ["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")
        probes = [
            {"kind": "probe", "params": {"host": IMDS, "port": 80}},
            {"kind": "probe", "params": {"host": host, "port": int(port)}},
            "sleep 10",
        ]
        path = cloud.api("POST", "/batches", json={"tasks": probes}).json()["url"]
        path = path.removeprefix(cloud.url)
        eventually(
            lambda: cloud.api("GET", path).json()["status"] == "DONE", 240, "the batch is done"
        )
        rows = cloud.api("GET", f"{path}/results").json()["results"]
        worker = {"user": "taskfleet", "machine": INSTANCE_ID}
        assert rows[0]["result"] == {"reached": False, **worker}
        assert rows[1]["result"] == {"reached": True, **worker}
        assert rows[2]["status"] == "SUCCEEDED"
        assert imds.refused == []

        # A crash: systemd starts the worker again, and the machine stays.
        (crashed,) = workers()
        os.kill(crashed, signal.SIGKILL)
        eventually(lambda: workers() not in ([], [crashed]), 30, "the worker is there again")
        third = cloud.api("POST", "/batches", json={"tasks": probes[:1]}).json()["url"]
        third = third.removeprefix(cloud.url)
        eventually(lambda: cloud.api("GET", third).json()["status"] == "DONE", 30, "it works again")
        rows = cloud.api("GET", f"{third}/results").json()["results"]
        assert rows[0]["result"] == {"reached": False, **worker}
        assert machine.process.poll() is None

        # A spot notice: what runs is given back, the machine ends.
        second = cloud.api("POST", "/batches", json={"tasks": ["sleep 600000"]}).json()["url"]
        second = second.removeprefix(cloud.url)
        eventually(lambda: cloud.api("GET", second).json()["status"] == "RUNNING", 60, "it runs")
        imds.found[NOTICE] = '{"action": "terminate", "time": "2099-01-01T00:00:00Z"}'
        machine.wait_off(60)
        assert cloud.api("GET", second).json()["status"] != "DONE"
        assert "draining the worker" in journal(root)
        cloud.api("DELETE", second)

        # Once more, as of an image in which all is installed: it works, is idle, and leaves.
        del imds.found[NOTICE]
        machine = Machine(root, tmp_path / "console-2.log")
        last = cloud.api("POST", "/batches", json={"tasks": ["sleep 1"]}).json()["url"]
        last = last.removeprefix(cloud.url)
        eventually(
            lambda: cloud.api("GET", last).json()["status"] == "DONE", 60, "it works at once"
        )
        machine.wait_off(60)
    finally:
        machine.end()
        (tmp_path / "journal.log").write_text(journal(root))
        print((tmp_path / "journal.log").read_text()[-6000:])


def launch_user_data(cloud: Any, bucket: str, sha256: str) -> str:
    """What EC2 would hand to a machine that is launched now."""
    cloudformation = cloud.client("cloudformation")
    parameters = {
        "BucketName": bucket,
        "WorkerSha256": sha256,
        "ImageId": "ami-12345678",
        "Kinds": "probe_kind",
        "IdleSeconds": "15",
        "WorkerSettings": f"AWS_ENDPOINT_URL={cloud.environ['AWS_ENDPOINT_URL']} "
        "TASKFLEET_DRAIN_TIMEOUT_S=5 "
        # The emulator gives a message to the long poll of a worker that was killed.
        "TASKFLEET_RECEIVE_WAIT_S=1",
    }
    cloudformation.update_stack(
        StackName="taskfleet-dev",
        TemplateBody=(software.ROOT / "infra" / "stack.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
    )
    cloudformation.get_waiter("stack_update_complete").wait(
        StackName="taskfleet-dev", WaiterConfig={"Delay": 1}
    )
    versions = cloud.client("ec2").describe_launch_template_versions(
        LaunchTemplateName="taskfleet-dev", Versions=["$Latest"]
    )
    data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return base64.b64decode(data["UserData"]).decode()
