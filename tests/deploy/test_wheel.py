"""What `python -m build` makes, installed into an environment that has nothing but the declared
dependencies: the library, the command line and the local worker work there, far from the checkout.

Nothing is downloaded: the build uses the setuptools of the test environment, and the dependencies
are links to those that are installed there already."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = sorted(
    path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"
)
OPTIONAL = {
    "ec2_worker/otel.py": "otel",
    "ec2_worker/prometheus.py": "prometheus",
    "taskfleet/joblib.py": "joblib",
    "taskfleet/kinds/uv.py": "environments",
    "taskfleet/wire/pickles.py": "functions",
}
"""Modules that need an extra, by their path. No other module imports them unless asked to."""
IN_A_NOTEBOOK = {"IPython"}
"""The package that a kernel of Jupyter has loaded; nothing else imports it."""
WITH_BOTO3 = {"botocore"}
"""What boto3 is made of; nobody declares it apart."""
FOREIGN = IN_A_NOTEBOOK | WITH_BOTO3


@dataclass
class Installed:
    """An environment with the wheel in it, and a folder far from the checkout."""

    wheel: zipfile.ZipFile
    build_log: str
    folder: Path
    bin: Path

    @property
    def names(self) -> set[str]:
        return set(self.wheel.namelist())

    def run(self, *command: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TASKFLEET_"))}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:  # a copy, so that no leftover of an earlier build gets in
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    log = run_here("-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    run_here("-m", "venv", "--without-pip", str(folder / "env"))
    python = str(folder / "env" / "bin" / "python")
    run_here("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", str(wheel))
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    link_dependencies(dependencies)
    (site,) = (folder / "env" / "lib").glob("*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    empty = folder / "elsewhere"
    empty.mkdir()
    return Installed(zipfile.ZipFile(wheel), log, empty, folder / "env" / "bin")


def run_here(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def link_dependencies(folder: Path) -> None:
    """Link what pip would install beside the wheel, and nothing else."""
    for distribution in needed(PROJECT["dependencies"], {}).values():
        for top in {Path(file).parts[0] for file in distribution.files or []} - {
            "..",
            "__pycache__",
        }:
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))


def needed(
    requirements: list[str], found: dict[str, metadata.Distribution]
) -> dict[str, metadata.Distribution]:
    """The installed distributions that the requirements ask for, with all that those need."""
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found[name] = metadata.distribution(name)
            needed(found[name].requires or [], found)
    return found


# --- what is in it --------------------------------------------------------------------------


def test_the_build_warns_of_nothing(installed: Installed) -> None:
    for word in ("would be ignored", "Deprecat", "absent from"):
        assert word not in installed.build_log


def test_every_module_of_every_package_is_in_the_wheel_and_nothing_else(
    installed: Installed,
) -> None:
    modules = {
        str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    }
    inside = {name for name in installed.names if name.endswith(".py")}
    assert inside == modules


def test_the_files_that_the_packages_read_are_in_the_wheel(installed: Installed) -> None:
    machine = [path for path in (ROOT / "infra" / "machine").iterdir() if path.is_file()]
    infra = [ROOT / "infra" / name for name in ("constraints.txt", "stack.yaml")]
    page = [path for path in (ROOT / "chalice_app" / "ui").rglob("*") if path.is_file()]
    for path in [*infra, ROOT / "taskfleet" / "py.typed", *machine, *page]:
        assert installed.wheel.read(str(path.relative_to(ROOT))) == path.read_bytes()


def test_the_licence_is_in_the_wheel_and_its_metadata(installed: Installed) -> None:
    (info,) = {name.split("/")[0] for name in installed.names if ".dist-info/" in name}
    licence = installed.wheel.read(f"{info}/licenses/LICENSE").decode()
    assert licence == (ROOT / "LICENSE").read_text()
    told = installed.wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in told
    assert "Author: The Taskfleet authors\n" in told


# --- what works -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("taskfleet",), ("python", "-m", "taskfleet")])
def test_the_command_line_works(installed: Installed, command: tuple[str, ...]) -> None:
    assert "Usage: taskfleet" in installed.run(*command, "--help")
    version = installed.run(*command, "--version")
    assert version.split()[-1] == metadata.version("taskfleet")


def test_the_public_names_can_be_imported(installed: Installed) -> None:
    told = installed.run(
        "python",
        "-c",
        "import taskfleet\n"
        "from taskfleet import Client, PermanentError, RetryPolicy, TaskKind, task_kind\n"
        "kind = task_kind('double')(lambda params, context: 2 * params)\n"
        "print(kind.name, Client('http://127.0.0.1:1', 'token') is not None, taskfleet.__file__)",
    )
    name, client, where = told.split()
    assert (name, client) == ("double", "True")
    assert Path(where).is_relative_to(installed.bin.parent)


def test_every_module_of_the_library_and_the_worker_can_be_imported(installed: Installed) -> None:
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(installed.names)
        if name.startswith(("taskfleet/", "ec2_worker/"))
        and name.endswith(".py")
        and not name.endswith("__main__.py")
        and name not in OPTIONAL
    ]
    assert len(modules) > 40
    installed.run(
        "python", "-c", f"import importlib\nfor n in {modules!r}: importlib.import_module(n)"
    )


def test_the_local_worker_runs_a_file(installed: Installed) -> None:
    (installed.folder / "tasks.txt").write_text("sleep 1\nsleep 2\n")
    installed.run(
        *("python", "-m", "ec2_worker.run", "--local", "tasks.txt", "--results", "out.jsonl")
    )
    assert (installed.folder / "out.jsonl").read_text().count('"SUCCEEDED"') == 2


# --- what is declared -----------------------------------------------------------------------


def imported(path: Path) -> Iterator[str]:
    """The top-level names that a module imports when it runs, those for type checkers aside."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ["taskfleet", "ec2_worker"])
def test_every_library_that_is_imported_is_declared(package: str) -> None:
    extras = PROJECT["optional-dependencies"]
    homes = metadata.packages_distributions()
    for path in sorted((ROOT / package).rglob("*.py")):
        extra = extras.get(OPTIONAL.get(str(path.relative_to(ROOT)), ""), [])
        texts = [*PROJECT["dependencies"], *extra]
        declared = {canonicalize_name(Requirement(text).name) for text in texts}
        for name in set(imported(path)) - sys.stdlib_module_names - set(PACKAGES) - FOREIGN:
            found = {canonicalize_name(home) for home in homes.get(name, [])}
            assert found & declared, f"{path.relative_to(ROOT)} imports {name}: not declared"
