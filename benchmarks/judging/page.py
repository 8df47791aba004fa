"""The section `judge` of docs/benchmarks.md."""

from __future__ import annotations

from math import isfinite, isnan
from typing import TYPE_CHECKING

from benchmarks.judging import limits, plan
from benchmarks.judging.cells import (
    ALPHA,
    ANY_ERROR,
    ARGO,
    ERROR_RATE,
    FLAGGER,
    KAYENTA,
    KAYENTA_ASKED,
    MINUTES,
    ORACLE,
    REPLAYED,
    SECONDS,
    UNCOUNTED,
    UNGUARDED,
    UNGUARDED_MINUTES,
    Cell,
    Outcome,
)
from benchmarks.judging.scenarios import BURST_FACTOR, BURST_RATE, MEMORY_SECONDS, STAIRS
from benchmarks.report import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.judging.limits import Check

RULES = (SECONDS, MINUTES, ANY_ERROR, ERROR_RATE, FLAGGER, ARGO, KAYENTA, KAYENTA_ASKED)
CONTRASTS = (UNCOUNTED, UNGUARDED, UNGUARDED_MINUTES)
FAMILIES = ("steady", "bursts", "steps", "retries", "wander", "common 0.3", "common 0.6", "apart 0.3", "apart 0.6")
FAMILY = {
    "steady": "steady",
    "bursts": "bursts",
    "steps": "steps",
    "retries": "retries",
    "wander": "each wanders",
    "common 0.3": "both swing, memory 0.3",
    "common 0.6": "both swing, memory 0.6",
    "apart 0.3": "each wanders, memory 0.3",
    "apart 0.6": "each wanders, memory 0.6",
    "late": "late fault",
    "floor": "until rolled back",
}

FLAGGER_AT = "https://github.com/fluxcd/flagger/blob/15bd6ad"
ARGO_AT = "https://github.com/argoproj/argo-rollouts/blob/9f8d111"
KAYENTA_AT = "https://github.com/spinnaker/kayenta/blob/a69573b"
SPINNAKER_AT = "https://spinnaker.io/docs/guides/user/canary"

HOW = f"""Made-up traffic (`headgate_cli.simulation.traffic`): requests arrive at random (Poisson), each goes to the
candidate with the weight's probability and fails on its own. All rules see the same requests. Scenarios: *steady*;
*bursts*, a minute in {1 / BURST_RATE:.0f} multiplies both revisions' rate by {BURST_FACTOR}; *steps*, the weight goes
{", ".join(f"{weight:g}" for weight in STAIRS["canary"])} % (canary) or {STAIRS["linear"][0]:g} to
{STAIRS["linear"][-1]:g} % in {len(STAIRS["linear"])} (linear) within the hour; *retries*, each failing unit fails
{plan.REPEATS} requests, which metrics count each and the judge once; *each wanders*, each revision's rate is multiplied
each minute by its own gamma factor with a coefficient of variation of {plan.WANDER:g}, and the judge is told
(`noise={plan.WANDER:g}`); *memory*, the rates of both together or of each alone change so each
{MEMORY_SECONDS} seconds, with an autocorrelation of {plan.MEMORIES[0]:g} or {plan.MEMORIES[1]:g} (the judge is told of
the latter by the same `noise`); *late fault*, it starts after {plan.HEALTHY_SECONDS // 60} healthy minutes. Otherwise
the fault is there from the start. An hour each; *late fault* and *until rolled back* go on for
{plan.LONG // 3600} h of fault at a base rate of 0.1 %. Failed requests are the candidate's, from the fault's onset up
to and with the look that rolls back. A run that is not rolled back counts with all that failed, so a mean with fewer
than 100 % detected is a lower bound. A run that was rolled back before the fault is a false rollback, not in
the mean."""

RULES_SAID = f"""- **Headgate**: `headgate.analysis.judge.look` at alpha = {ALPHA:g}, tolerating nothing. A numpy twin
  of it decides, and in each cell {REPLAYED} runs are decided by the shipped judge too, at both lengths of looks.
- **Alarms**: CloudWatch on the candidate's Errors, one period of 60 s, evaluated as the minute ends: no delay.
- **Flagger**: success rate of the candidate [at least 99 % in a minute]({FLAGGER_AT}/docs/gitbook/usage/metrics.md),
  rolled back at the fifth failed check, which is
  [its tutorials' threshold]({FLAGGER_AT}/docs/gitbook/tutorials/istio-progressive-delivery.md); unset, it would be 1.
  Failed checks are [counted, consecutive or not]({FLAGGER_AT}/pkg/controller/scheduler.go#L462).
- **Argo Rollouts**: its [first example]({ARGO_AT}/docs/features/analysis.md), a success rate of at least 95 % and
  `failureLimit: 3`, each minute instead of each 5; it fails where
  [Failed > failureLimit]({ARGO_AT}/analysis/analysis.go#L667), at the fourth.
- **Kayenta**: Mann-Whitney on the error rates of each minute so far, asked each minute, from the fifth on (fewer cannot
  reach its confidence) or from the fiftieth, as [Spinnaker asks]({SPINNAKER_AT}/best-practices/). The candidate is
  [High]({KAYENTA_AT}/kayenta-judge/src/main/scala/com/netflix/kayenta/judge/classifiers/metric/MannWhitneyClassifier.scala),
  and fails, where the lower end of the two-sided confidence interval of
  [0.98]({KAYENTA_AT}/kayenta-judge/src/main/scala/com/netflix/kayenta/judge/NetflixACAJudge.scala#L146) for the
  shift is above a quarter of the Hodges-Lehmann estimate and the mean is above the stable one's; one direction
  (increase), ties and continuity corrected as there. The stable revision is its baseline; it would want one of equal
  size.
- **Oracle**: Wald's test on the candidate, each second, told both rates, in bursts too, and the onset. Nobody has it;
  it shows what the traffic holds.
- **Floor**: `headgate.analysis.judge.least_failures`, what a judge that common bursts cannot fool needs on average."""


def text(cells: list[Cell], picture: str, seconds: float) -> str:
    """The section."""
    wrong = sum(cell.disagreements for cell in cells)
    replays = 2 * REPLAYED * len(cells)
    return f"""## The judge next to other rules

{_one_line(HOW)}

{RULES_SAID}

### What it is held to

{_limits_table(cells)}

### In short

{plan.FLOOR_REQUESTS:.0f} requests a second, {plan.FLOOR_WEIGHT:.0f} % to the candidate, base error rate 0.1 %. Failed
requests of the candidate until it is rolled back, on average; in brackets the share of runs that were rolled back
within the hour, where not all were. Bold: more than {limits.HONEST:.0%} false rollbacks.

{_short_table(cells)}

![Failed requests until the rollback, per rule]({picture})

### Next to the floor

{_floor_table(cells)}

### A fault that starts after {plan.HEALTHY_SECONDS // 60} healthy minutes

{plan.FLOOR_REQUESTS:.0f} requests a second. The floor is that of a judge told when the fault starts. At 50 % it is 2 to
3 times the oracle's already, which need not tell a burst that hits both revisions from a fault.

{_late_table(cells)}

### Next to the best honest alarm or threshold

Of the two alarms, Flagger's and Argo's rule, those with less than {limits.HONEST:.0%} false rollbacks in the same
traffic without a fault, and of those the one with the fewest failed requests. "Cut off": that rule had not rolled
back every run when the hour ended, so its mean is a lower bound and the share an upper one. "Out of reach": the floor
is above a third of its mean, so there no judge that common bursts cannot fool could keep the limit.

{_best_table(cells)}

### What spoils it, and the remedy

False rollbacks in an hour without a fault, over all cells of a scenario: the worst cell, then the median one.

{_contrast_table(cells)}

<details markdown="1"><summary>False rollbacks, every scenario without a fault</summary>

{_healthy_table(cells)}

</details>

<details markdown="1"><summary>Failed requests, every scenario with a fault</summary>

Mean / median / p90 of the failed candidate requests; median of the seconds; share detected; and false rollbacks before
the fault, where there were any.

{_faulty_table(cells)}

</details>

The twin and the shipped judge differed in {wrong} of {replays} decisions. All of it took {seconds / 60:.1f} minutes."""


def faults(cells: list[Cell]) -> list[str]:
    """Limits that do not hold."""
    told = [f"{name}: {found}" for name, _, found, verdict in _limits(cells) if verdict == "missed"]
    if wrong := sum(cell.disagreements for cell in cells):
        told.append(f"the twin differs from the shipped judge in {wrong} decisions")
    return told


def _limits_table(cells: list[Cell]) -> str:
    return table(["limit", "allowed", "found", ""], [list(row) for row in _limits(cells)])


def _limits(cells: list[Cell]) -> list[tuple[str, str, str, str]]:
    rows = []
    checks = limits.false_rollbacks(cells)
    for family in FAMILIES:
        some = [check for check in checks if check.cell.scenario.family == family]
        runs = some[0].cell.outcomes[SECONDS].runs
        name = f"(a) false rollbacks in an hour, {FAMILY[family]}"
        allowed = f"{some[0].limit:.2%} (1 % and three standard errors of {runs} runs)"
        rows.append((name, allowed, *_verdict(some, lambda found: f"{found:.2%}")))
    for check in limits.near_the_floor(cells):
        scenario = check.cell.scenario
        name = f"(b) failed requests over the floor, ratio {scenario.ratio:g}, base {scenario.base:.1%}"
        rows.append((name, f"{check.limit:g}", f"{check.found:.2f}", check.verdict))
    late = limits.late_near_the_floor(cells)
    for weight in plan.WEIGHTS:
        some = [check for check in late if check.cell.scenario.weight == weight]
        name = f"(c) late fault, failed requests over the floor, weight {weight:g} %"
        rows.append((name, f"{limits.LATE_FACTOR:g}", *_verdict(some, lambda found: f"{found:.2f}")))
    best = limits.next_to_thresholds(cells)
    for excuse in ("", limits.CUT_OFF, limits.OUT_OF_REACH):
        some = [check for check in best if check.excuse == excuse]
        name = f"(d) failed requests over the best honest rule's{', ' if excuse else ''}{excuse}"
        if some:
            rows.append((name, "1/3", *_verdict(some, lambda found: f"{found:.2f}")))
    return rows


def _verdict(checks: list[Check], show: Callable[[float], str]) -> tuple[str, str]:
    """The worst figure, and whether all are within their limit."""
    worst = max(checks, key=lambda check: check.found)
    missed = sum(not check.held for check in checks)
    ratio = "" if worst.cell.scenario.healthy else f", ratio {worst.cell.scenario.ratio:g}"
    place = f"{_place(worst.cell)}{ratio}{', 60 s' if worst.rule == MINUTES else ''}"
    told = f"missed in {missed} of {len(checks)}" if missed else f"in all {len(checks)}"
    return f"at most {show(worst.found)} ({place}); {told}", worst.verdict


def _short_table(cells: list[Cell]) -> str:
    named = {(cell.scenario.family, cell.scenario.ratio): cell for cell in cells if _is_usual(cell)}
    head = ["rule", *(f"false: {FAMILY[family]}" for family in FAMILIES if family != "steps")]
    head += [f"failed, ratio {ratio:g}" for ratio in plan.RATIOS]
    rows = []
    for rule in (*RULES, ORACLE):
        row = [rule]
        for family in FAMILIES:
            if family != "steps":
                outcome = named[family, 1.0].outcomes.get(rule)
                row.append(_share(outcome.false_share) if outcome else "")
        row += [_mean(named["steady", ratio].outcomes[rule]) for ratio in plan.RATIOS]
        rows.append(row)
    floors = [f"{limits.floor(named['steady', ratio]):.1f}" for ratio in plan.RATIOS]
    return table(head, [*rows, ["floor", *[""] * (len(FAMILIES) - 1), *floors]])


def _is_usual(cell: Cell) -> bool:
    """In the place that the summary shows."""
    scenario = cell.scenario
    return (scenario.rps, scenario.weight, scenario.base) == (plan.SHOWN.rps, plan.SHOWN.weight, plan.SHOWN.base)


def _floor_table(cells: list[Cell]) -> str:
    rows = []
    for check in limits.near_the_floor(cells):
        judged, told = (check.cell.outcomes[rule] for rule in (SECONDS, ORACLE))
        rows.append([
            _place(check.cell),
            f"{check.cell.scenario.ratio:g}",
            f"{limits.floor(check.cell):.1f}",
            f"{judged.mean_failures:.1f}",
            f"{check.found:.2f}",
            f"{check.limit:g} {check.verdict}",
            _mean(check.cell.outcomes[MINUTES]),
            f"{told.mean_failures:.1f}",
            f"{judged.detected_share:.1%}",
            f"{judged.runs}",
        ])  # fmt: skip
    head = ["traffic", "ratio", "floor", "Headgate, 1 s", "over the floor", "limit", "60 s", ORACLE, "detected", "runs"]
    return table(head, rows)


def _late_table(cells: list[Cell]) -> str:
    rows = []
    for check in limits.late_near_the_floor(cells):
        judged = check.cell.outcomes[SECONDS]
        rows.append([
            _place(check.cell),
            f"{check.cell.scenario.ratio:g}",
            f"{limits.floor(check.cell):.1f}",
            _mean(judged),
            _mean(check.cell.outcomes[ORACLE]),
            f"{check.found:.2f}",
            f"{check.limit:g} {check.verdict}",
            _mean(check.cell.outcomes[MINUTES]),
            _seconds(judged),
            _share(judged.false_share),
            f"{judged.runs}",
        ])  # fmt: skip
    head = ["traffic", "ratio", "floor", "Headgate, 1 s", ORACLE, "over the floor", "limit", "60 s", "median time"]
    return table([*head, "false before it", "runs"], rows)


def _best_table(cells: list[Cell]) -> str:
    rows = []
    for check in limits.next_to_thresholds(cells):
        outcomes = check.cell.outcomes
        rows.append([
            _place(check.cell),
            f"{check.cell.scenario.ratio:g}",
            _mean(outcomes[SECONDS]),
            check.against,
            _mean(outcomes[check.against]),
            f"{check.found:.2f}",
            check.verdict,
        ])  # fmt: skip
    head = ["traffic", "ratio", "Headgate, 1 s", "best honest rule", "its failed requests", "share", "at most 1/3"]
    return table(head, rows)


def _contrast_table(cells: list[Cell]) -> str:
    rows = []
    for family, rules in (
        ("retries", (SECONDS, MINUTES, UNCOUNTED)),
        ("wander", (SECONDS, MINUTES, UNGUARDED, UNGUARDED_MINUTES)),
        ("apart 0.3", (SECONDS, MINUTES, UNGUARDED, UNGUARDED_MINUTES)),
        ("apart 0.6", (SECONDS, MINUTES, UNGUARDED, UNGUARDED_MINUTES)),
    ):
        some = [cell for cell in cells if cell.scenario.healthy and cell.scenario.family == family]
        for rule in rules:
            shares = sorted(cell.outcomes[rule].false_share for cell in some)
            rows.append([FAMILY[family], rule, _share(shares[-1]), _share(shares[len(shares) // 2])])
    return table(["scenario", "rule", "worst", "median"], rows)


def _healthy_table(cells: list[Cell]) -> str:
    rows = []
    for cell in cells:
        if cell.scenario.healthy:
            shown = [cell.outcomes.get(rule) for rule in (*RULES, *CONTRASTS)]
            shares = [f"{outcome.false_share:.2%}" if outcome else "" for outcome in shown]
            rows.append([FAMILY[cell.scenario.family], _place(cell), *shares, f"{cell.outcomes[SECONDS].runs}"])
    return table(["scenario", "traffic", *RULES, *CONTRASTS, "runs"], rows)


def _faulty_table(cells: list[Cell]) -> str:
    rules = (*RULES, ORACLE, UNGUARDED)
    rows = []
    for cell in cells:
        if not cell.scenario.healthy:
            shown = [cell.outcomes.get(rule) for rule in rules]
            told = [_full(outcome) if outcome else "" for outcome in shown]
            name = f"{FAMILY[cell.scenario.family]}, {_place(cell)}"
            floor = "" if isinstance(cell.scenario.weight, str) else f"{limits.floor(cell):.1f}"
            rows.append([name, f"{cell.scenario.ratio:g}", floor, *told, f"{cell.outcomes[SECONDS].runs}"])
    return table(["scenario and traffic", "ratio", "floor", *rules, "runs"], rows)


def _place(cell: Cell) -> str:
    scenario = cell.scenario
    weight = scenario.weight if isinstance(scenario.weight, str) else f"{scenario.weight:g} %"
    return f"{scenario.rps:g}/s, {weight}, {scenario.base:.1%}"


def _mean(outcome: Outcome) -> str:
    if isnan(outcome.mean_failures):
        return "**all false**"
    if outcome.detected_share == 0:
        return "not detected"
    part = "" if outcome.detected_share == 1 else f" ({outcome.detected_share:.1%})"
    return f"{'≥ ' if outcome.detected_share < 1 else ''}{outcome.mean_failures:.1f}{part}"


def _full(outcome: Outcome) -> str:
    if isnan(outcome.mean_failures):
        return "all false"
    if outcome.detected_share == 0:
        return "not detected"
    failures = f"{outcome.mean_failures:.1f} / {outcome.failures_at(0.5):.0f} / {outcome.failures_at(0.9):.0f}"
    false = f"; false {outcome.false_share:.1%}" if outcome.false_share else ""
    return f"{failures}; {_seconds(outcome)}; {outcome.detected_share:.1%}{false}"


def _seconds(outcome: Outcome) -> str:
    median = outcome.seconds_at(0.5)
    return f"{median:.0f} s" if isfinite(median) else "not detected in half"


def _share(share: float) -> str:
    told = f"{share:.1%}" if share else "0"
    return f"**{told}**" if share > limits.HONEST else told


def _one_line(told: str) -> str:
    return " ".join(told.split())
