"""The table: reading its items, the pieces of its transactions, and the outbox.

One item collection per rollout (the record, a STEP per bake, a PAUSE per pause, an EVENT per announcement) and one per
target (its LOCK and a WAIT per request in line); ``headgate.keys`` has their keys. A change and the event that
announces it are one transaction, so there is never one without the other; the table's stream carries the events to the
bus.
"""

from __future__ import annotations

from datetime import UTC, datetime
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
from headgate.aws.errors import cancellation_reasons
from headgate.errors import Contended, LockLost
from headgate.rollouts.record import ANNOUNCED_AS, RolloutRecord, TargetLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.rollouts.record import Fence


Written = TypeVar("Written")

WRITE_ATTEMPTS = 12
"""Optimistic writes to one item that lose against another are tried again; each loss means that another one won."""


class Assignment(TypedDict, total=False):
    """How fields are set."""

    condition: str
    """That the item is there, unless given. It names a field as ``#field`` and what it is set to as ``:set_field``."""
    values: dict[str, Any]
    """What else the condition names."""
    remove: Sequence[str]
    """Fields that go."""


class Table:
    """Reads items, and makes and carries out writes.

    Parameters
    ----------
    client
        A DynamoDB client.
    name
        The table's name.
    retention_days
        How long a rollout's record is kept beyond the year that a rollout may take.
    """

    def __init__(self, client: DynamoDBClient, name: str, retention_days: int = RETENTION_DAYS) -> None:
        self._client = client
        self._name = name
        self._retention_days = retention_days

    # Reading

    def rollout(self, rollout_id: str) -> RolloutRecord | None:
        """A rollout's record, read consistently."""
        item = self.get(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK)
        return RolloutRecord.of(item) if item else None

    def running(self, rollout_id: str) -> RolloutRecord | None:
        """The record of a rollout that has started and not ended; None for any other."""
        record = self.rollout(rollout_id)
        return record if record is not None and record.status == "running" else None

    def lock(self, target_key: str) -> TargetLock:
        """The lock of a target, read consistently; a target that was never rolled out has a free one."""
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
        """One item, read consistently."""
        answer = self._client.get_item(TableName=self._name, Key=_item_key(pk, sk), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def query(self, condition: str, values: dict[str, Any], **options: Any) -> Iterator[dict[str, Any]]:
        """The items that meet a key condition, page by page as they are asked for."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            **options,
        )
        return (from_item(item) for page in pages for item in page["Items"])

    # Writes of one item

    def amend(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> RolloutRecord:
        """Set fields of a rollout's record and read it, in one UpdateItem."""
        return self.amend_by(rollout_id, **_assignment(fields, **how))

    def amend_by(self, rollout_id: str, **expressions: Any) -> RolloutRecord:
        """Change a rollout's record by expressions of one's own, and read it, in one UpdateItem."""
        answer = retry_conflicts(
            self._client.update_item,
            TableName=self._name,
            Key=_item_key(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK),
            ReturnValues="ALL_NEW",
            **expressions,
        )
        return RolloutRecord.of(from_item(answer["Attributes"]))

    # The pieces of a transaction

    def put(self, pk: str, sk: str, fields: dict[str, Any], *, over: dict[str, Any] | None = None) -> dict[str, Any]:
        """An item that must not be there yet. It may replace ``over``, which was read, while its owner is the same."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if over:
            condition = {
                "ConditionExpression": "attribute_not_exists(pk) OR #owner = :owner",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": to_item({":owner": over["owner"]}),
            }
        return {"Put": {"TableName": self._name, "Item": self._item(pk, sk, fields), **condition}}

    def put_rollout(self, rollout_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The record of a rollout that has none yet."""
        return self.put(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK, fields)

    def put_event(self, rollout_id: str, detail_type: str, name: str, detail: dict[str, Any]) -> dict[str, Any]:
        """An entry of the outbox. Its id is made of what it says, so that the same event always has the same id."""
        event_id = f"{rollout_id}/{name}"
        body = {"id": event_id, "rolloutId": rollout_id, "at": now_iso(), **detail}
        return self.put(keys.rollout_pk(rollout_id), keys.event_sk(name), {"detailType": detail_type, "detail": body})

    def put_refusal(
        self, rollout_id: str, record: dict[str, Any], reason: str, detail: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The record and the event of a request that is refused, and has no record yet."""
        refused = {**record, "status": "refused", "reason": reason, "endedAt": now_iso()}
        return [
            self.put_rollout(rollout_id, refused),
            self.put_event(rollout_id, ANNOUNCED_AS["refused"], "ended", {**detail, "reason": reason}),
        ]

    def put_lock(self, lock: TargetLock) -> dict[str, Any]:
        """Write a lock on condition that nobody has written it since it was read, as its version says.

        It never expires: its epoch must only rise.
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

    def check_lock(self, fence: Fence) -> dict[str, Any]:
        """The condition that the rollout still owns the target's lock."""
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
        """The condition that nobody owns the target's lock."""
        return {
            "ConditionCheck": {
                "TableName": self._name,
                "Key": _item_key(keys.target_pk(target_key), keys.LOCK_SK),
                "ConditionExpression": "attribute_not_exists(held)",
            }
        }

    def update(self, pk: str, sk: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """A change of an item that is there."""
        return {"Update": {"TableName": self._name, "Key": _item_key(pk, sk), **_assignment(fields, **how)}}

    def update_rollout(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """A change of a rollout's record."""
        return self.update(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK, fields, **how)

    def delete(self, item: dict[str, Any]) -> dict[str, Any]:
        """The end of an item that must still be there."""
        return {
            "Delete": {
                "TableName": self._name,
                "Key": _item_key(item["pk"], item["sk"]),
                "ConditionExpression": "attribute_exists(pk)",
            }
        }

    def drop(self, pk: str, sk: str) -> dict[str, Any]:
        """The end of an item, whether or not it is there."""
        return {"Delete": {"TableName": self._name, "Key": _item_key(pk, sk)}}

    def transact(self, *writes: dict[str, Any]) -> None:
        """Write all or nothing.

        Raises
        ------
        LockLost
            If the write was conditional on a lock, and that has another owner.
        WriteConflict
            If another condition no longer holds: read again.
        Contended
            If other transactions were at the same items each time.
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


def now_iso() -> str:
    """The time as the records and events give it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def retry_lost_writes(what: str, write: Callable[[], Written]) -> Written:
    """Make an optimistic write, and again where it raises WriteConflict: each loss means that another write won.

    Raises
    ------
    Contended
        If it has lost ``WRITE_ATTEMPTS`` times.
    """
    return retry(write, attempts=WRITE_ATTEMPTS, failure=contended(what))


def contended(what: str) -> Contended:
    """What is raised when optimistic writes have lost ``WRITE_ATTEMPTS`` times."""
    return Contended(f"{what} was written to by others {WRITE_ATTEMPTS} times in a row; try again")


def _item_key(pk: str, sk: str) -> dict[str, Any]:
    return to_item({"pk": pk, "sk": sk})


def _is_undecided(error: Exception) -> bool:
    """Whether a transaction met another one at the same items: its conditions may hold all the same."""
    return isinstance(error, ClientError) and "TransactionConflict" in cancellation_reasons(error)


def _assignment(
    fields: dict[str, Any],
    condition: str = "attribute_exists(pk)",
    values: dict[str, Any] | None = None,
    remove: Sequence[str] = (),
) -> dict[str, Any]:
    """The expressions of an update that sets and removes fields."""
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
