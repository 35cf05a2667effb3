"""`FleetExecutor`: the face of `concurrent.futures` on the fleet. Owns what users call; the work is
done by `taskfleet.executor.crew` and what it has.

    with FleetExecutor(name="thumbs") as pool:
        for size in pool.map(render, paths):
            ...
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar, Unpack

from taskfleet.client import Client
from taskfleet.client.client import OUTAGE_S
from taskfleet.client.endpoint import find
from taskfleet.client.notebook import progress_html
from taskfleet.executor.crew import GARBAGE, SHUT_DOWN, Crew
from taskfleet.executor.desk import DeskMaker, HttpDesk
from taskfleet.executor.functions import Functions
from taskfleet.executor.future import FleetFuture
from taskfleet.executor.mapping import results_of
from taskfleet.executor.sender import Opening
from taskfleet.executor.tasks import call_order, command_order
from taskfleet.options import BatchFields, read_batch
from taskfleet.wire.filenames import name_fault

T = TypeVar("T")


class FleetExecutor(Executor):
    """Runs calls on the fleet. One executor is one batch, which is opened by the first call and
    closed by `shutdown`. It may be used from any number of threads, and by everything that takes a
    `concurrent.futures.Executor`.

    name: a name for the batch, to show.
    key: names the work, so that running a script again takes the results that its earlier run has
        and runs only the rest. The calls must be the same, in the same order.
    requirements: packages that the calls need, as pip names them. Workers make an environment of
        them once.
    url, token: of the API; else those of `TASKFLEET_URL` and `TASKFLEET_TOKEN`, or of the local
        cloud of this directory.
    client: a client whose API and token are used.
    local: run the calls in processes of this machine, without any cloud.
    slots: calls that run at a time with `local`; the number of cores unless given.
    outage_s: seconds for which an API that is away is tolerated.
    progress: show how far the calls are, on a terminal or in a notebook, never in a log.
    options: those of the batch (`taskfleet.options.BatchOptions`), such as `timeout_s`, the seconds
        after which a call is ended and its future gets a TaskError, or `max_attempts`, the
        executions of a call that fails or whose process dies; 1 unless given.

    Raises ValueError for options that cannot work, and SettingsError when nothing says where the
    API is.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        requirements: Sequence[str] = (),
        url: str | None = None,
        token: str | None = None,
        client: Client | None = None,
        local: bool = False,
        slots: int | None = None,
        outage_s: float = OUTAGE_S,
        progress: bool = False,
        **options: Unpack[BatchFields],
    ) -> None:
        if isinstance(requirements, str):
            raise ValueError(f"requirements is a list, such as [{requirements!r}]")
        if slots is not None and not local:
            raise ValueError("slots is for local=True; elsewhere the workers have theirs")
        if local and (url or token or client):
            raise ValueError("local=True runs here: it takes no url, token or client")
        read_batch(options)
        opening = Opening(name, key, options)
        if local:
            from taskfleet.executor.local import LocalCloud

            cloud = LocalCloud(slots or os.cpu_count() or 1)
            self._crew = Crew(cloud.desk, opening, outage_s, cloud.stop, progress=progress)
        else:
            desks = _desks(url, token, client)
            self._crew = Crew(desks, opening, outage_s, progress=progress)
        self._key = key
        self._functions = Functions(requirements)
        self._book = self._crew.book
        weakref.finalize(self, self._book.close, GARBAGE).atexit = False

    # --- calls ---------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> FleetFuture[T]:
        """Have `fn(*args, **kwargs)` called on the fleet. Returns the call's future. What the call
        takes with it is pickled now.

        Raises TypeError for what cannot be pickled, naming it, and RuntimeError after `shutdown`.
        """
        self._crew.start()
        return self._book.submit(call_order(self._functions, fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Call `fn` with one item of each iterable until the shortest ends. Returns an iterator
        over the results. Calls begin at once. Of iterables without a length, such as generators,
        items are taken as results are read: at most 10,000 calls are ahead of the reader.

        timeout: seconds from now after which reading raises TimeoutError; None for never.
        chunksize: at least 1; without effect, since calls travel together by themselves.
        ordered: results in the order of the calls, else in the order in which they come.
        return_exceptions: yield an exception as the result of its call, rather than raise it and
            cancel the calls that are not handed over.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1")
        until = None if timeout is None else time.monotonic() + timeout
        return results_of(
            lambda args: self.submit(fn, *args),
            iterables,
            until=until,
            ordered=ordered,
            return_exceptions=return_exceptions,
        )

    def command(
        self,
        command: str | Sequence[str | Path],
        *,
        inputs: Mapping[str, str | Path | bytes] | None = None,
        outputs: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> FleetFuture[dict[str, Any]]:
        """Have a program run on the fleet, in an empty folder of its own. Returns a future of
        `{"exit_status", "stdout", "stderr", "outputs": [{"name", "bytes", "url"}]}`. An exit status
        other than 0 is a TaskError with the same as its `result`.

        command: a program with its arguments, or a line for the shell.
        inputs: files in its folder, by name: a path here, content, an `https://` URL or
            `upload:<id>`.
        outputs: patterns of the files that it leaves, such as `*.png`.
        env: variables of its environment.
        stdin: what it reads from standard input.

        Raises OSError for an input that cannot be read.
        """
        if isinstance(outputs, str):
            raise TypeError(f"outputs is a list, such as [{outputs!r}]")
        order = command_order(
            command, inputs=inputs or {}, outputs=outputs, env=env or {}, stdin=stdin
        )
        self._crew.start()
        return self._book.submit(order)

    def download(self, result: Mapping[str, Any], folder: str | Path) -> list[Path]:
        """Write the outputs of a command into a folder, which is made if it is missing. Returns
        their paths.

        result: what the future of `command` gave.

        Raises ValueError, with nothing written, for a name that leads out of the folder.
        """
        outputs = result["outputs"]
        for name in (str(each["name"]) for each in outputs):
            if fault := name_fault(name):
                raise ValueError(f"output {name!r:.100} {fault}")
        desk = self._crew.make_desk()
        written: list[Path] = []
        try:
            for each in outputs:
                path = Path(folder, each["name"])
                path.parent.mkdir(parents=True, exist_ok=True)
                desk.save(each["url"], path)
                written.append(path)
        finally:
            desk.close()
        return written

    @classmethod
    def attach(
        cls,
        batch_id: str,
        *,
        url: str | None = None,
        token: str | None = None,
        client: Client | None = None,
        outage_s: float = OUTAGE_S,
    ) -> list[FleetFuture[Any]]:
        """Returns the futures of a batch of any kind, by index, as many as it has tasks now; from
        any process that may read it. Raises ApiError with the status 404 if there is none."""
        make_desk = _desks(url, token, client)
        desk = make_desk()
        try:
            total = desk.status(batch_id).total
        finally:
            desk.close()
        crew = Crew(make_desk, Opening(), outage_s)
        crew.book.batch_id = batch_id
        futures = crew.book.expect(total)
        crew.book.close("an attached batch takes no calls")
        crew.start(sender=False)
        return futures

    # --- the end -------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and close the batch once all are handed over.

        wait: return only when every call has ended. Ctrl-C meanwhile cancels those that have not
            started, and is raised; the interpreter's exit does not wait for the others then.
        cancel_futures: cancel the calls that have not started, on the fleet too.
        """
        if cancel_futures:
            self._crew.cancel(SHUT_DOWN)
        else:
            self._book.close(SHUT_DOWN)
        if not wait:
            return
        try:
            self._crew.join()
        except KeyboardInterrupt:
            self._crew.let_go()
            self._crew.cancel(SHUT_DOWN)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down and wait. Ctrl-C in the block cancels the calls that have not started. After
        any other exception the batch of a `key` stays open, so that running the script again can
        go on with it."""
        if kind is not None and kind is not KeyboardInterrupt and self._key is not None:
            self._book.close(SHUT_DOWN, leave_open=True)
        self.shutdown(wait=True, cancel_futures=kind is KeyboardInterrupt)

    @property
    def batch_id(self) -> str | None:
        """Id of the batch; None before the first call was handed over."""
        return self._book.batch_id

    def __repr__(self) -> str:
        counts = self._book.counts
        return (
            f"<FleetExecutor batch {self.batch_id or 'not open yet'}: {counts.waiting} waiting, "
            f"{counts.running} running, {counts.ended} ended>"
        )

    def _repr_html_(self) -> str:
        counts = self._book.counts
        total = counts.waiting + counts.running + counts.ended
        failed = f"{counts.failed:,} failed"
        return progress_html(self.batch_id or "not open yet", counts.ended, total, [failed])

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a FleetExecutor cannot be pickled, so no call can use it; have the call return what "
            "is to be done next, or attach to its batch by id"
        )


def _desks(url: str | None, token: str | None, client: Client | None) -> DeskMaker:
    if client is not None:
        return lambda: HttpDesk(client.another())
    if (url is None) != (token is None):
        raise ValueError("url and token belong together: give both or neither")
    if url is None or token is None:
        endpoint = find(os.environ, Path.cwd())
        url, token = endpoint.url, endpoint.token
    Client(url, token).close()  # raises for what is malformed
    return lambda: HttpDesk(Client(url, token))
