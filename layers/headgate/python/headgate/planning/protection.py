"""What guards a rollout: the default of a request that names no guard, and a comparison whose telemetry is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.guards import MIN_CLOUDWATCH_MINUTES, ErrorGuard, Guards
from headgate.spec.request import is_too_short_for_cloudwatch
from headgate.spec.strategy import steps_of
from headgate.spec.targets import EcsServiceTarget

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures
    from headgate.analysis.telemetry_notes import TelemetryNotes
    from headgate.spec.request import RolloutRequest
    from headgate.spec.strategy import Step
    from headgate.spec.targets import Target

SILENT_PERIOD = timedelta(hours=1)
"""CloudWatch is asked for the requests of this period."""

SETTLED_PERIOD = timedelta(minutes=5)
"""Telemetry of requests that began longer ago than this has been counted, even if an environment sent it late."""

_MIN_SECONDS = MIN_CLOUDWATCH_MINUTES * 60
_FIX = 'name guards, for example alarms, or set "guards": "none"'
_NO_DATA = {"pass": "passes", "fail": "fails"}


class Protected(NamedTuple):
    """The guards of a rollout, and warnings about them."""

    guards: Guards
    warnings: list[str]


class Protection:
    """Chooses the guards of a rollout.

    Parameters
    ----------
    notes
        Tells which targets send telemetry.
    cloudwatch
        A CloudWatch client.
    telemetry
        True if the telemetry stream is deployed.
    """

    def __init__(self, notes: TelemetryNotes, cloudwatch: CloudWatchClient, *, telemetry: bool) -> None:
        self._notes = notes
        self._cloudwatch = cloudwatch
        self._telemetry = telemetry

    def choose(self, request: RolloutRequest, measures: Measures, *, is_ramp: bool) -> Protected:
        """Return the guards of a request, or the default if it names none.

        Parameters
        ----------
        measures
            Metrics of the target.
        is_ramp
            True for a consumer whose versions never work side by side.

        Raises
        ------
        RequestRefused
            If a comparison needs telemetry that the target does not send.
        """
        guards = request.asked_guards
        if request.guards == "none":
            return Protected(guards, [])
        if not guards.protect:
            return self._default(guards, steps_of(request.strategy), measures, is_ramp=is_ramp)
        if guards.compare and not _has_both_revisions(steps_of(request.strategy)):
            # Whether telemetry is sent makes no difference then.
            return Protected(guards, [_uncompared(guards, request.target, measures)])
        only_report = [_only_reported(guards)] if guards.only_report else []
        if guards.need_telemetry and self._is_silent(measures):
            instead = _by_cloudwatch_instead(guards, steps_of(request.strategy), measures)
            return Protected(instead.guards, [*instead.warnings, *only_report])
        return Protected(guards, only_report)

    def _default(self, guards: Guards, steps: tuple[Step, ...], measures: Measures, *, is_ramp: bool) -> Protected:
        """Compare errors, if the strategy and the target allow it."""
        if is_ramp:
            return _unguarded(guards, "in a ramp the versions never work side by side, so they cannot be compared")
        if not _has_both_revisions(steps):
            return _unguarded(
                guards, f"no step below 100 % bakes, so the {measures.words.revisions} cannot be compared"
            )
        compared = guards.model_copy(update={"errors": ErrorGuard()})
        if guards.evidence == "telemetry" and self._telemetry and self._notes.sends(measures.telemetry_key):
            return Protected(compared, [])
        if any(is_too_short_for_cloudwatch(step) for step in steps):
            return _unguarded(
                guards,
                f"{measures.name} sends no telemetry, and some bakes are shorter than the {_MIN_SECONDS} s that "
                "CloudWatch needs",
            )
        # Who asked for nothing does not expect that a target without requests is held up, or rolled back.
        on_no_data = "pass" if guards.on_no_data == "wait" else guards.on_no_data
        warning = (
            "guards: the request names no guard, so errors are compared by CloudWatch's counts of both "
            f"{measures.words.revisions}, and a bake without requests {_NO_DATA[on_no_data]}; {_FIX}"
        )
        return Protected(compared.model_copy(update={"evidence": "cloudwatch", "on_no_data": on_no_data}), [warning])

    def _is_silent(self, measures: Measures) -> bool:
        """Return whether a target sends no telemetry although CloudWatch counts its requests."""
        if self._notes.sends(measures.telemetry_key):
            return False
        end = (datetime.now(UTC) - SETTLED_PERIOD).replace(second=0, microsecond=0)
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=measures.all_requests("all", period=300).queries,
            StartTime=end - SILENT_PERIOD,
            EndTime=end,
        )
        return any(value > 0 for result in answer["MetricDataResults"] for value in result["Values"])


def _by_cloudwatch_instead(guards: Guards, steps: tuple[Step, ...], measures: Measures) -> Protected:
    compared = "errors" if guards.errors else "latency"
    silent = f"{measures.name} has sent no telemetry for a day, although CloudWatch counts requests to it"
    if any(is_too_short_for_cloudwatch(step) for step in steps):
        raise RequestRefused(
            f"guards.{compared}: {silent}; add Headgate's telemetry to the {measures.words.program}, or bake for at "
            f"least {_MIN_SECONDS} s and set guards.evidence to cloudwatch"
        )
    warning = (
        f"guards.{compared}: {silent}. CloudWatch's counts are compared instead; add Headgate's telemetry to the "
        f"{measures.words.program}, or set guards.evidence to cloudwatch"
    )
    return Protected(guards.model_copy(update={"evidence": "cloudwatch"}), [warning])


def _has_both_revisions(steps: tuple[Step, ...]) -> bool:
    """Return whether any step bakes with traffic on both revisions."""
    return any(step.weight < 100 and step.bake_seconds for step in steps)


def _uncompared(guards: Guards, target: Target, measures: Measures) -> str:
    """Return a warning about guards that compare in a strategy that leaves nothing to compare."""
    named = [f"guards.{name}" for name in ("errors", "latency", "custom") if getattr(guards, name)]
    fixes = ["use a strategy with a step below 100 %, such as Canary10Percent5Minutes"]
    if not guards.alarms:
        fixes.append("name an alarm in guards.alarms")
    if isinstance(target, EcsServiceTarget) and guards.service is None:
        fixes.append("set limits in guards.service")
    compare = "compares" if len(named) == 1 else "compare"
    return (
        f"{' and '.join(named)} {compare} nothing: no step of the strategy bakes with "
        f"traffic on both {measures.words.revisions}; {', or '.join(fixes)}"
    )


def _only_reported(guards: Guards) -> str:
    """Return a warning about guards of which none acts."""
    kinds = ("errors", "latency", "custom", "source", "service")
    named = " and ".join(f"guards.{name}" for name in kinds if getattr(guards, name))
    return (
        f"guards: nothing can stop this rollout: {named} only report; set the action of one to rollback or pause, or "
        "name an alarm in guards.alarms"
    )


def _unguarded(guards: Guards, why: str) -> Protected:
    return Protected(guards, [f"guards: nothing guards this rollout: the request names no guard, and {why}; {_FIX}"])
