"""The programs in `examples/functions` print what they should, on a local cloud and without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import clean_environ
from tests.support.wheels import wheel

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "functions"
TABULATE = "def tabulate(rows, headers):\n    return f'table of {rows}, {headers}'\n"
PRINTED = {
    "csv_totals": r"north +249355\nsouth +243205\n",
    "failures": (
        r"0 0\n1 1\n2 4\n3 failed: three is not allowed\n4 16\n"
        r"5 failed: its process died: exit status 1\n6 36\n7 failed: timed out after 2 s\n"
        r"8 64\n9 81\n"
    ),
    "first": r"the longest way below 101 has 118 steps\n",
    "frames": r"wave\.gif: 12 frames of 320 x 240\n",
    "gather": r"H\(500\) is about 6\.792823\n",
    "grid_search": r"best: \{'C': [\d.]+, 'gamma': [\d.]+\}, score 0\.9[78]\d\n",
    "minimize": r"lowest: 0\.000 at 0\.000, 0\.000\n",
    "monte_carlo": r"pi is about 3\.14[12]\n",
    "own_packages": (
        r"table of \[\['fruit', 'kg'\], \['apples', '3'\], \['pears', '5'\]\], firstrow\n"
    ),
    "similar": r"monday and wednesday are 92% alike\n",
    "thumbnails": r"astronaut\.jpg: \d{4} bytes\nchelsea\.jpg: \d{4} bytes\n"
    r"coffee\.jpg: \d{4} bytes\n",
    "words": r"\[\('the', 60\), \('quick', 20\), \('brown', 20\)\]\n",
}
"""Patterns of what the examples print."""
QUICK = ["first", "gather", "monte_carlo", "own_packages", "similar", "thumbnails", "words"]
"""Those that are tried with `--local` as well. The others wait, or import much in every runner."""


@pytest.fixture(scope="module")
def uv_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which uv finds a stand-in for the package of `own_packages` and
    asks no index."""
    shelf = tmp_path_factory.mktemp("shelf")
    wheel(shelf, "tabulate", "0.9.0", TABULATE)
    return {
        "UV_FIND_LINKS": str(shelf),
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
        "TASKFLEET_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
    }


@pytest.fixture(scope="module")
def example_cloud(
    start_cloud: Any, tmp_path_factory: pytest.TempPathFactory, uv_environ: dict[str, str]
) -> Any:
    # One thread, since each runner imports scikit-learn, pandas and matplotlib by itself.
    return start_cloud(
        tmp_path_factory.mktemp("cloud"), "--workers", "1", "--threads", "1", **uv_environ
    )


def printed(name: str, *options: str, cwd: Path, environ: dict[str, str]) -> str:
    """Run an example in a folder; returns what it printed. It must say nothing else."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *options],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_every_example_is_run_here_and_named_in_the_documentation():
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert names == sorted(PRINTED)
    page = (ROOT / "docs" / "executor.md").read_text()
    assert [name for name in names if f"`{name}.py`" not in page] == []


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_on_a_cloud(name, example_cloud, tmp_path):
    shown = printed(name, cwd=tmp_path, environ=example_cloud.child_environ)
    assert re.fullmatch(PRINTED[name], shown)
    if name == "frames":
        with Image.open(tmp_path / "wave.gif") as film:
            assert (film.size, film.n_frames) == ((320, 240), 12)


@pytest.mark.parametrize("name", QUICK)
def test_without_a_cloud(name, uv_environ, tmp_path):
    environ = {k: v for k, v in clean_environ().items() if not k.startswith("UV_")}
    shown = printed(name, "--local", cwd=tmp_path, environ={**environ, **uv_environ})
    assert re.fullmatch(PRINTED[name], shown)
    assert os.listdir(tmp_path) == []
