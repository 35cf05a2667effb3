"""The items in DynamoDB, repeated requests, the clients' configuration, presigned requests, and the
stack."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time

import pytest
import requests

from taskfleet.aws.dynamodb.packing import ITEM_MAX_BYTES
from taskfleet.aws.s3 import S3Store
from taskfleet.aws.session import Aws
from taskfleet.batch import PAGE_BUNDLES, BatchRecord, Tally
from taskfleet.clock import SystemClock
from taskfleet.errors import LeaseLost, PermanentError, TransientError
from taskfleet.lease import BundleStatus, ClaimOutcome
from taskfleet.retry import RetryPolicy
from taskfleet.settings import Settings
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.contract.conftest import aws_world
from tests.support.moto_aws import create_stack

TASKS = [Task(0, "sleep", 0)]
RESULTS = [TaskResult(0, TaskStatus.SUCCEEDED)]
DAY_S = 86_400
BIG = [TaskResult(0, TaskStatus.SUCCEEDED, bytes(range(256)).hex() * 2_000)]
"""Results that are large but compress well."""


@pytest.fixture
def world(aws_stack):
    return aws_world(aws_stack)


def item(aws: Aws, key: str) -> dict:
    return aws.client("dynamodb").get_item(
        TableName=aws.settings.monitor_table, Key={"Job_ID": {"S": key}}
    )["Item"]


def new_batch(**changes) -> BatchRecord:
    fields = {"total": 9, "bundles": 3, "payload_hash": "0", "closed": False, "enqueued": 9}
    return BatchRecord("b", "client", None, 1_700_000_000.0, **(fields | changes))


class TestSentTwice:
    """The SDK sends a write again if the first reply is lost. The port answers as if it had been
    sent once."""

    @pytest.fixture
    def resend(self, aws_stack):
        """Returns a function that makes the next request of each operation leave twice."""
        client = aws_stack.client("dynamodb")
        sent: set[str] = set()

        def send_again(event_name: str, **_kwargs) -> float | None:
            if event_name in sent:
                return None
            sent.add(event_name)
            return 0.0

        def start() -> set[str]:
            client.meta.events.register_first("needs-retry.dynamodb", send_again)
            return sent

        yield start
        client.meta.events.unregister("needs-retry.dynamodb", send_again)

    def test_claim_is_attempt_1(self, world, resend):
        sent = resend()
        claim = world.monitor.claim("b:0", owner="me", lease_s=30)
        assert sent == {"needs-retry.dynamodb.UpdateItem"}
        assert (claim.outcome, claim.lease.attempt) == (ClaimOutcome.ACQUIRED, 1)

    @pytest.mark.parametrize(
        ("end", "status"), [("commit", BundleStatus.DONE), ("release", BundleStatus.QUEUED)]
    )
    def test_end_of_a_lease_is_not_a_lost_lease(self, world, resend, end, status):
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        sent = resend()
        getattr(world.monitor, end)("b:0", lease, tasks=TASKS, results=RESULTS)
        assert sent
        assert world.monitor.bundles(["b:0"])[0].status is status

    def test_part_is_added_once(self, world, resend):
        world.monitor.create_batch(new_batch())
        sent = resend()
        grown = world.monitor.add_part("b", first=9, tasks=5, bundles=2, closed=True)
        assert sent
        assert (grown.total, grown.bundles, grown.closed) == (14, 5, True)

    def test_progress_is_counted_once(self, world, resend):
        world.monitor.create_batch(new_batch())
        sent = resend()
        assert world.monitor.record_progress("b", {0: Tally(3), 1: Tally(0, 2)}, 1_700_000_001.0)
        assert "needs-retry.dynamodb.UpdateItem" in sent
        assert world.monitor.batch("b").tally == Tally(3, 2)

    def test_a_page_is_folded_once(self, world, resend):
        world.monitor.create_batch(new_batch(total=600, bundles=600))
        page = range(PAGE_BUNDLES, 2 * PAGE_BUNDLES)
        sent = resend()
        world.monitor.record_progress("b", {n: Tally(1) for n in page}, 1_700_000_001.0)
        sent.clear()  # so that the next write leaves twice too
        assert world.monitor.batch("b").tally == Tally(PAGE_BUNDLES)


class TestItem:
    def test_expires_30_days_after_its_last_write(self, world, aws_stack):
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        assert int(item(aws_stack, "b:0")["ttl"]["N"]) == world.clock.now() + 30 * DAY_S
        world.clock.sleep(DAY_S)
        world.monitor.renew("b:0", lease, lease_s=30, tasks=TASKS, results=RESULTS)
        world.monitor.create_batch(new_batch(bundles=600))
        world.monitor.record_progress("b", {PAGE_BUNDLES + 1: Tally(1)}, world.clock.now())
        for key in ("b:0", "b", "b/1"):
            assert int(item(aws_stack, key)["ttl"]["N"]) == world.clock.now() + 30 * DAY_S

    def test_of_a_full_bundle_has_under_12_kb(self, world, aws_stack):
        tasks = [Task(n, "sleep", 0) for n in range(1_000)]
        results = [
            TaskResult(n, TaskStatus.SUCCEEDED, None, None, 1, 1.7e9 + n * 0.001, 0.0001, "host-1")
            for n in range(1_000)
        ]
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        world.monitor.commit("b:0", lease, tasks=tasks, results=results)
        assert len(item(aws_stack, "b:0")["packed"]["B"]) < 12_000

    def test_of_a_batch_is_not_taken_for_a_bundle(self, world):
        world.monitor.create_batch(new_batch())
        with pytest.raises(PermanentError, match="b is not a bundle"):
            world.monitor.claim("b", owner="me", lease_s=30)
        assert world.monitor.bundles(["b"]) == []


def test_every_read_of_an_item_sees_the_last_write(world, aws_stack):
    """The lists of an index alone may be late; what they name is read anew."""
    client, late = aws_stack.client("dynamodb"), []

    def note(params, model, **_kwargs) -> None:
        asked = [params, *params.get("RequestItems", {}).values()]
        if not any(each.get("ConsistentRead") for each in asked):
            late.append(model.name)

    for operation in ("GetItem", "BatchGetItem"):
        client.meta.events.register(f"provide-client-params.dynamodb.{operation}", note)
    try:
        world.monitor.create_batch(new_batch())
        world.monitor.batch("b")
        world.monitor.start_batch("b", 1.0)
        world.monitor.bundles(["b:0"])
        world.monitor.counted("b", [0])
        world.monitor.is_counted("b", 0)
        world.monitor.record_progress("b", {}, 1.0)
    finally:
        for operation in ("GetItem", "BatchGetItem"):
            client.meta.events.unregister(f"provide-client-params.dynamodb.{operation}", note)
    assert late == []


class TestSpill:
    def noisy(self, seed: int) -> list[TaskResult]:
        noise = random.Random(seed).randbytes(ITEM_MAX_BYTES).hex()
        return [TaskResult(0, TaskStatus.SUCCEEDED, noise)]

    def test_only_content_too_large_when_compressed_is_spilled(self, world, aws_stack):
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        world.monitor.renew("b:0", lease, lease_s=30, tasks=TASKS, results=BIG)
        assert {"packed"} == {"packed", "spill"} & set(item(aws_stack, "b:0"))
        world.monitor.commit("b:0", lease, tasks=TASKS, results=self.noisy(1))
        assert {"spill"} == {"packed", "spill"} & set(item(aws_stack, "b:0"))

    def test_a_worker_without_the_lease_cannot_change_committed_results(self, world):
        zombie = world.monitor.claim("b:0", owner="zombie", lease_s=30).lease
        world.clock.sleep(31)
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        world.monitor.commit("b:0", lease, tasks=TASKS, results=self.noisy(1))
        with pytest.raises(LeaseLost):
            world.monitor.commit("b:0", zombie, tasks=TASKS, results=self.noisy(2))
        assert world.monitor.bundles(["b:0"])[0].results == self.noisy(1)

    def test_an_item_never_points_to_an_object_that_could_not_be_stored(
        self, world, aws_stack, monkeypatch
    ):
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        before = item(aws_stack, "b:0")

        def put(*_args, **_options) -> None:
            raise TransientError("no answer")

        monkeypatch.setattr(S3Store, "put", put)
        with pytest.raises(TransientError):
            world.monitor.commit("b:0", lease, tasks=TASKS, results=self.noisy(1))
        assert item(aws_stack, "b:0") == before

    def test_a_missing_object_is_named_with_the_likely_cause(self, world, aws_stack):
        lease = world.monitor.claim("b:0", owner="me", lease_s=30).lease
        world.monitor.commit("b:0", lease, tasks=TASKS, results=self.noisy(1))
        key = item(aws_stack, "b:0")["spill"]["S"]
        world.store.delete(key)
        with pytest.raises(PermanentError, match=f"b:0 is gone.*{key}.*lifecycle"):
            world.monitor.bundles(["b:0"])


class TestSession:
    def test_counts_requests_including_retries(self, aws_stack):
        aws = Aws(aws_stack.settings, SystemClock())
        queue = aws.task_queue()
        queue.depth()
        queue.depth()
        aws.client("sqs").meta.events.register_first(
            "needs-retry.sqs.ListQueues", lambda attempts, **_: 0.0 if attempts == 1 else None
        )
        aws.client("sqs").list_queues()
        assert aws.meter.counts() == {
            ("sqs", "GetQueueUrl"): 1,
            ("sqs", "GetQueueAttributes"): 2,
            ("sqs", "ListQueues"): 2,
        }

    def test_makes_one_client_for_each_service_with_a_connection_for_each_thread(self, aws_account):
        aws = Aws(Settings(region="eu-west-1"), SystemClock(), threads=37)
        client = aws.client("sqs")
        assert aws.client("sqs") is client
        config = client.meta.config
        assert (config.max_pool_connections, config.region_name) == (37, "eu-west-1")
        assert config.read_timeout > 20  # longer than the longest poll
        assert config.retries["mode"] == "standard"

    def test_honours_endpoint_variables(self, aws_account, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        aws = Aws(Settings(), SystemClock())
        assert aws.client("s3").meta.endpoint_url == "http://127.0.0.1:9"


class TestPresigned:
    def test_url_gives_the_object_to_anyone(self, world):
        world.store.put("movies/b/0.mp4", b"movie", content_type="video/mp4")
        url = world.store.url("movies/b/0.mp4", expires_s=600)
        assert "X-Amz-Expires=600" in url
        answer = requests.get(url, timeout=5)
        assert answer.content == b"movie"
        assert answer.headers["Content-Type"] == "video/mp4"

    def test_form_stores_one_file_of_limited_size(self, world):
        url, fields = world.store.upload_form("uploads/c/1", max_bytes=1_000, expires_s=60)
        answer = requests.post(url, data=fields, files={"file": b"sleep 1\n"}, timeout=5)
        assert answer.ok
        assert world.store.get("uploads/c/1") == b"sleep 1\n"
        policy = json.loads(base64.b64decode(fields["policy"]))
        assert ["content-length-range", 0, 1_000] in policy["conditions"]
        assert {"key": "uploads/c/1"} in policy["conditions"]

    def test_form_of_a_content_takes_that_size_and_names_its_checksum(self, world):
        data = b"content"
        digest = hashlib.sha256(data).hexdigest()
        key = f"uploads/c/{digest}"
        assert world.store.stored(key) is None
        url, fields = world.store.content_form(key, sha256=digest, size=len(data), expires_s=60)
        assert requests.post(url, data=fields, files={"file": data}, timeout=5).ok
        assert world.store.get(key) == data
        found = world.store.stored(key)
        assert found.size == len(data)
        assert abs(found.at - time.time()) < 60
        conditions = json.loads(base64.b64decode(fields["policy"]))["conditions"]
        assert ["content-length-range", 7, 7] in conditions
        checksum = base64.b64encode(bytes.fromhex(digest)).decode()
        assert {"x-amz-checksum-sha256": checksum} in conditions


class TestStack:
    @pytest.mark.parametrize("stage", ["dev", "prod"])
    def test_names_are_those_of_the_settings(self, aws_account, stage):
        outputs = create_stack(stage, f"taskfleet-names-{stage}")
        settings = Settings(stage=stage)
        assert outputs["TaskQueueName"] == settings.task_queue
        assert outputs["HighTaskQueueName"] == settings.high_queue
        assert outputs["TaskDeadLettersName"] == settings.task_queue + "_dead"
        assert outputs["ResponseQueueName"] == settings.response_queue
        assert outputs["ResponseDeadLettersName"] == settings.response_queue + "_dead"
        assert outputs["UploadQueueName"] == settings.upload_queue
        assert outputs["UploadDeadLettersName"] == settings.upload_queue + "_dead"
        assert outputs["MonitorTableName"] == settings.monitor_table
        assert outputs["BucketName"] == f"taskfleet-names-{stage}"
        assert all(outputs[name].startswith("arn:aws:") for name in outputs if name.endswith("Arn"))

    @pytest.mark.parametrize("name", ["task_queue", "response_queue", "upload_queue"])
    def test_redrive_exceeds_all_attempts_and_dead_letters_are_kept_longer(self, aws_stack, name):
        sqs = aws_stack.client("sqs")
        queue = getattr(aws_stack.settings, name)

        def attributes(queue_name: str) -> dict:
            url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
            return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

        policy = json.loads(attributes(queue)["RedrivePolicy"])
        assert policy["deadLetterTargetArn"] == attributes(f"{queue}_dead")["QueueArn"]
        assert int(policy["maxReceiveCount"]) >= 3 * RetryPolicy().max_attempts
        retention = "MessageRetentionPeriod"
        assert int(attributes(f"{queue}_dead")[retention]) > int(attributes(queue)[retention])
