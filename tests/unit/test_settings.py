"""Settings: how they are read, checked and overridden."""

import pytest

from taskfleet.errors import SettingsError
from taskfleet.settings import Settings, load

SECRET = "s" * 32


def test_without_an_environment_the_defaults_hold_and_names_are_those_of_2014():
    conf = load({})
    assert conf == Settings()
    assert conf.task_queue == "Task_to_process"
    assert conf.response_queue == "Processed_Task"
    assert conf.monitor_table == "Task_Monitor"
    assert conf.faults() == []


def test_names_of_another_stage_end_with_the_stage():
    conf = load({"TASKFLEET_STAGE": "prod"})
    assert conf.task_queue == "Task_to_process-prod"
    assert conf.response_queue == "Processed_Task-prod"
    assert conf.monitor_table == "Task_Monitor-prod"


def test_the_environment_of_the_process_is_read_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("TASKFLEET_REGION", "eu-north-1")
    assert load().region == "eu-north-1"
    assert load({}).region == ""


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("TASKFLEET_BUCKET", "my-bucket", "bucket", "my-bucket"),
        ("TASKFLEET_LEASE_S", "45", "lease_s", 45.0),
        ("TASKFLEET_RECORD_TTL_DAYS", "7", "record_ttl_days", 7),
        ("TASKFLEET_ALLOW_PRIVATE_URLS", "true", "allow_private_urls", True),
        ("TASKFLEET_ALLOW_PRIVATE_URLS", "0", "allow_private_urls", False),
        ("TASKFLEET_LOG_LEVEL", "debug", "log_level", "debug"),
        ("TASKFLEET_KINDS", "animoto.kind", "kinds", ["animoto.kind"]),
        ("TASKFLEET_KINDS", " a, b.c ,", "kinds", ["a", "b.c"]),
        ("TASKFLEET_KINDS", "", "kinds", []),
    ],
)
def test_each_setting_is_read_from_its_variable(name, text, field, value):
    assert getattr(load({name: text, "UNRELATED": "x", "TASKFLEET_URL": "y"}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TASKFLEET_STAGE", "Prod"),
        ("TASKFLEET_STAGE", ""),
        ("TASKFLEET_STAGE", "prod\n"),
        ("TASKFLEET_STAGE", "a" * 17),
        ("TASKFLEET_LEASE_S", "soon"),
        ("TASKFLEET_LEASE_S", ""),
        ("TASKFLEET_LEASE_S", "nan"),
        ("TASKFLEET_LEASE_S", "inf"),
        ("TASKFLEET_LEASE_S", "0.5"),
        ("TASKFLEET_DRAIN_TIMEOUT_S", "-1"),
        ("TASKFLEET_RECEIVE_WAIT_S", "21"),
        ("TASKFLEET_RECORD_TTL_DAYS", "0"),
        ("TASKFLEET_RECORD_TTL_DAYS", "1.5"),
        ("TASKFLEET_RESULT_URL_S", "59"),
        ("TASKFLEET_ALLOW_PRIVATE_URLS", "maybe"),
        ("TASKFLEET_LOG_LEVEL", "loud"),
        ("TASKFLEET_TOKEN_SECRET", "short"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(name, text):
    with pytest.raises(SettingsError, match=name):
        load({name: text})


def test_all_faults_are_reported_together():
    environ = {"TASKFLEET_STAGE": "A", "TASKFLEET_LEASE_S": "x", "TASKFLEET_TOKEN_SECRET": "short"}
    with pytest.raises(SettingsError) as caught:
        load(environ)
    assert all(name in str(caught.value) for name in environ)


def test_a_secret_is_never_repeated_in_a_fault():
    with pytest.raises(SettingsError) as caught:
        load({"TASKFLEET_TOKEN_SECRET": "hunter2", "TASKFLEET_STAGE": "A"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("lease_s", ["1", "30", "43200"])
def test_two_heartbeats_may_be_lost_before_the_lease_ends(lease_s):
    conf = load({"TASKFLEET_LEASE_S": lease_s})
    assert 2 * conf.heartbeat_s < conf.lease_s <= 3 * conf.heartbeat_s * 1.001


# --- overrides ------------------------------------------------------------------------------


def test_an_override_wins_over_the_environment_unless_it_is_none():
    environ = {"TASKFLEET_DRAIN_TIMEOUT_S": "50"}
    assert load(environ, drain_timeout_s=7.0).drain_timeout_s == 7.0
    assert load(environ, drain_timeout_s=0.0).drain_timeout_s == 0.0
    assert load(environ, drain_timeout_s=None).drain_timeout_s == 50.0
    assert load({}, kinds=["a"]).kinds == ["a"]


@pytest.mark.parametrize("value", [-1.0, 43_201.0, float("nan"), "soon"])
def test_an_override_must_keep_to_the_same_limits(value):
    with pytest.raises(SettingsError, match="drain_timeout_s"):
        load({}, drain_timeout_s=value)


def test_an_override_of_an_unknown_setting_is_a_type_error():
    with pytest.raises(TypeError, match="drain_timeout"):
        load({}, drain_timeout=1.0)
