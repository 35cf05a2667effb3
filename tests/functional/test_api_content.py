"""Uploads by content, and the kinds and versions that the API tells."""

import hashlib

import pytest

from ec2_worker.presence import REPORTED_PACKAGES
from taskfleet.client import Client
from taskfleet.provisioner.records import WorkerRecord
from taskfleet.scheduler.upload import KEPT_DAYS, LEAST_DAYS, upload_key
from tests.support.frontend import Frontend
from tests.support.template import template

DATA = b"sleep 1\nsleep 2\n"
DIGEST = hashlib.sha256(DATA).hexdigest()
DAY_S = 86_400.0


@pytest.fixture
def api():
    return Frontend()


def ask(api, as_client="alice", **changes):
    body = {"sha256": DIGEST, "bytes": len(DATA), **changes}
    return api.call("POST", "/uploads", body, as_client=as_client)


def store(api, data=DATA):
    api.cloud.store.put(upload_key("alice", DIGEST), data, content_type="text/plain")


class TestContent:
    def test_a_new_content_gets_a_form_and_a_known_one_none(self, api):
        first = ask(api)
        assert first.status_code == 201
        assert first.json_body["upload_id"] == DIGEST
        assert first.json_body["fields"]["key"] == f"uploads/alice/{DIGEST}"
        store(api)
        again = ask(api)
        assert (again.status_code, again.json_body) == (
            200,
            {"upload_id": DIGEST, "stored": True},
        )

    def test_another_client_s_content_is_not_found(self, api):
        store(api)
        assert ask(api, as_client="bob").status_code == 201

    def test_a_content_that_expires_soon_is_sent_again(self, api):
        store(api)
        api.cloud.clock.sleep((KEPT_DAYS - LEAST_DAYS) * DAY_S - 1)
        assert ask(api).status_code == 200
        api.cloud.clock.sleep(2)
        assert ask(api).status_code == 201
        store(api)
        assert ask(api).status_code == 200

    def test_an_object_of_another_size_is_replaced(self, api):
        store(api, DATA + b"x")
        assert ask(api).status_code == 201

    def test_a_batch_may_be_made_of_it(self, api):
        store(api)
        answer = api.call("POST", "/batches", {"upload_id": DIGEST})
        assert answer.status_code == 202
        api.run()
        assert api.call("GET", answer.json_body["url"]).json_body["succeeded"] == 2

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"sha256": DIGEST.upper()}, 422),
            ({"sha256": DIGEST + "\n"}, 422),
            ({"sha256": "../" + DIGEST[3:]}, 422),
            ({"bytes": -1}, 422),
            ({"bytes": True}, 422),
            ({"more": 1}, 422),
            ({"bytes": 10**10}, 413),
        ],
    )
    def test_what_is_no_content_is_refused(self, api, changes, status):
        assert ask(api, **changes).status_code == status

    def test_the_stack_keeps_uploads_as_long_as_is_counted_on(self):
        stack = template()
        rules = stack["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        (days,) = [rule["ExpirationInDays"] for rule in rules if rule.get("Prefix") == "uploads/"]
        assert days == KEPT_DAYS


class TestPut:
    def test_a_content_is_sent_once(self, api, monkeypatch, tmp_path):
        sent, sizes = [], []
        content = api.services.uploads.content

        def told(client_id, sha256, size):
            sizes.append(size)
            return content(client_id, sha256, size)

        monkeypatch.setattr(api.services.uploads, "content", told)

        def send(_self, _url, fields, file, _on_sent):
            sent.append(fields["key"])
            api.cloud.store.put(fields["key"], file.read(), content_type="text/plain")

        monkeypatch.setattr("taskfleet.client.transport.Transport.send_form", send)
        path = tmp_path / "tasks"
        path.write_bytes(DATA)
        with api.served() as server:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            with Client(url, api.token(), backoff_s=0) as client:
                for data in (DATA, DATA, path, str(path)):
                    assert client.put(data) == DIGEST
                assert client.put(b"") == hashlib.sha256(b"").hexdigest()
        assert sent == [f"uploads/alice/{DIGEST}", f"uploads/alice/{hashlib.sha256().hexdigest()}"]
        assert api.cloud.store.get(sent[0]) == DATA
        assert sizes == [len(DATA)] * 4 + [0]


class TestKinds:
    def test_tells_every_kind_and_no_version_before_a_report(self, api):
        body = api.call("GET", "/kinds").json_body
        (kind,) = body["kinds"]
        assert (kind["name"], kind["runs_in"], kind["max_attempts"]) == ("sleep", "thread", 5)
        assert kind["schema"]["anyOf"]
        assert body["workers"] == {}

    def test_tells_the_versions_of_living_workers(self, api):
        now = api.cloud.clock.now()

        def report(name, at, versions, **changes):
            record = WorkerRecord(name, None, 1, [], at, at, versions=versions, **changes)
            api.cloud.records.report(record)

        report("a", now, {"python": "3.11", "cloudpickle": "3.1.1"})
        report("b", now, {"python": "3.12", "cloudpickle": "3.1.1"})
        report("dead", now - 1000, {"python": "3.9"})
        report("leaves", now, {"python": "3.10"}, leaving=True)
        report("old version", now, {})
        assert api.call("GET", "/kinds").json_body["workers"] == {
            "cloudpickle": ["3.1.1"],
            "python": ["3.11", "3.12"],
        }
        assert "cloudpickle" in REPORTED_PACKAGES
