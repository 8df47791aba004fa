"""The items of custom resources in the table: a RESOURCE and a REQUEST per request, and a claim on each target.

The claim is what makes two resources for one target impossible. It also knows whether Headgate created the alias, so
that a deletion never removes what somebody else made.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import from_item, now_iso, retry_conflicts, to_item
from headgate.aws.errors import is_unmet
from headgate.stacks.event import StackEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

ONE_DAY = 24 * 3600
"""How long a request is kept: CloudFormation waits for an hour at most."""

MAX_KNOWN = 5
"""Successes that a resource remembers. A rollback goes back to the one before."""


class Claim(NamedTuple):
    """Which resource of which stack rolls out on a target."""

    stack_id: str
    logical_id: str
    created: bool = False
    """True if a resource of this stack created the alias."""
    previous: str = ""
    """Logical id of the resource of the same stack that had the target before."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Claim:
        """Read an item."""
        return cls(item["stackId"], item["logicalId"], item.get("created", False), item.get("previous", ""))

    def to_fields(self) -> dict[str, Any]:
        """Return the attributes of the item without its key."""
        return {
            "stackId": self.stack_id,
            "logicalId": self.logical_id,
            "created": self.created,
            "previous": self.previous or None,
        }

    def is_of(self, event: StackEvent) -> bool:
        """Return whether it is the claim of the resource that a request is about."""
        return (self.stack_id, self.logical_id) == (event.stack_id, event.logical_id)


class ResourceState(NamedTuple):
    """What is on record about a resource."""

    latest: str = ""
    """Id of the latest request."""
    physical_id: str = ""
    """Physical id after the last success."""
    target_key: str = ""
    rollout_id: str = ""
    """The latest rollout that the resource has started."""
    rollout_at: str = ""
    """When it was about to be started."""
    known: tuple[dict[str, str], ...] = ()
    """The last successes, the oldest first: the fingerprint of the properties, and the version."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> ResourceState:
        """Read an item."""
        return cls(
            latest=item.get("latest", ""),
            physical_id=item.get("physicalId", ""),
            target_key=item.get("targetKey", ""),
            rollout_id=item.get("rolloutId", ""),
            rollout_at=item.get("rolloutAt", ""),
            known=tuple(item.get("known", ())),
        )

    def version_of(self, fingerprint: str) -> str:
        """Return the version that served with these properties; empty if it is not known."""
        return next((each["version"] for each in reversed(self.known) if each["fingerprint"] == fingerprint), "")


class StoredRequest(NamedTuple):
    """A request on record, without the URL for its answer."""

    event: StackEvent
    received_at: str


class Pending(NamedTuple):
    """What the answer to a request needs."""

    event: StackEvent
    url: str
    answered: dict[str, Any] | None
    """The answer that was accepted; None before that."""


class StackStore:
    """Reads and writes the items of custom resources."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    # Requests

    def accept(self, event: StackEvent, url: str) -> bool:
        """Store a request and make it the latest one of its resource. Return False if it is on record already."""
        fields = {"event": json.dumps(event._asdict()), "responseUrl": url, "receivedAt": now_iso()}
        key = {"pk": event.pk, "sk": keys.stack_request_sk(event.request_id)}
        latest = {
            "UpdateExpression": "SET latest = :latest, resourceType = :type REMOVE expiresAt",
            "ExpressionAttributeValues": to_item({":latest": event.request_id, ":type": event.resource_type}),
        }
        return self._write(
            {"Put": self._put({**key, **fields, "expiresAt": _tomorrow()}, "attribute_not_exists(pk)")},
            {"Update": {**self._at(event.pk, keys.RESOURCE_SK), **latest}},
        )

    def request(self, pk: str, request_id: str) -> StoredRequest | None:
        """Return a request on record; None after it has expired."""
        # Without the URL, so that nothing but the responder ever has it.
        item = self._get(pk, keys.stack_request_sk(request_id), "event", "receivedAt")
        return StoredRequest(StackEvent.of(json.loads(item["event"])), item["receivedAt"]) if item else None

    def pending(self, pk: str, request_id: str) -> Pending | None:
        """Return what the answer to a request needs; None after the request has expired."""
        item = self._get(pk, keys.stack_request_sk(request_id))
        if not item:
            return None
        answered = item.get("answered")
        answer = json.loads(answered["answer"]) if answered else None
        return Pending(StackEvent.of(json.loads(item["event"])), item["responseUrl"], answer)

    def mark_answered(self, event: StackEvent, answer: Mapping[str, Any], status: int) -> None:
        """Record the answer that was delivered, and the HTTP status of the delivery."""
        answered = {"status": answer["Status"], "at": now_iso(), "http": status, "answer": json.dumps(answer)}
        retry_conflicts(
            self._client.update_item,
            **self._at(event.pk, keys.stack_request_sk(event.request_id)),
            UpdateExpression="SET answered = :answered",
            ExpressionAttributeValues=to_item({":answered": answered}),
        )

    # Resources

    def resource(self, pk: str) -> ResourceState:
        """Return what is on record about a resource."""
        return ResourceState.of(self._get(pk, keys.RESOURCE_SK) or {})

    def begin_rollout(self, event: StackEvent) -> bool:
        """Record the rollout that is about to start. Return False if the request is not the latest one any more."""
        return self._write(
            {
                "Update": {
                    **self._at(event.pk, keys.RESOURCE_SK),
                    "UpdateExpression": "SET rolloutId = :rollout, rolloutAt = :now",
                    "ConditionExpression": "latest = :latest",
                    "ExpressionAttributeValues": to_item(
                        {":rollout": event.rollout_id, ":now": now_iso(), ":latest": event.request_id}
                    ),
                }
            }
        )

    def remember(self, event: StackEvent, fingerprint: str, version: str) -> None:
        """Record that a version serves with the properties that have this fingerprint."""
        known = [each for each in self.resource(event.pk).known if each["fingerprint"] != fingerprint]
        known = [*known, {"fingerprint": fingerprint, "version": version}][-MAX_KNOWN:]
        self._set(event.pk, {"known": known})

    def settle(self, event: StackEvent, physical_id: str, target_key: str) -> None:
        """Record what a success has made of the resource."""
        self._set(event.pk, {"physicalId": physical_id, "targetKey": target_key})

    def forget(self, event: StackEvent) -> None:
        """Let the record of a deleted resource expire. A request that comes after all keeps it."""
        if self.resource(event.pk).physical_id in ("", event.physical_id):
            self._set(event.pk, {"expiresAt": _tomorrow()})

    def _set(self, pk: str, fields: dict[str, Any]) -> None:
        retry_conflicts(
            self._client.update_item,
            **self._at(pk, keys.RESOURCE_SK),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in fields),
            ExpressionAttributeNames={f"#{name}": name for name in fields},
            ExpressionAttributeValues=to_item({f":{name}": value for name, value in fields.items()}),
        )

    # Claims

    def claim(self, target_key: str) -> Claim | None:
        """Return whose target this is; None if no stack's."""
        item = self._get(keys.target_pk(target_key), keys.STACK_SK)
        return Claim.of(item) if item else None

    def put_claim(self, event: StackEvent, target_key: str, claim: Claim, over: Claim | None) -> bool:
        """Write a claim over the one that was read, for the latest request of its resource.

        Returns
        -------
        bool
            False if somebody else has written the claim meanwhile, or there is a later request.
        """
        return self._write(
            {
                "ConditionCheck": {
                    **self._at(event.pk, keys.RESOURCE_SK),
                    "ConditionExpression": "latest = :latest",
                    "ExpressionAttributeValues": to_item({":latest": event.request_id}),
                }
            },
            self._put_claim(target_key, claim, over),
        )

    def release(self, event: StackEvent, target_key: str, *, hands_back: bool = False) -> None:
        """Give up a resource's claim on a target, if it has one.

        Parameters
        ----------
        hands_back
            Whether the resource that had the target before gets it again.
        """
        claim = self.claim(target_key)
        if claim is None or claim.stack_id != event.stack_id:
            return
        if claim.logical_id != event.logical_id:
            if claim.previous == event.logical_id:
                self._write(self._put_claim(target_key, claim._replace(previous=""), claim))
        elif hands_back and claim.previous:
            back = claim._replace(logical_id=claim.previous, previous="")
            self._write(self._put_claim(target_key, back, claim))
        else:
            condition, values = _is_still(claim)
            self._write(
                {
                    "Delete": {
                        **self._at(keys.target_pk(target_key), keys.STACK_SK),
                        "ConditionExpression": condition,
                        "ExpressionAttributeValues": values,
                    }
                }
            )

    def _put_claim(self, target_key: str, claim: Claim, over: Claim | None) -> dict[str, Any]:
        item = {"pk": keys.target_pk(target_key), "sk": keys.STACK_SK, **claim.to_fields()}
        condition, values = _is_still(over) if over else ("attribute_not_exists(pk)", {})
        return {"Put": self._put(item, condition, values)}

    # The table

    def _at(self, pk: str, sk: str) -> dict[str, Any]:
        return {"TableName": self._table, "Key": to_item({"pk": pk, "sk": sk})}

    def _put(self, item: dict[str, Any], condition: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        put = {"TableName": self._table, "Item": to_item(item), "ConditionExpression": condition}
        return put | ({"ExpressionAttributeValues": values} if values else {})

    def _get(self, pk: str, sk: str, *attributes: str) -> dict[str, Any] | None:
        names = {f"#{name}": name for name in attributes}
        only: Any = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names} if names else {}
        found = self._client.get_item(**self._at(pk, sk), ConsistentRead=True, **only)
        return from_item(found["Item"]) if "Item" in found else None

    def _write(self, *writes: dict[str, Any]) -> bool:
        """Write all items in one transaction. Return False if a condition does not hold."""
        try:
            retry_conflicts(self._client.transact_write_items, TransactItems=list(writes))  # type: ignore[arg-type]
        except ClientError as error:
            if not is_unmet(error):
                raise
            return False
        return True


def _is_still(claim: Claim) -> tuple[str, dict[str, Any]]:
    """Return the condition that the claim of a target has the same owner as when it was read."""
    return "stackId = :stack AND logicalId = :logical", to_item(
        {":stack": claim.stack_id, ":logical": claim.logical_id}
    )


def _tomorrow() -> int:
    return int(time.time()) + ONE_DAY
