"""Environments: the Python packages that functions require, installed once for each list of
requirements on a machine and kept. Owns their folder, its locks, and its size; not how one is built
(`taskfleet.kinds.uv`) nor the processes in it (`taskfleet.kinds.interpreter`).

The folder belongs to the user that runs tasks, and all processes of that user on the machine share
it:

    <key>/          an environment; it may be used once it has the file `taskfleet-ready`
    <key>.lock      locked shared by who uses the environment, alone by who builds or deletes it
    <key>.failed    why it could not be built, and when
    uv/, uv.lock    what uv keeps; locked shared by those who build

Locks are those of flock(2), which end with their process. So whatever a killed process leaves is
either unlocked and not ready, and is deleted by the next one, or complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskfleet.errors import PermanentError
from taskfleet.kinds import uv
from taskfleet.registry import TaskContext

FAILED_S = 60.0
"""Seconds for which a build that failed is not tried again."""
WAIT_S = 0.1
"""Seconds between two looks whether another process has built an environment."""
READY = "taskfleet-ready"
"""The file that a complete environment has. It holds the environment's size in bytes, and its time
is that of the last use."""
Build = Callable[[Path, Sequence[str], Path, TaskContext], None]


@dataclass
class Environment:
    """An environment in use: nobody deletes it before `close`."""

    folder: Path
    lock: int

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    def environ(self) -> dict[str, str]:
        """Returns the variables for processes in the environment: those of this process, with the
        environment's programs found first."""
        path = os.environ.get("PATH", os.defpath)
        return {
            **uv.clean_environ(),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{path}",
            "VIRTUAL_ENV": str(self.folder),
        }

    def spoil(self) -> None:
        """Have the environment built again when it is next needed."""
        with contextlib.suppress(OSError):
            (self.folder / READY).unlink()

    def close(self) -> None:
        """End the use."""
        os.close(self.lock)


class Environments:
    """The environments of this machine's user.

    folder: where they are.
    max_bytes: size of all of them together, above which those are deleted that nobody uses and that
        were not used for longest.
    build: makes an environment; see `taskfleet.kinds.uv.build`.
    now: returns the time in epoch seconds.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        build: Build = uv.build,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._build = build
        self._now = now
        self._swept = False

    def use(self, requirements: Sequence[str], context: TaskContext) -> Environment:
        """Returns the environment of these requirements, in use. Builds it if it is not there;
        while another process builds it, waits. Raises PermanentError if it cannot be built, and
        TaskStopped as soon as the task must end."""
        own_folder(self._folder)
        if not self._swept:
            self._swept = True
            self.sweep()
        key = key_of(requirements)
        told = False
        while True:
            found = self._ready(key)
            if found is not None:
                return found
            self._raise_failure(key)
            if not told:
                told = True
                shown = _shown(requirements)
                print(f"taskfleet: an environment is built for {shown}", file=sys.stderr)
            with self._locked(f"{key}.lock", fcntl.LOCK_EX) as locked:
                if locked is not None and not (self._folder / key / READY).exists():
                    self._raise_failure(key)  # of a build that ended since
                    self._make(key, requirements, context)
            if locked is None:
                context.sleep(WAIT_S)

    def sweep(self) -> None:
        """Delete what killed processes left half-built. Never raises."""
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.is_dir() and path.name != "uv" and not (path / READY).exists():
                    with self._locked(f"{path.name}.lock", fcntl.LOCK_EX) as locked:
                        if locked is not None and not (path / READY).exists():
                            shutil.rmtree(path, ignore_errors=True)

    # --- steps -------------------------------------------------------------------------------

    def _ready(self, key: str) -> Environment | None:
        """The environment, in use, if it is ready."""
        lock = self._lock(f"{key}.lock", fcntl.LOCK_SH)
        if lock is None:
            return None
        ready = self._folder / key / READY
        try:
            os.utime(ready, (self._now(), self._now()))
        except OSError:
            os.close(lock)
            return None
        return Environment(self._folder / key, lock)

    def _make(self, key: str, requirements: Sequence[str], context: TaskContext) -> None:
        folder, failed = self._folder / key, self._folder / f"{key}.failed"
        shutil.rmtree(folder, ignore_errors=True)
        failed.unlink(missing_ok=True)
        try:
            with self._locked("uv.lock", fcntl.LOCK_SH):
                self._build(folder, requirements, self._folder / "uv", context)
            size = size_of(folder)
            self._make_room(size)
            unready = folder / f"{READY}.new"
            unready.write_text(str(size))
            unready.rename(folder / READY)
        except uv.CannotBuild as error:
            failed.write_text(json.dumps({"at": self._now(), "error": str(error)}))
            raise
        except OSError as error:
            raise PermanentError(
                f"the environment cannot be built: {error.strerror}: {error.filename}"
            ) from error
        finally:
            if not (folder / READY).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _raise_failure(self, key: str) -> None:
        try:
            told = json.loads((self._folder / f"{key}.failed").read_text())
            age_s = self._now() - told["at"]
        except (OSError, ValueError, TypeError, KeyError):
            return
        if 0 <= age_s < FAILED_S:
            raise PermanentError(
                f"{told['error']} (tried {age_s:.0f} s ago; the next try is after {FAILED_S:.0f} s)"
            )

    def _make_room(self, size: int) -> None:
        """Delete environments until there is room for one of `size` bytes more."""
        kept: dict[Path, tuple[float, int]] = {}
        for ready in self._folder.glob(f"*/{READY}"):
            with contextlib.suppress(OSError, ValueError):
                kept[ready] = ready.stat().st_mtime, int(ready.read_text())
        downloads = self._folder / "uv"
        excess = size + sum(each for _, each in kept.values()) - self._max_bytes
        excess += size_of(downloads, most_links=1)
        if excess <= 0:
            return
        with self._locked("uv.lock", fcntl.LOCK_EX) as locked:
            if locked is not None:
                excess -= size_of(downloads, most_links=1)
                shutil.rmtree(downloads, ignore_errors=True)
        for ready in sorted(kept, key=lambda each: kept[each][0]):
            if excess <= 0:
                return
            folder = ready.parent
            with self._locked(f"{folder.name}.lock", fcntl.LOCK_EX) as locked:
                if locked is not None:
                    ready.unlink(missing_ok=True)
                    shutil.rmtree(folder, ignore_errors=True)
                    excess -= kept[ready][1]

    # --- locks -------------------------------------------------------------------------------

    def _lock(self, name: str, how: int) -> int | None:
        """The descriptor of a lock, which ends when it is closed; None if others hold it."""
        fd = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    @contextlib.contextmanager
    def _locked(self, name: str, how: int) -> Iterator[int | None]:
        fd = self._lock(name, how)
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)


def key_of(requirements: Sequence[str]) -> str:
    """Returns the name of an environment: a hash of its requirements, whatever their order, and of
    the interpreter that it is for."""
    version = ".".join(map(str, sys.version_info[:3]))
    what = [sorted({each.strip() for each in requirements}), version, sys.base_prefix]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def default_folder() -> Path:
    """Returns the folder of environments where none is set: one for each user."""
    return Path(tempfile.gettempdir()) / f"taskfleet-environments-{os.getuid()}"


def own_folder(folder: Path) -> None:
    """Make the folder if it is not there. Raises PermanentError if it is not this user's alone:
    programs in it are run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise PermanentError(
            f"no folder for environments: {folder}: {error.strerror}; set TASKFLEET_CACHE_DIR"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermanentError(
            f"{folder} is not a folder of this user alone; set TASKFLEET_CACHE_DIR to one that is"
        )


def size_of(folder: Path, most_links: int | None = None) -> int:
    """Returns the bytes on the disk below a folder. With `most_links`, files with more links are
    left out: they take room elsewhere, too."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(parent, name))
                if most_links is None or found.st_nlink <= most_links:
                    total += found.st_blocks * 512
    return total


def _shown(requirements: Sequence[str]) -> str:
    text = ", ".join(requirements)
    return text if len(text) <= 200 else text[:199] + "…"
