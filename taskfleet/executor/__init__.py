"""Calls of Python functions on the fleet, with the face of `concurrent.futures`.

- `executor` is what users hold; `future` is what they get.
- `book` has the calls between `submit` and their results; `sender` and `collector` are the two
  threads that move them, `patience` how long both wait for an API that is away.
- `functions` and `calls` make tasks of functions, arguments and commands; `outcome` makes values
  and exceptions of rows; `workers` compares this Python with that of the workers.
- `desk` is the port to the service; `local` is a desk with a worker in this process.
"""

from taskfleet.executor.executor import FleetExecutor
from taskfleet.executor.future import FleetFuture
from taskfleet.executor.problems import Disconnected, TaskError
from taskfleet.wire.calls import RemoteTraceback

__all__ = ["Disconnected", "FleetExecutor", "FleetFuture", "RemoteTraceback", "TaskError"]
