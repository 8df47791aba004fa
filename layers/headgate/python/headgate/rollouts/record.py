"""What the table keeps of a rollout and of a target's lock, as the code reads it.

Without pydantic: functions that only record progress import this and start sooner.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.spec.plan import Plan
    from headgate.spec.signals import Phase
    from headgate.spec.target_state import StateOnRecord


TerminalStatus = Literal["succeeded", "rolled-back", "refused", "stopped"]

Status = Literal["waiting", "accepted", "running"] | TerminalStatus

ANNOUNCED_AS: dict[TerminalStatus, str] = {
    "succeeded": "Rollout Succeeded",
    "rolled-back": "Rollout Rolled Back",
    "refused": "Rollout Refused",
    "stopped": "Rollout Stopped",
}


class RolloutRecord(NamedTuple):
    """The record of a rollout. Another version of Headgate may have written it: attributes may be missing or unknown.

    Times are ISO 8601, and empty if the event has not happened.
    """

    id: str
    status: Status
    execution: str
    """ARN of the execution that carries the rollout out."""
    target_key: str = ""
    epoch: int = 0
    """The epoch of the target's lock under which the rollout runs; 0 before it has the lock."""
    arrival: int = 0
    """Its number in the target's line, if it had to wait."""
    request: dict[str, Any] = {}
    """The request as it was admitted; empty if it could not be read."""
    plan: dict[str, Any] = {}
    """The plan; empty before the rollout begins."""
    created_at: str = ""
    accepted_at: str = ""
    """When a request that waited was given the lock."""
    started_at: str = ""
    ended_at: str = ""
    through_key: str = ""
    """Key of the alias that a consumer's rollout moves."""

    phase: Phase = "starting"
    step: int = 0
    aim: float | None = None
    """The weight that the target was last about to get."""
    state: StateOnRecord | None = None
    """What the driver knows of the target; None before it has prepared the candidate."""
    underway: bool = False
    """Whether the driver must go on from ``state``, whatever state the machine knows."""
    rolled_back: bool = False
    """Whether all that is left to do is to give back what the rollout has held."""

    signals: dict[str, Any] = {}
    """The signals by their id, each as a ``Signal`` on the wire."""
    heard: list[str] = []
    """Ids of the signals that decide nothing again."""
    token: str | None = None
    """The task token of the open bake or pause."""
    attempt: str = ""
    """Sorts the attempts of the state that left the token."""
    waits_at: str = ""
    """Sort key of the bake or pause that the token is for."""
    failed: bool = False
    """Whether the last pause was for a failure, and not for an operator who asked for it."""
    forced: bool = False
    """Whether an operator has overruled alarms and evidence."""
    firing: list[str] | None = None
    """The alarms that fired when the last pause ended; None before the first pause."""
    watched_since: str = ""
    """When the last pause ended."""

    reason: str = ""
    """Why the rollout ended as it did."""
    serving: str = ""
    stable: str = ""
    candidate: str = ""
    redriven: dict[str, Any] | None = None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> RolloutRecord:
        """Read an item; attributes that this version does not know are ignored."""
        known = {name: item[attribute] for name, attribute in _ATTRIBUTES.items() if attribute in item}
        # They are kept as text: a request may hold numbers that DynamoDB cannot hold.
        documents = {name: json.loads(item[name]) for name in ("request", "plan") if name in item}
        return cls(id=keys.rollout_id_in(item["pk"]), **known | documents)

    @property
    def owns_lock(self) -> bool:
        """Whether the rollout owns its target's lock: it has neither ended nor does it wait in line."""
        return self.status in ("accepted", "running")

    @property
    def has_ended(self) -> bool:
        """Whether the rollout has ended, in whatever way."""
        return self.status in ANNOUNCED_AS


def _attribute(name: str) -> str:
    """The attribute of an item that a field is read from."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


_ATTRIBUTES = {name: _attribute(name) for name in RolloutRecord._fields if name != "id"}


class TargetLock(NamedTuple):
    """The lock of a target. A target that was never rolled out has a free one."""

    target_key: str
    owner: str | None = None
    """Id of the rollout that holds the lock."""
    epoch: int = 0
    """Rises with each owner, and with each take-over: what acts under a lower one has no effect."""
    arrivals: int = 0
    """How many requests have ever waited in line."""
    waiting: int = 0
    """How many requests wait in line."""
    last: str | None = None
    """Id of the rollout that was promoted last."""
    version: int = 0
    """How often the lock was written; 0 if it was never written."""

    @classmethod
    def of(cls, target_key: str, item: Mapping[str, Any] | None) -> TargetLock:
        """Read an item; attributes that this version does not know are ignored."""
        kept = ("owner", "epoch", "arrivals", "waiting", "last", "version")
        return cls(target_key=target_key, **{name: item[name] for name in kept if item and name in item})

    def to_fields(self) -> dict[str, Any]:
        """The item's attributes, without its key and version; None for one that is left out."""
        # A target whose line was never used has no numbers of it.
        line = {"arrivals": self.arrivals, "waiting": self.waiting} if self.arrivals else {}
        held = "yes" if self.owner else None
        return {"owner": self.owner, "epoch": self.epoch, **line, "last": self.last, "held": held}

    def taken_by(self, rollout_id: str) -> TargetLock:
        """The free lock once a rollout owns it."""
        return self._replace(owner=rollout_id, epoch=self.epoch + 1)

    def with_arrival(self) -> TargetLock:
        """The lock once one more request waits in line."""
        return self._replace(arrivals=self.arrivals + 1, waiting=self.waiting + 1)

    def taken_over(self) -> TargetLock:
        """The lock once its owner's execution can have no further effect."""
        return self._replace(epoch=self.epoch + 1)

    def passed_to(self, heir_id: str, *, promoted: bool) -> TargetLock:
        """The lock once the next request in line owns it; ``promoted`` says whether its owner has succeeded."""
        ended = self._ended(promoted=promoted)
        return ended._replace(owner=heir_id, epoch=self.epoch + 1, waiting=self.waiting - 1)

    def freed(self, *, promoted: bool) -> TargetLock:
        """The lock once nobody owns it; ``promoted`` says whether its owner has succeeded."""
        return self._ended(promoted=promoted)._replace(owner=None)

    def _ended(self, *, promoted: bool) -> TargetLock:
        return self._replace(last=self.owner) if promoted else self


class Fence(NamedTuple):
    """What an execution acts under: its writes hold only while its rollout owns the target's lock in this epoch."""

    target_key: str
    rollout_id: str
    epoch: int

    @classmethod
    def of(cls, plan: Plan, epoch: int) -> Fence:
        """The fence of a rollout's execution."""
        return cls(plan.target.key, plan.rollout_id, epoch)
