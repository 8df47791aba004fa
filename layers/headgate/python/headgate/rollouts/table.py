"""The table: reads its items and builds its transactions, including the outbox.

There is one item collection per rollout (the record, a STEP per bake, a PAUSE per pause, an EVENT per event of the
outbox) and one per target (its LOCK, a WAIT per request in line, and a PAST per request that it ever got).
``headgate.keys`` has the keys. One transaction writes a change and its event, so there is never one without the other.
The table's stream delivers the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import (
    RETENTION_DAYS,
    WriteConflict,
    expiry,
    from_item,
    retry,
    retry_conflicts,
    to_item,
)
from headgate.aws.dynamodb import iso_of as iso_of
from headgate.aws.dynamodb import now_iso as now_iso
from headgate.aws.dynamodb import seconds_since as seconds_since
from headgate.aws.errors import cancellation_reasons
from headgate.aws.outbox import entry_fields
from headgate.errors import Contended, LockLost
from headgate.rollouts.record import (
    ANNOUNCED_AS,
    SCHEMA_VERSION,
    UNDERWAY,
    RejectedCode,
    RolloutRecord,
    TargetLock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.rollouts.record import Fence


Written = TypeVar("Written")

WRITE_ATTEMPTS = 12
"""Attempts of an optimistic write to one item. Each lost attempt means that another writer succeeded."""


class Assignment(TypedDict, total=False):
    """Options for setting fields."""

    condition: str
    """Condition expression. By default the item must exist. ``#field`` is a field and ``:set_field`` its new value."""
    values: dict[str, Any]
    """Other values in the condition."""
    remove: Sequence[str]
    """Fields to remove."""


class Table:
    """Reads and writes items.

    Parameters
    ----------
    client
        A DynamoDB client.
    name
        The table's name.
    retention_days
        Days for which a rollout's record is kept after the maximum duration of a rollout, one year.
    """

    def __init__(self, client: DynamoDBClient, name: str, retention_days: int = RETENTION_DAYS) -> None:
        self._client = client
        self._name = name
        self._retention_days = retention_days

    def rollout(self, rollout_id: str) -> RolloutRecord | None:
        """Return a rollout's record, with a consistent read."""
        item = self.get(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK)
        return RolloutRecord.of(item) if item else None

    def running(self, rollout_id: str) -> RolloutRecord | None:
        """Return the record of a rollout that has started and not ended; None for others."""
        record = self.rollout(rollout_id)
        return record if record is not None and record.status in UNDERWAY else None

    def lock(self, target_key: str) -> TargetLock:
        """Return the lock of a target, with a consistent read. It is free if the target was never rolled out."""
        return TargetLock.of(target_key, self.get(keys.target_pk(target_key), keys.LOCK_SK))

    def require_lock(self, fence: Fence) -> None:
        """Raise LockLost unless the rollout still owns the target's lock."""
        lock = self.lock(fence.target_key)
        if (lock.owner, lock.epoch) != (fence.rollout_id, fence.epoch):
            raise LockLost(
                f"rollout {fence.rollout_id} (epoch {fence.epoch}) no longer owns {fence.target_key}: the lock is "
                f"{'held by ' + lock.owner if lock.owner else 'free'} (epoch {lock.epoch})"
            )

    def get(self, pk: str, sk: str) -> dict[str, Any] | None:
        """Return an item, with a consistent read."""
        response = self._client.get_item(TableName=self._name, Key=_item_key(pk, sk), ConsistentRead=True)
        return from_item(response["Item"]) if "Item" in response else None

    def query(self, condition: str, values: dict[str, Any], **options: Any) -> Iterator[dict[str, Any]]:
        """Yield the items that meet a key condition. Pages are read on demand."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            **options,
        )
        return (from_item(item) for page in pages for item in page["Items"])

    def amend(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> RolloutRecord:
        """Set fields of a rollout's record and return it, in one UpdateItem."""
        return self.amend_by(rollout_id, **_assignment(fields, **how))

    def amend_by(self, rollout_id: str, **expressions: Any) -> RolloutRecord:
        """Change a rollout's record with custom expressions and return it, in one UpdateItem."""
        response = retry_conflicts(
            self._client.update_item,
            TableName=self._name,
            Key=_item_key(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK),
            ReturnValues="ALL_NEW",
            **expressions,
        )
        return RolloutRecord.of(from_item(response["Attributes"]))

    def put(self, pk: str, sk: str, fields: dict[str, Any], *, over: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write an item that must not exist yet. It may replace ``over`` while that has the same owner."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if over:
            condition = {
                "ConditionExpression": "attribute_not_exists(pk) OR #owner = :owner",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": to_item({":owner": over["owner"]}),
            }
        return {"Put": {"TableName": self._name, "Item": self._item(pk, sk, fields), **condition}}

    def put_rollout(self, rollout_id: str, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the writes of the record of a new rollout, and of its place in the history of its target.

        Parameters
        ----------
        fields
            At least ``status`` and ``createdAt``, which are the key of the index of all rollouts. The target of a
            request that could not be read is missing.
        """
        record = {"schemaVersion": SCHEMA_VERSION, **fields}
        yield self.put(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK, record)
        if target := fields.get("targetKey"):
            past = keys.past_sk(fields["createdAt"], rollout_id)
            yield self.put(keys.target_pk(target), past, {"rolloutId": rollout_id})

    def put_event(self, rollout_id: str, detail_type: str, name: str, detail: dict[str, Any]) -> dict[str, Any]:
        """Write an entry of the outbox. Its id comes from its content, so the same event always has the same id."""
        about = {"id": f"{rollout_id}/{name}", "rolloutId": rollout_id}
        return self.put_event_at(keys.rollout_pk(rollout_id), detail_type, name, {**about, **detail})

    def put_event_at(self, pk: str, detail_type: str, name: str, detail: dict[str, Any]) -> dict[str, Any]:
        """Write an entry of the outbox under any partition key. The detail has the event's id."""
        return self.put(pk, keys.event_sk(name), entry_fields(detail_type, detail))

    def put_signal(self, pk: str, signal_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Write what became of a signal. The same signal stays unchanged; another one with the same id replaces it."""
        put = self.put(pk, keys.signal_sk(signal_id), {**fields, "at": now_iso()})
        put["Put"] |= {
            "ConditionExpression": "attribute_not_exists(pk) OR #signal <> :signal",
            "ExpressionAttributeNames": {"#signal": "signal"},
            "ExpressionAttributeValues": to_item({":signal": fields["signal"]}),
        }
        return put

    def put_refusal(
        self,
        rollout_id: str,
        execution: str,
        reason: str,
        *,
        target_key: str | None = None,
        record: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the writes of the record and the event of a refused request without a record.

        Parameters
        ----------
        target_key
            Key of its target; None if that could not be read.
        record
            What else its record has.
        """
        now, target = now_iso(), {"targetKey": target_key} if target_key else {}
        refused = {"execution": execution, "createdAt": now, **target, **(record or {})}
        refused |= {"status": "refused", "reason": reason, "endedAt": now}
        announced = {"target": target_key} if target_key else {}
        return [
            *self.put_rollout(rollout_id, refused),
            self.put_event(rollout_id, ANNOUNCED_AS["refused"], "ended", {**announced, "reason": reason}),
        ]

    def put_lock(self, lock: TargetLock) -> dict[str, Any]:
        """Write a lock if its version has not changed since it was read.

        It does not expire, because its epoch must only rise.
        """
        version = lock.version
        key = {"pk": keys.target_pk(lock.target_key), "sk": keys.LOCK_SK}
        item = to_item({**key, **lock.to_fields(), "version": version + 1})
        if not version:
            return {"Put": {"TableName": self._name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}
        return {
            "Put": {
                "TableName": self._name,
                "Item": item,
                "ConditionExpression": "version = :version",
                "ExpressionAttributeValues": to_item({":version": version}),
            }
        }

    def rejected_code(self, function: str) -> RejectedCode | None:
        """Return the code that the last rollout to leave rejected code in $LATEST of a function has left there."""
        item = self.get(keys.function_pk(function), keys.REJECTED_SK)
        return RejectedCode(item["codeSha256"], item["rolloutId"]) if item else None

    def put_rejected_code(self, function: str, rejected: RejectedCode) -> dict[str, Any]:
        """Write which rejected code $LATEST of a function holds. It replaces an earlier note.

        It does not expire: $LATEST may hold the code for years.
        """
        key = {"pk": keys.function_pk(function), "sk": keys.REJECTED_SK}
        fields = {"codeSha256": rejected.code_sha256, "rolloutId": rejected.rollout_id, "at": now_iso()}
        return {"Put": {"TableName": self._name, "Item": to_item({**key, **fields})}}

    def check_lock(self, fence: Fence) -> dict[str, Any]:
        """Return the condition that the rollout still owns the target's lock."""
        return {
            "ConditionCheck": {
                "TableName": self._name,
                "Key": _item_key(keys.target_pk(fence.target_key), keys.LOCK_SK),
                "ConditionExpression": "#owner = :owner AND epoch = :epoch",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": to_item({":owner": fence.rollout_id, ":epoch": fence.epoch}),
            }
        }

    def check_free(self, target_key: str) -> dict[str, Any]:
        """Return the condition that the target's lock is free."""
        return {
            "ConditionCheck": {
                "TableName": self._name,
                "Key": _item_key(keys.target_pk(target_key), keys.LOCK_SK),
                "ConditionExpression": "attribute_not_exists(held)",
            }
        }

    def update(self, pk: str, sk: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """Update an existing item."""
        return {"Update": {"TableName": self._name, "Key": _item_key(pk, sk), **_assignment(fields, **how)}}

    def update_rollout(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """Update a rollout's record."""
        return self.update(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK, fields, **how)

    def delete(self, item: dict[str, Any]) -> dict[str, Any]:
        """Delete an item that must exist."""
        return {
            "Delete": {
                "TableName": self._name,
                "Key": _item_key(item["pk"], item["sk"]),
                "ConditionExpression": "attribute_exists(pk)",
            }
        }

    def drop(self, pk: str, sk: str) -> dict[str, Any]:
        """Delete an item, which may not exist."""
        return {"Delete": {"TableName": self._name, "Key": _item_key(pk, sk)}}

    def transact(self, *writes: dict[str, Any]) -> None:
        """Write all items in one transaction.

        Raises
        ------
        LockLost
            If the transaction checks a lock that has another owner.
        WriteConflict
            If another condition does not hold. Read again.
        Contended
            If every attempt conflicted with other transactions.
        """
        retry(
            lambda: self._transact_once(writes),
            attempts=WRITE_ATTEMPTS,
            when=_is_undecided,
            backs_off=True,
            failure=contended(self._name),
        )

    def _transact_once(self, writes: Sequence[dict[str, Any]]) -> None:
        try:
            self._client.transact_write_items(TransactItems=list(writes))  # type: ignore[arg-type]
        except ClientError as error:
            reasons = cancellation_reasons(error)
            if "ConditionalCheckFailed" not in reasons:
                raise
            for write, reason in zip(writes, reasons, strict=False):
                if "ConditionCheck" in write and reason == "ConditionalCheckFailed":
                    key = keys.target_key_in(from_item(write["ConditionCheck"]["Key"])["pk"])
                    raise LockLost(f"the lock of {key} has another owner") from None
            raise WriteConflict from None

    def _item(self, pk: str, sk: str, fields: dict[str, Any]) -> dict[str, Any]:
        return to_item({"pk": pk, "sk": sk, **fields, "expiresAt": expiry(self._retention_days)})


def retry_lost_writes(what: str, write: Callable[[], Written]) -> Written:
    """Make an optimistic write, and retry it on WriteConflict. Each loss means that another write succeeded.

    Raises
    ------
    Contended
        After ``WRITE_ATTEMPTS`` lost attempts.
    """
    return retry(write, attempts=WRITE_ATTEMPTS, failure=contended(what))


def contended(what: str) -> Contended:
    """Return the error for ``WRITE_ATTEMPTS`` lost optimistic writes."""
    return Contended(f"{what} was changed by other writers {WRITE_ATTEMPTS} times in a row; try again")


def _item_key(pk: str, sk: str) -> dict[str, Any]:
    return to_item({"pk": pk, "sk": sk})


def _is_undecided(error: Exception) -> bool:
    """Return whether a transaction conflicts with another one. Its conditions may still hold."""
    return isinstance(error, ClientError) and "TransactionConflict" in cancellation_reasons(error)


def _assignment(
    fields: dict[str, Any],
    condition: str = "attribute_exists(pk)",
    values: dict[str, Any] | None = None,
    remove: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the expressions of an update that sets and removes fields."""
    sets = "SET " + ", ".join(f"#{name} = :set_{name}" for name in fields) if fields else ""
    removes = "REMOVE " + ", ".join(f"#{name}" for name in remove) if remove else ""
    expression = f"{sets} {removes}".strip()
    names = {f"#{name}": name for name in (*fields, *remove, "status")}
    return {
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {
            alias: name for alias, name in names.items() if alias in expression or alias in condition
        },
        "ExpressionAttributeValues": to_item(
            {**{f":set_{name}": value for name, value in fields.items()}, **(values or {})}
        ),
    }
