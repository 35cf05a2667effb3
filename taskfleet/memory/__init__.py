"""The ports in memory: for `ec2_worker/run.py --local`, which needs no AWS, and for tests, on a
clock one can set. They keep the same promises as `taskfleet.aws`, held by one contract suite, but
forget everything when the process ends."""

from taskfleet.memory.clock import ManualClock
from taskfleet.memory.fleet import MemoryFleet, MemoryFleetRecords
from taskfleet.memory.monitor import MemoryMonitor
from taskfleet.memory.queue import MemoryQueue
from taskfleet.memory.store import MemoryStore

__all__ = [
    "ManualClock",
    "MemoryFleet",
    "MemoryFleetRecords",
    "MemoryMonitor",
    "MemoryQueue",
    "MemoryStore",
]
