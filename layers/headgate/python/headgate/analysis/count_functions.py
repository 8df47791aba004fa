"""Counts from functions per revision and minute, for guards that name a function instead of metrics.

A function is asked for the same minutes as CloudWatch, and its counts grow and are judged as those of CloudWatch do
(``cloudwatch_counts.count_points``). Whatever a function does wrong is no data for this look: it is logged, and a
verdict that lacks data names it. docs/count-functions.md has the contract.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from headgate.analysis.cloudwatch_counts import MAX_PER_MINUTE, MINUTE_MS, Points, oldest_read
from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.aws.errors import code_of, message_of
from headgate.aws.observability import logger
from headgate.hook import error_in
from headgate.spec.guards import CountGuard
from headgate.wire import Wire, explain, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_lambda import LambdaClient

    from headgate.spec.plan import Plan
    from headgate.spec.routing import RevisionArm


CONTRACT_VERSION = 1

ANSWER_SECONDS = 10
"""How long a function may take to answer."""

BEGIN_SECONDS = 15
"""Seconds in which all questions of one look must begin; a question that waited longer is not asked. So a look takes at
most this, 3 seconds to connect, and ``ANSWER_SECONDS``: less than the timeout of the functions that look."""

AT_ONCE = 16
"""Functions asked side by side. A rollout has at most 10."""

MAX_ANSWER_BYTES = 64 * 1024
"""An answer for 20 minutes has about 3 KB."""

MAX_FAULT_CHARACTERS = 600

_TEMPORARY_CODES = (
    "TooManyRequestsException",
    "ServiceException",
    "ServiceUnavailableException",
    # Lambda makes the function ready: it was idle for weeks, or has just been deployed.
    "CodeArtifactUserPendingException",
    "ResourceConflictException",
    "ResourceNotReadyException",
    "SnapStartNotReadyException",
    "ENINotReadyException",
    "EC2ThrottledException",
)
"""Error codes of Lambda that say nothing about the function.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""


class CountFault(Exception):  # noqa: N818 - it is no error of Headgate's
    """A function has no counts for this look. The message continues its name.

    Attributes
    ----------
    temporary
        Whether the function was not reached, and may be soon.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class Question(NamedTuple):
    """What one guard's function is asked."""

    rollout_id: str
    number: int
    """Place of the guard among the custom guards."""
    function: str
    since: int
    """Start of the first minute, in milliseconds since 1970."""
    until: int
    """End of the last minute."""
    event: dict[str, Any]

    @property
    def measure(self) -> str:
        """Key of the guard's measure."""
        return f"custom{self.number}"

    def fault(self, reason: object) -> str:
        """Return a sentence about a question without a usable answer, short enough for a verdict."""
        told = f"guards.custom[{self.number}].counts: {self.function} {reason}"
        return told if len(told) <= MAX_FAULT_CHARACTERS else f"{told[: MAX_FAULT_CHARACTERS - 3]}..."


class FunctionCounts(NamedTuple):
    """What the functions of one rollout counted."""

    points: Points
    faults: dict[str, str]
    """A sentence for each function without counts for this look, by the key of the guard's measure."""


class CountFunctions:
    """Asks functions for counts.

    Parameters
    ----------
    functions
        A Lambda client that waits ``ANSWER_SECONDS``, does not retry, and has ``AT_ONCE`` connections.
    """

    def __init__(self, functions: LambdaClient) -> None:
        self._functions = functions

    def read(self, rollouts: Sequence[tuple[Plan, Mapping[RevisionArm, str]]], now: int) -> dict[str, FunctionCounts]:
        """Read the counts of complete minutes by rollout id.

        Parameters
        ----------
        rollouts
            Plans, and the revision of each arm.
        now
            In milliseconds since 1970.
        """
        found = {plan.rollout_id: FunctionCounts({}, {}) for plan, _ in rollouts}
        questions = [each for plan, revisions in rollouts for each in questions_of(plan, revisions, now)]
        for question, answer in self.ask(questions, turn=now // MINUTE_MS):
            counts = found[question.rollout_id]
            if isinstance(answer, CountFault):
                counts.faults[question.measure] = question.fault(answer)
                logger.warning(
                    "a function did not count", rollout_id=question.rollout_id, reason=question.fault(answer)
                )
            else:
                new = {(minute, question.measure): pair for minute, pair in answer.items() if pair != Pair()}
                counts.points.update(new)
        return found

    def ask(self, questions: list[Question], *, turn: int = 0) -> list[tuple[Question, dict[int, Pair] | CountFault]]:
        """Ask side by side. Return each question with its counts by minute, or why there are none.

        Parameters
        ----------
        turn
            A number that rises from look to look, so that each question comes first in its turn.
        """
        if not questions:
            return []
        first = turn % len(questions)
        # A rollout with many guards whose functions are slow must not use up the time of the others, and slow functions
        # must not use it up in every look.
        fair = sorted(questions[first:] + questions[:first], key=lambda question: question.number)
        # The client is made here: threads must not make it at the same time.
        ask = partial(self._counts_or_fault, self._functions.invoke, monotonic() + BEGIN_SECONDS)
        with ThreadPoolExecutor(min(AT_ONCE, len(fair))) as pool:
            return list(zip(fair, pool.map(ask, fair), strict=True))

    def _counts_or_fault(self, invoke: Any, begin_by: float, question: Question) -> dict[int, Pair] | CountFault:
        if monotonic() > begin_by:
            return CountFault(f"was not asked, because other functions took {BEGIN_SECONDS} s")
        try:
            return counts_in(_answer_of(invoke, question), question.since, question.until)
        except CountFault as fault:
            return fault


def questions_of(plan: Plan, revisions: Mapping[RevisionArm, str], now: int) -> Iterator[Question]:
    """Yield the question for each guard with a function, about the minutes that are read at a time.

    Parameters
    ----------
    now
        In milliseconds since 1970. The minute that it is in is not complete, and left out.
    """
    since, until = oldest_read(now), now // MINUTE_MS * MINUTE_MS
    for number, guard in enumerate(plan.guards.custom):
        if isinstance(guard, CountGuard):
            event = {
                "version": CONTRACT_VERSION,
                "rolloutId": plan.rollout_id,
                "target": plan.target.to_wire(),
                "guard": guard.name,
                "revisions": dict(revisions),
                "from": _iso(since),
                "to": _iso(until),
                "minutes": (until - since) // MINUTE_MS,
                "config": guard.counts.config,
            }
            yield Question(plan.rollout_id, number, guard.counts.lambda_, since, until, event)


def _answer_of(invoke: Any, question: Question) -> bytes:
    """Invoke a function and return what it answered. Raise CountFault if it did not, or if it failed."""
    try:
        response = invoke(FunctionName=question.function, Payload=json.dumps(question.event).encode())
        answer: bytes = response["Payload"].read(MAX_ANSWER_BYTES + 1)
    except ReadTimeoutError:
        raise CountFault(f"did not answer within {ANSWER_SECONDS} s") from None
    except ClientError as error:
        told = f"cannot be called: {code_of(error)}: {message_of(error)}"
        raise CountFault(told, temporary=code_of(error) in _TEMPORARY_CODES) from None
    except BotoCoreError as error:
        raise CountFault(f"cannot be called: {error}", temporary=True) from None
    if "FunctionError" in response:
        raise CountFault(f"failed with {error_in(question.function, answer.decode(errors='replace'))}")
    return answer


def _iso(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


# The answer


def _milliseconds_of(minute: Any) -> int:
    """Return the start of a minute in milliseconds since 1970."""
    try:
        start = datetime.fromisoformat(minute)
        # Without a time zone, it could be any time. Near the years 1 and 9999, it may have none in UTC.
        seconds = start.astimezone(UTC).timestamp() if start.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        seconds = None
    if seconds is None or seconds % 60:
        raise ValueError("must be the start of a minute, such as 2026-12-01T08:15:00Z")
    return int(seconds) * 1000


Count = Annotated[int, Field(strict=True, ge=0, le=MAX_PER_MINUTE)]


class ArmCounts(Wire):
    """Counts of one revision in one minute."""

    requests: Count
    """Requests that the revision got."""
    failures: Count
    """Those of them that failed."""

    @model_validator(mode="after")
    def _of_the_requests(self) -> ArmCounts:
        if self.failures > self.requests:
            raise ValueError("has more failures than requests")
        return self


class MinuteCounts(Wire):
    """Counts of both revisions in one minute."""

    minute: Annotated[int, BeforeValidator(_milliseconds_of)]
    """Start of the minute in ISO 8601 with a time zone."""
    candidate: ArmCounts
    """Counts of the candidate."""
    stable: ArmCounts
    """Counts of the stable revision."""


class CountAnswer(Wire):
    """Answer of a count function."""

    minutes: list[MinuteCounts]
    """Counts by minute. A minute that is left out has no counts yet."""


def counts_in(answer: bytes, since: int, until: int) -> dict[int, Pair]:
    """Read an answer strictly: counts by minute, in milliseconds since 1970.

    Parameters
    ----------
    since, until
        Start of the first minute that was asked for and end of the last one, in milliseconds since 1970.

    Raises
    ------
    CountFault
        If anything in the answer is not as documented. The message names the field, its value and what is expected.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        raise CountFault(f"answered more than {MAX_ANSWER_BYTES // 1024} KB")
    try:
        data = json.loads(answer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise CountFault(f"answered what is not JSON: {shown_value(answer.decode(errors='replace'))}") from None
    if not isinstance(data, dict):
        raise CountFault(f"answered what is no object: {shown_value(data)}")
    try:
        read = CountAnswer.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise CountFault(f"answered what is no count: {explain(error, CountAnswer)}") from None
    counts: dict[int, Pair] = {}
    for number, each in enumerate(read.minutes):
        if not since <= each.minute < until:
            told = f"is outside the minutes from {_iso(since)} to {_iso(until)}"
        elif each.minute in counts:
            told = "is there twice"
        else:
            told = ""
            counts[each.minute] = Pair(_arm(each.candidate), _arm(each.stable))
        if told:
            raise CountFault(f"answered what is no count: minutes[{number}].minute: {told} ({_iso(each.minute)})")
    return counts


def _refuse_constant(name: str) -> Any:
    """Refuse NaN and Infinity, which Python reads though JSON does not have them."""
    raise ValueError(name)


def _arm(counts: ArmCounts) -> Arm:
    return Arm(counts.requests, counts.failures)
