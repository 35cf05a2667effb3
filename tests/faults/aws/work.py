"""The work during which calls of AWS fail: real processes, started again when they end, and batches
of every form. Owns these; not the faults (`tests.faults.aws.cells`) nor what must come of the work
(`tests.faults.aws.judge`)."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from tests.faults.aws.client import ANSWER_S, Batch, Client, Verdict
from tests.faults.aws.judge import Judge
from tests.support.stage import Stage

SECRET = "/taskfleet/dev/token-secret"
MAX_MACHINES = 3
REPEATS = 4
"""How often a round makes calls that are rare otherwise."""
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


class Work:
    """The processes of a stage, and the batches that their client gave them.

    brief: leaves out tasks that are tried again after seconds.
    restarts: how often each process had to be started again.
    """

    def __init__(self, stage: Stage, verdict: Verdict, *, brief: bool = False) -> None:
        self.stage = stage
        self.verdict = verdict
        self._brief = brief
        client = Client(stage, verdict)
        self.ask, self.once, self.answers = client.ask, client.once, client.answers
        self.judge = Judge(stage, client, verdict, self.tend)
        self.restarts: Counter[str] = Counter()
        self.batches: list[Batch] = []
        cloud = stage.cloud
        value = cloud.environ["TASKFLEET_TOKEN_SECRET"]
        cloud.client("ssm").put_parameter(Name=SECRET, Value=value, Type="SecureString")
        self.ec2: Any = boto3.client(
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

    # --- the work ---------------------------------------------------------------------------

    def submit(self, name: str) -> None:
        """Hand in batches of every form at the same time. Their names begin with this one. The
        worker starts when machines were drawn, which needs work that nobody does."""
        self._poison(f"poison of {name}")
        urgent = {"priority": "high", "deadline_s": 600}
        jobs: list[Callable[[], Any]] = [
            lambda: self._draw_machines(name),
            lambda: self._plain(name),
            lambda: self._batch(f"{name}-urgent", _tasks("echo", f"{name}u", 3), **urgent),
            lambda: self._batch(f"{name}-known", _tasks("known", "same", 2), reuse=True),
            lambda: self._upload(f"{name}-upload", _tasks("echo", f"{name}f", 40)),
            lambda: self._grown(f"{name}-grown"),
            lambda: self._schedule(name),
            self._look_around,
        ]
        if not self._brief:
            jobs.append(lambda: self._batch(f"{name}-flaky", _tasks("flaky", name, 1)))
        with ThreadPoolExecutor(len(jobs)) as pool:
            for done in [pool.submit(job) for job in jobs]:
                done.result()

    def _plain(self, name: str) -> None:
        """A batch, and two that wait for it."""
        tasks = [*_tasks("echo", name, 6), *_tasks("large", name, 1), *_tasks("linger", name, 1)]
        after = {"after": [self._batch(f"{name}-plain", tasks).batch_id]}
        self._batch(f"{name}-after", _tasks("echo", f"{name}a", 3), **after)
        self._upload(f"{name}-late", _tasks("echo", f"{name}l", 3), **after)

    def _batch(self, name: str, tasks: Sequence[Mapping[str, Any]], **options: Any) -> Batch:
        body = {"tasks": tasks, "name": name, "idempotency_key": name, **options}
        made = self.ask("POST", "/batches", body)
        again = self.ask("POST", "/batches", body)
        same = made["batch_id"] == again["batch_id"]
        self.verdict.tell(f"{name}: two batches of one key", doubled=int(not same))
        return self._noted(name, made["batch_id"], tasks)

    def _noted(self, name: str, batch_id: str, tasks: Sequence[Mapping[str, Any]]) -> Batch:
        batch = Batch(name, batch_id, tasks)
        self.batches.append(batch)
        return batch

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
        """Schedules that are made and removed, and one whose time has come."""
        for number in range(1 if self._brief else REPEATS):
            self._hourly(f"{name}-hourly-{number}")
        clock = SystemClock()
        backoff = Backoff(clock, random.Random(0))
        records = DynamoScheduleRecords(self._dynamodb, self._table, clock=clock, backoff=backoff)
        now = float(int(time.time()))
        tasks = list(_tasks("echo", f"{name}s", 2))
        records.add(ScheduleRecord("local", f"{name}-due", now, now, tasks, every_s=86_400))

    def _hourly(self, name: str) -> None:
        """A schedule that is made and removed."""
        self.ask("POST", "/schedules", {"name": name, "every": "1h", "tasks": ["sleep 1"]})
        answer = None
        while answer is None or answer.status_code >= 500:
            answer = self.once("DELETE", f"/schedules/{name}", None)
        assert answer.status_code in (200, 202, 404), answer.text  # 404: the lost reply was a yes

    def _draw_machines(self, name: str) -> None:
        """Submit what no worker takes, cancel it when machines are there, and start the worker."""
        tasks = [{"kind": "sleep", "params": 20_000}] * 40
        batch = self._batch(f"{name}-asleep", tasks)
        batch.cancelled = True
        until = time.monotonic() + 8
        while not self.machines() and time.monotonic() < until:
            self.tend()
            time.sleep(0.2)
        self.ask("DELETE", f"/batches/{batch.batch_id}")
        self.start(["worker"])

    def finish(self, name: str) -> None:
        """Wait for the batches, and let them be judged."""
        batch_id = self.judge.scheduled(f"{name}-due")
        self._noted(f"{name}-due", batch_id, _tasks("echo", f"{name}s", 2))
        self.judge.finish(self.batches)
        self.batches.clear()

    def _look_around(self) -> None:
        """Read what else there is to read."""
        paths = ["/fleet", "/fleet/history", "/kinds", "/batches?limit=2", "/schedules"]
        paths += [f"/dead-letters?queue={queue}" for queue in ("tasks", "responses", "uploads")]
        for path in paths * (1 if self._brief else REPEATS):
            self.ask("GET", path)
        self.ask("POST", "/quote", {"tasks": ["sleep 1"]})


def _tasks(kind: str, name: str, count: int) -> list[dict[str, Any]]:
    return [{"kind": kind, "params": f"{name} {number}"} for number in range(count)]
