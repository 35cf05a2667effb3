"""The program that makes calls in the interpreter of an environment: it takes functions and calls
from its runner's pipe and answers how they ended. Run as a script, by path. Owns the process; the
call itself is `taskfleet.kinds.call`, the other end of the pipe `taskfleet.kinds.interpreter`.

The environment has what the user required and nothing else. The packages that this program needs
itself, cloudpickle and this one, are loaded from the worker's folders by name, so that nothing else
of those folders can be imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import sys
from functools import partial
from typing import Any

_PR_SET_PDEATHSIG = 1


def borrow(name: str, folder: str) -> None:
    """Load a package of the worker from its folder. Its modules can be imported then."""
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package {name} in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its runner ends, as all processes of a runner are."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def serve(pipe: Any) -> None:
    """Make calls until the runner closes the pipe."""
    from taskfleet.errors import PermanentError, TaskFailed
    from taskfleet.kinds.call import function_of, perform

    functions: dict[str, Any] = {}
    pipe.send({"ready": True})
    while True:
        try:
            asked, body, stored = pipe.receive()
        except EOFError:
            return
        params, data = asked["params"], b""
        os.chdir(asked["cwd"])
        try:
            function = functions.get(params["sha256"])
            if function is None:
                function = function_of(body, params["function"])
                functions[params["sha256"]] = function
            result, kept = perform(function, params, partial(_given, stored), asked["prefix"])
            answer, data = {"result": result, "stored": kept is not None}, kept or b""
        except TaskFailed as error:
            answer = {"failed": str(error), "result": error.result, "traceback": error.traceback}
        except PermanentError as error:
            answer = {"permanent": str(error)}
        for stream in (sys.stdout, sys.stderr):
            # A function may have closed or replaced them.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        pipe.send(answer, data)


def _given(stored: bytes, _content: str) -> bytes:
    return stored


def main(fd: str, secret: str, parent: str, *packages: str) -> None:
    """Be the interpreter of an environment on the socket `fd`. `packages` are the names and folders
    of what to borrow."""
    die_with_parent(int(parent))
    for name, folder in zip(packages[::2], packages[1::2], strict=True):
        borrow(name, folder)
    from taskfleet.kinds.frames import Pipe

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    serve(Pipe(socket.socket(fileno=int(fd)), int(secret)))


if __name__ == "__main__":
    main(*sys.argv[1:])
