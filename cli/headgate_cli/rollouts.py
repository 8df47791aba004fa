"""Rollouts as commands name them: by id or target, by time, and how each ended as an exit code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import click

from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from click import Context, Parameter

    from headgate.history.model import DeploymentFigures, RolloutPage, RolloutSummary, RolloutView
    from headgate.rollouts.record import Status
    from headgate_cli.stack import Stack

EXIT = {"succeeded": 0, "rolled-back": 3, "refused": 4, "stopped": 5}
"""Exit codes of commands that wait for the end of a rollout, by its outcome."""

TIMED_OUT = 6
"""Exit code if the rollout has not ended in time."""

STATES = ("waiting", "accepted", "running", "paused", "succeeded", "rolled-back", "refused", "stopped")
"""Statuses of a rollout, as records and options spell them."""

IN_WORDS = {"succeeded": "promoted", "rolled-back": "rolled back"}
"""How people say a status, where that differs from the record."""

ELSEWHERE = "headgate list shows all, and headgate history TARGET those on a target"
"""Where an error about an unknown rollout sends the reader."""

SIMILAR = 3
"""Ids that an error suggests at most."""


class History(Protocol):
    """What commands read of rollouts: the part of ``headgate.history.store.History`` that tests stand in for."""

    def rollout(self, rollout_id: str) -> RolloutView | None:
        """Return a rollout with all that is on record."""

    def rollouts(
        self,
        *,
        target: str = "",
        states: Sequence[Status] = (),
        since: str = "",
        until: str = "",
        limit: int = 20,
        after: str | None = None,
    ) -> RolloutPage:
        """Return rollouts, newest first."""

    def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
        """Return what changes in rollouts that are underway."""

    def figures(self, since: str, until: str) -> DeploymentFigures:
        """Return the deployment figures of a period."""


def history_of(stack: Stack) -> History:
    """Return the read model of an installation."""
    from headgate.history import store

    return store.History(stack.client("dynamodb"), stack.table)


def page_of(history: History, **asked: Any) -> RolloutPage:
    """Return a page of rollouts. Options without a value are left out.

    Raises
    ------
    Failure
        If the token of the page is not valid.
    """
    from headgate.errors import RequestRefused

    check_after(asked.get("after"))
    try:
        return history.rollouts(**{name: value for name, value in asked.items() if value})
    except RequestRefused as refused:
        raise Failure(f"--{refused}") from None


def check_after(token: str | None) -> None:
    """Refuse a page token that no page has ended with: its first part is a time.

    Raises
    ------
    Failure
        If it is none.
    """
    from datetime import datetime

    if not token:
        return
    at, _, name = token.partition("#")
    try:
        datetime.fromisoformat(at)
    except ValueError:
        name = ""
    if not (name and at.startswith("20")):
        raise Failure(f"--after: must be the token that an earlier page ended with (given {_shown(token)})")


def find_rollout(history: History, rollout_id: str) -> RolloutView:
    """Return a rollout.

    Raises
    ------
    Failure
        If it is not on record. The message has the ids of recent rollouts that are most like it.
    """
    from headgate.ids import is_rollout_id

    # No other id can be on record, and the table refuses an empty or very long key.
    view = history.rollout(rollout_id) if is_rollout_id(rollout_id) else None
    if view is None:
        raise missing(history, rollout_id)
    return view


def named_for_reading(history: History, given: str) -> RolloutView:
    """Return the rollout with an id; or of a target the one that is underway, else the latest. It says which.

    Raises
    ------
    Failure
        If there is none.
    """
    key = target_key(given)
    if key is None:
        return find_rollout(history, given)
    for states in (("running", "paused", "accepted"), ("waiting",), ()):
        asked: Any = {"states": states} if states else {}
        if found := history.rollouts(target=key, limit=1, **asked).rollouts:
            chosen = found[0].id
            click.echo(f"{'Underway' if states else 'The latest'} on {given}: {chosen}", err=True)
            return find_rollout(history, chosen)
    # An id may look like an alias.
    if view := history.rollout(given):
        return view
    raise Failure(f"no rollout on {_shown(given)} is on record; headgate list shows those of all targets")


def missing(history: History, rollout_id: str) -> Failure:
    """Return the error for a rollout that is not on record."""
    recent = history.rollouts(limit=100).rollouts
    if near := similar(rollout_id, [each.id for each in recent]):
        return Failure(f"there is no rollout {_shown(rollout_id)}; did you mean {_either(near)}? {ELSEWHERE}")
    if recent:
        named = ", ".join(each.id for each in recent[:SIMILAR])
        return Failure(
            f"there is no rollout {_shown(rollout_id)}; the latest are {named}. {ELSEWHERE}. A record is kept for a "
            "limited time after the end"
        )
    return Failure(
        f"there is no rollout {_shown(rollout_id)}, and no other on record; check --stack, --region and --profile"
    )


def similar(given: str, known: list[str]) -> list[str]:
    """Return the texts that are most like another, best first."""
    from difflib import get_close_matches

    spelled = {each.lower(): each for each in reversed(known)}
    near = get_close_matches(given.lower(), spelled, n=SIMILAR, cutoff=0.6)
    holding = [each for each in spelled if given and given.lower() in each]
    return [spelled[each] for each in dict.fromkeys([*near, *holding])][:SIMILAR]


def _either(texts: list[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} or {last}" if others else last


def _shown(text: str) -> str:
    from headgate_cli.output import printable

    return printable(text if len(text) <= 128 else f"{text[:125]}...") or "with an empty id"


# Compiled at first use, since every command imports this module.
_ALIAS = r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:)?([a-zA-Z0-9-_]+):([a-zA-Z0-9-_]+)"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SERVICE = (
    r"(?:arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:service/)?"
    r"(?!lambda-alias/|event-source/)([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)"
)
_KEY = (
    r"(lambda-alias/[a-zA-Z0-9-_]+/[a-zA-Z0-9-_]+|event-source/[0-9a-f-]{36}|ecs-service/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+)"
)


def target_key(given: str) -> str | None:
    """Return the key of a target.

    A key is returned as it is. ``checkout:live`` or its ARN is an alias, the UUID of a mapping a consumer, and
    ``web/shop``, which is cluster and service, or its ARN an ECS service.

    None for any other text, which may be the id of a rollout.
    """
    if re.fullmatch(_KEY, given):
        return given
    if match := re.fullmatch(_ALIAS, given):
        return f"lambda-alias/{match[1]}/{match[2]}"
    if match := re.fullmatch(_SERVICE, given):
        return f"ecs-service/{match[1]}/{match[2]}"
    return f"event-source/{given.lower()}" if re.fullmatch(_UUID, given) else None


def target_of(history: History, given: str) -> str:
    """Return the key of a target that a person names: as ``target_key`` reads it, or by the id of a rollout on it.

    Raises
    ------
    Failure
        If it is neither.
    """
    from headgate.ids import is_rollout_id

    key = target_key(given)
    if key and history.rollouts(target=key, limit=1).rollouts:
        return key
    # An id may look like an alias.
    view = history.rollout(given) if is_rollout_id(given) else None
    if view is not None and view.target:
        return view.target
    if key:
        return key
    raise Failure(
        f"{_shown(given)} is neither a target nor the id of a rollout; give a target as checkout:live, "
        "as web/shop (cluster and service), by its key or the UUID of a consumer's mapping, or an id that headgate "
        "list shows"
    )


def exit_code(view: RolloutSummary) -> int:
    """Return the exit code of a command that waited for a rollout's end; ``TIMED_OUT`` if it has not ended."""
    return EXIT.get(view.status, TIMED_OUT)


_AGO = r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|min|m|h|d|w)"
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_in(text: str) -> float | None:
    """Return the seconds in a duration such as ``90s``, ``30m``, ``2h``, ``7d`` or ``1h30m``; None for other text."""
    parts = re.findall(_AGO, text.strip())
    if not parts or "".join(re.sub(_AGO, "", text.strip()).split()):
        return None
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


class Duration(click.ParamType):
    """A duration with its unit, in seconds: ``90s``, ``30m``, ``2h``, ``1h30m``.

    Parameters
    ----------
    or_none
        Whether ``0s``, or ``0``, is one.
    """

    name = "duration"

    def __init__(self, *, or_none: bool = False) -> None:
        self._or_none = or_none

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        seconds = 0.0 if self._or_none and value.strip() == "0" else seconds_in(value)
        if seconds is None or (seconds == 0 and not self._or_none):
            none = ", or 0s for none" if self._or_none else ""
            self.fail(f"must be a duration with its unit, such as 90s, 30m or 2h{none} (given {value})", param, ctx)
        return seconds


def in_words(status: str) -> str:
    """Return a status as people say it."""
    return IN_WORDS.get(status, status)


class State(click.Choice):
    """A status of a rollout as records spell it, or as people say it: ``promoted``, ``rolled back``."""

    name = "state"

    def __init__(self) -> None:
        super().__init__(STATES)

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        said = " ".join(str(value).split())
        return super().convert(next((status for status, word in IN_WORDS.items() if word == said), said), param, ctx)


class Moment(click.ParamType):
    """A time as in records (UTC, ISO 8601 with milliseconds), from a date, a time, or a duration before now."""

    name = "time"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> str:
        try:
            return moment(value)
        except ValueError:
            self.fail(
                "must be a date such as 2026-11-30, a time such as 2026-11-30T14:05 (UTC, or with its offset), or a "
                f"duration before now such as 30m, 2h or 7d (given {value})",
                param,
                ctx,
            )


def moment(text: str, now: datetime | None = None) -> str:
    """Return a time in the form of records. A date is its midnight in UTC; a duration counts back from ``now``.

    A time before 1970 or after 9000 becomes that limit: no record is outside, and calculations cannot overflow.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    from datetime import UTC, datetime, timedelta

    if (ago := seconds_in(text)) is not None:
        try:
            at = (now or datetime.now(UTC)) - timedelta(seconds=ago)
        except OverflowError:
            at = datetime(1, 1, 1, tzinfo=UTC)
    else:
        at = datetime.fromisoformat(text)
        try:
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except OverflowError as error:  # In the first or last hours of the calendar.
            raise ValueError(str(error)) from None
    at = min(max(at, datetime(1970, 1, 1, tzinfo=UTC)), datetime(9000, 1, 1, tzinfo=UTC))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
