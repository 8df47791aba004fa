"""Whether the candidate's share of the requests can be by chance what the weight of a step says.

If it cannot, the comparison may be of something else than it seems: a load balancer is stuck, clients stay with their
revision, or telemetry of one revision is missing. Known as the test for a sample ratio mismatch, here by an e-value: a
ratio of likelihoods, averaged over other shares. Its mean is at most 1 while the share is right, so that it reaches
1 / alpha with a probability of at most alpha, however often it is looked at.

https://arxiv.org/abs/2011.03567 (Lindon and Malek, Anytime-Valid Inference for Multinomial Count Data)
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

from headgate.spec.targets import EventSourceTarget

if TYPE_CHECKING:
    from headgate.analysis.evidence import Ledger
    from headgate.spec.plan import Plan

MISMATCH_ALPHA = 1e-4
"""Probability that a mismatch is reported for a rollout whose shares are right. Its steps share it."""

OTHER_ODDS = (0.1, 0.5, 0.75, 1.33, 2, 10)
"""Odds of the shares that speak against the weight, relative to it. Since the nearest are a quarter and a third away,
a share that is off by less than about an eighth is never told, however many requests there are."""

FAR_ODDS = (0.1, 10)
"""The same where known clients may stay with a revision: only a share that is off by far is told."""

TELEMETRY_SLACK_SECONDS, CLOUDWATCH_SLACK_SECONDS = 10, 60
"""Seconds of a bake whose requests may have had another share: a change of weights needs some seconds to take effect
everywhere, and the last counts of one revision may come later than the other's. They are taken for as many requests as
come in so many seconds on average: a burst in just these seconds may be told as a mismatch if the change takes all of
them."""

LEAST_BAKE_PER_SLACK = 3
"""A bake that is shorter than so many times the slack says nothing about the share."""

_MAX_LOG = 34.5
"""Logarithm of 1e15, the largest evidence in records."""


class Share(NamedTuple):
    """The candidate's share of the requests of a step that is not what the weight says."""

    weight: float
    """Percent of the traffic that the candidate should have."""
    candidate: int
    """Requests of the candidate in the step."""
    stable: int
    """Requests of the stable revision."""
    value: float
    """The evidence that this is not chance; at most 1e15."""


def share_mismatch(plan: Plan, ledger: Ledger, step: int, baked_seconds: float) -> Share | None:
    """Return the share of a step if it cannot be by chance what the weight says; None if it can, or nobody can tell.

    Parameters
    ----------
    baked_seconds
        How long the step has had its weight.
    """
    slack = TELEMETRY_SLACK_SECONDS if plan.guards.evidence == "telemetry" else CLOUDWATCH_SLACK_SECONDS
    if not plan.compares_in(step) or baked_seconds < LEAST_BAKE_PER_SLACK * slack:
        return None
    together = _routed_together(plan, ledger)
    # A pause may take the traffic off the candidate, and a resume restarts the evidence: the step had two weights.
    if together is None or ledger.restarted_at >= ledger.since.get(step, 0) > 0:
        return None
    candidate, stable = _routed_requests(ledger, step)
    weight = plan.steps[step].weight
    value = share_evidence(
        candidate / together,
        stable / together,
        weight,
        slack=slack / baked_seconds,
        other_odds=FAR_ODDS if plan.is_sticky else OTHER_ODDS,
    )
    return Share(weight, candidate, stable, value) if value >= share_limit(len(plan.steps)) else None


def _routed_together(plan: Plan, ledger: Ledger) -> float | None:
    """Return how many of the counted requests may have been routed together; None if any number may have been.

    The counts divided by it say no more about the share than as many single requests: by Jensen's inequality, the mean
    of the evidence stays at most 1.
    """
    if isinstance(plan.target, EventSourceTarget):
        return None  # Messages come in batches.
    if plan.guards.evidence == "cloudwatch":
        return 1.0
    return ledger.reports.limit(plan.guards.outcomes_per_invocation)


def _routed_requests(ledger: Ledger, step: int) -> tuple[int, int]:
    """Return the requests of each revision: all of them, or those with a duration.

    Those of custom guards are left out: what they count may not be single requests.
    """
    for measure in ("errors", "latency", "latency0"):
        candidate, stable = ledger.at_step(step, measure)
        if candidate.requests + stable.requests:
            return candidate.requests, stable.requests
    return 0, 0


def share_in_words(plan: Plan, share: Share) -> str:
    """Return a mismatch as a part of a sentence."""
    requests = share.candidate + share.stable
    had = (
        f"the candidate had {share.candidate:,} of {requests:,} requests ({100 * share.candidate / requests:.3g} %) at "
        f"{share.weight:g} %"
    )
    if plan.is_sticky:
        return f"{had}, because clients stay with their revision"
    return f"{had}, which is not chance: check how requests are routed, and the telemetry of both revisions"


def share_evidence(
    candidate: float, stable: float, weight: float, *, slack: float = 0.0, other_odds: tuple[float, ...] = OTHER_ODDS
) -> float:
    """Return the evidence that the candidate's share of independent requests is not its weight; at most 1e15.

    Parameters
    ----------
    candidate, stable
        Requests of each revision at this weight.
    weight
        Percent of the traffic for the candidate, above 0 and below 100.
    slack
        Part of the requests, from 0 to below 1, of which the candidate may have had none yet, or those of the stable
        revision may be missing. Every share that this explains counts as right: the likelihood of the most likely one
        is the denominator.
    other_odds
        Odds of the shares that speak against it, relative to the lowest or highest share that is right.
    """
    late, part = weight * (1 - slack), weight / 100
    lowest, highest = late / (100 - late), part / ((1 - part) * (1 - slack))
    seen = candidate / stable if stable else float("inf")
    likely = _log_likelihood(candidate, stable, min(max(seen, lowest), highest))
    ratios = [
        _log_likelihood(candidate, stable, other * (lowest if other < 1 else highest)) - likely for other in other_odds
    ]
    return sum(exp(min(ratio, _MAX_LOG)) for ratio in ratios) / len(ratios)


def _log_likelihood(candidate: float, stable: float, odds: float) -> float:
    return candidate * (log(odds) - log(1 + odds)) - stable * log(1 + odds)


def share_limit(steps: int) -> float:
    """Return the evidence from which on a share of one of so many steps is a mismatch."""
    return steps / MISMATCH_ALPHA
