"""Reads the history of rollouts from the table, with queries and batches whose cost does not grow with other rollouts.

Lists come from the index ``by-status``, and those of one target from the target's own items. A page ends with a token
that names its last rollout, so that rollouts that begin meanwhile do not move the next page.
"""

from __future__ import annotations

import heapq
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.dynamodb import back_off, from_item, to_item
from headgate.errors import RequestRefused
from headgate.history.model import RolloutPage
from headgate.history.reading import STATUSES, Place, RolloutItems, rollout_view, summary_of
from headgate.history.sentences import headline
from headgate.rollouts.record import TargetLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.history.model import RolloutSummary, RolloutView
    from headgate.history.reading import Item
    from headgate.rollouts.record import Status


BY_STATUS = "by-status"
"""The index of rollouts and jobs by status, newest first."""

KEYS_PER_BATCH = 100
"""BatchGetItem takes 100 keys."""

BATCH_ATTEMPTS = 8
"""Attempts to read what a batch could not read at once."""

AT_ONCE = 8
"""Calls that are made at the same time."""

LISTED = ("targetKey", "stable", "candidate", "startedAt", "endedAt", "reason", "undoneBy", "undoOf", "moved")
"""Attributes that the index has beside its keys. The template has the same."""

_FIRST, _LAST = "0", "~"
"""Before and after every time and id."""


class Mark(NamedTuple):
    """Where a page ends: the time and id of its last rollout. Later pages are older."""

    created_at: str
    id: str

    @classmethod
    def of(cls, item: Item) -> Mark:
        """Return the mark of an item of the index, or of a record."""
        return cls(str(item.get("createdAt", "")), keys.rollout_id_in(item["pk"]))

    @classmethod
    def read(cls, token: str) -> Mark:
        """Read a page token.

        Raises
        ------
        RequestRefused
            If it is none.
        """
        created_at, separator, name = token.partition("#")
        if not (separator and name and created_at.startswith("20")):
            raise RequestRefused(f"after: must be the value of next of an earlier page (given {token[:100]!r})")
        return cls(created_at, name)

    @property
    def token(self) -> str:
        return f"{self.created_at}#{self.id}"


class History:
    """Reads rollouts, ECS tasks and redrives.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        Name of the table.
    machines
        A client for Step Functions. Only jobs need it.
    """

    def __init__(self, client: DynamoDBClient, table: str, machines: SFNClient | None = None) -> None:
        self._client = client
        self._table = table
        self._machines = machines

    def rollout(self, rollout_id: str) -> RolloutView | None:
        """Return a rollout with all that is on record of it; None if there is none. Reads consistently."""
        items = RolloutItems(self._query("pk = :pk", {":pk": keys.rollout_pk(rollout_id)}, ConsistentRead=True))
        return _with_headline(rollout_view(items, self._place_of(items.record)))

    def rollouts(
        self,
        *,
        target: str = "",
        states: Sequence[Status] = (),
        since: str = "",
        until: str = "",
        limit: int = 20,
        after: str | None = None,
    ) -> RolloutPage:
        """Return a page of rollouts, newest first by the time of their request.

        The index is eventually consistent: a rollout is in it some milliseconds after it was requested.

        Parameters
        ----------
        target
            Key of a target, such as ``lambda-alias/checkout/live``; by default, all targets.
        states
            Statuses; by default, all.
        since, until
            Times between which a rollout was requested, both included.
        limit
            Maximum number of rollouts in the page.
        after
            ``next`` of the page before.

        Raises
        ------
        RequestRefused
            If ``limit`` or ``after`` is not valid.
        """
        if limit < 1:
            raise RequestRefused(f"limit: must be at least 1 (given {limit})")
        mark = Mark.read(after) if after else None
        begin, end = since or _FIRST, until or _LAST
        if mark:
            end = min(end, mark.created_at)
        if begin > end:
            return RolloutPage(rollouts=[])
        if target:
            found = self._of_target(target, states, begin, end, mark, limit)
        else:
            found = self._of_states(states or STATUSES, begin, end, mark, limit)
        items = list(islice(found, limit + 1))
        following = Mark.of(items[limit - 1]).token if len(items) > limit else None
        return RolloutPage(rollouts=_summaries(items[:limit]), next=following)

    def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
        """Return rollouts as they are now, without events, looks, hooks, requests and past bakes, in few calls.

        Rollouts that are not on record are left out.
        """
        pks = [keys.rollout_pk(rollout_id) for rollout_id in dict.fromkeys(rollout_ids)]
        read = self._batch([(pk, sk) for pk in pks for sk in (keys.ROLLOUT_SK, keys.EVIDENCE_SK)])
        records = [read[pk, keys.ROLLOUT_SK] for pk in pks if (pk, keys.ROLLOUT_SK) in read]
        read |= self._batch([(record["pk"], sk) for record in records for sk in _current_keys(record)])
        places = self._places_of([record for record in records if record.get("status") == "waiting"])
        views = []
        for record in records:
            own = [item for (pk, _), item in read.items() if pk == record["pk"]]
            views.append(_with_headline(rollout_view(RolloutItems(own), places.get(record["pk"]))))
        return [view for view in views if view]

    # --- Lists ---

    def _of_states(self, states: Iterable[str], begin: str, end: str, mark: Mark | None, limit: int) -> Iterator[Item]:
        """Yield what the index has of rollouts, newest first, from one query per status."""
        wanted = [status for status in STATUSES if status in set(states)]
        streams = self._in_index(wanted, begin, end, limit + 1)
        seen = set()
        for item in heapq.merge(*streams, key=Mark.of, reverse=True):
            # Its status may have changed between two queries.
            if item["pk"] not in seen and (mark is None or Mark.of(item) < mark):
                seen.add(item["pk"])
                yield item

    def _in_index(self, statuses: Sequence[str], begin: str, end: str, page: int) -> list[Iterator[Item]]:
        """Return what the index has of each status, newest first. The first pages are read at the same time."""
        queries = [
            _Query(
                self._client,
                TableName=self._table,
                IndexName=BY_STATUS,
                KeyConditionExpression="#status = :status AND createdAt BETWEEN :begin AND :end",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues=to_item({":status": status, ":begin": begin, ":end": end}),
                ScanIndexForward=False,
                Limit=page,
            )
            for status in statuses
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(_Query.begin, queries))
        return [_in_order(query.items()) for query in queries]

    def _of_target(
        self, target: str, states: Sequence[str], begin: str, end: str, mark: Mark | None, limit: int
    ) -> Iterator[Item]:
        """Yield the records of a target, newest first."""
        last = keys.past_sk(mark.created_at, mark.id) if mark else keys.past_sk(end, _LAST)
        query = _Query(
            self._client,
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues=to_item(
                {":pk": keys.target_pk(target), ":first": keys.PAST_PREFIX + begin, ":last": last}
            ),
            ScanIndexForward=False,
            Limit=min(limit + 2, KEYS_PER_BATCH),
        )
        for past in query.pages():
            ids = [item["rolloutId"] for item in past if item["sk"] != last or mark is None]
            wanted = [(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK) for rollout_id in ids]
            records = self._batch(wanted, only=("status", "createdAt", *LISTED))
            for key in wanted:
                if (record := records.get(key)) and (not states or record.get("status") in states):
                    yield record

    # --- Lines ---

    def _place_of(self, record: Item | None) -> Place | None:
        if record is None or record.get("status") != "waiting":
            return None
        return self._places_of([record]).get(record["pk"])

    def _places_of(self, waiting: list[Item]) -> dict[str, Place]:
        """Return the places of records that wait, by partition key, from one query and one item per target."""
        targets = list(dict.fromkeys(record["targetKey"] for record in waiting if record.get("targetKey")))
        if not targets:
            return {}
        locks = self._batch([(keys.target_pk(target), keys.LOCK_SK) for target in targets])
        places = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for target, line in zip(targets, pool.map(self._line_of, targets), strict=True):
                lock = TargetLock.of(target, locks.get((keys.target_pk(target), keys.LOCK_SK)))
                for number, item in enumerate(line, start=1):
                    pk = keys.rollout_pk(item.get("rolloutId", ""))
                    places[pk] = Place(number, lock.owner or "", item.get("until"))
        return places

    def _line_of(self, target: str) -> list[Item]:
        values = {":pk": keys.target_pk(target), ":wait": keys.WAIT_PREFIX}
        return list(self._query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True))

    # --- Calls ---

    def _query(self, condition: str, values: dict[str, Any], **options: Any) -> Iterator[Item]:
        query = _Query(
            self._client,
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            **options,
        )
        return query.items()

    def _batch(self, wanted: Sequence[tuple[str, str]], only: Sequence[str] = ()) -> dict[tuple[str, str], Item]:
        """Return items by partition and sort key. Those that do not exist are left out.

        Parameters
        ----------
        only
            The attributes to read; by default, all.
        """
        wanted = list(dict.fromkeys(wanted))
        chunks = [wanted[start : start + KEYS_PER_BATCH] for start in range(0, len(wanted), KEYS_PER_BATCH)]
        if len(chunks) < 2:
            return {key: item for chunk in chunks for key, item in self._read_chunk(chunk, only)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = pool.map(lambda chunk: list(self._read_chunk(chunk, only)), chunks)
            return {key: item for items in read for key, item in items}

    def _read_chunk(
        self, chunk: Sequence[tuple[str, str]], only: Sequence[str]
    ) -> Iterator[tuple[tuple[str, str], Item]]:
        request: dict[str, Any] = {"Keys": [to_item({"pk": pk, "sk": sk}) for pk, sk in chunk], "ConsistentRead": True}
        if only:
            names = {f"#n{number}": name for number, name in enumerate(dict.fromkeys((*only, "pk", "sk")))}
            request |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        left = {self._table: request}
        for attempt in range(BATCH_ATTEMPTS):
            answer: Any = self._client.batch_get_item(RequestItems=left)  # type: ignore[arg-type]
            for stored in answer["Responses"].get(self._table, []):
                item = from_item(stored)
                yield (item["pk"], item["sk"]), item
            left = answer.get("UnprocessedKeys")
            if not left:
                return
            back_off(attempt)
        raise RequestRefused(f"{self._table}: DynamoDB throttles reads; wait a moment and try again")


class _Query:
    """One query, whose pages are read on demand."""

    def __init__(self, client: DynamoDBClient, **call: Any) -> None:
        self._client = client
        self._call = call
        self._first: list[Item] | None = None

    def begin(self) -> None:
        """Read the first page."""
        self._first = self._page()

    def pages(self) -> Iterator[list[Item]]:
        """Yield the pages."""
        yield self._page() if self._first is None else self._first
        while "ExclusiveStartKey" in self._call:
            yield self._page()

    def items(self) -> Iterator[Item]:
        """Yield the items of all pages."""
        return (item for page in self.pages() for item in page)

    def _page(self) -> list[Item]:
        answer = self._client.query(**self._call)
        self._call.pop("ExclusiveStartKey", None)
        if "LastEvaluatedKey" in answer:
            self._call["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return [from_item(item) for item in answer["Items"]]


def _in_order(newest_first: Iterator[Item]) -> Iterator[Item]:
    """Order items of the same millisecond by id. The index leaves their order open."""
    for _, together in groupby(newest_first, key=lambda item: item["createdAt"]):
        yield from sorted(together, key=Mark.of, reverse=True)


def _summaries(items: Iterable[Item]) -> list[RolloutSummary]:
    return [summary for item in items if (summary := summary_of(item))]


def _current_keys(record: Item) -> list[str]:
    """Return the sort keys of the bake or pause that lasts, and of the bake before it."""
    sk = str(record.get("waitsAt") or "")
    kind, *numbers = sk.split("#")
    if f"{kind}#" == keys.STEP_PREFIX and all(number.isdigit() for number in numbers) and len(numbers) == 2:
        step, bake = map(int, numbers)
        return [sk, *([keys.step_key(step, bake - 1)] if bake else [])]
    return [sk] if keys.is_pause(sk) else []


def _with_headline(view: RolloutView | None) -> RolloutView | None:
    return view.model_copy(update={"headline": headline(view)}) if view else None
