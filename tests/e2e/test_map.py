"""`taskfleet map` and the kind `command` on a local cloud, as from a user's shell."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskfleet.client import Client
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ["a; touch hacked", "$(touch hacked)", "-rf", "it's", 'say "hi"', "two  words", "ü\n.txt"]


@pytest.fixture
def run(cloud, tmp_path):
    """Runs `taskfleet map` in a folder of its own."""

    def run_map(*words, code=0, **options):
        ended = subprocess.run(
            [sys.executable, "-m", "taskfleet", "map", *words],
            cwd=tmp_path,
            env={**cloud.child_environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        assert ended.returncode == code, ended.stderr
        return ended

    return run_map


@pytest.fixture
def files(tmp_path):
    """Makes files; returns their names."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"this is {name}")
        return names

    return make


def test_the_output_comes_in_the_order_of_the_files(run, files):
    names = files(*(f"d/{n}.txt" for n in range(20)))
    lines = run("sha256sum", *names).stdout.splitlines()
    assert lines == [
        f"{hashlib.sha256(f'this is {name}'.encode()).hexdigest()}  {name}" for name in names
    ]


def test_whatever_a_file_is_called_it_is_one_word(run, files, tmp_path):
    ended = run(
        "cat {} && cp {} {.}.out", "--outputs", "*.out", "--to", "r", "--", *files(*HOSTILE)
    )
    assert ended.stdout == "".join(f"this is {name}" for name in HOSTILE)
    stems = {Path(name).stem if name.endswith(".txt") else name for name in HOSTILE}
    assert {path.name for path in (tmp_path / "r").iterdir()} == {f"{stem}.out" for stem in stems}


def test_items_may_be_words_from_standard_input(run):
    assert run("echo {}$((1+1))", "--no-files", input="a b\n\nc\n").stdout == "a b2\nc2\n"
    assert run("echo", "--no-files", "x", "y").stdout == "x\ny\n"


def test_a_failure_is_named_and_the_others_are_kept(run, files, tmp_path):
    names = files("good", "bad")
    ended = run(
        "if grep -q bad {}; then echo broken >&2; exit 3; fi; cp {} {}.out",
        *names,
        *("--outputs", "*.out", "--to", "r"),
        code=1,
    )
    assert "task 1, 'bad': failed: exit status 3: broken" in ended.stderr
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["good.out"]


def test_outputs_of_one_name_go_into_folders_of_their_tasks(run, files, tmp_path):
    run("cp {} out; cp {} {}.one", *files("a", "b"), "--outputs", "[!ab]*", "--outputs", "*.one",
        "--to", "r")  # fmt: skip
    found = {str(path.relative_to(tmp_path / "r")): path.read_text()
             for path in (tmp_path / "r").rglob("*") if path.is_file()}  # fmt: skip
    assert found == {
        "0/out": "this is a",
        "1/out": "this is b",
        "a.one": "this is a",
        "b.one": "this is b",
    }


@pytest.mark.skipif(not hasattr(Client, "put"), reason="needs uploads by content")
def test_what_is_there_is_not_replaced_and_nothing_runs_twice_under_a_key(run, files, tmp_path):
    (name,) = files("a")
    words = ("date +%N > {}.out", name, "--outputs", "*.out", "--to", "r", "--key", f"k-{tmp_path}")
    run(*words)
    first = (tmp_path / "r" / "a.out").read_text()
    (tmp_path / "r" / "a.out").write_text("mine")
    ended = run(*words, code=1)
    assert (
        "output 'a.out' is not written: r/a.out exists; add --force to replace it" in ended.stderr
    )
    assert (tmp_path / "r" / "a.out").read_text() == "mine"
    run(*words, "--force")
    assert (tmp_path / "r" / "a.out").read_text() == first


def test_a_file_that_is_there_is_not_replaced(run, files, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "out").write_text("mine")
    words = ("cp {} out", *files("a"), "--outputs", "out", "--to", "r")
    ended = run(*words, code=1)
    assert "output 'out' is not written: r/out exists; add --force to replace it" in ended.stderr
    assert (tmp_path / "r" / "out").read_text() == "mine"
    run(*words, "--force")
    assert (tmp_path / "r" / "out").read_text() == "this is a"
    assert len(list((tmp_path / "r").iterdir())) == 1


def test_nothing_is_written_outside_the_folder(run, files, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r" / "d").symlink_to(tmp_path / "elsewhere")
    ended = run("mkdir d; cp {} d/x", *files("a"), "--outputs", "d/*", "--to", "r", code=1)
    assert "output 'd/x' would be written outside r" in ended.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_json_has_the_rows(run, files):
    rows = [json.loads(line) for line in run("cp {} b", *files("a"), "--outputs", "b",
                                             "--json").stdout.splitlines()]  # fmt: skip
    assert rows[0]["result"]["outputs"][0]["url"].startswith("http")
    assert (rows[0]["status"], rows[0]["result"]["exit_status"]) == ("SUCCEEDED", 0)


def test_a_time_out_and_another_attempt(run, files):
    ended = run("sleep 20; : {}", "x", "--no-files", "--timeout", "1", code=1)
    assert "failed: timed out after 1 s" in ended.stderr
    ended = run(': {}; echo $TASKFLEET_ATTEMPT; [ "$TASKFLEET_ATTEMPT" = 2 ]', "--no-files", "x",
                "--max-attempts", "2")  # fmt: skip
    assert ended.stdout.startswith("2\n")


def test_a_file_for_every_task(run, files, tmp_path):
    (tmp_path / "count.py").write_text("import sys; print(len(open(sys.argv[1]).read()))")
    names = files("a", "bb")
    assert run("python3 count.py {}", *names, "--with", "count.py").stdout == "9\n10\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["echo '{}'", "a"], "{} stands within single quotes"),
        (["echo", "none"], "'none' is no file here; for items that are no files, add --no-files"),
        (["echo", "."], "'.' is a folder"),
        (["echo", "a", "--to", "r"], "--to needs --outputs"),
        (["echo", "a", "--outputs", "../*"], "'a': command: outputs[0]: the pattern '../*' leads"),
        (["echo", "--no-files"], "no FILES, and no items on standard input"),
    ],
)
def test_wrong_usage_is_one_line(run, files, words, fault):
    files("a")
    ended = run(*words, code=2, input="")
    assert fault in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_cancels_what_has_not_started(cloud, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "taskfleet",
            "map",
            "sleep 1.5; : {}",
            "--no-files",
            *map(str, range(60)),
        ],
        cwd=tmp_path,
        env={**cloud.child_environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    batch_id = process.stderr.readline().split()[2].rstrip(":")
    path = f"/batches/{batch_id}"
    eventually(lambda: cloud.api("GET", path).json()["status"] == "RUNNING", 30, "it runs")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "is cancelled; what runs comes to its end" in process.stderr.read()
    process.stderr.close()
    batch = eventually(
        lambda: (found := cloud.api("GET", path).json())["finished_at"] and found, 60, "the end"
    )
    assert batch["cancelled"] > 0
    assert batch["succeeded"] + batch["cancelled"] == 60
