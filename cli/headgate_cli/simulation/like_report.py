"""The text of ``headgate simulate --like``: short, with a figure for each thing that it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_cli.simulation.report import percent, share_text, time_text, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate_cli.simulation.output import Caution, LeastErrors, SimulatedShare, TargetSimulation
    from headgate_cli.simulation.own_rollouts import Question


def like_as_text(question: Question, found: TargetSimulation) -> str:
    """Return the answer as paragraphs."""
    parts = [*_facts(question, found), "", *_answers(question, found)]
    lines = [line for part in parts for line in (wrapped(part, "  ") or [""])]
    return "\n".join(lines)


def _facts(question: Question, found: TargetSimulation) -> Iterator[str]:
    days = found.minutes / 1440
    span = f"{days:.3g} days" if days >= 2 else f"{found.minutes:,} minutes"
    yield (
        f"{found.target}, {span} by the minute: {found.requests_per_second:,.3g} requests per second, "
        f"{_failing(found.error_rate)}."
    )
    shown = [f"{phase.weight:g} % for {time_text(phase.seconds)}" for phase in question.phases]
    weights = ", ".join(shown if len(shown) <= 4 else [*shown[:2], f"... ({len(shown) - 3} more) ...", shown[-1]])
    yield (
        f"To the candidate {weights}: about {found.candidate_requests:,.0f} requests. {_guards(question)}; alpha "
        f"{question.guards.alpha:g}."
    )


def _failing(rate: float) -> str:
    return f"{rounded(rate)} of them failed" if rate else "none of them failed"


def _guards(question: Question) -> str:
    guards = question.guards
    compared = [name for name in ("errors", "latency") if getattr(guards, name) is not None]
    compared += [guard.name for guard in guards.custom]
    return f"Compared: {' and '.join(compared)}, by {guards.evidence}, a look every {question.look} s"


def _answers(question: Question, found: TargetSimulation) -> Iterator[str]:
    yield (
        f"FALSE rollbacks: {_with_margin(found.false_rollbacks)} of {question.runs:,} rollouts of a candidate that is "
        f"no worse; alpha allows {share_text(question.guards.alpha)}."
    )
    wanted = share_text(question.caught)
    if question.guards.errors:
        yield f"ERRORS: {_least(found.least_errors, wanted)}"
    if question.guards.latency:
        yield f"LATENCY: {_slowdown(found, wanted)}"
    if question.guards.errors:
        yield _helpful(found)
    for caution in found.cautions:
        yield _caution(caution)
    for note in found.notes:
        yield f"Note: {note}."


def _with_margin(share: SimulatedShare) -> str:
    return f"{share_text(share.share)} (+- {share_text(share.margin)})"


def _least(least: LeastErrors | None, wanted: str) -> str:
    if least is None:
        return f"no error rate is caught in {wanted} of the rollouts, not even a candidate that fails all requests."
    failed, seconds = least.failed_requests, least.seconds
    return (
        f"a candidate that fails {_rate(least)} is caught in {wanted} of the rollouts; after {failed.median:,.0f} of "
        f"its requests have failed, in 9 of 10 cases at most {failed.p90:,.0f}, and {time_text(seconds.median or 0)}."
    )


def _rate(least: LeastErrors) -> str:
    times = f", {least.ratio:.3g} times the usual rate" if least.ratio else ""
    return f"{rounded(least.rate)} of its requests{times},"


def rounded(rate: float) -> str:
    """Return a share in percent with three digits."""
    return percent(float(f"{rate:.3g}"))


def _slowdown(found: TargetSimulation, wanted: str) -> str:
    least = found.least_slowdown
    if least is None:
        return f"no slowdown is caught in {wanted} of the rollouts."
    return (
        f"a candidate whose requests take {100 * (least.factor - 1):.3g} % longer is caught in {wanted} of the "
        f"rollouts, after {time_text(least.seconds.median or 0)}."
    )


def _helpful(found: TargetSimulation) -> str:
    if not found.helpful:
        return "No other setting that was tried catches a much smaller error rate, or the same much sooner."
    each = "; ".join(
        f"{better.what}: {rounded(better.least_errors.rate)} after {time_text(better.least_errors.seconds.median or 0)}"
        for better in found.helpful
    )
    return f"Other settings catch smaller error rates, or catch them sooner. Each was simulated. {each}."


_CAUSES = {
    "clusters": "come in clusters, such as from one client that retries, they have about {value:g} failures each",
    "noise": "come from each version's own ups and downs, its rate varies by {value:g} from minute to minute",
}


def _caution(caution: Caution) -> str:
    cause = _CAUSES[caution.kind].format(value=caution.value)
    if caution.measured:
        begin = f"CAUTION: in earlier rollouts, each version's own error rate varied by {caution.value:g} per minute"
    else:
        begin = (
            "CAUTION: failures vary from minute to minute more than independent ones. If they hit both versions alike, "
            f"that is harmless. If they {cause} at most"
        )
    with_it = caution.least_errors_when_set
    costs = f"and the least error rate caught is {rounded(with_it.rate)}" if with_it else "and no error rate is caught"
    return (
        f"{begin}: then {_with_margin(caution.false_rollbacks)} of the rollouts are rolled back by mistake. "
        f"With guards.{caution.setting} {caution.value:g}, {share_text(caution.false_rollbacks_when_set.share)} are, "
        f"{costs}."
    )
