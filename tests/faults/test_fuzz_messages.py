"""Messages on the queues that anybody may have written: the worker, the collector and the reader of
uploads live on, what cannot be read becomes a dead letter with its reason, and the batches beside
it come to their results."""

import json
import logging
import random
import re
import uuid
from itertools import count

import pytest
from hypothesis import strategies as st

from ec2_worker.asides import SET_ASIDE_DELIVERIES
from taskfleet.bundle import job_id
from taskfleet.errors import InvalidTask, Undecodable
from taskfleet.ports import OutgoingMessage
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.queues import decode_bundle, decode_upload
from tests.faults.fuzz_cloud import TASKS, judge, make_cloud
from tests.faults.fuzz_inputs import SEED, near, tried
from tests.support.worker import HandWorker

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def seed(deep):
    return random.SystemRandom().randrange(2**32) if deep else SEED


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Keep what is logged of each message out of the report, which shows the one that fails."""
    caplog.set_level(logging.CRITICAL)


def bundle(batch_id, tasks):
    return {
        "v": 1,
        "job_id": job_id(batch_id, 0),
        "client_id": "alice",
        "batch_id": batch_id,
        "tasks": tasks,
        "options": {"timeout_s": 60, "max_attempts": 2},
    }


def fault_of(body):
    """Returns why a body is no bundle, None if it is one."""
    try:
        decode_bundle(body)
    except (Undecodable, InvalidTask) as error:
        return str(error)
    return None


LEGACY = {"clientID": 56783, "jobID": 152, "task": "sleep 8"}


def test_a_worker_survives_every_message(figures, deep, seed):
    found = figures("fuzz", unit="inputs")
    api = make_cloud()
    cloud = api.cloud
    dead = {}
    numbers = count()

    def check(body):
        number = next(numbers)
        if number % 10 == 0:  # work of a client beside it
            api.submit(TASKS)
        cloud.tasks.send([OutgoingMessage(body)])
        worker = HandWorker(cloud, api.registry, rng=random.Random(number))
        worker.work()
        for _ in range(2 * SET_ASIDE_DELIVERIES):
            if not (cloud.tasks.depth().backlog + cloud.tasks.depth().in_flight):
                break
            cloud.clock.sleep(1_000)
            worker.work()
        else:
            raise AssertionError("the message never leaves the queue")
        letters = cloud.dead.receive(10, wait_s=0, visibility_s=30)
        cloud.dead.delete(letters)
        reasons = [letter.attributes.get("reason") for letter in letters if letter.body == body]
        fault = fault_of(body)
        if fault is not None:
            assert reasons == [fault]
            dead[fault[:40]] = body
        assert all(reasons)
        assert not [each for each in reasons if each.startswith("unexpected")], reasons
        api.run()

    batch_id = api.submit(["double 1"])  # that of messages that could be real
    inputs = st.one_of(
        near(bundle(batch_id, [[0, "double", 1]])),
        near(bundle(batch_id, [[0, "double", 1, {"timeout_s": 3}]])),
        near(bundle(uuid.UUID(int=seed).hex[:26], [[0, "sleep", 1], [1, "none", None]])),
        near(LEGACY),
    )
    found.add(tried=tried(inputs, check, examples=5_000 if deep else 120, seed=seed))
    found.add(fired=len(dead))
    assert len(dead) > 5
    end = judge(api, besides={batch_id})
    found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, f"seed {seed}: {end.faults[:3]}"


def response(batch_id, number=0, rows=([0, "SUCCEEDED", 2.0],)):
    named = ("index", "status", "result")
    return {
        "v": 1,
        "job_id": job_id(batch_id, number),
        "client_id": "alice",
        "batch_id": batch_id,
        "results": [dict(zip(named, row, strict=True)) for row in rows],
        "timings": {"double": {"tasks": 1, "seconds": 0.5}},
        "checksum": 7,
        "spend": {},
    }


ANSWERED = {"clientID": 56783, "jobID": 152, "status": "SUCCEEDED", "result": None}


def test_the_collector_survives_every_response(figures, deep, seed):
    found = figures("fuzz", unit="inputs")
    api = make_cloud()
    forged = api.submit(["double 1", "double 2"])  # that of responses that could be real
    unread = count()
    numbers = count()

    def check(body):
        if next(numbers) % 10 == 0:
            api.submit(TASKS)
        decoded = decode_responses(body)
        if isinstance(decoded, list):
            [next(unread) for each in decoded if isinstance(each, Undecodable)]
        event = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {}}
        answer = api.client.lambda_.invoke("collect_responses", {"Records": [event]})
        kept = answer.payload["batchItemFailures"]
        # A response to a program of 2014 stays for that program, and nothing else does.
        assert bool(kept) == (not isinstance(decoded, list)), kept

    other = response(uuid.UUID(int=seed).hex[:26], 3, ([4, "FAILED", None],))
    several = {"v": 1, "responses": [response(forged), other]}
    inputs = st.one_of(*(near(each) for each in (response(forged), other, several, ANSWERED)))
    found.add(tried=tried(inputs, check, examples=5_000 if deep else 120, seed=seed))
    found.add(fired=next(unread))
    end = judge(api, besides={forged})
    found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, f"seed {seed}: {end.faults[:3]}"


def test_the_reader_of_uploads_survives_every_message(figures, deep, seed):
    found = figures("fuzz", unit="inputs")
    api = make_cloud()
    upload_id = api.upload(b"double 1\ndouble 2\n")
    answer = api.call("POST", "/batches", {"upload_id": upload_id})
    batch_id = answer.json_body["batch_id"]
    refused = count()

    def check(body):
        event = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {}}
        try:
            decode_upload(body)
        except Undecodable as error:
            # SQS delivers it again, and moves it to the dead-letter queue in the end.
            with pytest.raises(Undecodable, match=re.escape(str(error))):
                api.client.lambda_.invoke("expand_upload", {"Records": [event]})
            next(refused)
        else:
            api.client.lambda_.invoke("expand_upload", {"Records": [event]})

    inputs = near({"v": 1, "batch_id": batch_id, "ended": batch_id})
    found.add(tried=tried(inputs, check, examples=5_000 if deep else 120, seed=seed))
    found.add(fired=next(refused))
    end = judge(api)
    assert end.tasks == 2
    found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, f"seed {seed}: {end.faults[:3]}"


def test_dead_letters_of_every_form_are_listed_to_their_clients_only(figures, deep, seed):
    found = figures("fuzz", unit="inputs")
    api = make_cloud()
    batch_id = api.submit(["double 1"])
    api.run()
    queues = {
        "tasks": api.cloud.tasks,
        "responses": api.cloud.responses,
        "uploads": api.cloud.uploads,
    }

    def check(sent):
        name, body = sent
        queue = queues[name]
        queue.send([OutgoingMessage(body)])
        (message,) = queue.receive(1, wait_s=0, visibility_s=30)
        queue.dead_letter(message, "it was fuzzed")
        answer = api.call("GET", f"/dead-letters?queue={name}")
        assert answer.status_code == 200, answer.body
        (letter,) = answer.json_body["letters"] or [None]
        if "bob" in body:
            assert letter is None
        elif letter is not None and letter["body"] is not None:
            assert "alice" in body or batch_id in body
        api.cloud.clock.sleep(1_000)  # what was looked at is visible again
        moved = api.call("POST", "/dead-letters/redrive", {"queue": name})
        assert moved.json_body == {"moved": int(letter is not None)}
        for each in (queue, queue.dead_letters()):
            each.delete(each.receive(10, wait_s=0, visibility_s=30))

    bobs = bundle(batch_id, [[0, "double", 1]]) | {"client_id": "bob"}
    inputs = st.tuples(
        st.sampled_from(sorted(queues)),
        st.one_of(
            *(
                near(each).filter(lambda text: "bob" not in text)
                for each in (
                    bundle(batch_id, []),
                    response(batch_id),
                    LEGACY | {"clientID": "alice"},
                )
            ),
            st.just(json.dumps(bobs)),
            st.just(json.dumps({"v": 1, "responses": [bobs, bobs | {"client_id": "alice"}]})),
        ),
    )
    found.add(tried=tried(inputs, check, examples=5_000 if deep else 60, seed=seed))
