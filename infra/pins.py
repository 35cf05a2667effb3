"""Writes the exact versions of the libraries that workers and functions get: `requirements.txt`,
which Chalice installs for the functions, whoever runs it, and `infra/constraints.txt`, by which the
worker's software is built and which has the functions' libraries, too. The versions are those
installed beside this program, which the tests ran with. `make pins` runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.software import CONSTRAINTS, PYTHON, ROOT, requirements

MACHINE = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "extra": "",
}
"""What workers and functions run on, for markers of requirements."""


class NotInstalled(Exception):
    """A library that is needed is not installed. The message names it."""


REQUIREMENTS = ROOT / "requirements.txt"
"""What Chalice installs for the functions. It owns which libraries they get; Chalice adds itself,
and Lambda has boto3."""


def lambda_requirements() -> list[str]:
    """Returns the names of the functions' libraries, from `requirements.txt`, without versions."""
    lines = REQUIREMENTS.read_text().splitlines()
    return [Requirement(line).name for line in lines if line and not line.startswith("#")]


def lines(roots: Sequence[str]) -> list[str]:
    """Returns `<name>==<version>` for the given requirements and for all that they need on
    `MACHINE`, in alphabetical order. Raises NotInstalled."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = (name, frozenset(requirement.extras))
        if asked in seen:
            continue
        seen.add(asked)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            raise NotInstalled(f"{name} is not installed: run make dev, then make pins") from None
        versions[name] = installed.version
        for text in installed.requires or []:
            needed = Requirement(text)
            environments = [{**MACHINE, "extra": extra} for extra in ("", *requirement.extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append(needed)
    return sorted(f"{name}=={version}" for name, version in versions.items())


def main() -> None:
    """Writes both files. Ends the process with a message if a library is missing."""
    try:
        functions = lambda_requirements()
        wanted = {CONSTRAINTS: lines([*requirements(), *functions]), REQUIREMENTS: lines(functions)}
    except NotInstalled as error:
        sys.exit(f"pins: {error}")
    for path, pinned in wanted.items():
        path.write_text("\n".join(pinned) + "\n")
        print(f"{path.relative_to(ROOT)}: {len(pinned)} versions")


if __name__ == "__main__":
    main()
