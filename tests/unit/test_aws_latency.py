import boto3
import pytest

from taskfleet.aws import latency


@pytest.mark.parametrize(("latency_ms", "waits"), [(0.0, []), (12.5, [0.0125])])
def test_every_request_waits_before_it_leaves(
    latency_ms: float, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(latency.time, "sleep", slept.append)
    client = boto3.client(
        "sqs", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    latency.delay_calls(client, latency_ms)
    answers = client.meta.events.emit("before-send.sqs.SendMessage", request=None)
    assert slept == waits
    assert all(answer is None for _, answer in answers)  # no answer replaces the request
