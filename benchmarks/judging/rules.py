"""When each rule would have rolled a run back.

Every rule answers with the look, counted from 0, at whose end it rolls each run back, and with the number of looks
where it never does.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headgate_cli.simulation.traffic import Looks

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

ALARM_RATE = 0.01
FLAGGER_RATE, FLAGGER_CHECKS = 0.01, 5
"""Flagger's built-in check: request-success-rate of at least 99 in 1 m (docs/gitbook/usage/metrics.md), and the
`threshold: 5` of its tutorials (docs/gitbook/tutorials/istio-progressive-delivery.md); without one it is 1
(GetAnalysisThreshold in pkg/apis/flagger/v1beta1/canary.go). Failed checks are counted, whether or not they follow
each other: runAnalysis failing adds 1 to Status.FailedChecks, and nothing takes it off before the release ends
(pkg/controller/scheduler.go). https://github.com/fluxcd/flagger at 15bd6ad."""
SLOW_MS = 500
"""Flagger's other built-in check: a 99th percentile of request-duration of at most 500 ms in 1 m."""
ARGO_RATE, ARGO_LIMIT = 0.05, 3
"""Argo Rollouts' first example: `successCondition: result[0] >= 0.95`, `failureLimit: 3` (docs/features/analysis.md);
its interval of 5 m is one minute here. The analysis fails where Failed > failureLimit, so at the fourth failed
measurement (analysis/analysis.go). https://github.com/argoproj/argo-rollouts at 9f8d111."""
KAYENTA_QUANTILE = 2.3263478740408408
"""Of the normal distribution at 0.99: both sides of a confidence of 0.98 (NetflixACAJudge.scala)."""
KAYENTA_TOLERANCE = 0.25
KAYENTA_LEAST = 5
"""With fewer points of each revision, the test cannot reach that confidence."""
KAYENTA_ASKED = 50
"""Points for each metric that Spinnaker asks for: https://spinnaker.io/docs/guides/user/canary/best-practices/"""


def any_error(minutes: Looks) -> Integers:
    """A CloudWatch alarm on Errors > 0 of the candidate, one period of 60 s."""
    return first(minutes.candidate_failures > 0)


def error_rate(minutes: Looks) -> Integers:
    """A CloudWatch alarm on Errors / Invocations > 1 % of the candidate, one period of 60 s."""
    return first(_rate(minutes) > ALARM_RATE)


def flagger(minutes: Looks, slow: Bools | bool = False) -> Integers:
    """Flagger's failed checks, with its defaults; a check also fails in a minute that is too slow."""
    return first(np.cumsum((_rate(minutes) > FLAGGER_RATE) | slow, axis=1) >= FLAGGER_CHECKS)


def argo(minutes: Looks, slow: Bools | bool = False) -> Integers:
    """Argo Rollouts' failed measurements, with the values of its example; one also fails in a minute that is slow."""
    return first(np.cumsum((_rate(minutes) > ARGO_RATE) | slow, axis=1) > ARGO_LIMIT)


def oracle(looks: Looks, before: Floats, after: Floats, *, alpha: float, onset: int) -> Integers:
    """Wald's test of one known rate against another (https://doi.org/10.1214/aoms/1177731118), told the onset too."""
    s1, n1 = looks.candidate_failures, looks.candidate_requests
    gains = s1 * np.log(after / before) + (n1 - s1) * np.log((1 - after) / (1 - before))
    gains[:, : int(onset / looks.seconds)] = 0
    return first(np.cumsum(gains, axis=1) >= -log(alpha))


def kayenta(minutes: Looks, least: int) -> Integers:
    """Kayenta's judge on the error rate of each minute, asked each minute from ``least`` points of each revision on.

    MannWhitneyClassifier.scala: the candidate is High where the lower end of the confidence interval for the shift
    between the revisions is above a quarter of the Hodges-Lehmann estimate's size, and the ratio of the means is at
    least 1. The interval's end is the shift at which the rank sum, with the correction for ties and for continuity,
    is at the quantile (MannWhitney.scala), so here the rank sum is taken at the quarter itself, which spares the
    search for a root. The estimate is the median of all differences; Kayenta finds it by a root of the same statistic.
    One metric that is High is the whole score, so the release fails. https://github.com/spinnaker/kayenta at a69573b.
    """
    return kayenta_series(_rate(minutes), minutes.stable_failures / np.maximum(minutes.stable_requests, 1), least)


def kayenta_series(candidate: Floats, stable: Floats, least: int, increase: float = 1.0) -> Integers:
    """The same of any metric with a value in each minute of each run, (runs, minutes).

    Parameters
    ----------
    increase
        ``effectSize.allowedIncrease``: the ratio of the means from which the candidate is High. Its default is 1.
    """
    runs, total = candidate.shape
    found: Integers = np.full(runs, total)
    live = np.arange(runs)
    for points in range(least, total + 1):
        x, y = candidate[live, :points], stable[live, :points]
        high = _high(x, y, increase)
        found[live[high]] = points - 1
        live = live[~high]
        if not live.size:
            break
    return found


def first(where: Bools) -> Integers:
    """The first look at which it holds; the number of looks where there is none."""
    found: Integers = np.where(where.any(axis=1), where.argmax(axis=1), where.shape[1])
    return found


def _rate(minutes: Looks) -> Floats:
    """The candidate's error rate; 0 where it had no requests."""
    return np.asarray(minutes.candidate_failures / np.maximum(minutes.candidate_requests, 1))


def _high(x: Floats, y: Floats, increase: float) -> Bools:
    high: Bools = x.mean(axis=1) > increase * y.mean(axis=1)
    # The rank sum falls with the shift, so only what is beyond the quantile without one needs the estimate.
    for shifted in (False, True):
        some = np.flatnonzero(high)
        if some.size:
            shift = KAYENTA_TOLERANCE * _estimate(x[some], y[some]) if shifted else np.zeros(some.size)
            high[some] = _statistic(x[some] - shift[:, None], y[some]) > KAYENTA_QUANTILE
    return high


def _estimate(x: Floats, y: Floats) -> Floats:
    differences = (x[:, :, None] - y[:, None, :]).reshape(len(x), -1)
    return np.abs(np.median(differences, axis=1))


def _statistic(x: Floats, y: Floats) -> Floats:
    """``wilcoxonDiff`` of MannWhitney.scala, without the quantile; 0 where all are tied."""
    points = x.shape[1]
    above = (x[:, :, None] > y[:, None, :]).sum(axis=(1, 2)) + 0.5 * (x[:, :, None] == y[:, None, :]).sum(axis=(1, 2))
    surplus = above - points**2 / 2
    both = 2 * points
    variance = points**2 / 12 * (both + 1 - _ties(np.hstack([x, y])) / (both * (both - 1)))
    return np.asarray((surplus - 0.5 * np.sign(surplus)) / np.sqrt(np.where(variance > 0, variance, np.inf)))


def _ties(values: Floats) -> Floats:
    """Sum of t^3 - t over the sizes t of the groups of equal values, of each row."""
    ordered = np.sort(values, axis=1)
    begins = np.ones(ordered.shape, bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    sizes = np.bincount(np.cumsum(begins.ravel()) - 1)
    rows = np.repeat(np.arange(len(values)), begins.sum(axis=1))
    return np.bincount(rows, weights=sizes**3.0 - sizes, minlength=len(values))  # type: ignore[return-value]
