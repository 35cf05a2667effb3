"""The stand-in for DynamoDB in this process loses no write of several threads to one item."""

import sys
from concurrent.futures import ThreadPoolExecutor

import boto3

from tests.support.moto_aws import moto_account


def test_writes_of_several_threads_to_one_item_all_count():
    interval = sys.getswitchinterval()
    with moto_account():
        table = boto3.client("dynamodb")
        table.create_table(
            TableName="counts",
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

        def add(_number: int) -> None:
            table.update_item(
                TableName="counts",
                Key={"key": {"S": "a"}},
                UpdateExpression="ADD writes :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )

        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(add, range(200)))
        finally:
            sys.setswitchinterval(interval)
        item = table.get_item(TableName="counts", Key={"key": {"S": "a"}})["Item"]
    assert item["writes"] == {"N": "200"}
