"""Revisions that the records of rollouts need: of those that run or wait, and of those that could be undone."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from headgate import keys
from headgate.aws.dynamodb import from_item, to_item
from headgate.history.wording import target
from headgate.rollouts.record import RolloutRecord, TargetLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

HELD_LOCKS = "held-locks"
"""The sparse index of held locks."""

BY_STATUS = "by-status"
"""The index of rollouts and jobs by status."""

Uses = defaultdict[str, list[str]]
"""Why a revision is needed, by its name."""


class RolloutUses:
    """Reads which versions rollouts need.

    An undo restores the stable version of the last promotion on a target, however long ago that was, as long as its
    record is kept. Earlier promotions cannot be undone.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table
        self._texts: dict[str, tuple[str, ...]] = {}

    def of_targets(self, target_keys: Iterable[str]) -> Uses:
        """Return which versions the rollouts on these targets need. All reads are consistent."""
        uses: Uses = defaultdict(list)
        for key in target_keys:
            pk = keys.target_pk(key)
            lock = TargetLock.of(key, self._item(pk, keys.LOCK_SK))
            mark = self._item(pk, keys.THROUGH_SK) or {}
            # Those that hold the target, wait for it, or move it as the alias of a consumer.
            live = [lock.owner, *self._waiting(key), mark.get("owner")]
            for rollout_id in filter(None, live):
                if record := self._rollout(rollout_id):
                    for version in _versions_of(record):
                        _add(uses, version, f"rollout {record.id} is {record.status} and uses it")
            if lock.last and (record := self._rollout(lock.last)):
                state = record.state or {}
                if stable := record.stable or state.get("stable"):
                    _add(uses, stable, f"an undo of rollout {record.id} would restore it on {target(key)}")
                if candidate := record.candidate or state.get("candidate"):
                    _add(uses, candidate, f"rollout {record.id}, the last one on {target(key)}, promoted it")
        return uses

    def texts(self) -> list[tuple[str, str]]:
        """Return the texts in the requests of all rollouts that run or wait now, each with the rollout's id.

        The hooks of a request may name a version or a task definition. Each call reads anew which rollouts run or wait:
        a query for each of the two indexes, one more for every megabyte. A request never changes, so that only those of
        rollouts that came since the last call are read. A rollout that is not in the index yet, for less than a second,
        is planned later, and refused then if a version that its hooks name is gone.
        """
        # Waiting rollouts first: one that stops waiting between the queries holds a lock in the second.
        live = [*self._all_waiting(), *(item["owner"] for item in self._held())]
        texts: dict[str, tuple[str, ...]] = {}
        for rollout_id in live:
            known = self._texts.get(rollout_id)
            if known is None and (record := self._rollout(rollout_id)):
                known = tuple(texts_in(record.request))
            if known is not None:
                texts[rollout_id] = known
        self._texts = texts
        return [(rollout_id, text) for rollout_id, found in texts.items() for text in found]

    def of_hooks(self, function: str) -> Uses:
        """Return which versions of a function the hooks of running and waiting rollouts name."""
        uses: Uses = defaultdict(list)
        named = re.compile(rf"(?:.*:function:)?{re.escape(function)}:(\d+)")
        for rollout_id, text in self.texts():
            if match := named.fullmatch(text):
                _add(uses, match[1], f"a hook of rollout {rollout_id} names it")
        return uses

    def _waiting(self, target_key: str) -> list[str]:
        """Return the rollouts in line for a target. Its partition also has all its past rollouts."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :wait)",
            ExpressionAttributeValues=to_item({":pk": keys.target_pk(target_key), ":wait": keys.WAIT_PREFIX}),
            ConsistentRead=True,
        )
        return [from_item(item)["rolloutId"] for page in pages for item in page["Items"]]

    def _all_waiting(self) -> list[str]:
        """Return the rollouts in line for any target."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=BY_STATUS,
            KeyConditionExpression="#status = :waiting",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues=to_item({":waiting": "waiting"}),
        )
        names = [from_item(item)["pk"] for page in pages for item in page["Items"]]
        # The index has jobs too.
        return [keys.rollout_id_in(name) for name in names if name == keys.rollout_pk(keys.rollout_id_in(name))]

    def _held(self) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=HELD_LOCKS,
            KeyConditionExpression="held = :yes",
            ExpressionAttributeValues=to_item({":yes": "yes"}),
        )
        return (from_item(item) for page in pages for item in page["Items"])

    def _rollout(self, rollout_id: str) -> RolloutRecord | None:
        item = self._item(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK)
        return RolloutRecord.of(item) if item else None

    def _item(self, pk: str, sk: str) -> dict[str, Any] | None:
        key = to_item({"pk": pk, "sk": sk})
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return from_item(item) if item else None


def _versions_of(record: RolloutRecord) -> set[str]:
    """Return the revisions that a rollout uses; none once it has ended, but for the last promotion."""
    if record.has_ended:
        return set()
    state = record.state or {}
    asked = (each.get("candidate") or {} for each in (record.request, record.plan))
    named = [record.stable, record.candidate, state.get("stable"), state.get("candidate")]
    for each in asked:
        named += [each.get("version"), str(each.get("taskDefinition") or "").rpartition("/")[2]]
    return {str(name) for name in named if name}


def texts_in(value: object) -> Iterator[str]:
    """Yield every text in JSON data, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def _add(uses: Uses, name: str, reason: str) -> None:
    if reason not in uses[name]:
        uses[name].append(reason)
