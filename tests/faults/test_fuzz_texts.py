"""Texts that people and programs write: bodies, headers, queries, cursors, tokens, task files,
lists of pictures, params of every kind, schedules. What is wrong with one is said in an error made
for it, and nothing else is raised; what is accepted is kept as it is."""

import json
import logging
import random
import tempfile
import urllib.parse
from itertools import count
from pathlib import Path

import jwt
import pytest
from hypothesis import strategies as st

from animoto import listing
from taskfleet import schedule
from taskfleet.errors import InvalidTask
from taskfleet.registry import Registry
from taskfleet.wire import token
from taskfleet.wire.http.times import iso_time
from tests.faults.fuzz_cloud import judge, make_cloud
from tests.faults.fuzz_inputs import (
    JSON,
    NUMBERS,
    SCALARS,
    SEED,
    SENDABLE,
    TEXTS,
    bent,
    near,
    torn,
    tried,
)
from tests.support.frontend import SECRET

pytestmark = pytest.mark.timeout(900)

KINDS = Registry.load(["animoto.kind", "taskfleet.kinds.command", "taskfleet.kinds.python"])
ACCEPTED = {
    "sleep": 1000,
    "animoto": {
        "images": [
            "https://example.com/a.jpg",
            {"url": "https://example.com/b.jpg", "duration": 4},
        ],
        "preset": "720p",
        "music": {"url": "https://example.com/c.mp3", "fade_out": 3},
    },
    "command": {
        "argv": ["convert", "a", "b"],
        "env": {"A": "b"},
        "stdin": "x",
        "inputs": {"a": "https://example.com/a"},
        "outputs": ["*.png"],
    },
    "python": {"function": "len", "sha256": "a" * 64, "args": [[1]], "kwargs": {}},
}
"""Params near which those of each kind are tried."""


@pytest.fixture
def seed(deep):
    return random.SystemRandom().randrange(2**32) if deep else SEED


@pytest.fixture
def trial(figures, deep, seed):
    """Tries so many inputs in the slice, and forty times as many in the deep run."""
    found = figures("fuzz", unit="inputs")

    def run(inputs, check, examples):
        examples *= 40 if deep else 1
        found.add(tried=tried(inputs, check, examples=examples, seed=seed))

    run.found = found
    return run


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def one_line(error):
    """Asserts that an error can be shown to who made the input."""
    assert "\n" not in str(error)


def answered(answer):
    """Asserts that the API understood the request or says in its own form what is wrong."""
    assert answer.status_code < 500, answer.body
    if answer.status_code >= 400:
        assert answer.status_code not in (401, 403), answer.body
        assert set(answer.json_body) == {"Code", "Message"}
        assert "\n" not in answer.json_body["Message"]
    return answer


# --- bodies, headers, queries, cursors ---


def test_every_body_is_taken_or_refused(trial):
    api = make_cloud()
    batch_id = api.submit(["double 1"])
    opened = api.call("POST", "/batches", {"open": True}).json_body["batch_id"]
    refused = count()

    def check(sent):
        path, body, content_type = sent
        answer = answered(api.call("POST", path, body, content_type=content_type))
        if answer.status_code >= 400:
            next(refused)

    tasks = ["double 1", {"kind": "double", "params": 2, "max_attempts": 3}]
    options = {"timeout_s": 5, "after": [batch_id], "priority": "high", "budget_usd": 1}
    bodies = {
        "/batches": {"tasks": tasks, "name": "a", "idempotency_key": "b", **options},
        "/quote": {"tasks": tasks, "deadline_s": 60},
        f"/batches/{opened}/tasks": {"first": 0, "tasks": tasks, "close": False},
        f"/batches/{batch_id}/retry": {"status": ["FAILED"], "idempotency_key": "c"},
        "/schedules": {"name": "n", "every": "15m", "tasks": tasks, "missed": "skip"},
        "/uploads": {"sha256": "0" * 64, "bytes": 12},
        "/dead-letters/redrive": {"queue": "tasks"},
    }
    types = st.sampled_from(["application/json"] * 6 + ["text/plain", "text/plain; charset=x", ""])
    bytes_ = st.binary(max_size=30)
    inputs = st.one_of(
        *(
            st.tuples(st.just(path), st.one_of(near(body), bytes_), types)
            for path, body in bodies.items()
        )
    )
    trial(inputs, check, 150)
    trial.found.add(fired=next(refused))
    end = judge(api)
    trial.found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, end.faults[:3]


def test_every_query_and_cursor_is_taken_or_refused(trial):
    api = make_cloud()
    batch_id = api.submit(["double 1"] * 30)
    for _ in range(3):
        api.submit(["double 1"])
    api.run()
    paths = {
        "/batches": ["limit", "cursor", "name", "status", "kind"],
        f"/batches/{batch_id}": ["wait"],
        f"/batches/{batch_id}/results": ["limit", "cursor", "order", "wait", "status", "recorded"],
        f"/batches/{batch_id}/stream": ["limit", "cursor"],
        f"/batches/{batch_id}/tasks/0/log": ["attempt", "offset"],
        "/fleet/history": ["minutes"],
        "/dead-letters": ["queue", "limit"],
        "/schedules": ["cursor"],
    }
    cursors = [
        api.call("GET", f"{path}?limit=1{order}").json_body["cursor"]
        for path, order in [
            ("/batches", ""),
            (f"/batches/{batch_id}/results", ""),
            (f"/batches/{batch_id}/results", "&order=completion"),
            (f"/batches/{batch_id}/stream", ""),
        ]
    ]
    known = [each for each in cursors if each]
    assert len(known) > 2
    words = ["1", "0", "completion", "index", "FAILED", "FAILED,CANCELLED", "true", "DONE", "tasks"]
    values = st.one_of(
        st.sampled_from(words + known),
        st.sampled_from(known).flatmap(torn),
        SENDABLE.filter(lambda text: len(text) < 5_000),
        NUMBERS.map(str),
    )

    def check(sent):
        path, pairs = sent
        answer = answered(api.call("GET", f"{path}?{urllib.parse.urlencode(pairs)}"))
        assert answer.status_code in (200, 404, 422), answer.body

    inputs = st.one_of(
        *(
            st.tuples(
                st.just(path),
                st.lists(st.tuples(st.sampled_from(names), values), max_size=3),
            )
            for path, names in paths.items()
        )
    )
    trial(inputs, check, 150)


HEADERS = ["host", "traceparent", "x-forwarded-proto", "content-encoding", "accept", "expect"]


def test_every_header_is_taken_or_refused(trial):
    api = make_cloud()
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    values = st.one_of(
        torn(traced), torn("example.com:8000"), torn("https"), TEXTS.filter(str.isascii)
    )

    def check(headers):
        answer = answered(api.call("POST", "/batches", {"tasks": ["double 1"]}, headers=headers))
        assert answer.status_code in (202, 415)

    trial(st.dictionaries(st.sampled_from(HEADERS), values, max_size=3), check, 50)


# --- tokens ---


def test_no_token_but_a_signed_one_is_let_in_and_none_breaks_the_authorizer(trial):
    api = make_cloud()
    real = api.token("alice")
    head, claims, _ = real.split(".")
    good = {"iss": "taskfleet", "aud": "taskfleet", "client_id": "alice", "iat": 1, "exp": 2**40}
    other = jwt.encode(good, "another secret of more than thirty-two characters", "HS256")
    unsigned = jwt.encode(good, None, "none")
    parts = st.sampled_from([*real.split("."), *other.split("."), *unsigned.split("."), ""])

    def check(credential):
        answer = api.call("GET", "/me", headers={"authorization": credential}, as_client=None)
        if answer.status_code == 200:
            assert answer.json_body["client_id"] == "alice"
            # Other texts of the same bytes: base 64 has spare bits in its last character.
            scheme, _, text = credential.strip().partition(" ")
            assert scheme.lower() == "bearer"
            assert text.strip().split(".")[:2] == [head, claims]
        else:
            assert answer.status_code in (401, 403), answer.body

    texts = st.one_of(
        torn(real),
        torn(other),
        st.lists(parts, min_size=2, max_size=4).map(".".join),
        TEXTS.filter(str.isascii),
    )
    schemes = st.sampled_from(["Bearer ", "bearer ", "Bearer", "Basic ", "", "Bearer  "])
    trial(st.tuples(schemes, texts).map("".join).filter(lambda text: text.isascii()), check, 100)


def test_claims_of_every_form_are_read_or_refused(trial):
    api = make_cloud()
    good = {
        "iss": "taskfleet",
        "aud": "taskfleet",
        "client_id": "alice",
        "iat": 1_700_000_000,
        "exp": 1_900_000_000,
        "role": "writer",
    }
    keys = st.dictionaries(
        st.sampled_from(["kid", "alg", "typ", "crit", "b64", "jku", "cty"]), SCALARS, max_size=2
    )

    def check(sent):
        claims, headers = sent
        try:
            made = jwt.encode(claims, SECRET, "HS256", headers={**headers, "alg": "HS256"})
        except (TypeError, ValueError, jwt.PyJWTError):  # what PyJWT makes no token of
            return
        answer = api.call("GET", "/me", headers={"authorization": f"Bearer {made}"}, as_client=None)
        assert answer.status_code in (200, 401, 403), (answer.body, claims)
        until = token.valid_until(made)
        assert until is None or iso_time(until)

    claims = st.one_of(
        bent(good).filter(lambda value: isinstance(value, dict)),
        st.tuples(st.sampled_from(["exp", "exp", "iat", "nbf"]), st.one_of(NUMBERS, SCALARS)).map(
            lambda pair: {**good, pair[0]: pair[1]}
        ),
    )
    trial(st.tuples(claims, keys), check, 100)


# --- task files, lists of pictures, params ---

LINES = [
    "double 1", "sleep 0", "fail", "# a comment", "", " \t", "double", "none 1", "{}",
    '{"kind": "double", "params": 3}', '{"kind": "double", "params": 3, "max_attempts": 2}',
    '{"kind": "double", "params": 3, "timeout_s": 0}', "\ufeff", "double \u0661", "double NaN",
]  # fmt: skip


def test_a_file_of_tasks_is_read_as_the_same_text_is(trial):
    api = make_cloud()
    numbers = count()
    line = st.one_of(
        st.sampled_from(LINES[:6]), st.sampled_from(LINES), st.sampled_from(LINES).flatmap(torn)
    )
    ends = st.sampled_from(["\n", "\n", "\r\n", "\r", "\x85", "\x0b"])
    text = st.lists(st.tuples(line, ends), max_size=8).map(
        lambda pairs: "".join(line + end for line, end in pairs)
    )
    inputs = st.one_of(text.filter(lambda each: len(each) < 60_000).map(str.encode), st.binary())

    def check(data):
        texted = answered(api.call("POST", "/batches", data, content_type="text/plain"))
        upload_id = api.upload(data)
        answer = api.call("POST", "/batches", {"upload_id": upload_id})
        assert answer.status_code == 202, answer.body
        batch_id = answer.json_body["batch_id"]
        api.run()
        batch = api.call("GET", f"/batches/{batch_id}").json_body
        if texted.status_code == 202:
            assert batch["error"] is None, batch
            assert batch["total"] == texted.json_body["total"]
        else:
            assert batch["status"] == "CANCELLED"
            assert batch["error"], texted.body
            assert "\n" not in batch["error"]
        next(numbers)

    trial(inputs, check, 50)
    end = judge(api)
    trial.found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, end.faults[:3]


def test_a_list_of_pictures_is_read_or_its_line_is_named(trial):
    known = "https://example.com/a.jpg\tduration=4\tcaption=A\\nb"
    words = [known, "---", "# a", "", "\ufeff", "a.jpg", "a.jpg\tduration=inf", "\tduration=1",
             "~/a.jpg", "b.jpg\tcaption=", f"{known}\tduration=2"]  # fmt: skip
    line = st.one_of(st.sampled_from(words), st.sampled_from(words).flatmap(torn), SENDABLE)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.jpg").touch()

        def check(lines):
            try:
                movies = listing.read(lines, folder)
            except InvalidTask as error:
                one_line(error)
                return
            assert all(movies)
            for movie in movies:
                images = [entry.image(entry.source) for entry in movie]
                parsed({"kind": "animoto", "params": {"images": images}})

        trial(st.lists(line, max_size=4), check, 150)


def parsed(raw):
    """Returns the task, None if it is refused."""
    try:
        return KINDS.parse(raw, 3)
    except InvalidTask as error:
        one_line(error)
        return None


@pytest.mark.parametrize("kind", sorted(ACCEPTED))
def test_params_of_a_kind_are_refused_or_have_one_form(trial, kind):
    good = ACCEPTED[kind]
    assert parsed({"kind": kind, "params": good}), kind
    taken = count()

    def check(sent):
        params, options = sent
        task = parsed({"kind": kind, "params": params, **options})
        if task is None:
            return
        next(taken)
        # The canonical form is canonical, and goes over the wire as it is.
        assert KINDS.revalidate(task) == task
        assert json.loads(json.dumps(task.params)) == task.params
        again = parsed(task.submitted_form)
        assert again is not None
        assert again.params == task.params

    options = st.one_of(
        st.just({}),
        bent({"timeout_s": 5, "max_attempts": 3}).filter(lambda each: isinstance(each, dict)),
    )
    params = st.one_of(bent(good), bent(good), JSON, TEXTS, st.just(good))
    trial(st.tuples(params, options), check, 80)
    assert next(taken)


# --- schedules ---

YEARS_S = 10 * 366 * 86_400


def test_a_schedule_is_refused_or_has_times_for_ever(trial):
    field = st.one_of(
        st.sampled_from(["*", "*/5", "0", "59", "1-5", "1,2", "L", "MON", "jan", "5#2", "60", "0-0",
                         "31", "29", "2", "7", "*/0", "?", "W", "1/3", "5-1"]),
        TEXTS,
    )  # fmt: skip
    crons = st.one_of(
        st.lists(field, min_size=5, max_size=5).map(" ".join), torn("*/5 3 * * 1"), TEXTS
    )
    rates = st.one_of(torn("15m"), st.integers(), TEXTS)
    begin = 1_700_000_000.0
    kept = count()

    def check(sent):
        every, cron, late = sent
        try:
            every_s = None if every is None else schedule.read_every(every)
            normal = None if cron is None else schedule.read_cron(cron, begin)
        except ValueError as error:
            one_line(error)
            return
        next(kept)
        record = schedule.ScheduleRecord(
            "alice", "n", begin, begin, ["double 1"], every_s=every_s, cron=normal
        )
        at = schedule.next_after(record, begin)
        assert at > begin
        due = schedule.due(record, begin + late)
        assert due.next_at > begin + late
        assert all(begin <= time <= begin + late for time in due.times)
        assert normal is None or schedule.read_cron(normal, begin) == normal

    inputs = st.one_of(
        st.tuples(rates, st.none(), st.floats(0, YEARS_S)),
        st.tuples(st.none(), crons, st.floats(0, YEARS_S)),
    )
    trial(inputs, check, 200)
    assert next(kept)
