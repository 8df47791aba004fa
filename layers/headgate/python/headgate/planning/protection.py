"""What guards a rollout: the default of a request that names no guard, and a comparison whose telemetry is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.measures import AliasMeasures
from headgate.errors import RequestRefused
from headgate.spec.guards import MIN_CLOUDWATCH_MINUTES, ErrorGuard, Guards
from headgate.spec.request import is_too_short_for_cloudwatch
from headgate.spec.strategy import steps_of

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.telemetry_notes import TelemetryNotes
    from headgate.spec.request import RolloutRequest
    from headgate.spec.strategy import Step
    from headgate.spec.targets import LambdaAliasTarget

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

    def choose(self, request: RolloutRequest, alias: LambdaAliasTarget, *, is_ramp: bool) -> Protected:
        """Return the guards of a request, or the default if it names none.

        Parameters
        ----------
        alias
            The alias whose versions are compared.
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
            return self._default(guards, steps_of(request.strategy), alias, is_ramp=is_ramp)
        if guards.need_telemetry and self._is_silent(alias):
            return _by_cloudwatch_instead(guards, steps_of(request.strategy), alias)
        return Protected(guards, [])

    def _default(
        self, guards: Guards, steps: tuple[Step, ...], alias: LambdaAliasTarget, *, is_ramp: bool
    ) -> Protected:
        """Compare errors, if the strategy and the target allow it."""
        if is_ramp:
            return _unguarded(guards, "in a ramp the versions never work side by side, so they cannot be compared")
        if not any(step.weight < 100 and step.bake_seconds for step in steps):
            return _unguarded(guards, "no step below 100 % bakes, so the versions cannot be compared")
        compared = guards.model_copy(update={"errors": ErrorGuard()})
        if guards.evidence == "telemetry" and self._telemetry and self._notes.sends(alias.key):
            return Protected(compared, [])
        if any(is_too_short_for_cloudwatch(step) for step in steps):
            return _unguarded(
                guards,
                f"{_name_of(alias)} sends no telemetry, and some bakes are shorter than the {_MIN_SECONDS} s that "
                "CloudWatch needs",
            )
        # Who asked for nothing does not expect that a target without requests is held up, or rolled back.
        on_no_data = "pass" if guards.on_no_data == "wait" else guards.on_no_data
        warning = (
            "guards: the request names no guard, so errors are compared by CloudWatch's counts of both versions, and a "
            f"bake without requests {_NO_DATA[on_no_data]}; {_FIX}"
        )
        return Protected(compared.model_copy(update={"evidence": "cloudwatch", "on_no_data": on_no_data}), [warning])

    def _is_silent(self, alias: LambdaAliasTarget) -> bool:
        """Return whether a target sends no telemetry although CloudWatch counts its requests."""
        if self._notes.sends(alias.key):
            return False
        end = (datetime.now(UTC) - SETTLED_PERIOD).replace(second=0, microsecond=0)
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=[AliasMeasures(alias).all_requests("all", period=300)],
            StartTime=end - SILENT_PERIOD,
            EndTime=end,
        )
        return any(value > 0 for result in answer["MetricDataResults"] for value in result["Values"])


def _by_cloudwatch_instead(guards: Guards, steps: tuple[Step, ...], alias: LambdaAliasTarget) -> Protected:
    compared = "errors" if guards.errors else "latency"
    silent = f"{_name_of(alias)} has sent no telemetry for a day, although CloudWatch counts requests to it"
    if any(is_too_short_for_cloudwatch(step) for step in steps):
        raise RequestRefused(
            f"guards.{compared}: {silent}; add Headgate's telemetry to the function, or bake for at least "
            f"{_MIN_SECONDS} s and set guards.evidence to cloudwatch"
        )
    warning = (
        f"guards.{compared}: {silent}. CloudWatch's counts are compared instead; add Headgate's telemetry to the "
        "function, or set guards.evidence to cloudwatch"
    )
    return Protected(guards.model_copy(update={"evidence": "cloudwatch"}), [warning])


def _unguarded(guards: Guards, why: str) -> Protected:
    return Protected(guards, [f"guards: nothing guards this rollout: the request names no guard, and {why}; {_FIX}"])


def _name_of(alias: LambdaAliasTarget) -> str:
    return f"{alias.name}:{alias.alias}"
