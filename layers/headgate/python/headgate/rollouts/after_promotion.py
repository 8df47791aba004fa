"""Watches of promoted rollouts: what ``afterPromotion`` asks for.

A watch begins in the transaction in which its rollout ends as succeeded. Until it ends, it is an item of its own, and
its rollout stays among those that its alarms guard. It ends once: whoever ends it deletes that item, and announces the
end in the same transaction. A fault may be found by an alarm's event and by the sweep of each minute, at the same time.

An undo is asked for by the outbox, with an ``Undo Requested`` event as an operator would send it. So there is one
exactly if the watch ended with it, and it is refused as any other if something else was promoted meanwhile.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from headgate import keys
from headgate.analysis.alarms import ALARM_DELETED
from headgate.aws.dynamodb import WriteConflict, iso_of
from headgate.aws.observability import logger
from headgate.errors import SignalRefused
from headgate.ids import is_rollout_id
from headgate.rollouts.signal_inbox import BYTES_BY, BYTES_REASON, cut_bytes
from headgate.rollouts.table import now_iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.analysis.alarms import AlarmChange
    from headgate.rollouts.record import RolloutRecord, TargetLock
    from headgate.rollouts.table import Table

WatchOutcome = Literal["quiet", "fault", "undo-requested", "superseded", "stopped"]
"""How a watch ended: nothing happened, a fault was reported, an undo was requested, something else was promoted, or an
operator ended it."""

SETTLING = timedelta(minutes=10)
"""How long after the end of another rollout on the target a fault may still be that one's: alarms look at minutes that
are over, and take some of them."""

LATER_ROLLOUTS = 20
"""Rollouts of the target, newest first, among which that other one is looked for."""


class WatchOnRecord(TypedDict, total=False):
    """The watch in the record of its rollout. Times are in ISO 8601."""

    until: str
    then: str
    outcome: WatchOutcome
    """Missing until it has ended."""
    reason: str
    endedAt: str
    undo: str
    """Id of the undo that was requested."""


class Watch(NamedTuple):
    """A watch that has not ended. Times are in ISO 8601."""

    rollout_id: str
    target_key: str
    began: str
    until: str
    then: Literal["undo", "report"]
    alarms: list[str]
    already: list[str]
    """Those that count once they have recovered after ``since``."""
    since: str
    """Earlier changes of an alarm do not count. As during the rollout, so that none is lost at its end."""
    limits: bool
    """Whether the target has limits."""

    @classmethod
    def after(cls, record: RolloutRecord) -> Watch | None:
        """Return the watch that begins with the promotion of a rollout; None if it asked for none."""
        asked = record.plan.get("afterPromotion")
        if not asked:
            return None
        now = now_iso()
        # What an operator overruled for the promotion is overruled for the watch, too.
        already = record.alarms if record.forced else record.firing
        return cls(
            rollout_id=record.id,
            target_key=record.target_key,
            began=now,
            until=iso_of(datetime.fromisoformat(now) + timedelta(hours=float(asked["hours"]))),
            then=asked["then"],
            alarms=record.alarms,
            already=record.plan.get("firing", []) if already is None else already,
            since=now if record.forced else record.watched_since or record.started_at,
            limits=any(limits_in(record.plan.get("guards") or {}, asked["then"])),
        )

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Watch:
        """Read an item. Unknown attributes are ignored."""
        fields = {name: item[name] for name in cls._fields if name in item}
        return cls(rollout_id=keys.rollout_id_in(item["sk"]), target_key=item["targetKey"], **fields)

    def to_fields(self) -> dict[str, Any]:
        """Return the attributes of the item without its key."""
        fields = self._asdict()
        del fields["rollout_id"]
        return {"targetKey": fields.pop("target_key"), **fields}

    def on_record(self) -> WatchOnRecord:
        """Return what the record of the rollout says of it."""
        return {"until": self.until, "then": self.then}

    def counts(self, alarm: AlarmChange) -> bool:
        """Return whether a change of an alarm came within its time."""
        return self.since < iso_of(datetime.fromisoformat(alarm.at).astimezone(UTC)) <= self.until


def limits_in(guards: Mapping[str, Any], then: str) -> Iterator[str]:
    """Yield the guards with limits that count after the promotion. One that only reports never causes an undo."""
    for name in ("source", "service"):
        guard = guards.get(name)
        if guard and (then == "report" or guard.get("action") != "report"):
            yield name


class Watches:
    """Finds the watches of promoted rollouts, and ends them."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def all(self) -> list[Watch]:
        """Return all watches that have not ended. They are in one partition.

        The read is eventually consistent, at half the price: a watch that is missing is there a minute later, and one
        that has ended is not ended again.
        """
        values = {":pk": keys.WATCHES_PK, ":rollout": keys.rollout_pk("")}
        items = self._table.query("pk = :pk AND begins_with(sk, :rollout)", values)
        return [Watch.of(item) for item in items]

    def of(self, rollout_id: str) -> Watch | None:
        """Return the watch of a rollout, if it has one that has not ended."""
        item = self._table.get(keys.WATCHES_PK, keys.rollout_pk(rollout_id))
        return Watch.of(item) if item else None

    def take_alarm(self, rollout_id: str, alarm: AlarmChange) -> bool:
        """End the watch of a rollout because of an alarm that fired or was deleted. Return False if it has none."""
        watch = self.of(rollout_id)
        if watch is None:
            return False
        if watch.counts(alarm):
            deleted = alarm.reason == ALARM_DELETED
            at = None if deleted else datetime.fromisoformat(alarm.at)
            self.take_fault(watch, alarm_reason(alarm.name, alarm.reason), alarm=alarm.name, at=at)
        return True

    def stop(self, rollout_id: str, *, by: str, reason: str) -> None:
        """End the watch of a rollout because an operator wants it. One that was ended so before stays as it is.

        Raises
        ------
        SignalRefused
            If the rollout is not watched.
        """
        why = ": ".join(filter(None, (f"stopped by {cut_bytes(by, BYTES_BY)}", reason)))
        watch = self.of(rollout_id)
        if watch and self.end(watch, "stopped", why):
            return
        record = self._table.rollout(rollout_id)
        if record is None or record.watch.get("outcome") != "stopped":
            raise SignalRefused(
                f"signal: stop-watch is not possible, because rollout {rollout_id} is not watched; only a promoted "
                "rollout with afterPromotion is, until its hours are over"
            )

    def take_fault(self, watch: Watch, reason: str, *, at: datetime | None, alarm: str = "") -> bool:
        """End a watch because of a fault, unless it is not this rollout's. Return whether it has ended.

        Parameters
        ----------
        at
            When the fault began; None if no other rollout can be the cause.
        alarm
            The alarm that fired; empty for a limit, which any other rollout of the target may exceed.
        """
        lock = self._table.lock(watch.target_key)
        if self.end_if_superseded(watch, lock):
            return True
        if self._is_being_undone(watch, lock):
            logger.info("a fault is left to the undo that is under way", reason=reason)
            return False
        if at and (other := self._blamed(watch, alarm, at)):
            logger.info("a fault is left to another rollout", reason=reason, other=other)
            return False
        self.end(watch, "undo-requested" if watch.then == "undo" else "fault", reason)
        return True

    def end_if_superseded(self, watch: Watch, lock: TargetLock) -> bool:
        """End a watch if its rollout is no longer the last one that was promoted. Return whether it is not."""
        if lock.last == watch.rollout_id:
            return False
        last = self._table.rollout(lock.last) if lock.last else None
        did = "undid it" if last and last.undo_of == watch.rollout_id else "was promoted"
        self.end(watch, "superseded", f"{lock.last or 'another rollout'} {did}")
        return True

    def end(self, watch: Watch, outcome: WatchOutcome, reason: str) -> bool:
        """End a watch and announce it, in one transaction. Return False if it has ended already."""
        record = self._table.rollout(watch.rollout_id)
        try:
            self._table.transact(*self._forget(watch), *(self._tell(watch, record, outcome, reason) if record else ()))
        except WriteConflict:
            return False
        logger.info("a watch has ended", rollout_id=watch.rollout_id, outcome=outcome, reason=reason)
        return True

    def _forget(self, watch: Watch) -> Iterator[dict[str, Any]]:
        """Yield the writes that delete a watch, which must exist, and free its alarms."""
        rollout = keys.rollout_pk(watch.rollout_id)
        yield self._table.delete({"pk": keys.WATCHES_PK, "sk": rollout})
        yield from (self._table.drop(keys.alarm_pk(alarm), rollout) for alarm in watch.alarms)

    def _tell(
        self, watch: Watch, record: RolloutRecord, outcome: WatchOutcome, reason: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the writes that put the end of a watch on record, announce it, and ask for the undo."""
        reason = cut_bytes(reason, BYTES_REASON)
        ended: WatchOnRecord = {**watch.on_record(), "outcome": outcome, "reason": reason, "endedAt": now_iso()}
        detail = {"target": watch.target_key, "outcome": outcome, "reason": reason}
        if outcome == "undo-requested":
            ended["undo"] = detail["undo"] = undo_id(watch.rollout_id)
            yield self._ask_for_undo(record, reason)
        yield self._table.update_rollout(watch.rollout_id, {"watch": ended})
        yield self._table.put_event(watch.rollout_id, "Watch Ended", "watch-ended", detail)

    def _ask_for_undo(self, record: RolloutRecord, reason: str) -> dict[str, Any]:
        """Write the request for an undo to the outbox. How the target is moved is as it was for the promotion."""
        target = {name: value for name, value in record.plan["target"].items() if name in _NAMES_OF_TARGETS}
        request = {"id": undo_id(record.id), "target": target, "rolloutId": record.id, "reason": reason}
        return self._table.put(
            # Not among the events of the rollout: it is a request, without an id and a time of an event.
            keys.WATCHES_PK,
            keys.event_sk(record.id),
            {"detailType": "Undo Requested", "detail": request},
        )

    def _is_being_undone(self, watch: Watch, lock: TargetLock) -> bool:
        owner = self._table.rollout(lock.owner) if lock.owner else None
        return owner is not None and owner.undo_of == watch.rollout_id

    def _blamed(self, watch: Watch, alarm: str, at: datetime) -> str:
        """Return the other rollout on the target to which a fault belongs; empty if there is none.

        One that moved the target at that time, or shortly before, and that the same alarm guards. If it is promoted, it
        supersedes the watch. Otherwise it is gone soon, and an alarm that fires on counts once it has recovered.
        """
        past = self._table.query(
            "pk = :pk AND begins_with(sk, :past)",
            {":pk": keys.target_pk(watch.target_key), ":past": keys.PAST_PREFIX},
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=LATER_ROLLOUTS,
        )
        for item in islice(past, LATER_ROLLOUTS):
            if item["rolloutId"] == watch.rollout_id:
                break
            other = self._table.rollout(item["rolloutId"])
            if other and (not alarm or alarm in other.alarms) and _moved_at(other, at):
                return other.id
        return ""


_NAMES_OF_TARGETS = ("kind", "function", "alias", "mapping", "cluster", "service")
"""Fields of a target that say which one it is."""


def _moved_at(record: RolloutRecord, at: datetime) -> bool:
    """Return whether a rollout was under way at a time, or had just ended."""
    if not record.started_at or at < datetime.fromisoformat(record.started_at):
        return False
    return not record.ended_at or at <= datetime.fromisoformat(record.ended_at) + SETTLING


def alarm_reason(name: str, reason: str) -> str:
    """Return the sentence about an alarm that fired or was deleted."""
    if reason == ALARM_DELETED:
        return f"alarm {name} was deleted, so it no longer guards the rollout"
    return ": ".join(filter(None, (f"alarm {name} fired", reason)))


def undo_id(rollout_id: str) -> str:
    """Return the id of the undo that a watch asks for. It is the same however often it is asked for."""
    given = f"by-watch-{rollout_id}"
    return given if is_rollout_id(given) else f"by-watch-{hashlib.sha256(rollout_id.encode()).hexdigest()}"
