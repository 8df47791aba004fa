"""Reads items of the table: queries whose pages are read on demand, batches, and the index by status."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.dynamodb import back_off, from_item, to_item
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

BY_STATUS = "by-status"
"""The index of rollouts and jobs by status, newest first."""

LISTED = ("targetKey", "stable", "candidate", "startedAt", "endedAt", "reason", "undoneBy", "undoOf", "moved")
"""Attributes that the index has beside its keys. The template has the same."""

KEYS_PER_BATCH = 100
"""BatchGetItem takes 100 keys."""

BATCH_ATTEMPTS = 8
"""Attempts to read what a batch could not read at once."""

AT_ONCE = 8
"""Calls that are made at the same time."""

FIRST, LAST = "0", "~"
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


class Items:
    """Reads items.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        Name of the table.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def query(self, condition: str, values: dict[str, Any], **options: Any) -> Query:
        """Return the query for the items that meet a key condition."""
        return Query(
            self._client,
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item(values),
            **options,
        )

    def in_index(
        self,
        statuses: Sequence[str],
        begin: str,
        end: str,
        page: int | None = None,
        *,
        values: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[Iterator[Item]]:
        """Return what the index has of each status, newest first. The first pages are read at the same time.

        Parameters
        ----------
        begin, end
            The first and the last time.
        page
            How many items to read at once; None for as many as DynamoDB answers.
        values
            Values in a filter among the options.
        """
        limit = {"Limit": page} if page else {}
        queries = [
            self.query(
                "#status = :status AND createdAt BETWEEN :begin AND :end",
                {":status": status, ":begin": begin, ":end": end, **(values or {})},
                IndexName=BY_STATUS,
                ExpressionAttributeNames={"#status": "status"},
                ScanIndexForward=False,
                **limit,
                **options,
            )
            for status in statuses
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Query.begin, queries))
        return [_in_order(query.items()) for query in queries]

    def batch(
        self, wanted: Sequence[tuple[str, str]], only: Sequence[str] = (), *, consistent: bool = True
    ) -> dict[tuple[str, str], Item]:
        """Return items by partition and sort key. Those that do not exist are left out.

        Parameters
        ----------
        only
            The attributes to read; by default, all.
        consistent
            Whether to read what was written just before, at twice the price.
        """
        wanted = list(dict.fromkeys(wanted))
        chunks = [wanted[start : start + KEYS_PER_BATCH] for start in range(0, len(wanted), KEYS_PER_BATCH)]
        if len(chunks) < 2:
            return {key: item for chunk in chunks for key, item in self._read_chunk(chunk, only, consistent=consistent)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = pool.map(lambda chunk: list(self._read_chunk(chunk, only, consistent=consistent)), chunks)
            return {key: item for items in read for key, item in items}

    def _read_chunk(
        self, chunk: Sequence[tuple[str, str]], only: Sequence[str], *, consistent: bool
    ) -> Iterator[tuple[tuple[str, str], Item]]:
        request: dict[str, Any] = {
            "Keys": [to_item({"pk": pk, "sk": sk}) for pk, sk in chunk],
            "ConsistentRead": consistent,
        }
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


class Query:
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
