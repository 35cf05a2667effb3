"""A backend of joblib that runs its calls on the fleet, for libraries that take one, such as
scikit-learn:

    import taskfleet.joblib
    from joblib import parallel_config

    taskfleet.joblib.register()
    with parallel_config(backend="taskfleet", requirements=["scikit-learn"]):
        GridSearchCV(estimator, grid).fit(x, y)

Owns the translation of joblib's calls; they are run by `taskfleet.executor`. Imports joblib when it
is asked to register, since workers read functions of this module without it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from taskfleet.wire.calls import ARGS_MAX_BYTES, function_name

NAME = "taskfleet"
"""Name of the backend."""
AT_ONCE = 1_000
"""Calls that joblib hands over at a time if `n_jobs` does not say, or half of them: a fleet takes
what comes, and grows by what waits."""
SEEN_MAX = 64
"""Most large arguments that are remembered, to see whether they occur again."""
KEPT_MAX = 16
"""Most functions with large arguments that are kept for the next calls."""

Item = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]
"""A call of joblib: function, arguments, keyword arguments."""


def register(*, make_default: bool = False) -> None:
    """Make the backend known to joblib as `taskfleet`. Its parameters, given to
    `joblib.parallel_config`, are those of `FleetExecutor`; or `executor`, an executor to use for
    all calls, which stays open. Each `Parallel` call is a batch of its own otherwise.

    make_default: whether joblib takes it for all that name no backend.

    Raises ImportError, which says what to install, without joblib.
    """
    try:
        from joblib import register_parallel_backend
    except ImportError:
        raise ImportError(
            "joblib is not installed: pip install 'taskfleet[joblib]'", name="joblib"
        ) from None
    register_parallel_backend(NAME, _backend_class(), make_default=make_default)


# --- what runs on a worker -----------------------------------------------------------------------


class Shared:
    """Stands in a call for a large argument that its function brings along."""

    def __init__(self, index: int) -> None:
        self.index = index


class BatchCall:
    """The function that the fleet calls for a batch of joblib's calls. Workers fetch it once, with
    the large arguments that several calls share.

    name: the name of the function that the batch calls, to show.
    shared: the large arguments.
    """

    def __init__(self, name: str, shared: Sequence[Any] = ()) -> None:
        self.__qualname__ = name
        self.shared = list(shared)

    def __call__(self, items: Sequence[Item]) -> list[Any]:
        """Make the calls, one after the other. Parallel calls of joblib within them run in this
        process: the slots beside this one are busy, too."""
        with _sequential():
            return [
                function(*map(self._real, args), **{k: self._real(v) for k, v in kwargs.items()})
                for function, args, kwargs in items
            ]

    def _real(self, value: Any) -> Any:
        return self.shared[value.index] if type(value) is Shared else value


@contextlib.contextmanager
def _sequential() -> Iterator[None]:
    if "joblib" not in sys.modules:  # then what is called does not use it
        yield
        return
    from joblib import parallel_config

    with parallel_config(backend="sequential", n_jobs=1):
        yield


# --- what runs in the client ---------------------------------------------------------------------


class Sharing:
    """Finds large arguments that occur in several calls, so that they travel once. An argument that
    occurs for the second time becomes a part of the function. The caller must not change such an
    argument until its calls have ended."""

    def __init__(self, least_bytes: int = ARGS_MAX_BYTES) -> None:
        self._least_bytes = least_bytes
        self._seen: OrderedDict[int, Any] = OrderedDict()
        self._calls: OrderedDict[tuple[Any, ...], BatchCall] = OrderedDict()

    def split(self, items: Sequence[Item]) -> tuple[BatchCall, list[Item]]:
        """Returns the function to submit and its argument."""
        shared: dict[int, tuple[Shared, Any]] = {}
        parts: list[Item] = [
            (
                _portable(function),
                [self._stand_in(value, shared) for value in args],
                {name: self._stand_in(value, shared) for name, value in kwargs.items()},
            )
            for function, args, kwargs in items
        ]
        name = function_name(items[0][0]) if items else "nothing"
        key = (name, *shared)
        call = self._calls.get(key)
        if call is None:
            # It holds the arguments, so that no other object gets their ids.
            call = self._calls[key] = BatchCall(name, [value for _, value in shared.values()])
            if len(self._calls) > KEPT_MAX:
                self._calls.popitem(last=False)
        self._calls.move_to_end(key)
        return call, parts

    def _stand_in(self, value: Any, shared: dict[int, tuple[Shared, Any]]) -> Any:
        if _bytes_of(value) < self._least_bytes:
            return value
        key = id(value)
        if key in shared:
            return shared[key][0]
        if self._seen.get(key) is not value:
            self._seen[key] = value  # held, so that no other object gets its id
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
            return value
        self._seen.move_to_end(key)
        shared[key] = (Shared(len(shared)), value)
        return shared[key][0]


def _portable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function without filters of warnings that only the client has. scikit-learn sends
    all filters of its process along, and those of `requests`, say, name classes that a worker may
    not have."""
    filters = getattr(function, "warning_filters", None)
    if not isinstance(filters, list):
        return function
    portable = copy.copy(function)
    portable.warning_filters = [each for each in filters if _is_portable(each)]  # type: ignore[attr-defined]
    return portable


def _is_portable(warning_filter: Any) -> bool:
    try:
        package = warning_filter[2].__module__.partition(".")[0]
    except (AttributeError, IndexError, TypeError):
        return False
    return package in sys.stdlib_module_names or package in (
        "builtins",
        "numpy",
        "scipy",
        "sklearn",
    )


def _bytes_of(value: Any) -> int:
    """Returns about how many bytes a value takes, as far as it tells at once."""
    size = getattr(value, "nbytes", None)  # an array, which may be a view of another
    if isinstance(size, int):
        return size
    try:
        return sys.getsizeof(value, 0)
    except Exception:  # noqa: BLE001 - the value's own code
        return 0


@functools.cache
def _backend_class() -> type[Any]:
    """The class of the backend, which needs joblib."""
    from joblib._parallel_backends import ParallelBackendBase, SequentialBackend

    class FleetBackend(ParallelBackendBase):  # type: ignore[misc]
        """joblib's calls on the fleet. One object serves one `Parallel` call after the other."""

        supports_retrieve_callback = True
        default_n_jobs = -1

        def __init__(
            self,
            nesting_level: int | None = None,
            inner_max_num_threads: int | None = None,
            *,
            executor: Executor | None = None,
            **options: Any,
        ) -> None:
            super().__init__(nesting_level, inner_max_num_threads)
            if executor is not None and options:
                raise ValueError(f"executor is given, so {min(options)} has no effect")
            self._given = executor
            self._own: Executor | None = None
            self._options = options
            self._numbers = itertools.count(1)
            self._sharing = Sharing()
            self._waiting: set[Future[Any]] = set()

        def effective_n_jobs(self, n_jobs: int | None) -> int:
            """Returns how many calls joblib keeps under way."""
            if n_jobs == 0:
                raise ValueError("n_jobs == 0 in Parallel has no meaning")
            return AT_ONCE if n_jobs is None or n_jobs < 0 else n_jobs

        def submit(
            self, func: Any, callback: Callable[[Future[Any]], None] | None = None
        ) -> Future[Any]:
            """Have a batch of calls run."""
            call, items = self._sharing.split(func.items)
            future = self._executor().submit(call, items)
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)
            if callback is not None:
                future.add_done_callback(callback)
            return future

        apply_async = submit  # its name before joblib 1.5

        def retrieve_result_callback(self, out: Future[Any]) -> Any:
            """Returns what the calls returned, or raises what one of them raised."""
            return out.result()

        def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002
            """Cancel the calls that have not started. The next ones get an executor of their
            own."""
            for future in list(self._waiting):
                future.cancel()
            self._waiting.clear()
            self._sharing = Sharing()
            own, self._own = self._own, None
            if own is not None:
                own.shutdown(wait=False, cancel_futures=True)

        def terminate(self) -> None:
            """End the batch."""
            self._sharing = Sharing()
            own, self._own = self._own, None
            if own is not None:
                own.shutdown(wait=True)

        def get_nested_backend(self) -> tuple[Any, int | None]:
            """Returns what runs the parallel calls within a call (see `BatchCall`)."""
            return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

        def _executor(self) -> Executor:
            if self._given is not None:
                return self._given
            if self._own is None:
                from taskfleet.executor import FleetExecutor

                options, number = dict(self._options), next(self._numbers)
                if options.get("key") and number > 1:  # a batch has a key of its own
                    options["key"] = f"{options['key']}-{number}"
                self._own = FleetExecutor(**options)
            return self._own

    return FleetBackend
