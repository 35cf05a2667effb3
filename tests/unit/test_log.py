import io
import json
import logging

import pytest

from taskfleet.log import JsonFormatter, PlainFormatter, fields, set_up


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def root():
    """The root logger, restored after the test."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = before
    logger.setLevel(level)


def record(message="told", *args, exc_info=None, **extra):
    made = logging.LogRecord("fleet", logging.WARNING, __file__, 1, message, args, exc_info)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    made.__dict__.update(extra)
    return made


def failure():
    try:
        raise KeyError("gone")
    except KeyError as error:
        return type(error), error, error.__traceback__


def test_a_record_is_one_json_object_with_a_stable_action():
    text = JsonFormatter().format(record("lost %s", "it", **fields("lease_lost", job_id="b:1")))
    assert json.loads(text) == {
        "at": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "fleet",
        "message": "lost it",
        "action": "lease_lost",
        "job_id": "b:1",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb", "a\nb"),
        ("\ud800", "\ud800"),
        (ValueError("no"), "no"),
        ({1}, "{1}"),
        (b"x", "b'x'"),
        (None, None),
    ],
)
def test_any_value_fits_on_one_line(value, shown):
    text = JsonFormatter().format(record(**fields("a", value=value)))
    assert "\n" not in text
    assert json.loads(text)["value"] == shown


def test_a_record_of_another_library_is_json_too():
    assert json.loads(JsonFormatter().format(record()))["message"] == "told"


def test_a_traceback_stays_in_the_one_object():
    text = JsonFormatter().format(record(exc_info=failure()))
    assert "\n" not in text
    assert json.loads(text)["traceback"].endswith("KeyError: 'gone'")


def test_on_a_terminal_a_record_is_a_line_to_read():
    line = PlainFormatter().format(record("lease lost", **fields("lease_lost", job_id="b:1", n=2)))
    assert line.split(" ", 1)[1] == "warning lease lost job_id=b:1 n=2"
    assert PlainFormatter().format(record(exc_info=failure())).endswith("KeyError: 'gone'")


@pytest.mark.parametrize(
    ("stream", "formatter"), [(io.StringIO(), JsonFormatter), (Terminal(), PlainFormatter)]
)
def test_the_stream_decides_the_form(root, stream, formatter):
    set_up("info", stream)
    logging.getLogger("x").info("hello", extra=fields("greeted"))
    assert "hello" in stream.getvalue()
    assert type(root.handlers[0].formatter) is formatter


def test_setting_up_again_replaces_the_handler(root):
    first, second = io.StringIO(), io.StringIO()
    set_up("debug", first)
    set_up("warning", second)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert first.getvalue() == ""
    assert [json.loads(line)["message"] for line in second.getvalue().splitlines()] == ["loud"]


def test_records_go_to_standard_error_unless_told(root, capsys):
    set_up("info")
    logging.getLogger("x").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello" in err


def test_debug_records_of_the_aws_libraries_are_left_out(root):
    stream = io.StringIO()
    set_up("debug", stream)
    logging.getLogger("botocore.hooks").debug("chatter")
    logging.getLogger("botocore").warning("trouble")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["trouble"]
