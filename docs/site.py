"""Builds the documentation as a site of static pages in `docs/_build/html`: `make docs`.

Nothing is loaded from the network, neither for the build nor by the pages. Any warning of Sphinx
fails the build: a link without a target, a page that no other names, a docstring that is malformed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SITE = DOCS / "_build" / "html"


def build(site: Path = SITE, source: Path = DOCS) -> tuple[int, str]:
    """Build the pages of a folder into the folder `site`. Returns Sphinx's exit code, 0 for
    success, and what it said: its warnings and errors."""
    # Afresh each time: Sphinx does not see when the code changed that parts of pages are made from.
    command = [sys.executable, "-m", "sphinx", "--fresh-env", "--quiet", "--fail-on-warning"]
    folders = ["--doctree-dir", str(site.parent / "doctrees"), str(source), str(site)]
    found = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(DOCS.parent), *([found] if found else [])])
    done = subprocess.run(
        [*command, "--no-color", *folders],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    """Build the site and say where it is. Returns the exit code."""
    code, said = build()
    print(said, end="", file=sys.stderr)
    if code == 0:
        print(f"built {(SITE / 'index.html').relative_to(DOCS.parent)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
