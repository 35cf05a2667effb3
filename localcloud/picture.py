"""A task stream as one HTML file that needs no network and no server: the dashboard's own drawing
(`chalice_app/ui/stream.js`) with its data inside. Owns the joining of the parts; draws nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chalice_app

_UI = Path(chalice_app.__file__).parent / "ui"
_STYLES = ("base.css", "batch.css")
_START = "stream.js"
_IMPORT = re.compile(r"^import \{[^}]*\} from \"(?P<name>[^\"]+)\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function |const |class |let )", re.MULTILINE)
_DRAW = """
const stream = new Stream(document.getElementById("stream"));
for (const page of JSON.parse(document.getElementById("pages").textContent)) stream.add(page);
"""


def write_html(path: Path, title: str, pages: Sequence[Mapping[str, Any]]) -> None:
    """Writes the picture to `path`, over a file that is there.

    title: its heading, any text.
    pages: answers of `GET /batches/{id}/stream`.
    Raises OSError when the file cannot be written.
    """
    style = "".join((_UI / name).read_text(encoding="utf-8") for name in _STYLES)
    script = "".join(_modules(_UI / _START, set())) + _DRAW
    rows = [{key: page[key] for key in ("kinds", "workers", "errors", "rows")} for page in pages]
    # "<" is escaped, so no text among the data can end the element that holds it.
    data = json.dumps(rows, separators=(",", ":")).replace("<", "\\u003c")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    name = html.escape(title)
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
<main class="stream-page">
<h1>{name}</h1>
<div id="stream"></div>
<noscript>This picture is drawn by JavaScript.</noscript>
</main>
<script type="application/json" id="pages">{data}</script>
<script type="module">{script}</script>
</body>
</html>
""",
        encoding="utf-8",
    )


def _modules(path: Path, done: set[Path]) -> list[str]:
    """Returns the text of a JavaScript module after that of the modules that it imports, each once,
    without their imports and exports: together they are one module."""
    if path in done:
        return []
    done.add(path)
    text = path.read_text(encoding="utf-8")
    parts = []
    for found in _IMPORT.finditer(text):
        parts += _modules((path.parent / found["name"]).resolve(), done)
    return [*parts, _EXPORT.sub("", _IMPORT.sub("", text))]


def _hash(text: str) -> str:
    """Returns the text's hash as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
