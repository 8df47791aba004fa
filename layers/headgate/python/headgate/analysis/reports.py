"""Bound on what telemetry reports: no version has more outcomes than Lambda counted invocations of it.

Whoever may write to the telemetry stream can report anything about any target. So the ledger also counts what was
reported, and snapshots of these counts are compared with Lambda's own metric Invocations. CloudWatch is minutes late:
what it does not confirm yet may be true, and only what it does not confirm after ``SETTLED_MS`` is held against the
telemetry. This decides about promotions alone. Evidence against a candidate acts at once.

``Telemetry.observe`` reports one outcome for each invocation. ``Telemetry.record`` reports messages of batches, which
may rightly be more, unless the request limits them (``guards.outcomesPerInvocation``). If anything was observed, both
versions have the limit of ``observe``: otherwise a forged record would only have to omit the mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.analysis.measures import Words


SETTLED_MS = 180_000
"""Time after which CloudWatch usually has an invocation whose outcome was reported."""

KEPT_MS = 1_200_000
"""Time for which snapshots are kept. It is longer than a promotion is held."""

TOLERANCE = 0.01
"""Share by which reports may exceed the limit, beyond a single one: so few decide nothing, and an outcome may have been
reported twice."""


class Reported(NamedTuple):
    """Outcomes of one version that telemetry reported."""

    observed: int = 0
    """By ``observe``: one for each invocation."""
    told: int = 0
    """By ``record``, or by a client that does not say how."""

    @property
    def total(self) -> int:
        return self.observed + self.told

    def minus(self, other: Reported) -> Reported:
        return Reported(self.observed - other.observed, self.told - other.told)


class Snapshot(NamedTuple):
    """What was reported at a time."""

    at: int
    """Milliseconds since 1970."""
    candidate: Reported = Reported()
    stable: Reported = Reported()
    early: bool = False
    """Whether the evidence was enough for an early promotion."""
    due: bool = False
    """Whether the last bake was over."""

    def limit(self, per_invocation: float | None) -> float | None:
        """Return how many outcomes an invocation may have; None if any number.

        Parameters
        ----------
        per_invocation
            The limit of the request, if it has one.
        """
        if per_invocation is None and (self.candidate.observed or self.stable.observed):
            return 1.0
        return per_invocation


class Reports(NamedTuple):
    """What telemetry reported of both versions, in the ledger of a rollout."""

    since: int = 0
    """Time of the first request that counts, in milliseconds since 1970; 0 if none does, as in a ledger of Headgate
    0.1.0 until its next step begins."""
    candidate: Reported = Reported()
    stable: Reported = Reported()
    before: tuple[Reported, Reported] = (Reported(), Reported())
    """Counts of the candidate and of the stable version before ``since``, after a restart of the evidence."""
    snapshots: tuple[Snapshot, ...] = ()
    """Recent snapshots, oldest first."""

    def bounded(self, per_invocation: float | None) -> bool:
        """Return whether Lambda's counts limit any of these; the parameter is that of ``Snapshot.limit``."""
        now = self._snapshot(0)
        return bool(self.since and now.limit(per_invocation) and now.candidate.total + now.stable.total)

    def limit(self, per_invocation: float | None) -> float | None:
        """Return how many outcomes an invocation may have; None if any number. The parameter is the request's limit."""
        return self._snapshot(0).limit(per_invocation)

    def with_snapshot(self, now: int, *, early: bool = False, due: bool = False) -> Reports:
        """Return the same with a snapshot of now, without those that are too old."""
        kept = tuple(snapshot for snapshot in self.snapshots if snapshot.at > now - KEPT_MS)
        return self._replace(snapshots=(*kept, self._snapshot(now)._replace(early=early, due=due)))

    def restarted(self, now: int) -> Reports:
        """Return counts that begin again, because the evidence does."""
        if not self.since:
            return self
        return self._replace(since=now, before=(self.candidate, self.stable), snapshots=())

    def _snapshot(self, now: int) -> Snapshot:
        candidate, stable = self.before
        return Snapshot(now, self.candidate.minus(candidate), self.stable.minus(stable))


class Invocations(NamedTuple):
    """Invocations that Lambda counted, by the start of their period in milliseconds since 1970.

    While the alias serves one version, Lambda may count its invocations for the alias alone. Before the first shift and
    during a pause at zero, that is the stable version. Only from ``alone_from`` on can it be the candidate.
    """

    candidate: dict[int, int]
    stable: dict[int, int]
    alias: dict[int, int]
    """All invocations through the alias."""
    period: int
    """Length of a period in milliseconds."""
    alone_from: int | None = None
    """When the candidate got all traffic, in milliseconds since 1970; None if it did not."""

    def until(self, at: int) -> tuple[int, int]:
        """Return the most invocations of the candidate and of the stable version that can have begun until a time."""
        candidate, stable = (
            sum(count for begun, count in series.items() if begun <= at) for series in (self.candidate, self.stable)
        )
        uncounted = {
            begun: max(0, count - self.candidate.get(begun, 0) - self.stable.get(begun, 0))
            for begun, count in self.alias.items()
            if begun <= at
        }
        of_candidate = sum(count for begun, count in uncounted.items() if self._may_be_of_candidate(begun, at))
        return candidate + of_candidate, stable + sum(uncounted.values())

    def _may_be_of_candidate(self, begun: int, at: int) -> bool:
        """Return whether invocations without a version can be of the candidate, in a period that began before ``at``.

        The period in which the candidate got all traffic counts as a whole: without it, a good rollout would lack the
        invocations after the shift. What the alias served between the first shift and this one has a version.
        """
        return self.alone_from is not None and self.alone_from <= at and begun + self.period > self.alone_from


class ReportCheck(NamedTuple):
    """Reports compared with Lambda's counts. By default, nothing limits them."""

    excess: str = ""
    """Sentence about reports that Lambda's counts contradict; empty if there are none."""
    unconfirmed: str = ""
    """Sentence about reports at the end of the last bake that Lambda's counts do not confirm yet; empty if none."""
    early: bool = True
    """Whether evidence for an early promotion is confirmed."""


def check_reports(
    reports: Reports,
    invocations: Invocations,
    revisions: tuple[str, str],
    per_invocation: float | None,
    now: int,
    words: Words,
) -> ReportCheck:
    """Compare the snapshots of reports with Lambda's counts.

    Parameters
    ----------
    revisions
        Versions of the candidate and of the stable revision.
    per_invocation
        As for ``Snapshot.limit``.
    now
        Time at which Lambda's counts were read, in milliseconds since 1970.
    words
        How sentences speak of the target.
    """
    found = [
        (each, list(_exceeding(each, invocations, revisions, per_invocation, words))) for each in reports.snapshots
    ]
    settled = [beyond for snapshot, beyond in found if snapshot.at <= now - SETTLED_MS]
    due = [beyond for snapshot, beyond in found if snapshot.due]
    excess, unconfirmed = "", ""
    if settled and settled[-1]:
        excess = (
            f"{' and '.join(settled[-1])}; check which roles have kinesis:PutRecord on the telemetry stream, or set "
            f"guards.outcomesPerInvocation if {words.one_counted} reports several outcomes"
        )
    if due and all(due):
        unconfirmed = f"CloudWatch has not confirmed the telemetry yet: {' and '.join(due[-1])}"
    return ReportCheck(excess, unconfirmed, any(snapshot.early and not beyond for snapshot, beyond in found))


def _exceeding(
    snapshot: Snapshot,
    invocations: Invocations,
    revisions: tuple[str, str],
    per_invocation: float | None,
    words: Words,
) -> Iterator[str]:
    """Yield a clause for each version that has more outcomes than its invocations can have."""
    limit = snapshot.limit(per_invocation)
    if limit is None:
        return
    arms = zip(revisions, (snapshot.candidate, snapshot.stable), invocations.until(snapshot.at), strict=True)
    for revision, reported, invoked in arms:
        if reported.total > limit * invoked * (1 + TOLERANCE) + 1:
            yield (
                f"telemetry reported {reported.total:,} requests of {words.of_revision}{revision}, "
                f"but {words.counter} counted {invoked:,}{words.counted}"
            )
