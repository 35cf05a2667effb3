"""Translation of botocore's errors into Taskfleet's. Owns the meaning of AWS error codes; no other
module reads a `ClientError`. Messages name the operation and the resource, never a credential or a
payload.

Sources: botocore's own lists of transient and throttling codes (`botocore.retries.standard`) and
the pages on common errors in the API references of SQS, DynamoDB, S3, EC2, Lambda and Systems
Manager.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)

from taskfleet.errors import NotFound, PermanentError, TaskfleetError, TransientError
from taskfleet.provisioner.records import Shortage

TRANSIENT_CODES = frozenset(
    {
        # throttles
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KmsThrottled",
        "KMS.ThrottlingException",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        # faults and time-outs in the service
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        # expired credentials, which the role of a machine or function renews by itself
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",  # EC2's code
        "400",  # of S3's HeadObject, whose answer has no body that could hold a code
    }
)
"""Error codes after which a retry may succeed."""

CONFLICT_CODES = frozenset({"ReplicatedWriteConflictException", "TransactionConflictException"})
"""Error codes of a write to an item that another write or a transaction has in hand."""

SHORTAGE_CODES = {
    # may succeed with another instance type or subnet, or later
    "InsufficientCapacity": Shortage.NO_CAPACITY,
    "InsufficientCapacityOnHost": Shortage.NO_CAPACITY,
    "InsufficientFreeAddressesInSubnet": Shortage.NO_CAPACITY,
    "InsufficientHostCapacity": Shortage.NO_CAPACITY,
    "InsufficientInstanceCapacity": Shortage.NO_CAPACITY,
    "InsufficientReservedInstanceCapacity": Shortage.NO_CAPACITY,
    "SpotMaxPriceTooLow": Shortage.NO_CAPACITY,
    "UnfulfillableCapacity": Shortage.NO_CAPACITY,
    "Unsupported": Shortage.NO_CAPACITY,  # the zone does not offer the instance type
    # last until a person raises the quota
    "InstanceLimitExceeded": Shortage.QUOTA,
    "MaxSpotInstanceCountExceeded": Shortage.QUOTA,
    "VcpuLimitExceeded": Shortage.QUOTA,
    "VolumeLimitExceeded": Shortage.QUOTA,
}
"""Error codes with which EC2 refuses to launch machines, with the reason ("Error codes for the
Amazon EC2 API", Amazon EC2 API Reference)."""

MISSING_CODES = frozenset(
    {"NoSuchKey", "404", "PreconditionFailed", "InvalidRange", "ParameterNotFound"}
)
"""Error codes for an S3 object or SSM parameter that does not exist, for an object whose etag is
not the expected one, or for bytes after its end."""

ABSENT_CODES = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
"""Error codes for a queue, table or bucket that does not exist."""

DENIED_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
"""Error codes for missing permissions or invalid credentials."""

_NO_RESPONSE = (
    ConnectionError,  # refused, closed, or timed out while connecting
    HTTPClientError,  # timed out while reading, among others
    ChecksumError,
    IncompleteReadError,
    ResponseStreamingError,
    MetadataRetrievalError,
    CredentialRetrievalError,
)


class LaunchShortage(TaskfleetError):
    """EC2 launches no machine, for the reason `shortage`. Never leaves this package."""

    def __init__(self, message: str, shortage: Shortage) -> None:
        super().__init__(message)
        self.shortage = shortage


class Denied(PermanentError):
    """The credentials lack a right, or are invalid. Outside of this package, it is a PermanentError
    like any other."""


class WouldSucceed(TaskfleetError):
    """A dry run passed: EC2 would do what was asked for. Never leaves this package."""


class ConditionFailed(TaskfleetError):
    """The condition of a write does not hold. `item` is the existing item, None if there is none.
    Never leaves this package."""

    def __init__(self, message: str, item: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.item = item


class WriteConflict(TransientError):
    """A write met another one, or a transaction, on the same item, and wrote nothing. Trying again
    at once is right, and neither DynamoDB nor botocore does it."""


@contextmanager
def translated(operation: str, resource: str) -> Iterator[None]:
    """Context manager that translates botocore's errors. The message reads "could not `operation`
    `resource`: " and the reason."""
    try:
        yield
    except ClientError as error:
        raise _from_response(error.response, f"could not {operation} {resource}") from error
    except BotoCoreError as error:
        raise _from_botocore(error, f"could not {operation} {resource}") from error


def _from_response(response: Mapping[str, Any], failure: str) -> TaskfleetError:
    """Returns the error for an error response."""
    error = response.get("Error", {})
    code = str(error.get("Code", "")) or "no error code"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(failure, response.get("Item"))
    if code in SHORTAGE_CODES:
        return LaunchShortage(f"{failure}: {code}", SHORTAGE_CODES[code])
    if code in CONFLICT_CODES:
        return WriteConflict(f"{failure}: {code}; try again")
    if is_transient(code) or status >= 500 or status == 429:
        return TransientError(f"{failure}: {code}; try again", _retry_after_s(response))
    if code in MISSING_CODES:
        return NotFound(f"{failure}: it does not exist")
    if code == "DryRunOperation":
        return WouldSucceed(failure)
    if code in DENIED_CODES:
        return Denied(f"{failure}: {code}; check the credentials and their permissions")
    message = " ".join(str(error.get("Message", "")).split())
    return PermanentError(f"{failure}: {code}: {message:.300}")


def is_absent(error: ClientError) -> bool:
    """Returns whether a queue, table, bucket or stack does not exist. CloudFormation has no code
    for that, only words."""
    told = error.response.get("Error", {})
    return told.get("Code") in ABSENT_CODES or "does not exist" in str(told.get("Message", ""))


def is_transient(code: str) -> bool:
    """Returns whether a retry may succeed. SQS writes some codes with a prefix, which is
    ignored."""
    return code.removeprefix("AWS.SimpleQueueService.") in TRANSIENT_CODES


def _from_botocore(error: BotoCoreError, failure: str) -> TaskfleetError:
    """Returns the error for a call that got no response or was never sent."""
    if isinstance(error, _NO_RESPONSE):
        return TransientError(f"{failure}: no answer ({type(error).__name__}); try again")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermanentError(
            f"{failure}: no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "a profile, or a role"
        )
    message = " ".join(str(error).split())
    return PermanentError(f"{failure}: {type(error).__name__}: {message:.300}")


def _retry_after_s(response: Mapping[str, Any]) -> float | None:
    """Returns the header `Retry-After` in seconds, None if it is missing or not a number."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None
