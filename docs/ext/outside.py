"""The files at the top of the checkout that are pages of the site as well."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
}
"""The files, and their pages below `docs`."""
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)((?:#[^)]*)?)\)")


def included(name: str) -> str:
    """Returns a file's text as a page of the folder `project`, with its links made to fit."""

    def moved(link: re.Match[str]) -> str:
        path, anchor = link[1], link[2]
        if path in PAGES:
            return f"]({Path(PAGES[path]).name}{anchor})"
        if path.startswith("docs/"):
            return f"](../{path.removeprefix('docs/')}{anchor})"
        return f"](../../{path}{anchor})"

    return _LINK.sub(moved, (ROOT / name).read_text(encoding="utf-8"))


def inward(text: str, depth: int) -> str:
    """Returns a page, `depth` folders below `docs`, whose links to such a file lead to its page."""
    up = "../" * depth
    for name, page in PAGES.items():
        text = re.sub(rf"\]\((?:\.\./)+{re.escape(name)}(#[^)]*)?\)", rf"]({up}{page}\1)", text)
    return text
