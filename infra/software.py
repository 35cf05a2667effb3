"""Builds the worker's software: one archive with the code, its libraries for Linux on one
architecture, and `infra/machine`. The same sources and libraries make the same bytes, so the
SHA-256 of the archive is its name. Owns what is in the archive; `infra/machine/setup.sh` owns what
a machine does with it."""

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
"""The checkout."""
CONSTRAINTS = ROOT / "infra" / "constraints.txt"
"""The exact versions of the libraries of workers and functions, written by `infra.pins`."""
PACKAGES = ("taskfleet", "ec2_worker", "animoto", "infra/machine")
"""Folders of the checkout that are in the archive."""
EXTRAS = ("animoto", "functions", "environments")
"""Extras of the project that workers have: the kinds `animoto` and `python`, and the environments
that the latter builds."""
COMPRESSION = 6
"""Level of gzip for the archive, 1 (fast) to 9 (small)."""
PYTHON = "3.11"
"""Version of Python on the machine. Debian 12 has it, `setup.sh` installs it on Amazon Linux
2023."""
PLATFORMS = {
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
}
"""Platform tags of wheels that the machine can run, by architecture. Amazon Linux 2023 and Debian
12 have glibc 2.34 or later."""


class BuildFailed(Exception):
    """The archive could not be made. The message says why."""


def requirements() -> list[str]:
    """Returns the requirements of the worker and of the kinds that come with it, from
    `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]


def build(architecture: str, include: Sequence[Path] = ()) -> bytes:
    """Returns the archive, a gzipped tar file. Raises BuildFailed.

    architecture: a key of `PLATFORMS`.
    include: modules or packages with the user's own kinds.
    """
    with tempfile.TemporaryDirectory(prefix="taskfleet-software-") as folder:
        staged = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, staged / package, ignore=_left_out)
        for path in include:
            _include(path, staged)
        _install(architecture, staged / "site")
        return _pack(staged)


def sha256(archive: bytes) -> str:
    """Returns the SHA-256 of an archive, in hexadecimal."""
    return hashlib.sha256(archive).hexdigest()


def _include(path: Path, staged: Path) -> None:
    """Copies a module or package of the user's into the archive's folder."""
    target = staged / path.resolve().name
    if target.exists():
        raise BuildFailed(
            f"--include {path}: the worker's software contains {target.name} already; rename yours"
        )
    if path.is_dir():
        shutil.copytree(path, target, ignore=_left_out)
    else:
        shutil.copy(path, target)


def _install(architecture: str, site: Path) -> None:
    """Installs the libraries into `site`, from wheels for the machine, so that a boot compiles and
    fetches nothing."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", str(CONSTRAINTS)]
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
        raise BuildFailed(
            f"pip could not install the worker's libraries: {done.stderr.strip()[-2000:]}"
        )
    shutil.rmtree(site / "bin", ignore_errors=True)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    """Returns the names of compiled files, for `shutil.copytree`."""
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


def _pack(staged: Path) -> bytes:
    """Returns the folder as an archive without times and owners, its files in alphabetical
    order."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=COMPRESSION) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for path in _files(staged):
            archive.add(path, str(path.relative_to(staged)), recursive=False, filter=_anonymous)
    return packed.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    # In these files pip records how it was called, which differs from build to build.
    for path in sorted(folder.rglob("*")):
        if path.name not in ("RECORD", "direct_url.json", "REQUESTED", "INSTALLER"):
            yield path


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Removes owner and time, which differ from build to build."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
