"""Protections in the runner processes of a worker."""

from tests.faults.mutation import removes

CHUNK = "ec2_worker/runner/chunk.py"
TEST_RUNNER = "tests/functional/test_runner.py"
PROTECTIONS = (
    removes(
        "what a dead runner had no time to tell is not lost",
        CHUNK,
        "        self._take_untold()\n        self._judge()",
        "        self._judge()",
        TEST_RUNNER,
    ),
    removes(
        "the task that ended its runner is charged for it",
        CHUNK,
        "if position is None or started.task in self._known:",
        "if position is not None or started.task in self._known:",
        TEST_RUNNER,
    ),
    removes(
        "a task that has its result does not run again for one that ended their runner",
        CHUNK,
        "return [i for i, task in enumerate(tasks) if task.index not in self._known]",
        "return list(range(len(tasks)))",
        TEST_RUNNER,
    ),
    removes(
        "tasks that a runner did not start are started by another",
        "ec2_worker/execute.py",
        "left = [tasks[position] for position in running.left()]",
        "left = [tasks[position] for position in running.left() if running.ambiguous]",
        TEST_RUNNER,
    ),
    removes(
        "a runner that is stopped charges no task",
        CHUNK,
        "elif self.stopped() or self.ambiguous:",
        "elif self.ambiguous:",
        TEST_RUNNER,
    ),
    removes(
        "a runner answers for its own tasks only",
        CHUNK,
        "if index not in self._asked:\n            return  # no honest",
        "if index < 0:\n            return  # no honest",
        "tests/unit/test_runner_chunk.py",
    ),
    removes(
        "a task that ends after its time is timed out",
        CHUNK,
        "if late and limit_s is not None and (outcome.row.duration_s or 0.0) >= limit_s:",
        "if late and limit_s is None:",
        "tests/unit/test_runner_chunk.py",
    ),
)
