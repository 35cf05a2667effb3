"""The ports in memory, for `ec2_worker/run.py --local`, which needs no AWS, and for tests, with a
clock that tests can set. All data is lost when the process ends. The promises stand in
`taskfleet.ports`, `taskfleet.scheduler.ports` and `taskfleet.provisioner.ports`."""

from taskfleet.memory.clock import ManualClock
from taskfleet.memory.fleet import MemoryFleet, MemoryFleetRecords
from taskfleet.memory.monitor import MemoryMonitor
from taskfleet.memory.queue import MemoryQueue
from taskfleet.memory.schedules import MemoryScheduleRecords
from taskfleet.memory.store import MemoryStore

__all__ = [
    "ManualClock",
    "MemoryFleet",
    "MemoryFleetRecords",
    "MemoryMonitor",
    "MemoryQueue",
    "MemoryScheduleRecords",
    "MemoryStore",
]
