"""How commands name rollouts, targets and times."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from headgate_cli.failures import Failure
from headgate_cli.rollouts import Moment, find_rollout, moment, seconds_in, similar, target_key, target_of
from tests.unit.cli.played import PlayedHistory
from tests.views import view_of

NOW = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)
MAPPING = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-30", "2026-11-30T00:00:00.000Z"),
        ("2026-11-30T14:05", "2026-11-30T14:05:00.000Z"),
        ("2026-11-30T14:05:10.5Z", "2026-11-30T14:05:10.500Z"),
        ("2026-11-30T14:05:00+01:00", "2026-11-30T13:05:00.000Z"),
        ("90s", "2026-11-30T14:03:30.000Z"),
        ("30m", "2026-11-30T13:35:00.000Z"),
        ("30min", "2026-11-30T13:35:00.000Z"),
        ("2h", "2026-11-30T12:05:00.000Z"),
        ("1h30m", "2026-11-30T12:35:00.000Z"),
        ("7d", "2026-11-23T14:05:00.000Z"),
        ("0001-01-01", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31", "9000-01-01T00:00:00.000Z"),
        ("2w", "2026-11-16T14:05:00.000Z"),
        ("99999999d", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_is_a_date_a_time_or_a_duration_before_now(given: str, expected: str) -> None:
    assert moment(given, NOW) == expected


@pytest.mark.parametrize(
    "given", ["", "soon", "7", "7 days ago", "2026-13-01", "14:05", "0001-01-01T00:00+14:00", "-2h"]
)
def test_any_other_time_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="must be a date such as 2026-11-30, a time such as"):
        Moment().convert(given, None, None)


@pytest.mark.parametrize(("given", "seconds"), [("90s", 90), ("1h 30m", 5400), ("0.5h", 1800), ("h", None), ("", None)])
def test_a_duration_has_a_unit(given: str, seconds: float | None) -> None:
    assert seconds_in(given) == seconds


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("checkout:live", "lambda-alias/checkout/live"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:checkout:live", "lambda-alias/checkout/live"),
        ("lambda-alias/checkout/live", "lambda-alias/checkout/live"),
        (MAPPING, f"event-source/{MAPPING}"),
        (MAPPING.upper(), f"event-source/{MAPPING}"),
        (f"event-source/{MAPPING}", f"event-source/{MAPPING}"),
        ("checkout-42", None),
        ("web/shop", "ecs-service/web/shop"),
        ("arn:aws:ecs:eu-central-1:123456789012:service/web/shop", "ecs-service/web/shop"),
        ("ecs-service/web/shop", "ecs-service/web/shop"),
        # What a deployment of a stack is called: stack, resource and request.
        ("orders/Rollout/1a2b3c4d", None),
        ("arn:aws:ecs:eu-central-1:123456789012:service/shop", None),
        ("", None),
    ],
)
def test_a_target_has_short_names(given: str, key: str | None) -> None:
    assert target_key(given) == key


def test_a_target_may_be_named_by_a_rollout_on_it() -> None:
    history = PlayedHistory(view_of())

    assert target_of(history, "checkout-42") == "lambda-alias/checkout/live"
    assert target_of(history, "checkout:live") == "lambda-alias/checkout/live"
    assert target_of(history, "never:seen") == "lambda-alias/never/seen"


def test_an_id_that_looks_like_an_alias_is_taken_as_an_id() -> None:
    assert target_of(PlayedHistory(view_of("release:42")), "release:42") == "lambda-alias/checkout/live"


def test_a_target_that_is_none_is_refused_with_its_forms() -> None:
    with pytest.raises(Failure, match="checkout is neither a target nor the id of a rollout; give a target as"):
        target_of(PlayedHistory(view_of()), "checkout")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("checkout-43", "there is no rollout checkout-43; did you mean checkout-42?"),
        ("42", "there is no rollout 42; did you mean checkout-42?"),
        (
            "zzz",
            "there is no rollout zzz; the latest are checkout-42. headgate list shows all, and headgate history TARGET",
        ),
        ("\x1b[31mred", "there is no rollout ?[31mred; the latest are"),
        ("", "there is no rollout with an empty id; the latest are"),
        ("x" * 200, f"there is no rollout {'x' * 125}...; the latest are"),
    ],
)
def test_a_rollout_that_does_not_exist_is_refused_with_recent_ids(given: str, message: str) -> None:
    with pytest.raises(Failure) as refused:
        find_rollout(PlayedHistory(view_of()), given)

    assert refused.value.message.startswith(message)


def test_without_any_rollout_the_stack_is_in_doubt() -> None:
    with pytest.raises(Failure, match="no rollout checkout-42, and no other on record; check --stack, --region"):
        find_rollout(PlayedHistory(), "checkout-42")


def test_the_most_similar_ids_come_first() -> None:
    assert similar("checkout-42", ["orders-1", "checkout-4", "checkout-422"]) == ["checkout-422", "checkout-4"]
