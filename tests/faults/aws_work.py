"""The work during which calls of AWS fail, and what must come of it: batches of every form, given
to real processes over HTTP by a client that repeats what was refused for now. Owns both; not the
faults (`tests.faults.aws_cells`)."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
import requests
from botocore.config import Config

from localcloud.cloud import IMAGE
from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.schedules import DynamoScheduleRecords
from taskfleet.clock import SystemClock
from taskfleet.schedule import ScheduleRecord
from taskfleet.settings import Settings
from tests.faults.aws_kinds import result_of
from tests.support.stage import Stage
from tests.support.waiting import eventually

ANSWER_S = 29.0
"""Longest time of an answer, as with API Gateway."""
PATIENCE_S = 180.0
SECRET = "/taskfleet/dev/token-secret"
MAX_MACHINES = 3
ROLES = ("api", "collector", "reader", "provisioner", "worker")
SETTINGS = {
    "TASKFLEET_MAX_CAPACITY": str(MAX_MACHINES),
    "TASKFLEET_SLOTS": "4",
    "TASKFLEET_NUDGE": "1",
    "TASKFLEET_LOOK_S": "1",
    "TASKFLEET_BOOT_S": "0.3",
    "TASKFLEET_TOKEN_SECRET": "",
    "TASKFLEET_TOKEN_SECRET_SSM": SECRET,
    "LOCALCLOUD_VISIBILITY_S": "3",
    "TICK_S": "4",
    "REDELIVERY_S": "2",
}
"""The processes' environment: a parameter of SSM as on AWS, machines that never report are ended
after seconds, and ticks follow each other quickly."""


@dataclass
class Verdict:
    """What was found against the promises, with a sentence for each."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)

    def tell(self, text: str, *, lost: int = 0, doubled: int = 0, wrong: int = 0) -> None:
        """Count something that was found."""
        if lost or doubled or wrong:
            self.lost += lost
            self.doubled += doubled
            self.wrong += wrong
            self.faults.append(text)


@dataclass
class Batch:
    """A batch, and the tasks that it must have a result of.

    cancelled: whether its tasks may be CANCELLED, too.
    """

    name: str
    batch_id: str
    tasks: Sequence[Mapping[str, Any]]
    cancelled: bool = False


class Work:
    """The processes of a stage, their client, and the batches that it gave them."""

    def __init__(self, stage: Stage, verdict: Verdict) -> None:
        self.stage = stage
        self.verdict = verdict
        self.answers: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.batches: list[Batch] = []
        cloud = stage.cloud
        value = cloud.environ["TASKFLEET_TOKEN_SECRET"]
        cloud.client("ssm").put_parameter(Name=SECRET, Value=value, Type="SecureString")
        self.ec2 = boto3.client(
            "ec2",
            endpoint_url=cloud.environ["AWS_ENDPOINT_URL_EC2"],
            region_name=cloud.environ["AWS_DEFAULT_REGION"],
            aws_access_key_id=cloud.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=cloud.environ["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}),
        )
        self.ec2.create_launch_template(
            LaunchTemplateName="taskfleet-dev",
            LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "c7g.large"},
        )
        self._sqs = cloud.client("sqs")
        self._dynamodb = cloud.client("dynamodb")
        self._table = Settings().monitor_table

    # --- processes --------------------------------------------------------------------------

    def start(self, roles: Iterable[str]) -> None:
        """Start processes at the same time. One that ends, since AWS does not answer, is started
        again, as systemd and Lambda do."""
        chosen = list(roles)
        with ThreadPoolExecutor(len(chosen)) as pool:
            list(pool.map(self._start, chosen))

    def _start(self, role: str) -> None:
        options = ("--threads", "8") if role == "worker" else ()
        for _ in range(8):
            try:
                self.stage.start(role, *options, **SETTINGS)
            except AssertionError:
                if self.stage.processes[role].poll() is None:
                    raise
                self.restarts[role] += 1
            else:
                return
        raise AssertionError(f"{role} does not start")

    def tend(self) -> None:
        """Start again what has ended, and look how many machines there are."""
        ended = [r for r, process in self.stage.processes.items() if process.poll() is not None]
        for role in ended:
            self.restarts[role] += 1
            self._start(role)
        count = len(self.machines())
        if count > MAX_MACHINES:
            self.verdict.tell(f"{count} machines of at most {MAX_MACHINES}", wrong=1)

    def machines(self) -> list[str]:
        """Returns the machines that boot or run, by EC2 itself."""
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        found = self.ec2.describe_instances(Filters=states)["Reservations"]
        return [each["InstanceId"] for group in found for each in group["Instances"]]

    def forget_fleet(self) -> None:
        """Forget that machines booted in vain: launches would pause for longer and longer."""
        key = {"Job_ID": {"S": "fleet/state"}}
        self._dynamodb.delete_item(TableName=self._table, Key=key)

    # --- the client -------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call, repeated while it is refused for now, as `taskfleet.client` does. Returns the
        answer. The API itself may answer 503 with `Retry-After`, and no other error of its own."""
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._once(method, path, body)
            if answer is not None and answer.status_code < 500:
                self.answers[str(answer.status_code)] += 1
                assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
                return answer.json()
            assert time.monotonic() < until, f"{method} {path} is not answered"
            time.sleep(0.3)

    def _once(self, method: str, path: str, body: Any) -> requests.Response | None:
        url, headers = self.stage.url + path, {"Authorization": f"Bearer {self.stage.cloud.token}"}
        try:
            answer = requests.request(method, url, headers=headers, json=body, timeout=ANSWER_S)
        except requests.RequestException as error:
            self.answers[type(error).__name__] += 1
            return None
        if answer.status_code >= 500:
            self.answers[str(answer.status_code)] += 1
            of_app = "Code" in answer.text
            told = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
            if answer.status_code == 503:
                self.verdict.tell(told, wrong=int("Retry-After" not in answer.headers))
            else:  # without a code it is API Gateway's, whose authorizer cannot read the secret
                self.verdict.tell(told, wrong=int(of_app))
        return answer

    # --- the work ---------------------------------------------------------------------------

    def submit(self, name: str) -> None:
        """Hand in batches of every form at the same time. Their names begin with this one."""
        jobs = [self.draw_machines, self._forms, self._uploads, self._schedule, self.look_around]
        self._poison(f"poison of {name}")
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(lambda job: job(name), jobs))

    def _forms(self, name: str) -> None:
        plain = self._batch(
            f"{name}-plain",
            [*_tasks("echo", name, 6), *_tasks("large", name, 1), *_tasks("linger", name, 1)],
        )
        self._batch(f"{name}-after", _tasks("echo", f"{name}a", 3), after=[plain.batch_id])
        urgent = {"priority": "high", "deadline_s": 600}
        self._batch(f"{name}-urgent", _tasks("echo", f"{name}u", 3), **urgent)
        self._batch(f"{name}-known", _tasks("known", "same", 2), reuse=True)
        self._batch(f"{name}-flaky", _tasks("flaky", name, 1))
        self._upload(f"{name}-late", _tasks("echo", f"{name}l", 3), after=[plain.batch_id])

    def _uploads(self, name: str) -> None:
        self._upload(f"{name}-upload", _tasks("echo", f"{name}f", 40))
        self._grown(f"{name}-grown")

    def _batch(self, name: str, tasks: Sequence[Mapping[str, Any]], **options: Any) -> Batch:
        body = {"tasks": tasks, "name": name, "idempotency_key": name, **options}
        made = self.ask("POST", "/batches", body)
        again = self.ask("POST", "/batches", body)
        same = made["batch_id"] == again["batch_id"]
        self.verdict.tell(f"{name}: two batches of one key", doubled=int(not same))
        return self._noted(name, made["batch_id"], tasks)

    def _noted(
        self,
        name: str,
        batch_id: str,
        tasks: Sequence[Mapping[str, Any]],
        *,
        cancelled: bool = False,
    ) -> Batch:
        self.batches.append(Batch(name, batch_id, tasks, cancelled))
        return self.batches[-1]

    def _upload(self, name: str, tasks: Sequence[Mapping[str, Any]], **options: Any) -> None:
        form = self.ask("POST", "/uploads")
        content = "".join(json.dumps(task) + "\n" for task in tasks).encode()
        sent = requests.post(
            form["url"], data=form["fields"], files={"file": content}, timeout=ANSWER_S
        )
        assert sent.ok, sent.text
        body = {"upload_id": form["upload_id"], "name": name, "idempotency_key": name, **options}
        made = self.ask("POST", "/batches", body)
        self._noted(name, made["batch_id"], tasks)

    def _grown(self, name: str) -> None:
        tasks = _tasks("echo", name, 6)
        made = self.ask("POST", "/batches", {"open": True, "name": name, "idempotency_key": name})
        path = f"/batches/{made['batch_id']}"
        for first in (0, 3, 3):
            self.ask("POST", f"{path}/tasks", {"first": first, "tasks": tasks[first : first + 3]})
        self.ask("POST", f"{path}/close")
        self._noted(name, made["batch_id"], tasks)

    def _poison(self, text: str) -> None:
        url = self._sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
        self._sqs.send_message(QueueUrl=url, MessageBody=text)

    def _schedule(self, name: str) -> None:
        """A schedule that is made and removed, and one whose time has come."""
        hourly = {"name": f"{name}-hourly", "every": "1h", "tasks": ["sleep 1"]}
        self.ask("POST", "/schedules", hourly)
        answer = self._once("DELETE", f"/schedules/{name}-hourly", None)
        while answer is None or answer.status_code >= 500:
            answer = self._once("DELETE", f"/schedules/{name}-hourly", None)
        assert answer.status_code in (200, 202, 404), answer.text  # 404: the lost reply was a yes
        clock = SystemClock()
        backoff = Backoff(clock, random.Random(0))
        records = DynamoScheduleRecords(self._dynamodb, self._table, clock=clock, backoff=backoff)
        now = float(int(time.time()))
        tasks = list(_tasks("echo", f"{name}s", 2))
        records.add(ScheduleRecord("local", f"{name}-due", now, now, tasks, every_s=86_400))

    def draw_machines(self, name: str) -> None:
        """Submit what no worker takes, and cancel it when machines are there."""
        tasks = [{"kind": "sleep", "params": 20_000}] * 40
        batch = self._batch(f"{name}-asleep", tasks)
        batch.cancelled = True
        until = time.monotonic() + 8
        while not self.machines() and time.monotonic() < until:
            self.tend()
            time.sleep(0.2)
        self.ask("DELETE", f"/batches/{batch.batch_id}")

    def look_around(self, _name: str) -> None:
        """Read what else there is to read."""
        for path in ("/fleet", "/fleet/history", "/kinds", "/batches?limit=2", "/schedules"):
            self.ask("GET", path)
        for queue in ("tasks", "responses", "uploads"):
            self.ask("GET", f"/dead-letters?queue={queue}")
        self.ask("POST", "/quote", {"tasks": ["sleep 1"]})

    # --- what must come of it ---------------------------------------------------------------

    def finish(self, name: str) -> None:
        """Wait for the batches, and judge each."""
        self._scheduled(name)
        for batch in self.batches:
            path = f"/batches/{batch.batch_id}"
            self._wait(lambda path=path: self._ended(path), batch.name)  # type: ignore[misc]
            self._judge(batch)
        self._wait(lambda: self._told(self.batches), "events of ends")
        self.batches.clear()

    def _scheduled(self, name: str) -> None:
        def due() -> Any:
            found = self.ask("GET", "/schedules")["schedules"]
            return next(s["last_batch_id"] for s in found if s["name"] == f"{name}-due")

        batch_id = self._wait(due, "the batch of a schedule")
        self._noted(f"{name}-due", batch_id, _tasks("echo", f"{name}s", 2))
        named = self.ask("GET", f"/batches?name={name}-due")["batches"]
        self.verdict.tell(f"{name}-due: {len(named)} batches", doubled=max(0, len(named) - 1))

    def _wait(self, done: Callable[[], Any], what: str) -> Any:
        def look() -> Any:
            self.tend()
            return done()

        return eventually(look, PATIENCE_S, what, poll_s=0.3)

    def _ended(self, path: str) -> bool:
        return self.ask("GET", path)["status"] in ("DONE", "CANCELLED")

    def _told(self, batches: Iterable[Batch]) -> bool:
        lines = "\n".join(self.stage.cloud.lines)
        return all(f"batch {batch.batch_id}" in lines for batch in batches)

    def _judge(self, batch: Batch) -> None:
        rows, cursor = [], ""
        while cursor is not None:
            page = self.ask("GET", f"/batches/{batch.batch_id}/results?recorded=true{cursor}")
            rows += page["results"]
            cursor = f"&cursor={page['cursor']}" if page["cursor"] else None
        seen = Counter(row["index"] for row in rows)
        tell, name = self.verdict.tell, batch.name
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
        audit = self.ask("GET", f"/batches/{batch.batch_id}/audit")
        tell(f"{name}: {audit}", wrong=int(not audit["balanced"]))

    def settle(self, name: str) -> None:
        """Wait until the queues are empty, and judge what is dead. No fault may happen any more."""
        for queue in ("Task_to_process", "Task_to_process_high", "Processed_Task"):
            self._wait(lambda queue=queue: self._depth(queue) == 0, f"{queue} is empty")  # type: ignore[misc]
        for queue in ("responses", "uploads"):
            letters = self.ask("GET", f"/dead-letters?queue={queue}")["letters"]
            self.verdict.tell(f"dead {queue}: {letters}", wrong=len(letters))
        dead: list[tuple[str, str]] = []

        def has_come() -> bool:
            dead.extend(self._dead())
            return any(body == f"poison of {name}" for body, _ in dead)

        self._wait(has_come, "what is no bundle is a dead letter")
        others = [each for each in dead if not each[0].startswith("poison of") or not each[1]]
        self.verdict.tell(f"dead tasks: {others}", wrong=len(others))

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


def _tasks(kind: str, name: str, count: int) -> list[dict[str, Any]]:
    return [{"kind": kind, "params": f"{name} {number}"} for number in range(count)]
