"""Sets aside records that cannot be delivered, so that they do not block others. An operator inspects them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from headgate.aws.settings import Environment


MAX_RECORD_CHARACTERS = 250_000
"""Maximum characters of a message. A record may be larger than SQS accepts: 1 MiB, or less if configured."""


class UndeliveredRecords:
    """The queue of undelivered records, which has an alarm."""

    def __init__(self, client: SQSClient, environment: Environment) -> None:
        self.client = client
        self._environment = environment

    def put_aside(self, record: dict[str, Any], reason: str) -> bool:
        """Send a record with the reason to the queue.

        Returns
        -------
        bool
            False if that fails and the record must be delivered again.
        """
        body = json.dumps({"reason": reason, "record": record})[:MAX_RECORD_CHARACTERS]
        try:
            self.client.send_message(QueueUrl=self._environment.undelivered, MessageBody=body)
        except (BotoCoreError, ClientError):
            logger.exception("a record could not be sent to the queue of undelivered events", reason=reason)
            return False
        return True
