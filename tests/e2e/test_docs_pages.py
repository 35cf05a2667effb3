"""The tutorial, the guides and the how-to pages do what they say: their files are written into a
folder like a checkout, and their blocks of shell and of Python run there in order, on a local cloud
that knows the kind of the tutorial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cloud, clean_environ
from tests.support import pages
from tests.support.pages import DOCS, ROOT

pytestmark = pytest.mark.e2e

KIND = "3-own-kind.md"
RUN = {
    "batches.md": 5,
    "movies.md": 1,
    "tutorial/1-first-batch.md": 5,
    "tutorial/2-first-function.md": 4,
    "tutorial/3-own-kind.md": 3,
    "howto/collect-results-elsewhere.md": 3,
    "howto/run-any-program.md": 2,
    "howto/redrive-dead-letters.md": 2,
    "howto/retry-failed-tasks.md": 1,
    "howto/ask-for-a-quote.md": 3,
    "howto/give-a-reader-token.md": 1,
    "howto/run-batches-in-order.md": 3,
    "howto/schedule-a-batch.md": 3,
}
"""The pages whose blocks run, and how many of them at least."""
ELSEWHERE = {
    "taskfleet token --stage dev --client-id ann --role reader --ttl 30d": (
        "tests/functional/test_token_of_a_stage.py"
    ),
    "make demo": "tests/e2e/test_demo.py",
    "make up": "tests/e2e/test_localcloud.py",
    'make up ARGS="--kinds shouts"': "tests/e2e/test_localcloud.py",
}
"""Commands that are tried elsewhere."""
HERE = {". .venv/bin/activate"}
"""Lines of the reader's shell, whose effect the test gives by other means."""
PRINTED = {
    "batches.md": ["20 succeeded"],
    "movies.md": [".mp4"],
    "tutorial/2-first-function.md": [
        "  9592 primes below   100,000",
        "78498 primes below 1,000,000",
        "counted below 100000",
        "3 three is not allowed",
        "5 its process died: exit status 1",
        "7 timed out after 2 s",
        "332833500\n332833500\n",
    ],
    "tutorial/3-own-kind.md": ["HELLO!", "refused, with exit code 2"],
    "howto/collect-results-elsewhere.md": ["SUCCEEDED"],
    "howto/run-any-program.md": ["1000 in/1.txt", "2 in.txt"],
    "howto/run-batches-in-order.md": ["the report was cancelled", "DONE"],
    "howto/retry-failed-tasks.md": ["some failed", "exit status 3", "exit code 1"],
    "howto/ask-for-a-quote.md": [
        "100 tasks: ",
        "as the kind says",
        "in nine of ten cases",
        "p90 s",
    ],
    "howto/schedule-a-batch.md": ["every 15m", "0 3 * * *", '"name":"weekly"'],
    "howto/give-a-reader-token.md": ['{"batches":', "refused, with exit code 2", "/#token="],
}
"""What the blocks of a page print, among more."""


@pytest.fixture(scope="module")
def checkout(
    start_cloud: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder like a checkout in which a local cloud runs that knows the tutorial's kind, and the
    environment of a shell there that has read `.local/env`."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("animoto", "examples", "ec2_worker"):
        (folder / name).symlink_to(ROOT / name)
    for name, text in pages.files((DOCS / "tutorial" / KIND).read_text()).items():
        (folder / name).write_text(text)
    cloud: Cloud = start_cloud(
        folder / ".local", "--kinds", "shouts", cwd=folder, PYTHONPATH=f"{ROOT}:{folder}"
    )
    path = f"{Path(sys.executable).parent}:{clean_environ()['PATH']}"
    environ = {**clean_environ(), "PYTHONPATH": str(ROOT), "PATH": path}
    return folder, environ | cloud.environ


def runnable(block: pages.Block, page: str) -> list[str] | None:
    """Returns the command that runs a block, or None if it is tried elsewhere or is a file."""
    if block.language == "python":
        return None if block.text in pages.files(page).values() else [sys.executable, "-c"]
    lines = [line for line in block.text.splitlines() if line not in HERE]
    if not lines or set(lines) <= set(ELSEWHERE):
        return None
    return ["bash", "-euo", "pipefail", "-c"]


@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run(name: str, checkout: tuple[Path, dict[str, str]]) -> None:
    folder, environ = checkout
    page = (DOCS / name).read_text()
    for file, text in pages.files(page).items():
        (folder / file).write_text(text)
    count, printed = 0, ""
    for block in pages.blocks(page, "sh", "python"):
        command = runnable(block, page)
        if command is None:
            continue
        text = "\n".join(line for line in block.text.splitlines() if line not in HERE)
        ended = subprocess.run(
            [*command, text],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, f"line {block.line}: {ended.stdout}{ended.stderr}"
        assert '"Code"' not in ended.stdout, f"line {block.line}: {ended.stdout}"
        printed += ended.stdout
        count += 1
    assert count >= RUN[name]
    for part in PRINTED.get(name, []):
        assert part in printed


def test_what_is_tried_elsewhere_is() -> None:
    for where in ELSEWHERE.values():
        assert (ROOT / where).exists()
