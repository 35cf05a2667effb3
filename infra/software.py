"""The worker's software as one archive: the code, its libraries for Lambda-like Linux of one
architecture, and `infra/machine`. The same sources make the same bytes, so that the archive's
SHA-256 names it. Owns what is in it; the machine's part is `infra/machine/setup.sh`."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("taskfleet", "ec2_worker", "animoto", "infra/machine")
PYTHON = "3.11"
"""Of the machine: Debian 12 has it, Amazon Linux 2023 installs it."""
PLATFORMS = {
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
}
"""Both images have glibc 2.34 or later."""


class BuildFailed(Exception):
    """The archive could not be made; the message says why."""


def requirements() -> list[str]:
    """What the worker needs, from `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["animoto"]]


def build(architecture: str, include: Sequence[Path] = ()) -> bytes:
    """The archive. `include` are modules or packages with kinds of the user's own."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-software-") as folder:
        staged = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, staged / package, ignore=_left_out)
        for path in include:
            _include(path, staged)
        _install(architecture, staged / "site")
        return _pack(staged)


def sha256(archive: bytes) -> str:
    return hashlib.sha256(archive).hexdigest()


def _include(path: Path, staged: Path) -> None:
    target = staged / path.resolve().name
    if target.exists():
        raise BuildFailed(f"--include {path}: the worker has a {target.name} of its own")
    if path.is_dir():
        shutil.copytree(path, target, ignore=_left_out)
    else:
        shutil.copy(path, target)


def _install(architecture: str, site: Path) -> None:
    """The libraries, as wheels for the machine: nothing is compiled, nothing fetched at boot."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--target", str(site)]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    command += [f"--platform={platform}" for platform in PLATFORMS[architecture]]
    done = subprocess.run(
        [*command, *requirements()],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise BuildFailed(f"the worker's libraries could not be had: {done.stderr.strip()[-2000:]}")
    shutil.rmtree(site / "bin", ignore_errors=True)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


def _pack(staged: Path) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for path in _files(staged):
            archive.add(path, str(path.relative_to(staged)), recursive=False, filter=_anonymous)
    return packed.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    # pip records in RECORD and direct_url.json how it was called: nothing that runs needs them.
    for path in sorted(folder.rglob("*")):
        if path.name not in ("RECORD", "direct_url.json", "REQUESTED", "INSTALLER"):
            yield path


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time, which differ from build to build."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
