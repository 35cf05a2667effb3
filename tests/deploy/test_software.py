"""The worker's software as it is uploaded: built for real, for the other architecture than most
machines that run this have."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from infra import software

pytestmark = pytest.mark.timeout(300)

DIST_INFO = re.compile(r"site/(?P<name>[^/-]+)-(?P<version>[^/]+)\.dist-info/METADATA")


@pytest.fixture(scope="module")
def own_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own_kind.py"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def archive(own_kind: Path) -> bytes:
    """The archive with everything, packed less tightly than for a machine, which takes half the
    time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(software, "COMPRESSION", 1)
        return software.build("arm64", include=[own_kind])


@pytest.fixture(scope="module")
def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        return {entry.name: entry for entry in packed.getmembers()}


def test_it_holds_code_libraries_ffmpeg_and_what_the_machine_needs(
    entries: dict[str, tarfile.TarInfo],
) -> None:
    assert {
        "ec2_worker/run.py",
        "animoto/kind.py",
        "taskfleet/aws/session.py",
        "own_kind.py",
        "site/boto3/__init__.py",
        "site/PIL/Image.py",
        "infra/machine/setup.sh",
        "infra/machine/taskfleet-worker.service",
    } <= set(entries)
    assert any(name.startswith("site/imageio_ffmpeg/binaries/ffmpeg") for name in entries)
    assert entries["infra/machine/setup.sh"].mode == 0o755


def test_it_holds_nothing_else(entries: dict[str, tarfile.TarInfo]) -> None:
    tops = {name.split("/")[0] for name in entries}
    assert tops == {"animoto", "ec2_worker", "infra", "own_kind.py", "site", "taskfleet"}
    assert not [name for name in entries if name.endswith(".pyc") or "__pycache__" in name]
    machine = {path.name for path in (software.ROOT / "infra/machine").iterdir()}
    assert {name for name in entries if name.startswith("infra/")} == {
        "infra/machine",
        *(f"infra/machine/{name}" for name in machine - {"__pycache__"}),
    }


def test_its_libraries_have_the_pinned_versions(entries: dict[str, tarfile.TarInfo]) -> None:
    found = {
        match["name"].replace("_", "-").lower() + "==" + match["version"]
        for name in entries
        if (match := DIST_INFO.match(name))
    }
    assert len(found) > 10
    assert found <= set(software.CONSTRAINTS.read_text().splitlines())


def test_binaries_are_of_the_machines_architecture(archive: bytes) -> None:
    machines = set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        for entry in packed:
            file = packed.extractfile(entry) if entry.isfile() else None
            head = file.read(20) if file else b""
            if head.startswith(b"\x7fELF"):
                machines.add(int.from_bytes(head[18:20], "little"))
    assert machines == {0xB7}  # EM_AARCH64


def test_the_same_sources_make_the_same_bytes(
    own_kind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few of the libraries, compiled ones and ones with a command among them: what pip and
    the file system leave behind is the same for each, and ffmpeg takes ten seconds to pack."""
    monkeypatch.setattr(software, "requirements", lambda: ["msgspec>=0.19", "PyJWT>=2.10", "rich"])
    first, second = (software.build("arm64", include=[own_kind]) for _ in range(2))
    assert software.sha256(first) == software.sha256(second)


def test_a_module_of_ones_own_cannot_hide_one_of_the_worker(tmp_path: Path) -> None:
    (tmp_path / "taskfleet").mkdir()
    with pytest.raises(software.BuildFailed, match="--include"):
        software.build("arm64", include=[tmp_path / "taskfleet"])
