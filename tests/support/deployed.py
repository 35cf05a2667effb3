"""Everything that a deployment makes in an account, to see that nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def left(client: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Returns what there is, by service; nothing of what is always there.

    client: returns a boto3 client for the name of a service.
    """
    found = {
        "stacks": client("cloudformation").describe_stacks()["Stacks"],
        "functions": client("lambda").list_functions()["Functions"],
        "mappings": client("lambda").list_event_source_mappings()["EventSourceMappings"],
        "apis": client("apigateway").get_rest_apis()["items"],
        "rules": client("events").list_rules()["Rules"],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "tables": client("dynamodb").list_tables()["TableNames"],
        "buckets": client("s3").list_buckets()["Buckets"],
        "roles": [
            role
            for role in client("iam").list_roles()["Roles"]
            if not role["Path"].startswith("/aws-service-role/")  # one an account
        ],
        "profiles": client("iam").list_instance_profiles()["InstanceProfiles"],
        "templates": client("ec2").describe_launch_templates()["LaunchTemplates"],
        "logs": client("logs").describe_log_groups()["logGroups"],
        "parameters": [
            parameter
            for parameter in client("ssm").describe_parameters()["Parameters"]
            if not parameter["Name"].startswith("/aws/")  # AWS's own
        ],
        "dashboards": client("cloudwatch").list_dashboards()["DashboardEntries"],
    }
    return {service: things for service, things in found.items() if things}
