"""Reads the items of a rollout into its view.

Any version of Headgate may have written them: an attribute that is missing, unknown or of another form is left out.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate import keys
from headgate.analysis.comparisons import groups_of, what_it_does
from headgate.analysis.evidence import GuardTerms, JudgeTerms, guard_value, leading_measure, reported_value
from headgate.analysis.ledger_store import ledger_in
from headgate.aws.dynamodb import iso_of
from headgate.history.lenient import object_in, read_leniently, view_of, views_of
from headgate.history.model import (
    BakeView,
    Comparison,
    EvidencePoint,
    HookView,
    LineView,
    PauseView,
    RolloutSummary,
    RolloutView,
    ServiceStateView,
    SignalView,
    StepView,
    ThresholdLook,
    TrailEntry,
    WaitView,
    WatchView,
    WeightChange,
)
from headgate.rollouts.record import PHASE_OF_ACTION, SCHEMA_VERSION, UNDERWAY
from headgate.rollouts.step_items import unpack_step
from headgate.spec.guards import Guards
from headgate.spec.position import PROMOTED, Weight, number_of, position_of
from headgate.spec.signals import OBJECTIONS
from headgate.spec.target_state import Redriven
from headgate.wire import MAX_EXACT_INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.analysis.evidence import Ledger, Pair
    from headgate.rollouts.record import Status

Item = dict[str, Any]

STATUSES: tuple[Status, ...] = (
    "succeeded",
    "rolled-back",
    "stopped",
    "refused",
    "paused",
    "running",
    "accepted",
    "waiting",
)
"""All statuses, the last ones of a rollout first."""

_ENDED = ("succeeded", "rolled-back", "refused", "stopped")

_UNUSED = "the rollout ended before a verdict used it"

_UNANSWERED = "their execution was stopped, or their answer could not be recorded"

_STAGES_OF_STEPS = ("beforeStep", "afterStep")


def summary_of(item: Item) -> RolloutSummary | None:
    """Read a record, or what the index has of it. None if it cannot be read."""
    return view_of(RolloutSummary, _summary_fields(item))


def _summary_fields(item: Item) -> dict[str, Any]:
    status = item.get("status")
    return {
        "id": keys.rollout_id_in(item["pk"]),
        "status": status if (known := status in STATUSES) else "unknown",
        "unknown_status": None if known else status,
        "target": item.get("targetKey", ""),
        "stable": item.get("stable"),
        "candidate": item.get("candidate"),
        **{name: item.get(attribute) for name, attribute in _TIMES.items()},
        "reason": item.get("reason"),
        "undone_by": item.get("undoneBy"),
        "undo_of": item.get("undoOf"),
    }


_TIMES = {"created_at": "createdAt", "started_at": "startedAt", "ended_at": "endedAt"}


class Place(NamedTuple):
    """The place of a request in its target's line, as read from the target's items."""

    place: int
    behind: str
    until: int | None = None
    """In seconds since 1970."""


class RolloutItems:
    """The items of one rollout, by what they are."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.record: Item | None = None
        self.ledger_item: Item | None = None
        self.filed: list[Item] = []
        self.bakes: list[Item] = []
        self.pauses: list[Item] = []
        self.looks: list[Item] = []
        self.events: list[Item] = []
        self.signals: list[Item] = []
        self.hooks: list[Item] = []
        kinds = {
            keys.EVIDENCE_PREFIX: self.filed,
            keys.STEP_PREFIX: self.bakes,
            keys.PAUSE_PREFIX: self.pauses,
            keys.LOOK_PREFIX: self.looks,
            keys.EVENT_PREFIX: self.events,
            keys.SIGNAL_PREFIX: self.signals,
            keys.HOOK_PREFIX: self.hooks,
        }
        for item in items:
            prefix = item["sk"].partition("#")[0] + "#"
            if item["sk"] == keys.ROLLOUT_SK:
                self.record = item
            elif item["sk"] == keys.EVIDENCE_SK:
                self.ledger_item = item
            elif prefix in kinds:
                kinds[prefix].append(_readable(item))


def _readable(item: Item) -> Item:
    """Return an item with what its short form stands for; as it is if that is another form."""
    with suppress(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return unpack_step(item)
    return item


def rollout_view(items: RolloutItems, place: Place | None = None) -> RolloutView | None:
    """Read the items of a rollout. None if there is no record among them, or it cannot be read.

    Parameters
    ----------
    place
        Its place in line, if it waits.
    """
    if items.record is None:
        return None
    return _Reading(items.record, items, place).view()


class _Reading:
    """One reading of the items of a rollout."""

    def __init__(self, record: Item, items: RolloutItems, place: Place | None) -> None:
        self.record, self.items, self.place = record, items, place
        self.request, self.plan = _document(record, "request"), _document(record, "plan")
        self.state = _object(record, "state")
        self.status = record.get("status")
        self.ended = self.status in _ENDED
        self.guards = read_leniently(Guards, self.plan.get("guards"))
        self.terms = JudgeTerms.of(self.guards) if self.guards else None
        self.ledger = self._read_ledger(keys.rollout_id_in(record["pk"]))
        self.verdicts = sorted(
            (item for item in (*items.bakes, *items.pauses) if _object(item, "verdict") and _text(item, "endedAt")),
            key=lambda item: str(item["endedAt"]),
        )
        """Bakes and pauses that have ended, in this order."""

    def view(self) -> RolloutView | None:
        steps = self._steps()
        fields = {
            **_summary_fields(self.record),
            "stable": self.record.get("stable") or self.state.get("stable"),
            "candidate": self.record.get("candidate") or self.state.get("candidate"),
            "headline": "",
            "execution": self.record.get("execution"),
            "accepted_at": self.record.get("acceptedAt"),
            # A rollout that has just begun has none on record yet.
            "phase": self.record.get("phase", "starting") if self.status in UNDERWAY else None,
            "step": self.record.get("step"),
            "weight": self._weight(),
            "serving": self.record.get("serving"),
            "line": self._line(),
            "bake": self._open_bake(steps),
            "pause": self._open_pause(),
            "waits_for": self._wait(),
            "steps": steps,
            "weights": views_of(WeightChange, self._weights()),
            "comparisons": self._comparisons(None),
            "groups": groups_of(self.ledger, self.terms) if self.ledger and self.terms else None,
            "evidence": self._evidence(),
            "hooks": self._hooks(),
            "pauses": [pause for item in self.items.pauses if (pause := self._pause(item))],
            "alarms": self.guards.alarms if self.guards else None,
            "firing_at_start": self.plan.get("firing"),
            "signals": self._signals(),
            "events": self._events(),
            "redriven": read_leniently(Redriven, self.record.get("redriven") or self.state.get("redriven")),
            "holding_queue": _object(self.state, "holding").get("name"),
            "state": self._service_state(),
            "watch": self._watch(),
            "warnings": self._warnings(),
            "notes": [str(note) for note in _list(self.plan, "notes")],
            "undo_of": self.request.get("undoOf") or self.record.get("undoOf"),
            "request": self.request,
            "plan": self.plan,
        }
        return view_of(RolloutView, fields)

    def _watch(self) -> WatchView | None:
        watch = _object(self.record, "watch")
        fields = {name: watch.get(name) for name in ("until", "then", "outcome", "reason", "undo")}
        return view_of(WatchView, {**fields, "ended_at": watch.get("endedAt")}) if watch else None

    def _service_state(self) -> ServiceStateView | None:
        rules = {
            str(rule): {str(each["group"]): each.get("weight") for each in before if isinstance(each, dict)}
            for rule, before in _object(self.state, "testRules").items()
            if isinstance(before, list) and all(isinstance(each, dict) and "group" in each for each in before)
        }
        fields = {
            "green": self.state.get("green"),
            "stable": self.state.get("stable"),
            "candidate": self.state.get("candidate"),
            "scale_in_held": self.state.get("scaleInHeld"),
            "test_rules": rules,
        }
        return view_of(ServiceStateView, fields)

    # --- Steps, bakes and counts ---

    def _read_ledger(self, rollout_id: str) -> Ledger | None:
        """Read the ledger; None if something in it is not as this version writes it."""
        if self.items.ledger_item is None:
            return None
        with suppress(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            ledger = ledger_in(rollout_id, self.items.ledger_item, self.items.filed)
            for measure in self.terms.measures if self.terms else ():
                # What the views show of it.
                _ = ledger.total(measure.key), ledger.standing(measure.key).evidence.value
            return ledger
        return None

    def _steps(self) -> list[StepView]:
        planned = [step for step in _list(self.plan, "steps") if isinstance(step, dict)]
        begun = [number for item in self.items.bakes if (number := _number(item, "step")) is not None]
        if self.ledger:
            begun += self.ledger.since
        last = max(begun, default=-1)
        steps = []
        for number, step in enumerate(planned):
            bakes = [item for item in self.items.bakes if item.get("step") == number]
            steps.append(
                {
                    "step": number,
                    "weight": step.get("weight"),
                    "bake_seconds": step.get("bakeSeconds", 0),
                    "status": self._status_of(number, bakes, last),
                    "bakes": [bake for item in bakes if (bake := self._bake(item, bakes))],
                    "comparisons": self._comparisons(number),
                }
            )
        return views_of(StepView, steps)

    def _status_of(self, step: int, bakes: list[Item], last: int) -> str:
        """Return the status of a step.

        Parameters
        ----------
        last
            The last step that got its weight.
        """
        current = _number(self.record, "step") or 0
        if step > last:
            if self.ended or step < current:
                return "skipped"
            return "now" if step == current and self.status in ("running", "paused") else "ahead"
        verdict = _object(bakes[-1], "verdict").get("outcome") if bakes else None
        goes_on = verdict in ("continue", "promote") or self.status == "succeeded" or step < last
        if goes_on and (self.ended or step < current or step < last):
            return "done"
        back = self.ended or self.record.get("phase") == "rolling-back"
        return "failed" if back else "now"

    def _bake(self, item: Item, of_step: list[Item]) -> BakeView | None:
        verdict, evidence = _object(item, "verdict"), _object(item, "evidence")
        return view_of(
            BakeView,
            {
                "step": item.get("step"),
                "bake": item.get("bake", 0),
                "weight": item.get("weight"),
                "started_at": item.get("startedAt"),
                "until": _later(item.get("startedAt"), self._bake_seconds(item, of_step)),
                "ended_at": item.get("endedAt"),
                "verdict": verdict.get("outcome"),
                "reason": verdict.get("reason"),
                "comparisons": [each for given in _list(evidence, "measures") if (each := self._judged(given))],
                "groups": evidence.get("groups"),
                "share": evidence.get("share"),
                "alarms": evidence.get("alarms"),
            },
        )

    def _bake_seconds(self, item: Item, of_step: list[Item]) -> int | None:
        """Return how long a bake lasts if no signal ends it: as planned, or as the verdict that bakes again says.

        A step that begins again after a pause bakes as planned.
        """
        before = [each for each in of_step if each["sk"] < item["sk"]]
        verdict = _object(before[-1], "verdict") if before else {}
        if verdict.get("next") == "bake" and verdict.get("bakeSeconds"):
            return _number(verdict, "bakeSeconds")
        steps, number = _list(self.plan, "steps"), _number(item, "step")
        if number is None or not 0 <= number < len(steps) or not isinstance(steps[number], dict):
            return None
        return _number(steps[number], "bakeSeconds")

    def _judged(self, given: Any) -> Comparison | None:
        """Read a comparison as the judge recorded it."""
        if not isinstance(given, dict):
            return None
        sides = {arm: given.get(arm) for arm in ("candidate", "stable")}
        return self._comparison(str(given.get("measure")), sides, given.get("value"), given.get("thresholdMs"))

    def _comparisons(self, step: int | None) -> list[Comparison]:
        """Return the counts of a step, or of the whole rollout, one for each guard."""
        if not self.terms or (step is not None and not (self.ledger and self._has_counts(step))):
            return []
        found = []
        for guard in self.terms.guards:
            value = None
            if self.ledger and step in (None, max(self.ledger.since, default=None)):
                value = reported_value(guard_value(self.ledger, self.terms, guard))
            elif step is not None:
                value = self._value_after(step, guard.key)
            # Of several thresholds, the one that leads in the whole rollout.
            leading = leading_measure(self.ledger, guard).key if self.ledger else guard.measures[0].key
            threshold = what_it_does(self.guards, guard, leading).get("thresholdMs") if self.guards else None
            found.append(self._comparison(guard.key, self._counts(step, leading), value, threshold))
        return [each for each in found if each]

    def _has_counts(self, step: int) -> bool:
        return self.ledger is not None and any(
            step == each for each in (*self.ledger.since, *(counted for counted, _ in self.ledger.counts))
        )

    def _counts(self, step: int | None, measure: str) -> dict[str, Any]:
        if self.ledger is None:
            return {"candidate": {}, "stable": {}}
        pair: Pair = self.ledger.total(measure) if step is None else self.ledger.at_step(step, measure)
        return {"candidate": pair.candidate._asdict(), "stable": pair.stable._asdict()}

    def _value_after(self, step: int, measure: str) -> Any:
        """Return the evidence at the end of the last bake of a step."""
        ended = [item for item in self.items.bakes if item.get("step") == step and "evidence" in item]
        measured = _list(_object(ended[-1], "evidence"), "measures") if ended else []
        return next(
            (each.get("value") for each in measured if isinstance(each, dict) and each.get("measure") == measure), None
        )

    def _comparison(
        self, measure: str, sides: Mapping[str, Any], value: Any, threshold_ms: Any = None
    ) -> Comparison | None:
        if self.terms is None or self.guards is None:
            return None
        guard = next((each for each in self.terms.guards if each.key == measure), None)
        fields = {
            "measure": measure,
            "label": self._label(measure, threshold_ms),
            "value": value,
            "limit": self.terms.limit_of(guard) if guard else 1 / self.terms.alpha,
            "action": guard.action if guard else None,
        }
        return view_of(Comparison, {**fields, **sides})

    def _label(self, measure: str, threshold_ms: Any) -> str:
        """Return a measure in words."""
        guards = self.guards
        if guards and measure == "latency" and guards.latency:
            threshold = guards.latency.threshold_ms or threshold_ms
            if isinstance(threshold, int | float):
                return f"requests over {threshold:,.4g} ms"
        number = measure.removeprefix("custom")
        if guards and _PLACE.fullmatch(number) and int(number) < len(guards.custom):
            return guards.custom[int(number)].name
        return measure

    def _evidence(self) -> list[EvidencePoint]:
        points = [
            {"at": _iso(item.get("at")), **look}
            for item in self.items.looks
            for look in _list(item, "looks")
            if isinstance(look, dict)
        ]
        points_by_time = sorted(views_of(EvidencePoint, points), key=lambda point: point.at)
        return list(self._averaged(points_by_time))

    def _averaged(self, points: Iterable[EvidencePoint]) -> Iterator[EvidencePoint]:
        """Yield the evidence of each guard: after looks at several thresholds of one time the average, just once.

        It has the counts of the threshold with the most evidence of this time. As in a verdict, what a threshold has
        beyond its own limit is not evidence.
        """
        guards, limits = dict[str, GuardTerms](), dict[str, float]()
        if terms := self.terms:
            guards = {measure.key: guard for guard in terms.guards for measure in guard.measures}
            limits = {measure.key: 1 / terms.alpha_of(measure) for measure in terms.measures}
        values: dict[str, float] = {}
        for (_, _, key), looks in groupby(points, key=lambda each: (each.at, each.step, _guard_in(guards, each))):
            of_guard = list(looks)
            values |= {look.measure: look.value for look in of_guard}
            leading = max(of_guard, key=lambda look: look.value)
            guard = guards.get(leading.measure)
            if guard is None or len(guard.measures) == 1:
                yield leading.model_copy(update={"measure": key})
                continue
            known = [min(values.get(measure.key, 1.0), limits[measure.key]) for measure in guard.measures]
            thresholds = [
                ThresholdLook(measure=look.measure, candidate=look.candidate, stable=look.stable, value=look.value)
                for look in of_guard
            ]
            update = {"measure": key, "value": sum(known) / len(known), "thresholds": thresholds}
            yield leading.model_copy(update=update)

    # --- Weights ---

    def _weight(self) -> float:
        """Return the candidate's weight now."""
        if self.status in ("succeeded", "rolled-back", "refused"):
            return 100 if self.status == "succeeded" else 0
        return _percent(self.state.get("weight")) or 0

    def _weights(self) -> Iterator[dict[str, Any]]:
        """Yield the changes of the weight, oldest first."""
        if not (began := _text(self.record, "startedAt")):
            return
        weight: float | None = 0.0
        yield {"at": began, "weight": weight, "why": "start"}
        promoted = {"at": _iso(self.record.get("promotedAt")), "weight": 100.0, "why": "promotion"}
        changes = [*self._steps_set(), *self._pauses_at_zero(), promoted]
        changes = sorted((change for change in changes if change["at"]), key=lambda change: str(change["at"]))
        changes += self._last_change(changes)
        for change in changes:
            if change["weight"] != weight:
                weight = change["weight"]
                yield change

    def _steps_set(self) -> Iterator[dict[str, Any]]:
        """Yield what steps set. The ledger has the time of the first shift of a step, a bake begins just after it."""
        since = dict(self.ledger.since) if self.ledger else {}
        for item in self.items.bakes:
            shifted = _iso(since.pop(_number(item, "step") or 0, None)) if item.get("bake") == 0 else None
            at, began = shifted, _text(item, "startedAt")
            if at is None or (began and at > began):
                at = began
            yield {"at": at, "weight": item.get("weight"), "why": "step", "step": item.get("step")}
        planned = _list(self.plan, "steps")
        for step, at_ms in since.items():
            # Its bake was not read.
            if (
                0 <= step < len(planned)
                and isinstance(planned[step], dict)
                and not any(item.get("step") == step for item in self.items.bakes)
            ):
                yield {"at": _iso(at_ms), "weight": planned[step].get("weight"), "why": "step", "step": step}

    def _pauses_at_zero(self) -> Iterator[dict[str, Any]]:
        if _object(self.plan, "pause").get("at") != "zero":
            return
        for item in self.items.pauses:
            if self._is_after_failure(item):
                yield {"at": _text(item, "startedAt"), "weight": 0.0, "why": "pause"}

    def _is_after_failure(self, pause: Item) -> bool:
        """Return whether a failure caused a pause, rather than an operator."""
        before = [item for item in self.verdicts if item["endedAt"] <= (_text(pause, "startedAt") or "")]
        verdict = _object(before[-1], "verdict") if before else {}
        # Without a verdict that pauses, a hook has failed.
        return bool(verdict.get("failed")) if verdict.get("next") == "pause" else True

    def _last_change(self, earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the change that the target's state shows, which may be newer than all bakes and pauses."""
        weight, at = _percent(self.state.get("weight")), _iso(self.state.get("shiftedAt") or None)
        ended = _text(self.record, "endedAt")
        why: Literal["step", "pause", "promotion", "rollback"] = "step"
        if self.status == "succeeded" or (self.state.get("weight") == _PROMOTED and not self.ended):
            weight, why = 100.0, "promotion"
        elif self.status == "rolled-back" or self.record.get("phase") == "rolling-back":
            why = "rollback"
            if self.status == "rolled-back":
                weight = 0.0
        elif self.record.get("phase") == "paused":
            why = "pause"
        newest = max((str(change["at"]) for change in earlier), default="")
        if at is None or at < newest:
            at = ended if why in ("promotion", "rollback") else None
        if weight is None or at is None:
            return []
        step = {"step": _number(self.record, "step")} if why == "step" else {}
        return [{"at": at, "weight": weight, "why": why, **step}]

    # --- What it waits for ---

    def _open_bake(self, steps: list[StepView]) -> BakeView | None:
        if self.status != "running" or self.record.get("phase") != "baking":
            return None
        bakes = [bake for step in steps for bake in step.bakes if bake.ended_at is None]
        return bakes[-1] if bakes else None

    def _pause(self, item: Item) -> PauseView | None:
        planned = _object(self.plan, "pause")
        verdict = _object(item, "verdict")
        seconds = _number(item, "limitSeconds")
        return view_of(
            PauseView,
            {
                "reason": item.get("reason", ""),
                "step": item.get("step"),
                "started_at": item.get("startedAt"),
                "until": _later(
                    item.get("startedAt"), _number(planned, "limitSeconds") if seconds is None else seconds
                ),
                "then": item.get("then") or planned.get("then"),
                "ended_at": item.get("endedAt"),
                "verdict": verdict.get("outcome"),
                "verdict_reason": verdict.get("reason"),
            },
        )

    def _open_pause(self) -> PauseView | None:
        if self.status != "paused" or not self.items.pauses:
            return None
        last = self._pause(self.items.pauses[-1])
        return last if last and last.ended_at is None else None

    def _wait(self) -> WaitView | None:
        pending = _object(self.record, "pending")
        if self.ended or not pending:
            return None
        # What an earlier action has waited for stays on record until a later one has to wait, or is done.
        phase = self.record.get("phase")
        if PHASE_OF_ACTION.get(str(pending.get("action")), phase) != phase:
            return None
        since = pending.get("since")
        until = _later(since, _number(pending, "limitSeconds"))
        return view_of(WaitView, {"reason": pending.get("reason"), "since": since, "until": until})

    def _line(self) -> LineView | None:
        if self.status != "waiting" or self.place is None:
            return None
        until = None if self.place.until is None else _iso(self.place.until * 1000)
        return view_of(LineView, {"place": self.place.place, "behind": self.place.behind, "until": until})

    # --- What happened ---

    def _hooks(self) -> list[HookView]:
        names = ("stage", "hooks", "startedAt", "endedAt", "outcome", "reason", "execution")
        found = []
        for item in self.items.hooks:
            fields = {name: item[name] for name in names if name in item}
            if item.get("stage") in _STAGES_OF_STEPS:
                fields["step"] = item.get("step")
            if self.ended and fields.get("outcome") == "running":
                fields |= {"outcome": "failed", "reason": _UNANSWERED}
            found.append(read_leniently(HookView, fields))
        return sorted((hook for hook in found if hook), key=lambda hook: hook.started_at)

    def _signals(self) -> list[SignalView]:
        recorded = [
            {
                **signal,
                "id": signal_id,
                "outcome": self._outcome_of(signal_id, signal),
                "why": self._why(signal_id, signal),
            }
            for signal_id, signal in _object(self.record, "signals").items()
            if isinstance(signal, dict)
        ]
        others = [{**item, "id": item["sk"].removeprefix(keys.SIGNAL_PREFIX)} for item in self.items.signals]
        fields = ("id", "signal", "by", "reason", "at", "step", "outcome", "why")
        found = views_of(SignalView, [{name: signal.get(name) for name in fields} for signal in (*recorded, *others)])
        return sorted(found, key=lambda signal: signal.at)

    def _outcome_of(self, signal_id: str, signal: Item) -> str:
        """Return what became of a signal in the record.

        Every verdict uses the signals before it. An objection between verdicts rolls back.
        """
        at = str(signal.get("at"))
        used = signal_id in _list(self.record, "heard") or any(at <= item["endedAt"] for item in self.verdicts)
        goes_back = self.status == "rolled-back" or self.record.get("phase") == "rolling-back"
        if used or (goes_back and signal.get("signal") in OBJECTIONS) or self._ended_by(signal):
            return "handled"
        return "unused" if self.ended else "pending"

    def _ended_by(self, signal: Item) -> bool:
        """Return whether a signal is the abort that the reason of the end names: that of a request in line has no
        verdict.
        """
        named = f"aborted by {signal.get('by')}"
        # What follows is the operator's reason, or what else there is to say.
        followed = f"{self.record.get('reason', '')}:".replace(";", ":").startswith(f"{named}:")
        return self.ended and signal.get("signal") == "abort" and followed

    def _why(self, signal_id: str, signal: Item) -> str:
        return _UNUSED if self._outcome_of(signal_id, signal) == "unused" else ""

    def _events(self) -> list[TrailEntry]:
        found = [
            {
                "at": _object(item, "detail").get("at"),
                "detail_type": item.get("detailType"),
                "detail": item.get("detail"),
            }
            for item in self.items.events
        ]
        return sorted(views_of(TrailEntry, found), key=lambda event: event.at)

    def _warnings(self) -> list[str]:
        """Return the warnings of the plan and of the wait, each once, and one if the record may be misread."""
        waited = [_object(item, "detail") for item in self.items.events if item.get("detailType") == "Rollout Waiting"]
        found = [warning for source in (*waited, self.plan) for warning in _list(source, "warnings")]
        version = self.record.get("schemaVersion")
        newer = [_NEWER] if isinstance(version, int) and version > SCHEMA_VERSION else []
        return list(dict.fromkeys(str(warning) for warning in (*newer, *found)))


_NEWER = (
    "a newer version of Headgate wrote this record; parts of it may be missing here, so install the version of the "
    "command that the output Version of its stack names"
)

_PROMOTED = number_of(PROMOTED)


def _guard_in(guards: Mapping[str, GuardTerms], look: EvidencePoint) -> str:
    """Return the key of the guard that a look is of. A plan that cannot be read has none."""
    guard = guards.get(look.measure)
    return guard.key if guard else look.measure


_PLACE = re.compile(r"[0-9]{1,4}")
"""The place of a custom guard in a measure. Other digits, such as a superscript, are none."""


def _document(record: Item, name: str) -> dict[str, Any]:
    """Read the JSON text in an attribute; empty if it is not an object."""
    return object_in(record.get(name))


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    return value if isinstance(value, list) else []


def _text(holder: Mapping[str, Any], name: str) -> str | None:
    value = holder.get(name)
    return value if isinstance(value, str) else None


def _number(holder: Mapping[str, Any], name: str) -> int | None:
    """Return a number without its fraction; None if it is none, or too large to mean anything."""
    value = holder.get(name)
    return int(value) if isinstance(value, int | float) and abs(value) <= MAX_EXACT_INTEGER else None


def _percent(number: Any) -> float | None:
    """Return the candidate's weight at a position in a record."""
    if not isinstance(number, int | float):
        return None
    position = position_of(number)
    return position.percent if isinstance(position, Weight) else 100.0


def _iso(milliseconds: Any) -> str | None:
    """Return a time from milliseconds since 1970; None if it is none."""
    if not isinstance(milliseconds, int | float):
        return None
    with suppress(ValueError, OverflowError, OSError):
        return iso_of(datetime.fromtimestamp(milliseconds / 1000, UTC))
    return None


def _later(moment: Any, seconds: int | None) -> str | None:
    """Return the time so many seconds after a moment; None if one of them is not known."""
    if not isinstance(moment, str) or seconds is None:
        return None
    with suppress(ValueError, OverflowError):
        return iso_of(datetime.fromisoformat(moment) + timedelta(seconds=seconds))
    return None
