"""The configuration of Sphinx, which builds the documentation: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.ext import figures  # noqa: E402
from taskfleet import __version__  # noqa: E402

project = "Taskfleet"
author = "The Taskfleet authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.ext.pages",
]
exclude_patterns = ["_build", "__pycache__"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "substitution", "attrs_inline"]
myst_heading_anchors = 4
myst_substitutions = figures.measured()

smartquotes = False  # would make dashes of the hyphens of options
highlight_language = "none"
nitpicky = True
# Names of the standard library and of other packages: their documentation is elsewhere, and the
# build asks for nothing from the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!taskfleet\b).*")]
nitpick_ignore = [
    ("py:class", "taskfleet.ports.Clock"),
    ("py:class", "taskfleet.executor.future.Keeper"),
    ("py:class", "taskfleet.executor.executor.T"),
]  # parts of signatures that users have no use for
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Taskfleet"
html_favicon = str(ROOT / "chalice_app" / "ui" / "icon.svg")
html_static_path = ["_static"]
html_css_files = ["taskfleet.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # would fetch pages, which a browser refuses for files
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
