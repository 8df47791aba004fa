"""The items of custom resources in the table: a RESOURCE and a REQUEST per request, and a claim on each target.

The claim is what makes two resources for one target impossible. It also knows which alias the resource created, so
that a deletion never removes what somebody else made, and which request made it, so that a request that fails removes
what it has brought.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import from_item, now_iso, retry_conflicts, to_item
from headgate.aws.errors import is_unmet
from headgate.errors import RequestRefused
from headgate.stacks.event import StackEvent
from headgate.stacks.properties import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

ONE_DAY = 24 * 3600
"""How long a request is kept: CloudFormation waits for an hour at most."""

MAX_REQUEST_BYTES = 300_000
"""The longest request in UTF-8. An item of DynamoDB has 400 KB, which also hold the answer, its URL and the keys."""


class CreatedAlias(NamedTuple):
    """An alias that a resource created. A mapping that pointed at it may point elsewhere by now."""

    function: str
    alias: str

    @property
    def key(self) -> str:
        """Key of the alias for locks."""
        return f"lambda-alias/{self.function}/{self.alias}"


class Claim(NamedTuple):
    """Which resource of which stack rolls out on a target."""

    stack_id: str
    logical_id: str
    request_id: str
    """The request that made the claim."""
    created: CreatedAlias | None = None
    """None if the alias was there before."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Claim:
        """Read an item."""
        created = CreatedAlias(**item["created"]) if item.get("created") else None
        return cls(item["stackId"], item["logicalId"], item["requestId"], created)

    def to_fields(self) -> dict[str, Any]:
        """Return the attributes of the item without its key."""
        return {
            "stackId": self.stack_id,
            "logicalId": self.logical_id,
            "requestId": self.request_id,
            "created": self.created._asdict() if self.created else None,
        }

    def is_of(self, event: StackEvent) -> bool:
        """Return whether it is the claim of the resource that a request is about."""
        return (self.stack_id, self.logical_id) == (event.stack_id, event.logical_id)


class Note(NamedTuple):
    """What the last forward request of a resource was about to move, which a rollback of the stack takes back."""

    request_id: str
    pair: str
    """Its old and its new properties, as ``pair_of`` has them."""
    target_key: str
    rollout_id: str = ""
    """Its rollout; empty if it has started none."""
    before: str = ""
    """The version that served when its rollout began; empty if there was no alias."""
    after: str = ""
    """The version that serves since; empty before the success, and if nothing was moved."""
    by_stack: bool = False
    """True if CloudFormation itself has moved the alias, before it asked for a rollout."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Note:
        """Read an attribute of the item."""
        return cls(**{name: value for name, value in item.items() if name in cls._fields})


class ResourceState(NamedTuple):
    """What is on record about a resource."""

    latest: str = ""
    """Id of the latest request."""
    physical_id: str = ""
    """Physical id after the last success."""
    rollout_id: str = ""
    """The latest rollout that the resource has started."""
    rollout_at: str = ""
    """When it was about to be started."""
    settled: str = ""
    """Fingerprint of the properties of the last success."""
    served: str = ""
    """The version that served after the last success."""
    note: Note | None = None
    """What the last forward request was about to move."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> ResourceState:
        """Read an item."""
        return cls(
            latest=item.get("latest", ""),
            physical_id=item.get("physicalId", ""),
            rollout_id=item.get("rolloutId", ""),
            rollout_at=item.get("rolloutAt", ""),
            settled=item.get("settled", ""),
            served=item.get("served", ""),
            note=Note.of(item["note"]) if item.get("note") else None,
        )

    def served_with(self, properties: Mapping[str, Any]) -> str:
        """Return the version that served after the last success, if that had these properties; else an empty text."""
        return self.served if self.settled == fingerprint_of(properties) else ""

    def is_gone_back_to_by(self, event: StackEvent) -> bool:
        """Return whether a request goes back to the properties that the resource has.

        Only a rollback does: the old properties of any other update are those of the last success.
        """
        if event.request_type != "Update" or not self.settled:
            return False
        return fingerprint_of(event.properties) == self.settled != fingerprint_of(event.old_properties)


class StoredRequest(NamedTuple):
    """A request on record, without the URL for its answer."""

    event: StackEvent
    received_at: str
    contends: str = ""
    """The latest request when this one came, if that one takes this one back."""


class Pending(NamedTuple):
    """What the answer to a request needs."""

    event: StackEvent
    url: str
    """Empty once an answer was delivered: whoever has it can answer for the resource."""
    answered: bool


class StackStore:
    """Reads and writes the items of custom resources."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    # Requests

    def accept(self, event: StackEvent, url: str) -> bool:
        """Store a request and make it the latest one of its resource. Return False if it is on record already.

        A request that the latest one takes back has come late, or is a new attempt after a rollback. It is not the
        latest one before the stack's status has told which (``take_place``).
        """
        fields = {"event": _content_of(event), "responseUrl": url, "receivedAt": now_iso(), "expiresAt": _tomorrow()}
        item = {"pk": event.pk, "sk": keys.stack_request_sk(event.request_id), **fields}
        known = self.resource(event.pk)
        values = {":latest": event.request_id, ":reversed": reversed_pair_of(event)}
        expression = "SET latest = :latest REMOVE expiresAt, goesBack"
        if known.is_gone_back_to_by(event):
            expression = "SET latest = :latest, goesBack = :pair REMOVE expiresAt"
            values[":pair"] = pair_of(event)
        latest = {
            **self._update(event, expression, values),
            "ConditionExpression": "attribute_not_exists(goesBack) OR goesBack <> :reversed",
        }
        unknown = "attribute_not_exists(pk)"
        return self._write({"Put": self._put(item, unknown)}, {"Update": latest}) or self._write(
            {"Put": self._put({**item, "contends": known.latest}, unknown)}
        )

    def take_place(self, event: StackEvent, latest: str) -> bool:
        """Make a request the latest one after all. Return False if there is another one meanwhile."""
        update = self._update(
            event,
            "SET latest = :latest REMOVE expiresAt, goesBack",
            {":latest": event.request_id, ":before": latest},
        )
        return self._write({"Update": {**update, "ConditionExpression": "latest = :before"}})

    def request(self, pk: str, request_id: str) -> StoredRequest | None:
        """Return a request on record; None after it has expired."""
        # Without the URL, so that nothing but the responder ever has it.
        item = self._get(pk, keys.stack_request_sk(request_id), "event", "receivedAt", "contends")
        if not item:
            return None
        return StoredRequest(StackEvent.of(json.loads(item["event"])), item["receivedAt"], item.get("contends", ""))

    def pending(self, pk: str, request_id: str) -> Pending | None:
        """Return what the answer to a request needs; None after the request has expired."""
        item = self._get(pk, keys.stack_request_sk(request_id))
        if not item:
            return None
        return Pending(
            StackEvent.of(json.loads(item["event"])), item.get("responseUrl", ""), answered="answered" in item
        )

    def outcome(self, pk: str, request_id: str) -> Literal["", "PENDING", "SUCCESS", "FAILED"]:
        """Return how a request was answered; empty if it is not on record any more."""
        item = self._get(pk, keys.stack_request_sk(request_id), "receivedAt", "answer")
        if not item:
            return ""
        return json.loads(item["answer"])["Status"] if "answer" in item else "PENDING"

    def keep_answer(self, event: StackEvent, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Store the answer to a request before it is sent. Return the one that was stored first: it is never changed.

        CloudFormation may have it even if no delivery is known to have succeeded.
        """
        stored = retry_conflicts(
            self._client.update_item,
            **self._at(event.pk, keys.stack_request_sk(event.request_id)),
            UpdateExpression="SET answer = if_not_exists(answer, :answer)",
            ExpressionAttributeValues=to_item({":answer": json.dumps(answer)}),
            ReturnValues="ALL_NEW",
        )
        kept: dict[str, Any] = json.loads(from_item(stored["Attributes"])["answer"])
        return kept

    def mark_answered(self, event: StackEvent, answer: Mapping[str, Any], status: int) -> None:
        """Record the answer that was delivered, and the HTTP status of the delivery. Its URL is forgotten."""
        answered = {"status": answer["Status"], "at": now_iso(), "http": status}
        retry_conflicts(
            self._client.update_item,
            **self._at(event.pk, keys.stack_request_sk(event.request_id)),
            UpdateExpression="SET answered = :answered REMOVE responseUrl",
            ExpressionAttributeValues=to_item({":answered": answered}),
        )

    # Resources

    def resource(self, pk: str) -> ResourceState:
        """Return what is on record about a resource."""
        return ResourceState.of(self._get(pk, keys.RESOURCE_SK) or {})

    def note(self, event: StackEvent, target_key: str) -> bool:
        """Begin the note of a forward request, which has moved nothing yet.

        Returns
        -------
        bool
            False if the request is not the latest one any more.
        """
        note = Note(event.request_id, pair_of(event), target_key)
        return self._amend(event, "SET note = :note", {":note": note._asdict()})

    def begin_rollout(self, event: StackEvent, before: str | None = None) -> bool:
        """Record the rollout that is about to start. Return False if the request is not the latest one any more.

        Parameters
        ----------
        before
            The version that serves now, for the note of a forward request; None in a rollback, which leaves the note.
        """
        expression, values = (
            "SET rolloutId = :rollout, rolloutAt = :now",
            {":rollout": event.rollout_id, ":now": now_iso()},
        )
        if before is not None:
            expression += ", note.rollout_id = :rollout, note.#before = :before"
            return self._amend(event, expression, {**values, ":before": before}, {"#before": "before"})
        return self._amend(event, expression, values)

    def complete_note(self, event: StackEvent, after: str) -> bool:
        """Record the version that serves since a forward request has moved the target."""
        values = {":after": after, ":request": event.request_id}
        update = self._update(event, "SET note.#after = :after", values, {"#after": "after"})
        return self._write({"Update": {**update, "ConditionExpression": "note.request_id = :request"}})

    def note_move(self, event: StackEvent, before: str, after: str) -> bool:
        """Record that CloudFormation itself has moved the alias. Return False if the request is not the latest one."""
        expression = "SET note.#before = :before, note.#after = :after, note.by_stack = :true"
        names = {"#before": "before", "#after": "after"}
        return self._amend(event, expression, {":before": before, ":after": after, ":true": True}, names)

    def _amend(
        self, event: StackEvent, expression: str, values: dict[str, Any], names: dict[str, str] | None = None
    ) -> bool:
        """Update the record of a resource for its latest request. Return False for another one."""
        update = self._update(event, expression, {**values, ":latest": event.request_id}, names)
        return self._write({"Update": {**update, "ConditionExpression": "latest = :latest"}})

    def _update(
        self, event: StackEvent, expression: str, values: dict[str, Any], names: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return {
            **self._at(event.pk, keys.RESOURCE_SK),
            "UpdateExpression": expression,
            "ExpressionAttributeValues": to_item(values),
            **({"ExpressionAttributeNames": names} if names else {}),
        }

    def settle(self, event: StackEvent, physical_id: str, served: str) -> None:
        """Record what a success has made of the resource."""
        settled = fingerprint_of(event.properties)
        self._set(event.pk, {"physicalId": physical_id, "settled": settled, "served": served})

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

    def release(self, target_key: str, claim: Claim) -> None:
        """Give up a claim that was read, unless somebody else has the target by now."""
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


def refuse_too_large(event: StackEvent) -> None:
    """Refuse a request that is too large for an item.

    Raises
    ------
    RequestRefused
        With its size.
    """
    if (size := len(_content_of(event).encode())) > MAX_REQUEST_BYTES:
        raise RequestRefused(
            f"ResourceProperties: the request has {size:,} bytes, and at most {MAX_REQUEST_BYTES:,} can be kept; "
            "shorten the properties of the resource"
        )


def _content_of(event: StackEvent) -> str:
    """Return a request in JSON. Letters outside ASCII take six bytes each if they are escaped."""
    return json.dumps(event._asdict(), ensure_ascii=False)


def pair_of(event: StackEvent) -> str:
    """Return a name of the properties before and after a request."""
    return f"{fingerprint_of(event.old_properties)}/{fingerprint_of(event.properties)}"


def reversed_pair_of(event: StackEvent) -> str:
    """Return the name of the pair of a request that this one takes back, or that takes this one back."""
    return f"{fingerprint_of(event.properties)}/{fingerprint_of(event.old_properties)}"


def _is_still(claim: Claim) -> tuple[str, dict[str, Any]]:
    """Return the condition that the claim of a target is the one that was read."""
    return "stackId = :stack AND logicalId = :logical AND requestId = :request", to_item(
        {":stack": claim.stack_id, ":logical": claim.logical_id, ":request": claim.request_id}
    )


def _tomorrow() -> int:
    return int(time.time()) + ONE_DAY
