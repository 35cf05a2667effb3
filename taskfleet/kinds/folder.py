"""The folder of one command: new and empty, deleted afterwards whatever is in it, and deleted by
others when its process died before. Owns making, measuring and deleting it; not the files that
belong to the task (`taskfleet.kinds.files`).

What is in the folder was made by strangers: it may be nested a hundred thousand folders deep, or
have folders without permissions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from taskfleet.errors import TransientError

PARENT = "taskfleet-commands"
"""Beginning of the name of the folder that all tasks of a user have their folders in."""
PREFIX = "task-"
"""Beginning of the folders' names."""
_NEW_PREFIX = "new-"
"""Beginning of the name of a folder that its process has not locked yet."""
_YOUNG_S = 60.0
"""Age in seconds below which a folder under such a name is spared: its process may be about to lock
it."""
DEPTH_MAX = 100
"""Most folders that a file's folder may lie in."""
ENTRIES_MAX = 500_000
"""Most files and folders of a task."""


class Overfull(Exception):
    """The folder has more in it than a task may have. The message says of what."""


@dataclass(frozen=True)
class Folder:
    """A task's folder.

    path: the whole, which is deleted at the end.
    work: where the command starts; empty at first.
    tmp: where it keeps temporary files.
    """

    path: str

    @property
    def work(self) -> str:
        return os.path.join(self.path, "work")

    @property
    def tmp(self) -> str:
        return os.path.join(self.path, "tmp")


def parent() -> str:
    """Returns the folder that this user's tasks have their folders in, within the system's folder
    for temporary files. Raises TransientError if there is none, or if another user made it."""
    path = os.path.join(tempfile.gettempdir(), f"{PARENT}-{os.getuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, stat.S_IRWXU)
        status = os.lstat(path)
    except OSError as error:
        raise TransientError(f"no folder for commands: {error.strerror}") from error
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise TransientError(f"{path} is not this user's own folder; delete it")
    return path


@contextlib.contextmanager
def new() -> Iterator[Folder]:
    """Context with a new folder, which is deleted afterwards. While this process lives, the folder
    is locked. Its name cannot be guessed. Raises TransientError when there is no room for one."""
    above = parent()
    name = secrets.token_hex(16)
    try:
        fresh = os.path.join(above, _NEW_PREFIX + name)
        os.mkdir(fresh, stat.S_IRWXU)
        lock = _locked(fresh)
        folder = Folder(os.path.join(above, PREFIX + name))
        os.rename(fresh, folder.path)  # from now on others may look whether its process lives
        os.mkdir(folder.work)
        os.mkdir(folder.tmp)
    except OSError as error:
        raise TransientError(f"no folder for the command: {error.strerror}") from error
    try:
        yield folder
    finally:
        remove(folder.path)
        os.close(lock)


def _locked(path: str) -> int:
    """Returns a descriptor of the folder that holds a lock on it. Raises BlockingIOError when
    another process holds it. No command inherits the descriptor."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


def remove_leftovers() -> list[str]:
    """Delete this user's folders whose process is dead. Returns their paths."""
    removed: list[str] = []
    with contextlib.suppress(OSError), os.scandir(parent()) as entries:
        for entry in entries:
            if entry.name.startswith((PREFIX, _NEW_PREFIX)):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid() and _dead(entry):
                        remove(entry.path)
                        removed.append(entry.path)
    return removed


def _dead(entry: os.DirEntry[str]) -> bool:
    """Returns whether no living process owns the folder."""
    _open_up(entry.path)  # a command may have closed it
    try:
        os.close(_locked(entry.path))
    except BlockingIOError:
        return False
    if entry.name.startswith(PREFIX):
        return True
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _YOUNG_S


# --- deleting ---------------------------------------------------------------------------------


def remove(path: str) -> None:
    """Delete a folder with all that is in it, as far as the system lets this user. Folders within
    folders are moved up first, so that no path becomes long and nothing recurses."""
    with contextlib.suppress(OSError):
        number = 0
        _open_up(path)
        while inner := _files_deleted(path):
            for folder in inner:
                _open_up(folder)
                for deeper in _files_deleted(folder):
                    _open_up(deeper)
                    number += 1
                    os.rename(deeper, os.path.join(path, f"{_NEW_PREFIX}{os.getpid()}-{number}"))
                os.rmdir(folder)
        os.rmdir(path)


def _files_deleted(path: str) -> list[str]:
    """Delete the files in a folder. Returns the folders in it."""
    folders = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.unlink(entry.path)
    return folders


def _open_up(path: str) -> None:
    """Give this user all permissions for a folder, without which nothing in it can be deleted."""
    mode = os.stat(path, follow_symlinks=False).st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(path, stat.S_IRWXU)


# --- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A file or a symbolic link in a folder.

    name: its path in the folder.
    path: its path.
    status: as lstat tells it.
    """

    name: str
    path: str
    status: os.stat_result


def files(path: str) -> Iterator[Found]:
    """Yields what is in a folder and is no folder, in any order, following no symbolic link. What
    vanishes meanwhile, or cannot be read, is left out. Raises Overfull."""
    todo = [("", 0)]
    seen = 0
    while todo:
        folder, depth = todo.pop()
        if depth > DEPTH_MAX:
            raise Overfull(f"its folders are nested more than {DEPTH_MAX} deep")
        with contextlib.suppress(OSError), os.scandir(os.path.join(path, folder)) as entries:
            for entry in entries:
                seen += 1
                if seen > ENTRIES_MAX:
                    raise Overfull(f"it made more than {ENTRIES_MAX:,} files")
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    todo.append((name, depth + 1))
                    continue
                with contextlib.suppress(OSError):
                    yield Found(name, entry.path, entry.stat(follow_symlinks=False))


def used_bytes(path: str) -> int:
    """Returns the bytes that a folder's files take on the disk. Raises Overfull."""
    return sum(found.status.st_blocks for found in files(path)) * 512
