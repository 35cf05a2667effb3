"""The judge of the work during which calls of AWS failed: each batch has ended, each task has one
result, and the right one, the audit balances, the end was told, the queues are empty, and nothing
is a dead letter that should not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.faults.aws.client import PATIENCE_S, Batch, Client, Verdict
from tests.faults.aws.kinds import result_of
from tests.support.stage import Stage
from tests.support.waiting import eventually


class Judge:
    """Judges batches.

    tend: called again and again during waits.
    """

    def __init__(
        self, stage: Stage, client: Client, verdict: Verdict, tend: Callable[[], None]
    ) -> None:
        self._stage = stage
        self._ask = client.ask
        self._verdict = verdict
        self._tend = tend
        self._sqs = stage.cloud.client("sqs")

    def finish(self, batches: Sequence[Batch]) -> None:
        """Wait for the end of the batches, and judge each."""
        for batch in batches:
            path = f"/batches/{batch.batch_id}"
            self._wait(lambda path=path: self._ended(path), batch.name)  # type: ignore[misc]
            self._judge(batch)
        self._wait(lambda: self._told(batches), "the ends of batches are told")

    def scheduled(self, schedule: str) -> str:
        """Wait for the batch of a schedule, which has one only. Returns its id."""

        def due() -> Any:
            found = self._ask("GET", "/schedules")["schedules"]
            return next((s["last_batch_id"] for s in found if s["name"] == schedule), None)

        batch_id = str(self._wait(due, f"the batch of {schedule}"))
        named = self._ask("GET", f"/batches?name={schedule}")["batches"]
        self._verdict.tell(f"{schedule}: {len(named)} batches", doubled=max(0, len(named) - 1))
        return batch_id

    def _wait(self, done: Callable[[], Any], what: str) -> Any:
        def look() -> Any:
            self._tend()
            return done()

        return eventually(look, PATIENCE_S, what, poll_s=0.3)

    def _ended(self, path: str) -> bool:
        return self._ask("GET", path)["finished_at"] is not None

    def _told(self, batches: Sequence[Batch]) -> bool:
        lines = "\n".join(self._stage.cloud.lines)
        return all(f"batch {batch.batch_id}" in lines for batch in batches)

    def _judge(self, batch: Batch) -> None:
        rows = self._rows(batch)
        seen = Counter(row["index"] for row in rows)
        tell, name = self._verdict.tell, batch.name
        lost = [n for n in range(len(batch.tasks)) if not seen[n]]
        tell(f"{name}: no result of {lost}", lost=len(lost))
        tell(f"{name}: {seen}", doubled=sum(count - 1 for count in seen.values()))
        for row in rows:
            task = batch.tasks[row["index"]]
            if batch.cancelled and row["status"] == "CANCELLED":
                continue
            want = None if batch.cancelled else result_of(task["kind"], task["params"])
            right = row["status"] == "SUCCEEDED" and row["result"] == want
            tell(f"{name}: task {row['index']} is {str(row)[:400]}", wrong=int(not right))
        audit = self._ask("GET", f"/batches/{batch.batch_id}/audit")
        tell(f"{name}: {audit}", wrong=int(not audit["balanced"]))

    def _rows(self, batch: Batch) -> list[Any]:
        rows: list[Any] = []
        path = f"/batches/{batch.batch_id}/results?recorded=true"
        page = self._ask("GET", path)
        while page["cursor"]:
            rows += page["results"]
            page = self._ask("GET", f"{path}&cursor={page['cursor']}")
        rows += page["results"]
        return rows

    def settle(self, name: str) -> None:
        """Wait until the queues are empty, and judge what is dead. No fault may happen any more."""
        for queue in ("Task_to_process", "Task_to_process_high", "Processed_Task"):
            self._wait(lambda queue=queue: self._depth(queue) == 0, f"{queue} is empty")  # type: ignore[misc]
        for queue in ("responses", "uploads"):
            letters = self._ask("GET", f"/dead-letters?queue={queue}")["letters"]
            self._verdict.tell(f"dead {queue}: {letters}", wrong=len(letters))
        dead: list[tuple[str, str]] = []

        def has_come() -> bool:
            dead.extend(self._dead())
            return any(body == f"poison of {name}" for body, _ in dead)

        self._wait(has_come, "what is no bundle is a dead letter")
        others = [each for each in dead if not each[0].startswith("poison of") or not each[1]]
        self._verdict.tell(f"dead tasks: {others}", wrong=len(others))

    def _dead(self) -> list[tuple[str, str]]:
        """Takes dead letters of tasks. Returns the body and the reason of each."""
        url = self._sqs.get_queue_url(QueueName="Task_to_process_dead")["QueueUrl"]
        found = self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for each in found:
            self._sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        reasons = [each.get("MessageAttributes", {}).get("reason", {}) for each in found]
        return [
            (each["Body"], reason.get("StringValue", ""))
            for each, reason in zip(found, reasons, strict=True)
        ]

    def _depth(self, queue: str) -> int:
        url = self._sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(count) for count in found.values())
