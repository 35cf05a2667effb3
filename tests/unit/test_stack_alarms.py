"""The alarms of `infra/stack.yaml`, as data: CloudWatch is not here to raise them."""

from __future__ import annotations

from typing import Any

from tests.support.template import of_type, template

ALARMS = {
    alarm["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("taskfleet-${Stage}-"): alarm
    for alarm in of_type("AWS::CloudWatch::Alarm").values()
}
FREE_ALARMS = 10
"""Alarms that an account has for nothing ("Amazon CloudWatch pricing")."""


def of(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = ALARMS[name]["Properties"]
    return properties


def test_alarms_exist_without_an_address_and_cost_nothing_by_themselves() -> None:
    assert template()["Parameters"]["Alarms"]["Default"] == "on"
    assert template()["Conditions"]["HasAlarms"] == {"Fn::Equals": [{"Ref": "Alarms"}, "on"]}
    assert {alarm["Condition"] for alarm in ALARMS.values()} == {"HasAlarms"}
    assert len(ALARMS) <= FREE_ALARMS


def test_only_the_mail_needs_an_address() -> None:
    assert template()["Resources"]["AlarmTopic"]["Condition"] == "HasEmail"
    for name in ALARMS:
        assert of(name)["AlarmActions"]["Fn::If"][0] == "HasEmail"


def test_a_provisioner_that_is_not_called_raises_an_alarm() -> None:
    stopped = of("provisioner-stopped")
    assert (stopped["MetricName"], stopped["Statistic"]) == ("Invocations", "Sum")
    assert (stopped["ComparisonOperator"], stopped["Threshold"]) == ("LessThanThreshold", 1)
    assert stopped["TreatMissingData"] == "breaching"
    assert stopped["Dimensions"] == [
        {"Name": "FunctionName", "Value": {"Fn::Sub": "taskfleet-${Stage}-tick"}}
    ]


def test_each_trouble_has_its_alarm() -> None:
    metrics = {(of(name)["Namespace"], of(name)["MetricName"]) for name in ALARMS}
    assert metrics == {
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Invocations"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/ApiGateway", "5XXError"),
    }
    old = ("old-tasks", "old-high-tasks", "old-responses")
    queues = [of(name)["Dimensions"][0]["Value"]["Fn::GetAtt"] for name in old]
    assert queues == [
        f"{queue}.QueueName" for queue in ("TaskQueue", "HighTaskQueue", "ResponseQueue")
    ]


def test_names_that_all_regions_share_have_the_region_in_them() -> None:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    (budget,) = of_type("AWS::Budgets::Budget").values()
    (role,) = of_type("AWS::IAM::Role").values()
    (profile,) = of_type("AWS::IAM::InstanceProfile").values()
    for name in (
        dashboard["Properties"]["DashboardName"],
        budget["Properties"]["Budget"]["BudgetName"],
        role["Properties"]["RoleName"],
        profile["Properties"]["InstanceProfileName"],
    ):
        assert "${AWS::Region}" in name["Fn::Sub"]
