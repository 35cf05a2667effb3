"""The scripts in `examples/commands` do what they say, on a local cloud."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "commands"


@pytest.fixture
def run(cloud, tmp_path):
    """Runs an example on files in a folder of its own; returns what it printed."""

    def run_example(name, *files):
        environ = cloud.child_environ
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        ended = subprocess.run(
            ["sh", str(EXAMPLES / name), *files],
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run_example


def test_every_example_is_run_here():
    tried = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if f'run("{path.name}"' not in tried] == []


def test_checksums(run, tmp_path):
    names = [f"{number} of 30.bin" for number in range(30)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 1000)
    assert run("checksums.sh", *names).splitlines() == [
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}" for name in names
    ]


def test_columns(run, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text(f"name,value\na,{number}\nb,10\n")
    shown = run("columns.sh", *(f"{number}.csv" for number in range(5)))
    assert shown == "10\n11\n12\n13\n14\n"


def test_compress(run, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name * 1000)
    run("compress.sh", "a.txt", "b.txt")
    assert gzip.decompress((tmp_path / "compressed" / "a.txt.gz").read_bytes()) == b"a.txt" * 1000
    assert len(list((tmp_path / "compressed").iterdir())) == 2


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_transcode(run, tmp_path):
    made = "ffmpeg -loglevel error -f lavfi -i testsrc=size=320x240:duration=1 film.mkv"
    subprocess.run(made.split(), cwd=tmp_path, check=True)
    run("transcode.sh", "film.mkv")
    film = tmp_path / "films" / "film.small.mp4"
    shown = subprocess.run(
        ["ffmpeg", "-hide_banner", "-i", str(film)], capture_output=True, text=True, check=False
    ).stderr
    assert "160x120" in shown
