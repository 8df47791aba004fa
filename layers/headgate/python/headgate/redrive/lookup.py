"""Lookup of the queues that a request names."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied, is_missing_queue, message_of
from headgate.errors import RequestRefused
from headgate.redrive.plan import Queue

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")


def name_of(queue: str) -> str:
    """Return the name of a queue from its name, URL or ARN."""
    return queue.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


class QueueLookup:
    """Finds queues of one account.

    Parameters
    ----------
    sqs
        boto3's client.
    account
        The account that queues must be in.
    """

    def __init__(self, sqs: Any, account: str) -> None:
        self._sqs = sqs
        self._account = account

    def find(self, queue: str, field: str) -> tuple[Queue, dict[str, str]]:
        """Find a queue by name, URL or ARN, and its attributes.

        Raises
        ------
        RequestRefused
            If there is none, or Headgate may not use it. The message names ``field``.
        """
        name = name_of(queue)
        owner = (
            queue.split(":")[4] if queue.startswith("arn:") else queue.split("/")[-2] if "/" in queue else self._account
        )
        if owner != self._account:
            raise RequestRefused(f"{field}: is in account {owner}; this Headgate serves {self._account}")
        try:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            response = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy"])
        except ClientError as error:
            if not is_missing_queue(error) and not is_denied(error):
                raise  # SQS did not say whether the queue exists: the machine tries again.
            raise RequestRefused(f"{field}: {name}: {message_of(error)}") from None
        found = response["Attributes"]["QueueArn"]
        if (queue.startswith("arn:") and found != queue) or _region_in_url(queue) not in (None, found.split(":")[3]):
            raise RequestRefused(f"{field}: {queue} is not {found}; check its Region")
        return Queue(url=url, arn=found), response["Attributes"]


def _region_in_url(queue: str) -> str | None:
    """Return the Region in a queue's URL; None if there is none, as with custom hosts.

    https://docs.aws.amazon.com/general/latest/gr/sqs-service.html lists the hosts.
    """
    host = queue.split("/")[2] if "://" in queue else ""
    return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)
