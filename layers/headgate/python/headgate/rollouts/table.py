"""The table: reading its items, the pieces of its transactions, and the outbox.

One item collection per rollout (``ROLLOUT#id``: the record, a STEP per bake, an EVENT per announcement) and one per
target (``TARGET#key``: its LOCK and a WAIT per request in line). A change and the event that announces it are one
transaction, so there is never one without the other; the table's stream carries the events to the bus.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import RETENTION_DAYS, back_off, expiry, from_item, retry_conflicts, to_item
from headgate.errors import Contended, LockLost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient


TerminalStatus = Literal["succeeded", "rolled-back", "refused", "stopped"]

ANNOUNCED_AS: dict[TerminalStatus, str] = {
    "succeeded": "Rollout Succeeded",
    "rolled-back": "Rollout Rolled Back",
    "refused": "Rollout Refused",
    "stopped": "Rollout Stopped",
}

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


class WriteConflict(Exception):  # noqa: N818
    """An optimistic write found that its ground has changed: read again."""


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

    def rollout(self, rollout_id: str) -> dict[str, Any] | None:
        """A rollout's record, read consistently."""
        return _read_record(self.get(f"ROLLOUT#{rollout_id}", "ROLLOUT"))

    def running(self, rollout_id: str) -> dict[str, Any] | None:
        """The record of a rollout that has started and not ended; None of any other."""
        record = self.rollout(rollout_id)
        return record if record is not None and record["status"] == "running" else None

    def lock(self, target_key: str) -> dict[str, Any]:
        """The lock of a target, read consistently; a target that was never rolled out has a free one."""
        return self.get(f"TARGET#{target_key}", "LOCK") or {}

    def require_lock(self, target_key: str, rollout_id: str, epoch: int) -> None:
        """Raise LockLost unless the rollout still owns the target's lock."""
        lock = self.lock(target_key)
        if (lock.get("owner"), lock.get("epoch")) != (rollout_id, epoch):
            raise LockLost(
                f"rollout {rollout_id} (epoch {epoch}) no longer owns {target_key}: the lock is "
                f"{'held by ' + lock['owner'] if lock.get('owner') else 'free'} (epoch {lock.get('epoch', 0)})"
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

    def amend(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """Set fields of a rollout's record and read it, in one UpdateItem."""
        return self.amend_by(rollout_id, **_assignment(fields, **how))

    def amend_by(self, rollout_id: str, **expressions: Any) -> dict[str, Any]:
        """Change a rollout's record by expressions of one's own, and read it, in one UpdateItem."""
        answer = retry_conflicts(
            self._client.update_item,
            TableName=self._name,
            Key=_item_key(f"ROLLOUT#{rollout_id}", "ROLLOUT"),
            ReturnValues="ALL_NEW",
            **expressions,
        )
        return from_item(answer["Attributes"])

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
        return self.put(f"ROLLOUT#{rollout_id}", "ROLLOUT", fields)

    def put_event(self, rollout_id: str, detail_type: str, name: str, detail: dict[str, Any]) -> dict[str, Any]:
        """An entry of the outbox. Its id is made of what it says, so that the same event always has the same id."""
        event_id = f"{rollout_id}/{name}"
        body = {"id": event_id, "rolloutId": rollout_id, "at": now_iso(), **detail}
        return self.put(f"ROLLOUT#{rollout_id}", f"EVENT#{name}", {"detailType": detail_type, "detail": body})

    def put_lock(self, target_key: str, read: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Write a lock on condition that it is still as it was read. It never expires: its epoch must only rise."""
        kept = ("owner", "epoch", "arrivals", "waiting", "last")
        lock = {name: read[name] for name in kept if name in read} | changes
        lock["held"] = "yes" if lock.get("owner") else None
        version = read.get("version", 0)
        item = to_item({"pk": f"TARGET#{target_key}", "sk": "LOCK", **lock, "version": version + 1})
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

    def check_lock(self, target_key: str, rollout_id: str, epoch: int) -> dict[str, Any]:
        """The condition that the rollout still owns the target's lock."""
        return {
            "ConditionCheck": {
                "TableName": self._name,
                "Key": _item_key(f"TARGET#{target_key}", "LOCK"),
                "ConditionExpression": "#owner = :owner AND epoch = :epoch",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": to_item({":owner": rollout_id, ":epoch": epoch}),
            }
        }

    def check_free(self, target_key: str) -> dict[str, Any]:
        """The condition that nobody owns the target's lock."""
        return {
            "ConditionCheck": {
                "TableName": self._name,
                "Key": _item_key(f"TARGET#{target_key}", "LOCK"),
                "ConditionExpression": "attribute_not_exists(held)",
            }
        }

    def update(self, pk: str, sk: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """A change of an item that is there."""
        return {"Update": {"TableName": self._name, "Key": _item_key(pk, sk), **_assignment(fields, **how)}}

    def update_rollout(self, rollout_id: str, fields: dict[str, Any], **how: Unpack[Assignment]) -> dict[str, Any]:
        """A change of a rollout's record."""
        return self.update(f"ROLLOUT#{rollout_id}", "ROLLOUT", fields, **how)

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
        Overtaken
            If another condition no longer holds: read again.
        """
        for attempt in range(WRITE_ATTEMPTS):
            try:
                self._client.transact_write_items(TransactItems=list(writes))  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
                if "ConditionalCheckFailed" not in reasons:
                    if "TransactionConflict" not in reasons:
                        raise
                    back_off(attempt)  # Another transaction was at it: not decided yet.
                    continue
                for write, reason in zip(writes, reasons, strict=False):
                    if "ConditionCheck" in write and reason == "ConditionalCheckFailed":
                        key = from_item(write["ConditionCheck"]["Key"])["pk"].removeprefix("TARGET#")
                        raise LockLost(f"the lock of {key} has another owner") from None
                raise WriteConflict from None
            return
        raise contended(self._name)

    def _item(self, pk: str, sk: str, fields: dict[str, Any]) -> dict[str, Any]:
        return to_item({"pk": pk, "sk": sk, **fields, "expiresAt": expiry(self._retention_days)})


def now_iso() -> str:
    """The time as the records and events give it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def contended(what: str) -> Contended:
    """What is raised when optimistic writes have lost ``WRITE_ATTEMPTS`` times."""
    return Contended(f"{what} was written to by others {WRITE_ATTEMPTS} times in a row; try again")


def _item_key(pk: str, sk: str) -> dict[str, Any]:
    return to_item({"pk": pk, "sk": sk})


def _read_record(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """A ROLLOUT item with its request and plan as data."""
    return item and item | {name: json.loads(item[name]) for name in ("request", "plan") if name in item}


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
