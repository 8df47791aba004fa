"""Notes in the table on the latest event of which a trigger has requested a rollout of a target.

EventBridge delivers events in any order, and tries again for hours. A request for an older event would roll out what a
newer one has replaced.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import retry_conflicts, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.triggers.occurrences import Occurrence

NOTE_SECONDS = 7 * 24 * 3600
"""For how long a note counts. EventBridge tries for a day to deliver an event, and Lambda for hours to handle it:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html"""


class LatestEvents:
    """Writes the notes.

    Parameters
    ----------
    table
        The table's name.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def advance(self, target: str, occurrence: Occurrence) -> bool:
        """Note that an event requests a rollout of a target. Return False if a later event has done so.

        The same event, and another one of the same order, may always request it.

        Parameters
        ----------
        target
            The target's key.
        """
        if not occurrence.order:
            return True
        now = int(time.time())
        item = {
            "pk": keys.target_pk(target),
            "sk": keys.triggered_sk(occurrence.trigger, occurrence.series),
            "latest": occurrence.order,
            "expiresAt": now + NOTE_SECONDS,
        }
        try:
            retry_conflicts(
                self._client.put_item,
                TableName=self._table,
                Item=to_item(item),
                # Items are deleted some time after they have expired.
                ConditionExpression="attribute_not_exists(pk) OR #latest <= :latest OR #expires < :now",
                ExpressionAttributeNames={"#latest": "latest", "#expires": "expiresAt"},
                ExpressionAttributeValues=to_item({":latest": occurrence.order, ":now": now}),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True
