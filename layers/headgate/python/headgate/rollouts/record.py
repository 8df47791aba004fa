"""Records of rollouts and target locks, as read from the table.

Without pydantic: functions that only record progress import this and start sooner.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from headgate import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.spec.plan import Plan
    from headgate.spec.signals import Phase
    from headgate.spec.target_state import StateOnRecord


SCHEMA_VERSION = 2
"""Version of the form of a rollout's record, and of the other items under its key. Records of 0.1.0 lack it: 1.

It rises only where an earlier Headgate would misread a record. What that can ignore, such as a new attribute, does not
raise it. 0.1.0 would start a second execution for a request whose own one waits in line.
"""

TerminalStatus = Literal["succeeded", "rolled-back", "refused", "stopped"]

Status = Literal["waiting", "accepted", "running", "paused"] | TerminalStatus

UNDERWAY: tuple[Status, ...] = ("running", "paused")
"""Statuses of a rollout that has started and not ended."""

ANNOUNCED_AS: dict[TerminalStatus, str] = {
    "succeeded": "Rollout Succeeded",
    "rolled-back": "Rollout Rolled Back",
    "refused": "Rollout Refused",
    "stopped": "Rollout Stopped",
}


PHASE_OF_ACTION: dict[str, Phase] = {
    "prepare": "preparing",
    "shift": "shifting",
    "promote": "promoting",
    "release": "promoting",
    "rollback": "rolling-back",
    "restore": "rolling-back",
}
"""Phase of the rollout for each driver action."""


class Wait(TypedDict, total=False):
    """What a driver waits for, as it stands in the record."""

    action: str
    reason: str
    since: str
    """Time of the first call that had to wait, in ISO 8601."""
    limitSeconds: int
    """How long this may take; missing if there is no limit."""


class RolloutRecord(NamedTuple):
    """The record of a rollout. Another version of Headgate may have written it: attributes may be missing or unknown.

    Times are in ISO 8601, and empty if the event has not happened.
    """

    id: str
    status: Status
    execution: str
    """ARN of the execution that carries out the rollout."""
    schema_version: int = 1
    """Version of the form of the record."""
    target_key: str = ""
    epoch: int = 0
    """The epoch of the target's lock under which the rollout runs; 0 before it has the lock."""
    arrival: int = 0
    """Number in the target's line, if the rollout had to wait."""
    attended: bool = False
    """True if its execution itself waits in line, and no other one must be started in its turn."""
    turn_token: str | None = None
    """The task token of the execution that waits in line."""
    request: dict[str, Any] = {}
    """The admitted request; empty if it was not readable."""
    plan: dict[str, Any] = {}
    """The plan; empty before the rollout begins."""
    created_at: str = ""
    accepted_at: str = ""
    """Time when a waiting request got the lock."""
    started_at: str = ""
    ended_at: str = ""
    through_key: str = ""
    """Key of the alias that a consumer's rollout moves."""
    marks: list[str] = []
    """Keys of what the rollout moves beside its target: an alias or listener rules. Until it ends, each names it."""

    phase: Phase = "starting"
    step: int = 0
    aim: float | None = None
    """The weight that the last call to the driver should set."""
    state: StateOnRecord | None = None
    """State of the target from its driver; None before the candidate is prepared."""
    underway: bool = False
    """True if the driver must continue from ``state`` instead of the machine's state."""
    pending: Wait | None = None
    """What the driver waits for; None if it waits for nothing."""
    rolled_back: bool = False
    """True if only the restore is left to do."""

    signals: dict[str, Any] = {}
    """Signals by id, in the JSON form of ``Signal``."""
    heard: list[str] = []
    """Ids of the signals that were handled and have no further effect."""
    token: str | None = None
    """The task token of the open bake or pause."""
    attempt: str = ""
    """Sort value of the attempt that stored the token."""
    waits_at: str = ""
    """Sort key of the bake or pause that the token belongs to."""
    failed: bool = False
    """True if the last pause was caused by a failure instead of an operator."""
    doubted: bool = False
    """True if the last pause was caused by a guard that pauses."""
    forced: bool = False
    """True if an operator overruled alarms and evidence."""
    firing: list[str] | None = None
    """The alarms that fired when the last pause ended; None before the first pause."""
    watched_since: str = ""
    """Time when the last pause ended."""

    reason: str = ""
    """Reason for the outcome."""
    serving: str = ""
    stable: str = ""
    candidate: str = ""
    redriven: dict[str, Any] | None = None
    undone_by: str = ""
    """Id of the rollout that undid this one."""
    watch: dict[str, Any] = {}
    """The watch after the promotion, if there is one, in the form of ``after_promotion.WatchOnRecord``."""
    undoing: str = ""
    """Id of the undo that aborts this rollout, and ends with it."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> RolloutRecord:
        """Read an item. Unknown attributes are ignored."""
        known = {name: item[attribute] for name, attribute in _ATTRIBUTES.items() if attribute in item}
        # JSON text, because DynamoDB cannot store every JSON number.
        documents = {name: json.loads(item[name]) for name in ("request", "plan") if name in item}
        return cls(id=keys.rollout_id_in(item["pk"]), **known | documents)

    @property
    def is_newer(self) -> bool:
        """True if a newer Headgate wrote the record, in a form that this one may misread."""
        return self.schema_version > SCHEMA_VERSION

    @property
    def owns_lock(self) -> bool:
        """True if the rollout owns its target's lock: it neither waits in line nor has ended."""
        return self.status in ("accepted", *UNDERWAY)

    @property
    def marked(self) -> list[str]:
        """Keys of what names this rollout until it ends. Records of earlier versions have no ``marks``."""
        return self.marks or ([self.through_key] if self.through_key else [])

    @property
    def undo_of(self) -> str | None:
        """Id of the rollout that this one undoes, if it is an undo."""
        return self.request.get("undoOf")

    @property
    def alarms(self) -> list[str]:
        """The alarms that guard it, each once."""
        return list(dict.fromkeys((self.plan.get("guards") or {}).get("alarms", [])))

    @property
    def is_watched(self) -> bool:
        """True while the rollout, which has ended as promoted, is watched."""
        return bool(self.watch) and "outcome" not in self.watch

    @property
    def keeps_stable(self) -> bool:
        """True if the candidate gets all traffic, and an abort still gives it back to the stable revision at once."""
        if self.status not in UNDERWAY:
            return False
        if self.phase == "promoting":
            return True
        steps = self.plan.get("steps") or [{}]
        # After the last verdict the step is one past the last.
        at_last = self.step >= len(steps) - 1 and steps[-1].get("weight") == 100
        return self.phase in ("shifting", "baking", "paused") and at_last and self.aim == 100

    @property
    def has_ended(self) -> bool:
        """True if the rollout has ended, with any outcome."""
        return self.status in ANNOUNCED_AS


def _attribute(name: str) -> str:
    """Return the name of a field's attribute in the item."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


_ATTRIBUTES = {name: _attribute(name) for name in RolloutRecord._fields if name != "id"}


class RejectedCode(NamedTuple):
    """Code that a rollout put into $LATEST of a function, and that stayed there although it was not promoted."""

    code_sha256: str
    rollout_id: str


class TargetLock(NamedTuple):
    """The lock of a target. It is free if the target was never rolled out."""

    target_key: str
    owner: str | None = None
    """Id of the rollout that holds the lock."""
    epoch: int = 0
    """Rises with each owner and each takeover. Writes under a lower epoch have no effect."""
    arrivals: int = 0
    """Number of requests that have ever waited in line."""
    waiting: int = 0
    """Number of requests that wait in line now."""
    last: str | None = None
    """Id of the rollout that was promoted last."""
    version: int = 0
    """Number of writes of the lock; 0 if it was never written."""

    @classmethod
    def of(cls, target_key: str, item: Mapping[str, Any] | None) -> TargetLock:
        """Read an item. Unknown attributes are ignored."""
        kept = ("owner", "epoch", "arrivals", "waiting", "last", "version")
        return cls(target_key=target_key, **{name: item[name] for name in kept if item and name in item})

    def to_fields(self) -> dict[str, Any]:
        """Return the attributes of the item without key and version. None means that an attribute is left out."""
        # A target without a line has no counts of it.
        line = {"arrivals": self.arrivals, "waiting": self.waiting} if self.arrivals else {}
        held = "yes" if self.owner else None
        return {"owner": self.owner, "epoch": self.epoch, **line, "last": self.last, "held": held}

    def taken_by(self, rollout_id: str) -> TargetLock:
        """Return the free lock with a rollout as its owner."""
        return self._replace(owner=rollout_id, epoch=self.epoch + 1)

    def with_arrival(self) -> TargetLock:
        """Return the lock with one more request in line."""
        return self._replace(arrivals=self.arrivals + 1, waiting=self.waiting + 1)

    def with_departure(self) -> TargetLock:
        """Return the lock with one request less in line."""
        return self._replace(waiting=self.waiting - 1)

    def taken_over(self) -> TargetLock:
        """Return the lock with a new epoch, so that its owner's execution has no further effect."""
        return self._replace(epoch=self.epoch + 1)

    def passed_to(self, next_id: str, *, promoted: bool) -> TargetLock:
        """Return the lock with the next request in line as its owner; ``promoted`` if the last owner succeeded."""
        ended = self._ended(promoted=promoted)
        return ended._replace(owner=next_id, epoch=self.epoch + 1, waiting=self.waiting - 1)

    def freed(self, *, promoted: bool) -> TargetLock:
        """Return the lock without an owner; ``promoted`` if the last owner succeeded."""
        return self._ended(promoted=promoted)._replace(owner=None)

    def _ended(self, *, promoted: bool) -> TargetLock:
        return self._replace(last=self.owner) if promoted else self


class Fence(NamedTuple):
    """Condition for the writes of an execution: its rollout owns the target's lock in this epoch."""

    target_key: str
    rollout_id: str
    epoch: int

    @classmethod
    def of(cls, plan: Plan, epoch: int) -> Fence:
        """Return the fence of a rollout's execution."""
        return cls(plan.target.key, plan.rollout_id, epoch)
