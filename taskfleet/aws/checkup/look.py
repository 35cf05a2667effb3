"""A look at AWS that cannot fail: what cannot be read is a finding, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from taskfleet.aws.errors import Denied, is_absent, translated
from taskfleet.checkup.finding import Finding, denied, warning
from taskfleet.errors import TaskfleetError

Clients = Callable[[str], Any]
"""Returns the boto3 client of a service, such as `ec2`. Raises SettingsError without a region."""
T = TypeVar("T")


def look(subject: str, right: str, take: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Returns the findings of `take`, or one that says why there are none.

    subject: what `take` looks at.
    right: the action of IAM that it needs.
    """
    try:
        with translated("look at", "it"):
            return list(take())
    except Denied:
        return [denied(subject, right)]
    except TaskfleetError as error:
        return [warning(subject, str(error))]
    except LookupError as error:  # an emulator may leave out what AWS always answers
        return [warning(subject, f"could not look: the answer lacks {error}")]


def found(ask: Callable[[], T]) -> T | None:
    """Returns what `ask` returns; None if what it asks for does not exist."""
    try:
        return ask()
    except ClientError as error:
        if is_absent(error):
            return None
        raise
