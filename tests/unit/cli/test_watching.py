"""Following a rollout: how often it looks, what ends it, and a lost connection."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from headgate.history.model import Comparison, Counts
from headgate_cli.failures import Failure
from headgate_cli.rollouts import exit_code
from headgate_cli.watching import GONE_AFTER, LONGEST_SECONDS, Sight, follow, may_pass
from tests.unit.cli.played import Clock, PlayedHistory, times
from tests.views import view_of

NO_NETWORK = EndpointConnectionError(endpoint_url="https://dynamodb.eu-central-1.amazonaws.com")
ENDED = view_of(status="succeeded", phase=None, ended_at="2026-11-30T14:01:00.000Z")


def counted(requests: int) -> Comparison:
    return Comparison(
        measure="errors", label="errors", candidate=Counts(requests=requests), stable=Counts(), value=1, limit=100
    )


def followed(history: PlayedHistory, clock: Clock | None = None, timeout: float | None = None) -> list[Sight]:
    clock = clock or Clock()
    return list(follow(history, "checkout-42", timeout=timeout, wait=clock.wait, clock=clock))


def test_a_watch_ends_with_the_rollout() -> None:
    sights = followed(PlayedHistory(view_of(), view_of(step=1), ENDED))

    assert [sight.view.status for sight in sights] == ["running", "running", "succeeded"]
    assert exit_code(sights[-1].view) == 0


def test_a_rollout_that_has_ended_is_looked_at_once() -> None:
    history = PlayedHistory(ENDED)

    assert len(followed(history)) == 1
    assert (history.whole, history.lives) == (1, 0)


def test_counts_alone_need_no_whole_view() -> None:
    bakes = times(10, lambda number: view_of(comparisons=[counted(number)], warnings=["kept"]))
    history = PlayedHistory(*bakes, ENDED)
    sights = followed(history)

    assert [sight.view.comparisons[0].candidate.requests for sight in sights[:-1]] == list(range(10))
    assert {tuple(sight.view.warnings) for sight in sights[:-1]} == {("kept",)}
    assert (history.whole, history.lives) == (2, 10)


def test_a_whole_view_is_read_again_after_a_while() -> None:
    history = PlayedHistory(*times(40, lambda _: view_of()), ENDED)
    followed(history)

    assert history.whole == 1 + 2 + 1


def test_a_rollout_that_waits_for_a_person_is_looked_at_less_often() -> None:
    clock = Clock()
    followed(PlayedHistory(view_of(status="paused", phase="paused"), view_of(), ENDED), clock)

    assert clock.waits == [3, 1]


def test_a_lost_connection_is_told_and_survived() -> None:
    clock = Clock()
    sights = followed(PlayedHistory(view_of(), *[NO_NETWORK] * 6, view_of(), ENDED), clock)

    assert [bool(sight.lost) for sight in sights] == [False, *[True] * 6, False, False]
    assert "AWS cannot be reached" in sights[1].lost
    assert sights[1].view == sights[0].view
    assert clock.waits == [1, 2, 4, 8, 16, LONGEST_SECONDS, LONGEST_SECONDS, 1]


def test_a_failure_that_does_not_pass_ends_it() -> None:
    with pytest.raises(Failure, match=r"there are no credentials .* The rollout goes on; headgate watch checkout-42"):
        followed(PlayedHistory(view_of(), NoCredentialsError()))


def test_the_time_can_be_limited() -> None:
    clock = Clock()
    sights = followed(PlayedHistory(view_of()), clock, timeout=2.5)

    assert clock.waits == [1, 1, 0.5]
    assert exit_code(sights[-1].view) == 6


def test_a_rollout_that_does_not_exist_is_an_error_with_near_ids() -> None:
    history = PlayedHistory(view_of("checkout-41"), others=[view_of("orders-7"), view_of("Checkout-43")])

    with pytest.raises(Failure, match="there is no rollout checkout-42; did you mean Checkout-43 or checkout-41"):
        followed(history)


def test_a_record_that_is_gone_ends_the_watch() -> None:
    gone = view_of("another")
    history = PlayedHistory(view_of(), *[gone] * GONE_AFTER)

    with pytest.raises(Failure, match="rollout checkout-42 is no longer on record"):
        followed(history)


def answered(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Query",
    )


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (NO_NETWORK, True),
        (ReadTimeoutError(endpoint_url="https://dynamodb"), True),
        (answered("ThrottlingException"), True),
        (answered("ProvisionedThroughputExceededException"), True),
        (answered("InternalServerError", 500), True),
        (answered("AccessDeniedException"), False),
        (answered("ExpiredTokenException"), False),
        (ValueError("a fault"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes
