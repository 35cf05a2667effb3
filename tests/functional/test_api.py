"""The answers of the HTTP API, route by route."""

import json
import math
import re

import jsonschema
import pytest

from chalice_app import openapi
from taskfleet.errors import InvalidTask, PermanentError, Undecodable
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.wire import token
from taskfleet.wire.http.times import iso_time
from tests.support.frontend import SECRET, Frontend
from tests.support.worker import failing_kind


@pytest.fixture
def api():
    return Frontend()


class TestSubmitting:
    def test_a_json_batch_is_taken_in_and_enqueued(self, api):
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1", "sleep 2"], "name": "two"})
        assert answer.status_code == 202
        body = answer.json_body
        assert re.fullmatch("[0-9a-z]{26}", body["batch_id"])
        assert body == {
            "batch_id": body["batch_id"],
            "status": "QUEUED",
            "total": 2,
            "url": f"/batches/{body['batch_id']}",
        }
        assert api.cloud.tasks.depth().backlog == 1
        assert api.call("GET", body["url"]).json_body["name"] == "two"

    def test_a_text_batch_skips_blanks_and_comments_and_takes_json_lines(self, api):
        text = '# workload\n\nsleep 1\r\n  sleep 2  \n{"kind": "sleep", "params": 3}\n#sleep 9'
        answer = api.call(
            "POST", "/batches?name=lines&idempotency_key=k", text, content_type="text/plain"
        )
        assert answer.status_code == 202
        assert answer.json_body["total"] == 3
        api.run()
        rows = api.call("GET", f"{answer.json_body['url']}/results").json_body["results"]
        assert [row["task"] for row in rows] == ["sleep 1", "sleep 2", "sleep 3"]
        assert api.call("GET", answer.json_body["url"]).json_body["name"] == "lines"

    def test_a_text_batch_may_begin_with_a_byte_order_mark(self, api):
        answer = api.call(
            "POST", "/batches", b"\xef\xbb\xbfsleep 1", content_type="text/plain; charset=UTF-8"
        )
        assert answer.status_code == 202

    def test_without_a_content_type_a_body_is_json(self, api):
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1"]}, content_type=None)
        assert answer.status_code == 202

    @pytest.mark.parametrize("kind", ["json", "text"])
    def test_the_same_key_and_payload_is_one_batch(self, api, kind):
        def send():
            if kind == "json":
                body = {"tasks": ["sleep 1"] * 3, "idempotency_key": "k"}
                return api.call("POST", "/batches", body)
            path = "/batches?idempotency_key=k"
            return api.call("POST", path, "sleep 1\n" * 3, content_type="text/plain")

        first, second = send(), send()
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json_body == second.json_body
        assert api.cloud.tasks.depth().backlog == 1

    def test_the_same_key_with_another_payload_is_a_conflict(self, api):
        api.submit(["sleep 1"], idempotency_key="k")
        body = {"tasks": ["sleep 2"], "idempotency_key": "k"}
        answer = api.call("POST", "/batches", body)
        assert answer.status_code == 409
        assert answer.json_body["Code"] == "ConflictError"
        assert "idempotency_key" in answer.json_body["Message"]

    def test_the_same_key_of_another_client_is_another_batch(self, api):
        body = {"tasks": ["sleep 1"], "idempotency_key": "k"}
        mine = api.call("POST", "/batches", body)
        theirs = api.call("POST", "/batches", body, as_client="bob")
        assert mine.json_body["batch_id"] != theirs.json_body["batch_id"]

    @pytest.mark.parametrize(
        ("headers", "base"),
        [
            ({"host": "127.0.0.1:8000"}, "http://127.0.0.1:8000"),
            ({"host": "x.example.org", "x-forwarded-proto": "https"}, "https://x.example.org"),
            ({"host": "evil/../?"}, ""),
            ({"host": "a b"}, ""),
        ],
    )
    def test_the_url_is_absolute_when_the_host_is_known(self, api, headers, base):
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1"]}, headers=headers)
        assert answer.json_body["url"] == f"{base}/batches/{answer.json_body['batch_id']}"

    def test_the_url_keeps_the_stage_that_api_gateway_puts_into_the_path(self, api):
        event = api.client.http._local_gateway._generate_lambda_event(
            "POST", "/batches", {"host": "x.example.org", "x-forwarded-proto": "https"}, b""
        )
        event["body"] = json.dumps({"tasks": ["sleep 1"]})
        event["requestContext"]["path"] = "/api/batches"
        event["requestContext"]["authorizer"] = {"principalId": "alice"}
        answer = json.loads(api.app(event, None)["body"])
        assert answer["url"] == f"https://x.example.org/api/batches/{answer['batch_id']}"

    def test_a_busy_queue_is_a_503_that_says_when_to_come_back(self):
        api = Frontend(fault=lambda name: "before" if name == "send" else None)
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1"]})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json_body["Code"] == "ServiceUnavailableError"
        assert "throttled" not in answer.json_body["Message"]

    def test_a_submission_cut_short_is_resumed_by_sending_it_again(self):
        broken = ["send"]
        api = Frontend(fault=lambda name: "after" if name in broken else None)
        body = {"tasks": ["sleep 1"] * 4, "idempotency_key": "k"}
        assert api.call("POST", "/batches", body).status_code == 503
        broken.clear()
        answer = api.call("POST", "/batches", body)
        assert answer.status_code == 202
        api.run()
        status = api.call("GET", answer.json_body["url"]).json_body
        assert (status["succeeded"], status["total"]) == (4, 4)


class TestUploading:
    def test_an_upload_becomes_a_batch_that_is_read_after_the_answer(self, api):
        upload_id = api.upload(b"# workload\nsleep 1\n\nsleep 2\n")
        answer = api.call("POST", "/batches", {"upload_id": upload_id, "name": "file"})
        batch_id = answer.json_body["batch_id"]
        assert answer.status_code == 202
        assert answer.json_body == {
            "batch_id": batch_id,
            "status": "QUEUED",
            "total": 0,
            "url": f"/batches/{batch_id}",
        }
        api.run()
        batch = api.call("GET", answer.json_body["url"]).json_body
        assert (batch["name"], batch["status"], batch["total"]) == ("file", "DONE", 2)
        assert (batch["succeeded"], batch["error"]) == (2, None)
        rows = api.call("GET", f"/batches/{batch_id}/results").json_body["results"]
        assert [row["task"] for row in rows] == ["sleep 1", "sleep 2"]

    def test_the_form_is_for_a_file_of_the_callers_own_and_of_limited_size(self, api):
        asked = []
        store = api.cloud.store
        make = store.upload_form
        store.upload_form = lambda key, **limits: asked.append((key, limits)) or make(key, **limits)
        answer = api.call("POST", "/uploads", {}, as_client="bob")
        assert answer.status_code == 201
        assert set(answer.json_body) == {"upload_id", "url", "fields"}
        limits = {"max_bytes": 1_000_000_000, "expires_s": 3600}
        assert asked == [(f"uploads/bob/{answer.json_body['upload_id']}", limits)]

    def test_a_bad_line_is_named_by_its_number_and_nothing_runs(self, api):
        upload_id = api.upload(b"sleep 1\n# why\nsleep -1\nsleep 2\n")
        answer = api.call("POST", "/batches", {"upload_id": upload_id})
        api.run()
        batch = api.call("GET", answer.json_body["url"]).json_body
        assert (batch["status"], batch["total"]) == ("CANCELLED", 0)
        assert batch["error"] == "line 3: sleep -1 is negative"
        assert batch["finished_at"] is not None
        assert api.cloud.tasks.depth().backlog == 0

    def test_handing_an_upload_in_again_is_the_same_batch(self, api):
        upload_id = api.upload(b"sleep 1\n")
        first = api.call("POST", "/batches", {"upload_id": upload_id}).json_body
        assert api.call("POST", "/batches", {"upload_id": upload_id}).json_body == first
        api.run()
        again = api.call("POST", "/batches", {"upload_id": upload_id}).json_body
        assert (again["batch_id"], again["status"]) == (first["batch_id"], "DONE")
        assert api.cloud.uploads.depth().backlog == 0

    def test_the_same_file_under_the_same_key_is_one_batch_and_another_file_a_conflict(self, api):
        def send(data):
            body = {"upload_id": api.upload(data), "idempotency_key": "k"}
            return api.call("POST", "/batches", body)

        first = send(b"sleep 1\n")
        assert send(b"sleep 1\n").json_body["batch_id"] == first.json_body["batch_id"]
        assert send(b"sleep 2\n").status_code == 409
        body = {"tasks": ["sleep 1"], "idempotency_key": "k"}
        assert api.call("POST", "/batches", body).status_code == 409

    def test_a_batch_outlives_its_file(self, api):
        upload_id = api.upload(b"sleep 1\n")
        first = api.call("POST", "/batches", {"upload_id": upload_id}).json_body
        api.cloud.store.delete(f"uploads/alice/{upload_id}")
        again = api.call("POST", "/batches", {"upload_id": upload_id})
        assert (again.status_code, again.json_body["batch_id"]) == (202, first["batch_id"])
        api.run()
        batch = api.call("GET", first["url"]).json_body
        assert (batch["status"], "gone" in batch["error"]) == ("CANCELLED", True)

    def test_cut_short_it_is_handed_in_by_sending_it_again(self):
        broken = ["send"]
        api = Frontend(fault=lambda name: "before" if name in broken else None)
        body = {"upload_id": api.upload(b"sleep 1\n")}
        assert api.call("POST", "/batches", body).status_code == 503
        broken.clear()
        answer = api.call("POST", "/batches", body)
        assert answer.status_code == 202
        api.run()
        assert api.call("GET", answer.json_body["url"]).json_body["status"] == "DONE"

    def test_a_malformed_message_fails_so_that_it_becomes_a_dead_letter(self, api):
        record = {"messageId": "m", "receiptHandle": "r"}
        for body in ("x", "{}", '{"v": 2, "batch_id": "b"}'):
            with pytest.raises(Undecodable):
                api.client.lambda_.invoke("expand_upload", {"Records": [record | {"body": body}]})

    def test_a_message_for_a_batch_that_is_gone_is_ignored(self, api):
        body = '{"v": 1, "batch_id": "b"}'
        record = {"messageId": "m", "receiptHandle": "r", "body": body}
        api.client.lambda_.invoke("expand_upload", {"Records": [record]})
        assert api.cloud.tasks.depth().backlog == 0


class TestReading:
    def test_a_batch_tells_its_counts(self):
        kinds = [sleep, failing_kind("bad", lambda: PermanentError("no such picture"))]
        api = Frontend(registry=Registry(kinds))
        batch_id = api.submit(["sleep 1", "bad", "sleep 2"])
        assert api.call("GET", f"/batches/{batch_id}").json_body["status"] == "QUEUED"
        api.run()
        answer = api.call("GET", f"/batches/{batch_id}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.json_body
        assert set(body) == {
            *("batch_id", "name", "status", "total", "succeeded", "failed", "cancelled"),
            *("created_at", "finished_at", "eta_s", "aws_calls", "cost_usd", "error", "trace_id"),
            *("options", "open", "retry_of", "kinds", "followers", "at_risk", "quote"),
        }
        assert (body["status"], body["succeeded"], body["failed"]) == ("DONE", 2, 1)
        assert body["finished_at"] >= body["created_at"]

    def test_results_come_in_order_and_in_pages(self, api):
        batch_id = api.submit([f"sleep {n}" for n in range(7)])
        api.run()
        rows, cursor = [], ""
        while cursor is not None:
            path = f"/batches/{batch_id}/results?limit=3" + (f"&cursor={cursor}" if cursor else "")
            page = api.call("GET", path).json_body
            assert len(page["results"]) <= 3
            rows, cursor = rows + page["results"], page["cursor"]
        assert [row["index"] for row in rows] == list(range(7))
        assert rows[3]["task"] == "sleep 3"
        assert rows[3]["task_id"] == f"{batch_id}/3"
        assert rows[3]["status"] == "SUCCEEDED"

    def test_the_list_has_the_callers_batches_newest_first(self, api):
        ids = []
        for _ in range(3):
            ids.append(api.submit(["sleep 1"]))
            api.cloud.clock.sleep(1)
        api.call("POST", "/batches", {"tasks": ["sleep 1"]}, as_client="bob")
        first = api.call("GET", "/batches?limit=2").json_body
        rest = api.call("GET", f"/batches?limit=2&cursor={first['cursor']}").json_body
        found = [batch["batch_id"] for batch in first["batches"] + rest["batches"]]
        assert found == ids[::-1]
        assert rest["cursor"] is None

    @pytest.mark.parametrize(("wait", "held_s"), [(1, 1), (20, 2)])
    def test_wait_holds_the_answer_no_longer_than_asked_nor_than_helps(self, api, wait, held_s):
        batch_id = api.submit(["sleep 1"])
        before = api.cloud.clock.now()
        answer = api.call("GET", f"/batches/{batch_id}?wait={wait}")
        assert answer.json_body["status"] == "QUEUED"
        assert api.cloud.clock.now() - before == pytest.approx(held_s)

    def test_wait_on_a_finished_batch_answers_at_once(self, api):
        batch_id = api.submit(["sleep 1"])
        api.run()
        before = api.cloud.clock.now()
        assert api.call("GET", f"/batches/{batch_id}?wait=25").json_body["status"] == "DONE"
        assert api.cloud.clock.now() == before

    def test_cancelling_ends_what_has_not_started(self, api):
        batch_id = api.submit(["sleep 1"] * 3)
        answer = api.call("DELETE", f"/batches/{batch_id}")
        assert answer.status_code == 202
        assert answer.json_body["status"] == "CANCELLED"
        api.run()
        assert api.call("GET", f"/batches/{batch_id}").json_body["cancelled"] == 3

    @pytest.mark.parametrize(
        ("method", "tail"), [("GET", ""), ("GET", "/results"), ("DELETE", ""), ("GET", "?wait=5")]
    )
    def test_another_clients_batch_cannot_be_told_from_none(self, api, method, tail):
        batch_id = api.submit(["sleep 1"])
        theirs = api.call(method, f"/batches/{batch_id}{tail}", as_client="bob")
        unknown = api.call(method, f"/batches/{'0' * 26}{tail}", as_client="bob")
        assert theirs.status_code == unknown.status_code == 404
        assert theirs.body.decode().replace(batch_id, "0" * 26) == unknown.body.decode()

    @pytest.mark.parametrize("batch_id", ["x", "a" * 3000, "A" * 26, "..", "%00" * 26, "é"])
    def test_a_malformed_id_is_not_looked_up(self, batch_id):
        api = Frontend(fault=lambda name: "before" if name == "batch" else None)
        assert api.call("GET", f"/batches/{batch_id}").status_code == 404


class TestWhoMayCall:
    ROUTES = (
        ("POST", "/batches"),
        ("POST", f"/batches/{'0' * 26}/tasks"),
        ("POST", f"/batches/{'0' * 26}/close"),
        ("POST", f"/batches/{'0' * 26}/retry"),
        ("POST", "/quote"),
        ("POST", "/uploads"),
        ("GET", "/batches"),
        ("GET", f"/batches/{'0' * 26}"),
        ("DELETE", f"/batches/{'0' * 26}"),
        ("GET", f"/batches/{'0' * 26}/results"),
        ("GET", f"/batches/{'0' * 26}/stream"),
        ("GET", f"/batches/{'0' * 26}/audit"),
        ("GET", f"/batches/{'0' * 26}/tasks/0"),
        ("GET", f"/batches/{'0' * 26}/tasks/0/log"),
        ("GET", "/me"),
        ("GET", "/kinds"),
        ("GET", "/fleet"),
        ("GET", "/fleet/history"),
        ("GET", "/dead-letters"),
        ("POST", "/dead-letters/redrive"),
        ("GET", "/schedules"),
        ("POST", "/schedules"),
        ("DELETE", "/schedules/{name}"),
        ("GET", "/openapi.json"),
    )

    PUBLIC = (
        ("GET", "/health"),
        ("GET", "/"),
        ("GET", "/ui/{version}/{name}"),
        ("GET", "/ui/{version}/{name}/{file}"),
    )

    def test_the_routes_above_are_all(self, api):
        routes = {
            (method, path.replace("{batch_id}", "0" * 26).replace("{index}", "0"))
            for path, methods in api.app.routes.items()
            for method in methods
        }
        assert routes == {*self.ROUTES, *self.PUBLIC}

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_without_a_token_nothing_but_401(self, api, method, path):
        assert api.call(method, path, as_client=None).status_code == 401

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "Bearer",
            "Bearer ",
            "Bearer nonsense",
            "Basic YWxpY2U6",
            "Bearer " + token.make("another secret of thirty-two characters", "alice", 60, 2e9),
            "Bearer " + token.make(SECRET, "alice", 60, 1e9),
            token.make(SECRET, "alice", 60, 2e9),
        ],
        ids=["empty", "scheme", "blank", "garbage", "basic", "forged", "expired", "bare"],
    )
    def test_a_bad_token_is_403(self, api, value):
        for method, path in self.ROUTES:
            answer = api.call(method, path, headers={"authorization": value})
            assert answer.status_code == 403, (method, path)

    def test_the_scheme_is_read_in_any_case(self, api):
        headers = {"authorization": f"bearer {api.token()}"}
        assert api.call("GET", "/batches", headers=headers).status_code == 200

    def test_health_needs_no_token(self, api):
        answer = api.call("GET", "/health", as_client=None)
        assert answer.status_code == 200
        assert answer.json_body["status"] == "ok"

    def test_the_answer_to_api_gateway_is_a_policy_for_every_route(self, api):
        event = {
            "type": "TOKEN",
            "authorizationToken": f"Bearer {api.token('carol')}",
            "methodArn": "arn:aws:execute-api:eu-west-1:123456789012:abc/api/GET/batches",
        }
        answer = api.app.handler_map["authorize"](event, None)
        assert answer["principalId"] == "carol"
        (statement,) = answer["policyDocument"]["Statement"]
        assert statement["Effect"] == "Allow"
        resource = "arn:aws:execute-api:eu-west-1:123456789012:abc/api/*/*"
        assert statement["Resource"] == [resource]

    def test_the_policy_of_a_reader_is_for_get_only(self, api):
        arn = "arn:aws:execute-api:eu-west-1:123456789012:abc/api"
        event = {
            "type": "TOKEN",
            "authorizationToken": f"Bearer {api.token('carol', role=token.Role.READER)}",
            "methodArn": f"{arn}/POST/batches",
        }
        answer = api.app.handler_map["authorize"](event, None)
        (statement,) = answer["policyDocument"]["Statement"]
        assert statement["Resource"] == [f"{arn}/GET/*"]
        assert answer["context"]["role"] == "reader"

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_a_reader_may_call_what_changes_nothing(self, api, method, path):
        bearer = {"authorization": f"Bearer {api.token(role=token.Role.READER)}"}
        answer = api.call(method, path, headers=bearer)
        assert (answer.status_code == 403) == (method != "GET"), answer.body

    def test_a_reader_changes_nothing_of_its_own_client(self, api):
        batch_id = api.submit(["sleep 0"])
        bearer = {"authorization": f"Bearer {api.token(role=token.Role.READER)}"}
        assert api.call("GET", f"/batches/{batch_id}", headers=bearer).status_code == 200
        assert api.call("DELETE", f"/batches/{batch_id}", headers=bearer).status_code == 403
        assert (
            api.call("POST", "/batches", {"tasks": ["sleep 0"]}, headers=bearer).status_code == 403
        )
        assert api.cloud.monitor.batch(batch_id).cancelled_at is None
        assert api.cloud.tasks.depth().backlog == 1

    def test_everyone_may_ask_who_they_are(self, api):
        now = api.cloud.clock.now()
        for role in token.Role:
            bearer = {"authorization": f"Bearer {api.token('carol', 600.0, role)}"}
            assert api.call("GET", "/me", headers=bearer).json_body == {
                "client_id": "carol",
                "role": role.value,
                "expires_at": iso_time(math.ceil(now + 600)),
            }
        assert api.call("GET", "/me?x=1").status_code == 422

    def test_a_refusal_says_deny(self, api):
        event = {"type": "TOKEN", "authorizationToken": "x", "methodArn": "arn:aws:x:y:z:a/b/c"}
        (statement,) = api.app.handler_map["authorize"](event, None)["policyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"


class TestFaultsOfTheService:
    def test_a_bug_is_a_500_without_details_and_a_traceback_in_the_log(self, caplog):
        def fault(name):
            raise RuntimeError("the inside")

        answer = Frontend(fault=fault).call("POST", "/batches", {"tasks": ["sleep 1"]})
        assert answer.status_code == 500
        assert answer.json_body == {
            "Code": "InternalServerError",
            "Message": "An internal server error occurred.",
        }
        assert "the inside" in caplog.text
        assert "Traceback" in caplog.text

    def test_a_value_error_of_a_bug_is_not_taken_for_a_bad_cursor(self):
        def fault(name):
            raise ValueError("the inside")

        api = Frontend(fault=fault)
        assert api.call("GET", "/batches").status_code == 500

    def test_a_message_that_quotes_the_client_stays_short(self):
        def parse(raw):
            raise InvalidTask(f"what is {raw}?")

        api = Frontend(registry=Registry([TaskKind("odd", lambda p, c: None, parse=parse)]))
        answer = api.call("POST", "/batches", {"tasks": ["odd " + "x" * 100_000]})
        assert answer.status_code == 422
        assert len(answer.body) < 1_000

    def test_it_is_one_line_whatever_the_request_has_in_it(self, api):
        for request in ({"a\n\x1b[2J": 1, "tasks": []}, {"open": True, "b\u2028": 1}):
            answer = api.call("POST", "/batches", request)
            assert answer.status_code == 422
            assert answer.json_body["Message"].isprintable(), answer.body
        assert "unknown field `b\\u2028`" in answer.json_body["Message"]


class TestSpec:
    @pytest.fixture
    def spec(self, api):
        answer = api.call("GET", "/openapi.json")
        assert answer.status_code == 200
        return answer.json_body

    def test_it_has_every_route(self, api, spec):
        documented = {
            (method.upper(), path)
            for path, operations in spec["paths"].items()
            for method in operations
            if method != "parameters"
        }
        routed = {(m, path) for path, methods in api.app.routes.items() for m in methods}
        page = {route for route in routed if route[1] == "/" or route[1].startswith("/ui/")}
        assert documented == routed - page

    def test_every_reference_leads_somewhere(self, spec):
        references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(spec)))
        known = {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]}
        assert references
        assert references <= known

    def test_every_operation_has_a_name_and_every_link_leads_to_one(self, spec):
        operations = {
            operation["operationId"]: operation
            for methods in spec["paths"].values()
            for method, operation in methods.items()
            if method != "parameters"
        }
        assert len(operations) == sum(len(m) - ("parameters" in m) for m in spec["paths"].values())
        links = [
            link
            for operation in operations.values()
            for answer in operation["responses"].values()
            for link in answer.get("links", {}).values()
        ]
        assert len(links) > 30
        assert {link["operationId"] for link in links} <= set(operations)

    def test_who_changes_the_document_changes_no_other(self, spec):
        mine = openapi.spec()
        mine["paths"]["/batches"]["post"]["responses"]["202"]["links"].clear()
        assert json.loads(json.dumps(openapi.spec())) == spec

    def test_a_link_of_an_answer_leads_on(self, api, spec):
        answer = api.call("POST", "/batches", {"tasks": ["sleep 1"]})
        link = spec["paths"]["/batches"]["post"]["responses"]["202"]["links"]["auditBatch"]
        assert link["parameters"] == {"path.batch_id": "$response.body#/batch_id"}
        batch_id = answer.json_body["batch_id"]
        assert api.call("GET", f"/batches/{batch_id}/audit").status_code == 200

    def test_tasks_have_their_form(self, spec):
        schemas = spec["components"]["schemas"]
        tasks = schemas["SubmitRequest"]["properties"]["tasks"]
        assert tasks["minItems"] == 1
        validator = jsonschema.Draft202012Validator({**tasks, "components": spec["components"]})
        validator.validate(["sleep 1000", {"kind": "sleep", "params": 1000, "timeout_s": 5}])
        for faulty in ([], [""], [7], [{"params": 1}], [{"kind": "sleep", "colour": "red"}]):
            assert not validator.is_valid(faulty), faulty

    def test_descriptions_are_flowing_text_that_markdown_does_not_take_for_code(self, spec):
        described = {
            name: schema["description"]
            for name, schema in spec["components"]["schemas"].items()
            if "description" in schema
        }
        assert described["BatchView"].startswith("The status of a batch.\n\n`total` is")
        for name, text in described.items():
            assert not re.search(r"\n +|[^\n]\n[^\n]|None|True|False", text), name

    def test_answers_are_as_it_says(self, api, spec):
        batch_id = api.submit(["sleep 1"])
        api.run()
        accepted = api.call("POST", "/batches", {"tasks": ["sleep 1"]})
        for answer, name in (
            (accepted, "Accepted"),
            (api.call("POST", "/uploads"), "UploadForm"),
            (api.call("GET", "/batches"), "BatchList"),
            (api.call("GET", f"/batches/{batch_id}"), "BatchView"),
            (api.call("GET", f"/batches/{batch_id}/results"), "ResultPage"),
            (api.call("GET", "/kinds"), "KindList"),
            (api.call("GET", "/health"), "Health"),
            (api.call("GET", "/batches?limit=x"), "Error"),
        ):
            schema = {**spec, "$ref": f"#/components/schemas/{name}"}
            jsonschema.validate(answer.json_body, schema)
