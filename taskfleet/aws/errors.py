"""From botocore's errors to Taskfleet's. Owns which code means what; nothing else looks into a
`ClientError`. Messages name the operation and the resource, never a credential or a payload."""

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
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
        # faults and time-outs of the service
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        # a worker's role hands out new credentials by itself
        "ExpiredToken",
        "ExpiredTokenException",
    }
)

SHORTAGE_CODES = {
    # another type or subnet, or later, may do
    "InsufficientCapacity": Shortage.NO_CAPACITY,
    "InsufficientCapacityOnHost": Shortage.NO_CAPACITY,
    "InsufficientFreeAddressesInSubnet": Shortage.NO_CAPACITY,
    "InsufficientHostCapacity": Shortage.NO_CAPACITY,
    "InsufficientInstanceCapacity": Shortage.NO_CAPACITY,
    "InsufficientReservedInstanceCapacity": Shortage.NO_CAPACITY,
    "SpotMaxPriceTooLow": Shortage.NO_CAPACITY,
    "UnfulfillableCapacity": Shortage.NO_CAPACITY,
    "Unsupported": Shortage.NO_CAPACITY,  # the type is not to be had in that zone
    # until somebody raises it
    "InstanceLimitExceeded": Shortage.QUOTA,
    "MaxSpotInstanceCountExceeded": Shortage.QUOTA,
    "VcpuLimitExceeded": Shortage.QUOTA,
    "VolumeLimitExceeded": Shortage.QUOTA,
}
"""Codes by which EC2 says that it has no machine to give."""

MISSING_OBJECT_CODES = frozenset({"NoSuchKey", "404", "PreconditionFailed", "ParameterNotFound"})

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

_CUT_OFF = (
    ConnectionError,  # refused, closed, timed out while connecting
    HTTPClientError,  # timed out while reading, and the like
    ChecksumError,
    IncompleteReadError,
    ResponseStreamingError,
    MetadataRetrievalError,
    CredentialRetrievalError,
)


class Short(TaskfleetError):
    """EC2 has no machine to give, and `shortage` says why. For this package only."""

    def __init__(self, message: str, shortage: Shortage) -> None:
        super().__init__(message)
        self.shortage = shortage


class ConditionFailed(TaskfleetError):
    """A conditional write found something else; `item` is what stands there, None when nothing
    does. For this package only: each caller knows what it means."""

    def __init__(self, message: str, item: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.item = item


class TransactionCancelled(TaskfleetError):
    """Nothing of a transaction was written; `codes` gives the reason for each of its writes, in
    order, `None` for those that were not at fault. For this package only."""

    def __init__(self, message: str, codes: list[str]) -> None:
        super().__init__(message)
        self.codes = codes


@contextmanager
def translated(operation: str, resource: str) -> Iterator[None]:
    """Raise what botocore raises inside as: could not `operation` `resource`, and why."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(error.response, f"could not {operation} {resource}") from error
    except BotoCoreError as error:
        raise _from_botocore(error, f"could not {operation} {resource}") from error


def _from_answer(response: Mapping[str, Any], what: str) -> TaskfleetError:
    """The error that an answer of AWS stands for."""
    error = response.get("Error", {})
    code = str(error.get("Code", "")) or "no error code"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(what, response.get("Item"))
    if code in SHORTAGE_CODES:
        return Short(f"{what}: {code}", SHORTAGE_CODES[code])
    if code == "TransactionCanceledException":
        reasons = response.get("CancellationReasons", [])
        return TransactionCancelled(what, [str(reason.get("Code")) for reason in reasons])
    if is_transient(code) or status >= 500 or status == 429:
        return TransientError(f"{what}: {code}; try again", _retry_after_s(response))
    if code in MISSING_OBJECT_CODES:
        return NotFound(f"{what}: there is none")
    if code in DENIED_CODES:
        return PermanentError(f"{what}: {code}; check the credentials and their permissions")
    message = " ".join(str(error.get("Message", "")).split())
    return PermanentError(f"{what}: {code}: {message:.300}")


def is_transient(code: str) -> bool:
    """Whether trying again may help. SQS spells some of its codes with a prefix."""
    return code.removeprefix("AWS.SimpleQueueService.") in TRANSIENT_CODES


def _from_botocore(error: BotoCoreError, what: str) -> TaskfleetError:
    """The error for a call that got no answer at all, or was never sent."""
    if isinstance(error, _CUT_OFF):
        return TransientError(f"{what}: no answer ({type(error).__name__}); try again")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermanentError(
            f"{what}: no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "a profile, or a role"
        )
    text = " ".join(str(error).split())
    return PermanentError(f"{what}: {type(error).__name__}: {text:.300}")


def _retry_after_s(response: Mapping[str, Any]) -> float | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None
