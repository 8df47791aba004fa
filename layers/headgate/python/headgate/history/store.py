"""Reads the history of rollouts from the table, with queries and batches whose cost does not grow with other rollouts.

Lists come from the index ``by-status``, and those of one target from the target's own items. A page ends with a token
that names its last rollout, so that rollouts that begin meanwhile do not move the next page.
"""

from __future__ import annotations

import heapq
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from headgate import keys
from headgate.aws.dynamodb import MAX_ROLLOUT_SECONDS, iso_of
from headgate.errors import RequestRefused
from headgate.history.figures import Ended, figures_of
from headgate.history.items import AT_ONCE, FIRST, KEYS_PER_BATCH, LAST, LISTED, Items, Mark
from headgate.history.jobs import Jobs
from headgate.history.model import RolloutPage
from headgate.history.reading import STATUSES, Place, RolloutItems, rollout_view, summary_of
from headgate.history.sentences import headline
from headgate.rollouts.record import ANNOUNCED_AS, TargetLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.history.items import Item
    from headgate.history.jobs import Kind
    from headgate.history.model import DeploymentFigures, JobPage, JobView, RolloutSummary, RolloutView
    from headgate.rollouts.record import Status

_DIGITS = re.compile(r"[0-9]{1,9}")

LIVE = (
    *("status", "execution", "targetKey", "createdAt", "acceptedAt", "startedAt", "endedAt", "plan", "phase", "step"),
    *("state", "promotedAt", "pending", "waitsAt", "signals", "heard", "reason", "serving", "stable", "candidate"),
    *("redriven", "undoneBy", "undoOf", "watch", "schemaVersion"),
)
"""Attributes of a record that a live view shows."""


class History:
    """Reads rollouts, ECS tasks and redrives.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        Name of the table.
    machines
        A client for Step Functions, which knows how jobs ended. Only jobs need it.
    job_machines
        ARNs of the machines of ``task`` and ``redrive``. With them, jobs that were started without an event are known,
        too.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        machines: SFNClient | None = None,
        *,
        job_machines: Mapping[str, str] | None = None,
    ) -> None:
        self._items = Items(client, table)
        self._jobs = Jobs(self._items, machines, job_machines or {})

    def rollout(self, rollout_id: str, *, place: bool = True) -> RolloutView | None:
        """Return a rollout with all that is on record of it; None if there is none. Reads consistently.

        Parameters
        ----------
        place
            False to leave out the place of one that waits in line, which is read from its target's items.
        """
        items = RolloutItems(
            self._items.query("pk = :pk", {":pk": keys.rollout_pk(rollout_id)}, ConsistentRead=True).items()
        )
        return _with_headline(rollout_view(items, self._place_of(items.record) if place else None))

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
        mark = _mark_of(limit, after)
        begin, end = since or FIRST, until or LAST
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
        read = self._items.batch([(pk, keys.ROLLOUT_SK) for pk in pks], only=LIVE, consistent=False)
        records = [read[pk, keys.ROLLOUT_SK] for pk in pks if (pk, keys.ROLLOUT_SK) in read]
        current = [(record["pk"], sk) for record in records for sk in (keys.EVIDENCE_SK, *_current_keys(record))]
        read |= self._items.batch(current, consistent=False)
        places = self._places_of([record for record in records if record.get("status") == "waiting"])
        own: dict[str, list[Item]] = {}
        for (pk, _), item in read.items():
            own.setdefault(pk, []).append(item)
        views = [
            _with_headline(rollout_view(RolloutItems(own[record["pk"]]), places.get(record["pk"])))
            for record in records
        ]
        return [view for view in views if view]

    def jobs(self, kind: Kind, *, limit: int = 20, after: str | None = None) -> JobPage:
        """Return a page of ECS tasks or redrives, newest first, those that were started without an event included.

        Parameters
        ----------
        limit, after
            As for ``rollouts``.

        Raises
        ------
        RequestRefused
            If ``limit`` or ``after`` is not valid.
        """
        return self._jobs.page(kind, limit, _mark_of(limit, after))

    def job(self, kind: Kind, job_id: str) -> JobView | None:
        """Return an ECS task or a redrive; None if there is none.

        Parameters
        ----------
        job_id
            Its id; of one that was started without an event, the name of its execution. The name and the ARN of an
            execution find any job, if ``job_machines`` are known.
        """
        return self._jobs.view(kind, job_id)

    def figures(self, since: str, until: str) -> DeploymentFigures:
        """Return the figures of the rollouts that ended between two times, both included.

        The index is read from a year before: an execution may take that long. DynamoDB answers only what ended in time.
        """
        found = self._items.in_index(
            [status for status in STATUSES if status in ANNOUNCED_AS],
            _year_before(since),
            until,
            values={":since": since, ":until": until},
            FilterExpression="endedAt BETWEEN :since AND :until",
        )
        items = [item for items in found for item in items]
        # An undo may have ended after the period.
        undos = self._undos_of(ended := [each for item in items if (each := Ended.of(item))])
        return figures_of(ended, undos, since, until)

    def _undos_of(self, ended: Iterable[Ended]) -> dict[str, Ended]:
        """Return the undos of rollouts, and the undos of these, by their ids."""
        undos: dict[str, Ended] = {}
        wanted = {each.rollout.undone_by for each in ended} - {""}
        while wanted:
            found = self._items.batch(
                [(keys.rollout_pk(each), keys.ROLLOUT_SK) for each in sorted(wanted)], only=("status", *LISTED)
            )
            read = {each.rollout.id: each for item in found.values() if (each := Ended.of(item))}
            undos |= read
            wanted = {each.rollout.undone_by for each in read.values()} - {"", *undos}
        return undos

    # --- Lists ---

    def _of_states(self, states: Iterable[str], begin: str, end: str, mark: Mark | None, limit: int) -> Iterator[Item]:
        """Yield what the index has of rollouts, newest first, from one query per status."""
        wanted = [status for status in STATUSES if status in set(states)]
        streams = self._items.in_index(wanted, begin, end, limit + 1)
        seen = set()
        for item in heapq.merge(*streams, key=Mark.of, reverse=True):
            # Its status may have changed between two queries.
            if item["pk"] not in seen and (mark is None or Mark.of(item) < mark):
                seen.add(item["pk"])
                yield item

    def _of_target(
        self, target: str, states: Sequence[str], begin: str, end: str, mark: Mark | None, limit: int
    ) -> Iterator[Item]:
        """Yield the records of a target, newest first."""
        last = keys.past_sk(mark.created_at, mark.id) if mark else keys.past_sk(end, LAST)
        query = self._items.query(
            "pk = :pk AND sk BETWEEN :first AND :last",
            {":pk": keys.target_pk(target), ":first": keys.PAST_PREFIX + begin, ":last": last},
            ScanIndexForward=False,
            Limit=min(limit + 2, KEYS_PER_BATCH),
        )
        for past in query.pages():
            ids = [item["rolloutId"] for item in past if item["sk"] != last or mark is None]
            wanted = [(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK) for rollout_id in ids]
            records = self._items.batch(wanted, only=("status", "createdAt", *LISTED))
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
        locks = self._items.batch([(keys.target_pk(target), keys.LOCK_SK) for target in targets])
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
        return list(self._items.query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True).items())


def _mark_of(limit: int, after: str | None) -> Mark | None:
    """Return where a page begins. Raise RequestRefused if its limit or its begin is not valid."""
    if limit < 1:
        raise RequestRefused(f"limit: must be at least 1 (given {limit})")
    return Mark.read(after) if after else None


def _year_before(moment: str) -> str:
    return iso_of(datetime.fromisoformat(moment) - timedelta(seconds=MAX_ROLLOUT_SECONDS))


def _summaries(items: Iterable[Item]) -> list[RolloutSummary]:
    return [summary for item in items if (summary := summary_of(item))]


def _current_keys(record: Item) -> list[str]:
    """Return the sort keys of the bake or pause that lasts, and of the bake before it."""
    sk = str(record.get("waitsAt") or "")
    kind, *numbers = sk.split("#")
    if f"{kind}#" == keys.STEP_PREFIX and all(_DIGITS.fullmatch(number) for number in numbers) and len(numbers) == 2:
        step, bake = map(int, numbers)
        return [sk, *([keys.step_key(step, bake - 1)] if bake else [])]
    return [sk] if keys.is_pause(sk) else []


def _with_headline(view: RolloutView | None) -> RolloutView | None:
    return view.model_copy(update={"headline": headline(view)}) if view else None
