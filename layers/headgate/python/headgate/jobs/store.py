"""The items of jobs in the table: a JOB per id, and an EVENT of the outbox per refused request.

The item of a job outlives its execution's name, which Step Functions forgets 90 days after the end: an id never starts
twice while the item is kept, as long as a rollout's record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import RETENTION_DAYS, WriteConflict, expiry, from_item, now_iso, retry, to_item
from headgate.aws.errors import is_unmet
from headgate.aws.outbox import entry_fields
from headgate.jobs.kinds import REFUSED, REQUESTED, status_of_job

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.jobs.requests import JobRequest


ADD_ATTEMPTS = 3
"""Attempts to add a job. One is lost if another delivery of the request adds it at the same time."""


class StoredJob(NamedTuple):
    """A job on record."""

    sha256: str
    """Digest of its content."""
    execution: str
    """ARN of its execution."""
    started: bool
    """Whether it is certain that the execution was started."""


class JobStore:
    """Reads and writes the items of jobs.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        Name of the table.
    retention_days
        Days for which an item is kept, beyond the year that an execution may take.
    """

    def __init__(self, client: DynamoDBClient, table: str, retention_days: int = RETENTION_DAYS) -> None:
        self._client = client
        self._table = table
        self._retention_days = retention_days

    def add(self, request: JobRequest, execution: str) -> StoredJob:
        """Store a job, unless its id is on record. Return what is on record then."""
        return retry(lambda: self._add_once(request, execution), attempts=ADD_ATTEMPTS)

    def _add_once(self, request: JobRequest, execution: str) -> StoredJob:
        key = to_item({"pk": keys.job_pk(request.kind.name, request.id), "sk": keys.JOB_SK})
        response = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        if "Item" in response:
            item = from_item(response["Item"])
            return StoredJob(item["sha256"], item["execution"], "startedAt" in item)
        fields = {"kind": request.kind.name, "sha256": request.sha256, "execution": execution}
        fields |= _listed(request, REQUESTED)
        if not self._put(request, keys.JOB_SK, fields):
            raise WriteConflict
        return StoredJob(request.sha256, execution, started=False)

    def mark_started(self, request: JobRequest) -> None:
        """Record that the execution was started."""
        self._client.update_item(
            TableName=self._table,
            Key=to_item({"pk": keys.job_pk(request.kind.name, request.id), "sk": keys.JOB_SK}),
            UpdateExpression="SET startedAt = :now",
            # An item that has expired meanwhile must not come back without its content.
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues=to_item({":now": now_iso()}),
        )

    def announce_refusal(self, request: JobRequest, reason: str) -> None:
        """Announce that a request was refused. The same event again changes nothing."""
        name = f"refused-{request.event_id}"
        detail = {
            "id": f"{request.kind.name}/{request.id}/{name}",
            request.kind.id_field: request.id,
            "eventId": request.event_id,
            "reason": reason,
            **({request.kind.subject[-1]: request.subject} if request.subject else {}),
        }
        listed = {**_listed(request, REFUSED), "reason": reason}
        self._put(request, keys.event_sk(name), {**entry_fields(request.kind.refused, detail), **listed})

    def _put(self, request: JobRequest, sk: str, fields: dict[str, Any]) -> bool:
        """Write an item, unless it exists. Return whether it was written."""
        pk = keys.job_pk(request.kind.name, request.id)
        try:
            self._client.put_item(
                TableName=self._table,
                Item=to_item({"pk": pk, "sk": sk, **fields, "expiresAt": expiry(self._retention_days)}),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ClientError as error:
            if not is_unmet(error):
                raise
            return False
        return True


def _listed(request: JobRequest, what: str) -> dict[str, Any]:
    """Return the fields by which an item is found in the index, and what a list shows of it."""
    subject = {"subject": request.subject} if request.subject else {}
    return {"status": status_of_job(request.kind.name, what), "createdAt": now_iso(), **subject}
