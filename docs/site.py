"""Builds the documentation as a site of static pages in `docs/_build/html`: `make docs`.

Nothing is loaded from the network, neither for the build nor by the pages. Any warning of Sphinx
fails the build: a link without a target, a page that no other names, a docstring that is malformed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SITE = DOCS / "_build" / "html"


def build(site: Path = SITE) -> int:
    """Build the site into a folder. Returns Sphinx's exit code, 0 for success; warnings and errors
    are on standard error."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning"]
    folders = ["--doctree-dir", str(site.parent / "doctrees"), str(DOCS), str(site)]
    return subprocess.run([*command, *folders], check=False).returncode


def main() -> int:
    """Build the site and say where it is. Returns the exit code."""
    code = build()
    if code == 0:
        print(f"built {(SITE / 'index.html').relative_to(DOCS.parent)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
