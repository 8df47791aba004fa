"""A queue's name is free again 60 seconds after its deletion.

AWS refuses to create a queue with the name of one that was deleted less than 60 seconds ago: QueueDeletedRecently
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteQueue.html). MiniStack creates it. What
AWS allows (requests to the old queue may succeed during this time) does not happen here.

Seam: the entries CreateQueue and DeleteQueue of `sqs._HANDLERS`. Stacks are not refused.
"""

import time
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import sqs

from emulator.gaps import seams

GAP = "deleted_queues"
RESERVED_SECONDS = 60

_deleted: dict[tuple[str, str, str], float] = {}


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, sqs, "_act_create_queue", "data, _u")
    seams.expect(GAP, sqs, "_act_delete_queue", "data, qurl")
    create, delete = sqs._HANDLERS["CreateQueue"], sqs._HANDLERS["DeleteQueue"]

    def creating(data: dict[str, Any], url: str) -> Any:
        name = data.get("QueueName", "")
        if time.time() - _deleted.get(_key(name), 0) < RESERVED_SECONDS:
            message = f"You must wait {RESERVED_SECONDS} seconds after deleting a queue before you can create another."
            raise sqs._Err("QueueDeletedRecently", message, 400)
        return create(data, url)

    def deleting(data: dict[str, Any], url: str) -> Any:
        name = sqs._get_q(data.get("QueueUrl", url))["name"]
        answer = delete(data, url)
        _deleted[_key(name)] = time.time()
        return answer

    sqs._HANDLERS.update({"CreateQueue": creating, "DeleteQueue": deleting})


def _key(name: str) -> tuple[str, str, str]:
    return get_account_id(), get_region(), name
