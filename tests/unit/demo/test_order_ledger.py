"""A ledger of tries tells which orders were lost, seen twice or out of order, however they came."""

import random

from hypothesis import given
from hypothesis import strategies as st

from demo.order_ledger import Try, account_of


def entered(*tries: tuple[int, str, bool]) -> list[Try]:
    """Tries one second after the other: number, group, whether it went well."""
    return [Try(number, group, float(at), "1", ok) for at, (number, group, ok) in enumerate(tries)]


def test_an_order_that_was_only_failed_on_is_lost() -> None:
    account = account_of([1, 2, 3], entered((1, "a", True), (2, "a", False)))
    assert (account.processed, account.lost, account.failed) == (1, [2, 3], 1)


def test_an_order_that_failed_and_was_processed_later_is_not_lost() -> None:
    account = account_of([1], entered((1, "a", False), (1, "a", False), (1, "a", True)))
    assert (account.lost, account.failed, account.twice) == ([], 1, 0)


def test_an_order_that_came_again_is_seen_twice_and_in_order_still() -> None:
    account = account_of([1, 3], entered((1, "a", True), (3, "a", True), (1, "a", True), (1, "a", True)))
    assert (account.twice, account.out_of_order) == (1, [])


def test_an_order_first_processed_after_a_later_one_of_its_group_is_out_of_order() -> None:
    account = account_of([1, 2, 3], entered((1, "a", False), (3, "a", True), (2, "b", True), (1, "a", True)))
    assert account.out_of_order == [1]


def test_groups_do_not_wait_for_each_other() -> None:
    assert account_of([1, 2], entered((2, "b", True), (1, "a", True))).out_of_order == []


def test_what_the_source_had_given_up_has_lost_its_place_already() -> None:
    tries = [Try(3, "a", 1.0, "1", ok=True), Try(1, "a", 2.0, "1", ok=True, again=True)]
    account = account_of([1, 3], tries)
    assert (account.again, account.out_of_order, account.lost) == (1, [], [])


def test_an_order_that_nobody_sent_is_told_of() -> None:
    assert account_of([1], entered((1, "a", True), (9, "a", False))).unknown == [9]


def test_a_source_that_promises_no_order_is_not_asked_for_one() -> None:
    account = account_of([1, 2], entered((2, "a", True), (1, "a", True)))
    assert account.to_summary(ordered=False)["outOfOrder"] is None
    assert account.to_summary(ordered=True)["outOfOrder"] == [1]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40), st.randoms(use_true_random=False))
def test_the_account_does_not_depend_on_how_a_scan_gives_the_entries(
    tries: list[tuple[int, bool]], shuffled: random.Random
) -> None:
    ledger = entered(*((number, f"g{number % 2}", ok) for number, ok in tries))
    mixed = shuffled.sample(ledger, len(ledger))
    assert account_of(range(1, 10), mixed) == account_of(range(1, 10), ledger)


@given(st.lists(st.integers(1, 9), max_size=40))
def test_every_order_that_was_sent_is_either_processed_or_lost(numbers: list[int]) -> None:
    account = account_of(range(1, 10), entered(*((number, "a", number % 3 > 0) for number in numbers)))
    assert account.processed + len(account.lost) == account.sent
    assert set(account.lost) == set(range(1, 10)) - {number for number in numbers if number % 3}
