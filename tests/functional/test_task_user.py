"""Tasks run as another user than their worker: what that user cannot do, that everything else works
as ever, and what a worker says that may not start such processes. Needs root, as the worker's
capabilities do."""

from __future__ import annotations

import ctypes.util
import os
import pwd
import shutil
import signal
import subprocess
import sys

import pytest

from ec2_worker.runner import taskuser
from taskfleet.clock import SystemClock
from taskfleet.errors import SettingsError
from taskfleet.procfs import tree
from taskfleet.registry import Registry
from tests.functional.test_runner import alive
from tests.support import otheruser, remote
from tests.support.otheruser import PATH, ROOT, USER
from tests.support.waiting import eventually
from tests.support.worker import Cloud

REGISTRY = Registry.load(["tests.support.poison"])


@pytest.fixture
def start():
    """Starts workers as root, whose tasks are another user's."""
    started = []

    def start(cloud):
        worker = remote.start(
            remote.serve(cloud),
            len(started),
            otheruser.python(),
            PYTHONPATH=PATH,
            TASKFLEET_TASK_USER=USER,
            AWS_SECRET_ACCESS_KEY="secret",
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.terminate()
        worker.wait(15)


def run(cloud, tasks):
    batch_id = cloud.submit(REGISTRY, tasks)
    return batch_id, lambda: eventually(
        lambda: cloud.collect() and cloud.monitor.batch(batch_id).finished
    )


def test_a_task_cannot_reach_the_worker_nor_its_files(start, tmp_path):
    secret = tmp_path / "credentials.json"
    secret.write_text("{}")
    secret.chmod(0o600)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)  # the file's own permissions are to refuse it
    tmp_path.chmod(0o755)
    cloud = Cloud(clock=SystemClock())
    batch_id, finish = run(cloud, [{"kind": "spies", "params": str(secret)}])
    worker = start(cloud)
    finish()
    (row,) = cloud.rows(REGISTRY, batch_id)
    assert row.error is None
    seen = row.result
    user = pwd.getpwnam(USER)
    folder = seen.pop("folder")
    assert folder[:2] == [user.pw_uid, "0o700"]
    assert seen.pop("ids") == [[user.pw_uid] * 3, [user.pw_gid] * 3, []]
    assert seen.pop("rights") == ["", "", ""]
    assert seen.pop("no_new_privs") == "1"
    assert seen.pop("secrets") == ["TASKFLEET_CACHE_DIR"]
    assert seen.pop("kept") is None  # and no error: what tasks keep for later ones has a folder
    assert set(seen.values()) == {"PermissionError"}, seen
    assert cloud.store.get("mine") == b"mine"
    (log,) = [each.log for each in cloud.monitor.bundles([f"{batch_id}:0"])[0].results]
    assert cloud.store.get(log[0]) == b"/dev/stdout\n/dev/stderr\n"
    assert worker.poll() is None
    worker.terminate()
    worker.wait(15)
    eventually(lambda: not os.path.exists(folder[2]), 5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_the_worker_ends(start, number):
    cloud = Cloud(clock=SystemClock())
    run(cloud, ["again stray", "again deaf", "slow_poison bomb", "holds"])
    worker = start(cloud)
    below = eventually(lambda: len(found := list(tree(worker.pid))[1:]) > 8 and found)
    nobody = pwd.getpwnam(USER).pw_uid
    assert {os.stat(f"/proc/{pid}").st_uid for pid in below if alive(pid)} <= {nobody, 0}
    worker.send_signal(number)
    worker.wait(15)
    eventually(lambda: not any(map(alive, below)), 8)


def test_time_outs_limits_crashes_and_output_are_as_with_one_user():
    """The tests of runners, with processes of the other user."""
    done = subprocess.run(
        [
            otheruser.python(),
            *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n0"),
            "tests/functional/test_runner.py",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PATH, "TEST_TASK_USER": USER},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


UNIT = ROOT / "infra" / "machine" / "taskfleet-worker.service"
RIGHTS = "+setuid,+setgid,+kill"
TOOLS = ("unshare", "setpriv", "systemd-analyze")


@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)) or not ctypes.util.find_library("seccomp"),
    reason=f"needs {', '.join(TOOLS)} and libseccomp",
)
def test_it_works_with_what_the_unit_allows():
    """A worker that is not root and has the capabilities, the calls and the view of `/proc` that
    systemd gives it."""
    python = otheruser.python()
    worker = [
        *("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={RIGHTS}", f"--ambient-caps={RIGHTS}", f"--bounding-set=-all,{RIGHTS}"),
        *(python, "-m", "tests.support.seccomp", str(UNIT)),
        *(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n0"),
        "tests/functional/test_runner.py",
        "-k=over_its_memory or a_thousand or stopped_bundle or grew or store_works or Output",
    ]
    mount = "mount -t proc -o hidepid=invisible proc /proc"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *worker],
        cwd=ROOT,
        env={
            **{"PATH": os.environ["PATH"], "PYTHONPATH": PATH, "TEST_TASK_USER": USER},
            **{"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp"},
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


# --- what a worker says at its start ------------------------------------------------------------


def said(user, *, python=sys.executable, worker_user=None):
    """What a worker says that is to use this user. It exits with 2."""
    done = subprocess.run(
        [python, "ec2_worker/run.py", "--local", "pyproject.toml"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PATH, "TASKFLEET_TASK_USER": user},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **({} if worker_user is None else {"user": worker_user, "extra_groups": []}),
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_a_user_that_does_not_exist_is_named_at_the_start():
    line = said("no-such-user")
    assert line == "run.py: TASKFLEET_TASK_USER=no-such-user: this machine has no such user"


def test_root_is_no_user_for_tasks():
    assert "tasks must not run as root" in said("root")


def test_a_worker_without_the_right_says_what_it_lacks():
    line = said("daemon", python=otheruser.python(), worker_user=USER)
    assert "the worker lacks CAP_KILL, CAP_SETGID, CAP_SETUID" in line
    line = said(USER, python=otheruser.python(), worker_user=USER)
    assert "that is the worker's own user" in line


def test_a_user_that_cannot_read_the_code_is_named_at_the_start(tmp_path, monkeypatch):
    otheruser.python()
    tmp_path.chmod(0o700)
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SettingsError, match=f"^TASKFLEET_TASK_USER={USER}: that user cannot run"):
        taskuser.check(USER)


def test_no_user_means_the_workers_own():
    assert taskuser.find("") is None
    taskuser.check("")
