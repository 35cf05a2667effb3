"""The kind `command` in real runner processes, with a store in memory."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from taskfleet.kinds import confine, folder
from taskfleet.memory import MemoryStore
from taskfleet.task import TaskStatus
from tests.support.slot import CommandSlot
from tests.support.waiting import eventually

F, S, Q = TaskStatus.FAILED, TaskStatus.SUCCEEDED, TaskStatus.QUEUED
UPLOAD = "0123456789abcdefghjkmnpqrs"
CONTENT = "ab" * 32


@pytest.fixture(autouse=True, scope="module")
def tmp(tmp_path_factory):
    """The folders of commands are made where only this test looks."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("tmp")
        patch.setenv("TMPDIR", str(path))
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        patch.setenv("TASKFLEET_TOKEN", "hush")
        patch.setenv("TASKFLEET_TASK_DISK_MB", "50")
        patch.setenv("TASKFLEET_ALLOW_PRIVATE_URLS", "true")
        patch.setattr("tempfile.tempdir", None)
        yield path


@pytest.fixture(scope="module")
def slot(tmp):
    slot = CommandSlot()
    yield slot
    slot.executor.close()


@pytest.fixture
def own_slot(tmp):
    slot = CommandSlot()
    yield slot
    slot.executor.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Runners that do not end are killed after a shorter wait than elsewhere."""
    monkeypatch.setattr("ec2_worker.runner.handle.GRACE_S", 1.5)


def folders(tmp):
    return list((tmp / f"taskfleet-commands-{os.getuid()}").iterdir())


def out(row):
    assert row.status is S, row.error
    return row.result["stdout"]


def stored(slot, name, index=0):
    return slot.store.get(f"outputs/b/{index}/{name}")


# --- success and failure ----------------------------------------------------------------------


def test_a_text_is_for_the_shell(slot):
    row = slot.run("echo $((6 * 7)); echo oops >&2")
    assert row.status is S, row.error
    assert row.result == {"exit_status": 0, "stdout": "42\n", "stderr": "oops\n", "outputs": []}


def test_words_reach_the_program_as_they_are(slot):
    words = ["a b", "$HOME", "; ls", "ü", "", "*"]
    assert out(slot.run({"argv": ["printf", "<%s>", *words]})) == "".join(f"<{w}>" for w in words)


@pytest.mark.parametrize(
    ("params", "error", "exit_status"),
    [
        ("exit 3", "exit status 3", 3),
        ("echo a >&2; echo 'b\tc' >&2; echo >&2; exit 4", "exit status 4: b c", 4),
        ("printf '\\033[31mred\\n' >&2; exit 5", "exit status 5:  [31mred", 5),
        ("kill -SEGV $$", "its process died: SIGSEGV", None),
        ("kill -9 $$", "its process died: SIGKILL", None),
    ],
)
def test_a_failure_says_how_it_ended_and_leaves_a_result(slot, params, error, exit_status):
    row = slot.run(params)
    assert (row.status, row.error, row.attempts) == (F, error, 1)
    assert row.result["exit_status"] == exit_status
    assert row.result["outputs"] == []


def test_a_long_last_line_is_cut(slot):
    row = slot.run("printf 'x%.0s' $(seq 5000) >&2; echo end >&2; exit 1")
    assert len(row.error) < 330
    assert row.error.endswith("xend")
    assert len(row.result["stderr"]) == 5004


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["foo-none", "x"], "no program 'foo-none' on the worker; looked for it on PATH=/"),
        (["./foo"], "no program './foo' on the worker; looked for it in the task's folder"),
        (["/etc/passwd"], "the program '/etc/passwd' cannot be executed: Permission denied"),
    ],
)
def test_a_program_that_is_not_there_is_named(slot, argv, error):
    row = slot.run({"argv": argv})
    assert row.status is F
    assert row.error.startswith(error)


def test_the_shell_tells_what_it_did_not_find(slot):
    row = slot.run("foo-none")
    assert row.error.startswith("exit status 127: ")
    assert "not found" in row.error


def test_a_failing_command_is_run_again_only_if_its_batch_says_so(slot):
    row = slot.run("exit 3", max_attempts=2)
    assert (row.status, row.error) == (Q, "exit status 3")
    assert slot.run("exit 3").status is F


def test_standard_input_is_the_text_given_or_empty(slot):
    assert out(slot.run({"shell": "cat", "stdin": "a\0b\nü"})) == "a\0b\nü"
    assert out(slot.run({"shell": "cat; echo end"})) == "end\n"
    assert out(slot.run({"argv": ["true"], "stdin": "x" * 200_000})) == ""


# --- the environment --------------------------------------------------------------------------


def test_the_environment_is_small_and_has_nothing_of_the_worker(slot):
    shown = out(slot.run({"argv": ["env"], "env": {"MINE": "1", "LANG": "C"}}))
    variables = dict(line.split("=", 1) for line in shown.splitlines())
    home = variables.pop("HOME")
    assert variables.pop("TMPDIR") == home.removesuffix("work") + "tmp"
    assert variables == {
        "PATH": os.environ["PATH"],
        "LANG": "C",
        "MINE": "1",
        "TASKFLEET_TASK_ID": "b/0",
        "TASKFLEET_ATTEMPT": "1",
    }


def test_no_process_above_shows_credentials(slot):
    shown = out(slot.run("cat /proc/$PPID/environ | tr '\\0' '\\n'; true"))
    assert "hush" not in shown


def test_the_kernel_puts_off_the_end_of_its_pauses_by_a_microsecond_at_most(slot):
    row = slot.run({"argv": ["cat", "/proc/self/timerslack_ns"]})
    assert int(row.result["stdout"]) == 1_000


def test_its_folder_is_empty_and_its_own(slot):
    shown = out(slot.run("ls -A; ls -A $TMPDIR; pwd; echo x > here; echo x > $TMPDIR/there"))
    home = shown.strip()
    assert not os.path.exists(home)
    assert out(slot.run("ls -A; ls -A $TMPDIR; pwd")) not in ("", shown)


needs_landlock = pytest.mark.skipif(
    not confine.version() and not os.environ.get("CI"), reason="the kernel has no Landlock"
)


@needs_landlock
def test_it_sees_no_folder_of_another_task(slot):
    shown = out(
        slot.run(
            "cd ..; for d in .. ../.. /; do ls $d >/dev/null 2>&1 && echo lists $d; done; "
            "ls /etc | grep -cx passwd; ls ~ && echo mine; echo x > $TMPDIR/t && ls $TMPDIR"
        )
    )
    assert shown == "1\nmine\nt\n"


@needs_landlock
@pytest.mark.parametrize("of", ["$PPID", "$(awk '/^PPid/ {print $2}' /proc/$PPID/status)"])
def test_it_can_neither_read_nor_end_the_processes_above(slot, of):
    shown = out(
        slot.run(
            f"p={of}; cat /proc/$p/environ >/dev/null 2>&1 && echo environ; "
            "readlink /proc/$p/cwd && echo cwd; "
            "kill -0 $p 2>/dev/null && echo signal; sleep 30 & kill $! && wait; echo end"
        )
    )
    as_root = "environ\n" if os.getuid() == 0 else ""  # CAP_PERFMON
    assert shown == as_root + ("end\n" if confine.version() >= 6 else "signal\nend\n")


@needs_landlock
def test_it_cannot_find_where_another_task_works(slot):
    other = CommandSlot()
    claimed = other.bundle("pwd; sleep 36.5")
    thread = threading.Thread(target=other.run_bundle, args=(claimed,))
    thread.start()
    try:
        (pid, *_) = eventually(lambda: running("36.5"), 20, "the other command")
        assert os.readlink(f"/proc/{pid}/cwd").endswith("/work")
        assert out(slot.run(f"readlink /proc/{pid}/cwd || kill {pid} || echo no")) == "no\n"
    finally:
        claimed.stop()
        thread.join(10)
        other.executor.close()


def test_without_landlock_it_runs_as_well(monkeypatch):
    monkeypatch.setattr("taskfleet.kinds.confine.version", lambda: 0)
    with confine.outside("/tmp", "/tmp") as confined:
        assert confined is None


def test_no_descriptor_of_the_runner_is_open(slot):
    assert out(slot.run("ls /proc/self/fd | wc -w")).strip() == "4"  # ls has its folder open


# --- output -----------------------------------------------------------------------------------


def test_what_it_prints_is_kept_in_the_tasks_output(slot):
    claimed = slot.run_bundle(slot.bundle("echo one; echo two >&2", "echo three"))
    assert claimed.output.read(0, 100) == b"one\ntwo\n"
    assert claimed.output.read(1, 100) == b"three\n"


def test_the_end_of_a_stream_begins_with_a_whole_character(slot):
    row = slot.run("printf 'ü%.0s' $(seq 20000); printf x")
    assert out(row) == "ü" * 8191 + "x"


def peak_kb(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def test_a_hundred_megabytes_are_counted_and_cost_no_memory(own_slot):
    out(own_slot.run("yes | head -c 2000000"))
    runner = own_slot.processes()[1]
    before_kb = peak_kb(runner)
    claimed = own_slot.run_bundle(own_slot.bundle("yes | head -c 100000000"))
    assert out(claimed.results[0]) == "y\n" * 8192
    place = claimed.output.places[0]
    assert (place.length, place.length + place.dropped) == (1_000_000, 100_000_000)
    assert peak_kb(runner) < before_kb + 5_000


# --- the end of processes ---------------------------------------------------------------------


def command_lines():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found[int(name)] = pathlib.Path(f"/proc/{name}/cmdline").read_bytes()
    return found


def running(word):
    return [pid for pid, line in command_lines().items() if word.encode() in line.split(b"\0")]


@pytest.mark.parametrize(
    "shell",
    [
        "sleep {0}",
        "sleep {0} & wait",
        "setsid sleep {0} & sleep 30",
        "(trap '' TERM; sleep {0}; sleep {0}) & trap '' TERM; sleep {0}; sleep {0}",
    ],
    ids=["child", "background", "other session", "deaf"],
)
def test_a_time_out_ends_all_that_the_command_started(own_slot, tmp, shell, request):
    seconds = f"30.0{len(request.node.name)}"
    row = own_slot.run(shell.format(seconds), timeout_s=0.5)
    assert (row.status, row.error) == (F, "timed out after 0.5 s")
    eventually(lambda: not running(seconds), 5, "no process of the command")
    eventually(lambda: not folders(tmp), 5, "no folder of the command")


@pytest.mark.parametrize("shell", ["sleep {0} & echo hi", "setsid sleep {0} & echo hi"])
def test_what_a_command_leaves_in_the_background_ends_with_it(slot, shell):
    seconds = f"31.{len(shell)}"
    begun = time.monotonic()
    assert out(slot.run(shell.format(seconds))) == "hi\n"
    assert time.monotonic() - begun < 3
    assert not running(seconds)


def test_a_command_that_leaves_orphans_does_not_spoil_the_next(slot):
    assert out(slot.run("(setsid sh -c 'sleep 32 & sleep 32' &) ; echo a")) == "a\n"
    assert out(slot.run("echo b")) == "b\n"


def test_draining_ends_the_command_and_charges_nothing(own_slot, tmp):
    claimed = own_slot.bundle("sleep 33.1")
    thread = threading.Thread(target=own_slot.run_bundle, args=(claimed,))
    thread.start()
    eventually(lambda: running("33.1"), 10, "the command")
    claimed.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert 0 not in claimed.results
    assert not running("33.1")
    eventually(lambda: not folders(tmp), 5, "no folder of the command")


def test_a_worker_that_was_killed_leaves_a_folder_that_the_next_one_deletes(tmp):
    script = (
        "from tests.support.slot import CommandSlot\n"
        "CommandSlot().run('mkdir closed; chmod 0 closed; echo started; sleep 34.1')\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=os.getcwd())
    eventually(lambda: running("34.1"), 20, "the command")
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    eventually(lambda: not running("34.1"), 10, "no process of the command")
    assert len(folders(tmp)) == 1
    eventually(lambda: folder.remove_leftovers() or not folders(tmp), 5, "a dead owner")
    assert not folders(tmp)


def test_memory_counts_for_all_that_the_command_started(own_slot, tmp):
    hungry = "x = bytearray(300 << 20); import time; time.sleep(37.5)"
    row = own_slot.run(f"sleep 37.6 & python3 -c '{hungry}'", memory_mb=200)
    assert row.status is F
    assert row.error.startswith("used ")
    assert row.error.endswith(" MB, over its 200 MB")
    eventually(lambda: not running("37.6"), 5, "no process of the command")
    out(own_slot.run("true"))  # the next one deletes the folder
    assert not folders(tmp)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def files(slot):
    slot.store.put(f"uploads/alice/{UPLOAD}", b"mine", content_type="text/plain")
    slot.store.put(f"uploads/alice/{CONTENT}", b"", content_type="text/plain")
    slot.store.put(f"uploads/bob/{'z' * 26}", b"his", content_type="text/plain")


@pytest.mark.usefixtures("files")
def test_inputs_are_in_the_folder_before_it_starts(slot):
    inputs = {"a.txt": f"upload:{UPLOAD}", "in/b c": f"upload:{CONTENT}"}
    shown = out(slot.run({"shell": "cat a.txt; wc -c < 'in/b c'", "inputs": inputs}))
    assert shown == "mine0\n"


def test_an_input_may_be_the_program(slot):
    slot.store.put(f"uploads/alice/{UPLOAD}", b"#!/bin/sh\necho $1", content_type="text/plain")
    params = {"argv": ["./run", "hello"], "inputs": {"run": f"upload:{UPLOAD}"}}
    assert out(slot.run(params)) == "hello\n"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("upload", ["z" * 26, "y" * 26, "cd" * 32])
def test_an_upload_of_another_client_is_as_if_it_were_not_there(slot, upload):
    row = slot.run({"shell": "cat a", "inputs": {"a": f"upload:{upload}"}}, max_attempts=3)
    assert row.status is F
    assert row.error == f"inputs['a']: you have no upload {upload}, or it has expired"


@pytest.fixture
def web(tmp_path):
    """A web server on loopback with the files of a folder; yields the folder and its URL."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_an_input_may_come_from_a_url(slot, web):
    folder, url = web
    (folder / "a").write_bytes(b"from afar")
    assert out(slot.run({"shell": "cat in/a", "inputs": {"in/a": f"{url}/a?key=hush"}})) == (
        "from afar"
    )
    row = slot.run({"shell": "cat b", "inputs": {"b": f"{url}/none?key=hush"}}, max_attempts=3)
    assert (row.status, row.error) == (F, f"inputs['b']: {url}/none answered 404 File not found")


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "0.0.0.0"])
def test_no_input_comes_from_link_local_addresses(slot, host):
    row = slot.run({"shell": "cat a", "inputs": {"a": f"http://{host}/latest"}})
    assert row.status is F
    assert "which is never allowed" in row.error


def test_private_addresses_are_refused_where_the_stage_does_not_allow_them(web, monkeypatch):
    monkeypatch.setenv("TASKFLEET_ALLOW_PRIVATE_URLS", "false")
    slot = CommandSlot()
    try:
        row = slot.run({"shell": "cat a", "inputs": {"a": f"{web[1]}/a"}})
        assert row.status is F
        assert row.error.endswith("is not a public address")
    finally:
        slot.executor.close()


def test_inputs_over_the_disks_bound_are_refused(slot):
    slot.store.put(f"uploads/alice/{UPLOAD}", bytes(60_000_000), content_type="text/plain")
    row = slot.run({"shell": "cat a", "inputs": {"a": f"upload:{UPLOAD}"}})
    assert row.status is F
    assert "is over the 50000000 bytes that are left" in row.error


def test_outputs_are_stored_under_names_that_follow_from_the_task(slot):
    row = slot.run(
        {
            "shell": "mkdir -p d/e; echo 1 >a.csv; echo 22 >d/b.csv; echo 3 >d/e/.c; echo 4 >n",
            "outputs": ["*.csv", "d/**", "d/e/.c"],
        }
    )
    assert row.status is S, row.error
    assert row.result["outputs"] == [
        {"name": "a.csv", "bytes": 2},
        {"name": "d/b.csv", "bytes": 3},
        {"name": "d/e/.c", "bytes": 2},
    ]
    assert row.result["prefix"] == "outputs/b/0/"
    assert stored(slot, "d/b.csv") == b"22\n"
    shown = slot.registry["command"].present(row.result, slot.store)
    assert shown["outputs"][0] == {"name": "a.csv", "bytes": 2, "url": "memory://outputs/b/0/a.csv"}
    assert "prefix" not in shown


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("shell", "outputs", "error"),
    [
        ("true", ["*.csv"], "the output pattern '*.csv' takes no file"),
        ("echo > a.csv", ["*.csv", "b"], "the output pattern 'b' takes no file"),
        ("ln -s /etc/passwd p", ["p"], "the output pattern 'p' takes no file; 'p' is a symbolic"),
        ("ln -s /etc d", ["d/passwd"], "the output pattern 'd/passwd' takes no file"),
        ("mkfifo f", ["*"], "the output pattern '*' takes no file; 'f' is no regular file"),
        ("mkdir d", ["d"], "the output pattern 'd' takes no file"),
        ("true", ["in"], "the output pattern 'in' takes no file; 'in' is an input that was not"),
        ("touch $(seq 1001)", ["*"], "the outputs are 1001 files, over the cap of 1000; pack"),
        ("touch $(printf 'a\\377')", ["a*"], "the name of the output 'a\\udcff' is not text"),
    ],
)
def test_outputs_that_are_none(slot, shell, outputs, error):
    inputs = {"in": f"upload:{UPLOAD}"} if "in" in outputs else {}
    row = slot.run({"shell": shell + "; echo ran", "outputs": outputs, "inputs": inputs})
    assert row.status is F
    assert row.error.startswith(error)
    assert row.result["stdout"] == "ran\n"
    assert row.result["exit_status"] == 0


@pytest.mark.usefixtures("files")
def test_an_input_that_was_changed_is_an_output(slot):
    inputs = {"a": f"upload:{UPLOAD}", "b": f"upload:{CONTENT}"}
    row = slot.run({"shell": "echo more >> a", "inputs": inputs, "outputs": ["?"]})
    assert row.result["outputs"] == [{"name": "a", "bytes": 9}]
    assert stored(slot, "a") == b"minemore\n"


def test_the_longest_result_of_a_thousand_outputs_fits(slot):
    row = slot.run(
        {
            "shell": "d=$(printf 'ü%.0s' $(seq 120)); mkdir -p $d/$d; cd $d/$d; touch $(seq 1000)",
            "outputs": ["**"],
        }
    )
    assert row.status is S, row.error


def test_more_disk_than_a_task_may_use_ends_it(slot, tmp):
    row = slot.run("dd if=/dev/zero of=big bs=1M count=60 2>/dev/null; sleep 35")
    assert row.status is F
    assert row.error.startswith("used 6")
    assert row.error.endswith("MB of disk, over its 50 MB (TASKFLEET_TASK_DISK_MB)")
    assert not folders(tmp)


def test_a_folder_nested_without_end_is_deleted(slot, tmp):
    nest = (
        "import os\n"
        "for i in range(3000):\n"
        "    os.mkdir('d'); os.chdir('d')\n"
        "open('f', 'w').close(); os.chmod('.', 0)\n"
    )
    row = slot.run({"argv": ["python3", "-c", nest]})
    assert row.status is F
    assert row.error == "its folders are nested more than 100 deep"
    assert not folders(tmp)


# --- trouble with the store -------------------------------------------------------------------


class Troubled(MemoryStore):
    """A store whose first calls fail."""

    def __init__(self, failures):
        super().__init__()
        self.failures = failures

    def _maybe_fail(self):
        from taskfleet.errors import TransientError

        if self.failures:
            self.failures -= 1
            raise TransientError("slow down")

    def get_file(self, key, path, *, max_bytes):
        self._maybe_fail()
        return super().get_file(key, path, max_bytes=max_bytes)

    def put_file(self, key, path, *, content_type):
        self._maybe_fail()
        super().put_file(key, path, content_type=content_type)


def test_trouble_of_the_store_is_waited_out_and_is_no_attempt(monkeypatch):
    monkeypatch.setattr("taskfleet.kinds.files.STORE_PAUSE_S", 0.01)
    store = Troubled(0)
    store.put(f"uploads/alice/{UPLOAD}", b"mine", content_type="text/plain")
    slot = CommandSlot(store=store)
    try:
        store.failures = 2
        row = slot.run(
            {"shell": "cat a > b", "inputs": {"a": f"upload:{UPLOAD}"}, "outputs": ["b"]}
        )
        assert (row.status, row.attempts) == (S, 1)
        assert stored(slot, "b") == b"mine"
    finally:
        slot.executor.close()
