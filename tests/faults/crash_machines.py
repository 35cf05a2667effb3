"""The provisioner's crashes between the effects of a round: it never has more machines than its
limit, launches none twice, ends those that never report, and goes on from what it recorded.

EC2 is moto, behind a hop that honours client tokens as EC2 does. No machine ever reports. With the
patience of slow boots they all stay; with short patience each gets its two strikes.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import boto3
from botocore.config import Config

from localcloud.cloud import IMAGE
from taskfleet.settings import Settings
from tests.faults.crash_lanes import Matrix, Outcome
from tests.faults.crash_points import Cell, cells
from tests.support.waiting import eventually

NAME, OTHER = "provisioner", "provisioner.2"
LIMIT = 3
LAUNCH, STRIKE = "a launch", "two strikes"
ENVIRON = {
    LAUNCH: {"TASKFLEET_MAX_CAPACITY": str(LIMIT), "TASKFLEET_BOOT_S": "40"},
    STRIKE: {"TASKFLEET_MAX_CAPACITY": str(LIMIT), "TASKFLEET_BOOT_S": "0.3"},
}
KEPT = "fleet/demand"
"""Item of the queue's work, which stays for all cells."""


@dataclass
class MachineLane:
    """Takes the provisioner through its cells, each with a fleet that begins anew.

    ever: the machines of the present cell, with the tags that they had.
    most: the most that lived at a time.
    """

    matrix: Matrix
    ever: dict[str, dict[str, str]] = field(default_factory=dict)
    most: int = 0
    _old: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        cloud = self.matrix.stage.cloud
        self._table = Settings().monitor_table
        self._dynamodb = cloud.client("dynamodb")
        self._ec2 = boto3.client(
            "ec2",
            endpoint_url=cloud.environ["AWS_ENDPOINT_URL_EC2"],
            region_name=cloud.environ["AWS_DEFAULT_REGION"],
            aws_access_key_id=cloud.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=cloud.environ["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}),
        )
        self._ec2.create_launch_template(
            LaunchTemplateName=Settings().worker_template,
            LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "c7g.large"},
        )
        tasks = ["sleep 8000"] * 400
        answer = cloud.api("POST", "/batches", json={"tasks": tasks})
        assert answer.status_code == 202, answer.text

    def cells(self, scene: str) -> list[Cell]:
        """Plays a scene without a crash, and returns the crashes that there are."""
        before = len(self.matrix.triggers.seen.get(NAME, []))
        self._reset()
        self.matrix.start(NAME, **ENVIRON[scene])
        wrong = self._ends(scene)
        self.matrix.stage.kill(NAME)
        assert not wrong, wrong
        found = dict.fromkeys(self.matrix.triggers.seen[NAME][before:])
        return list(cells("provisioner", [(point, 1) for point in found]))

    def run(self, scene: str, wanted: list[Cell]) -> None:
        """Goes through crashes in a scene."""
        for cell in wanted:
            began = time.monotonic()
            error = self._try(scene, cell)
            seconds = time.monotonic() - began
            self.matrix.note(Outcome(cell, error is not None, seconds, error or "", scene))

    def _try(self, scene: str, cell: Cell) -> str | None:
        """Tries one crash. Returns what went wrong, None if its point was not reached."""
        self._reset()
        environ = ENVIRON[scene]
        trigger = self.matrix.arm(NAME, cell, lambda: self.matrix.start(OTHER, **environ))
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,), daemon=True)
        watcher.start()
        try:
            self.matrix.spawn(NAME, **environ)
            if not trigger.fired.wait(self.matrix.patience_s):
                self.matrix.triggers.armed.pop(NAME, None)
                return None
            error = self.matrix.heal(NAME, trigger, **environ)
            return f"{error} {self._ends(scene)}".strip()
        finally:
            watching.set()
            watcher.join(30)
            for each in (NAME, OTHER):
                if each in self.matrix.stage.processes:
                    self.matrix.stage.kill(each)

    def _ends(self, scene: str) -> str:
        """Waits for the end of a scene. Returns what is wrong with it."""
        if scene == LAUNCH:
            eventually(lambda: len(self._live()) >= LIMIT, 60, "there are machines")
            self._rounds(2)
            live, ever = len(self._live()), len(self.ever)
            if (live, ever) != (LIMIT, LIMIT):
                return f"{live} machines live, {ever} were launched, {LIMIT} are wanted"
        else:
            first = eventually(
                lambda: len(self._live()) >= LIMIT and list(self.ever), 60, "machines"
            )
            eventually(lambda: not set(first) & set(self._live()), 60, "all are ended")
            unmarked = [m for m in first if "taskfleet:marked-at" not in self.ever[m]]
            if unmarked:
                return f"{unmarked} were ended without a mark"
        if self.most > LIMIT:
            return f"{self.most} machines lived at a time, over the limit of {LIMIT}"
        view = self.matrix.stage.cloud.api("GET", "/fleet")
        if view.status_code != 200 or not view.json()["decisions"]:
            return f"the record is lost: {view.status_code} {view.text:.300}"
        return ""

    def _all_live(self) -> list[str]:
        """Returns the machines of the cell once as many live as may."""
        return list(self.ever) if len(self._live()) >= LIMIT else []

    def _watch(self, end: threading.Event) -> None:
        while not end.wait(0.2):
            self._live()

    def _live(self) -> list[str]:
        """Returns the machines that live, and notes all of the cell."""
        live = []
        pages = self._ec2.get_paginator("describe_instances").paginate()
        for each in (i for page in pages for r in page["Reservations"] for i in r["Instances"]):
            name = each["InstanceId"]
            if name in self._old:
                continue
            self.ever[name] = {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])}
            if each["State"]["Name"] in ("pending", "running"):
                live.append(name)
        self.most = max(self.most, len(live))
        return live

    def _rounds(self, count: int) -> None:
        """Waits until the newest process has begun and ended so many more rounds."""
        folder = self.matrix.stage.folder

        def rounds() -> int:
            logs = folder.glob("provisioner*.log")
            return sum(log.read_text().count('"provisioner_looked"') for log in logs)

        before = rounds()
        eventually(lambda: rounds() >= before + count, 60, "the provisioner looks")

    def _reset(self) -> None:
        """Ends all machines, and forgets the fleet's records but the work that waits."""
        live = self._live()
        if live:
            self._ec2.terminate_instances(InstanceIds=live)
        self._old |= set(self.ever)
        self.ever, self.most = {}, 0
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table)
        for item in (item for page in pages for item in page["Items"]):
            name = item["Job_ID"]["S"]
            if name.startswith("fleet/") and name != KEPT:
                key = {"Job_ID": {"S": name}}
                self._dynamodb.delete_item(TableName=self._table, Key=key)
