"""The schedule: cleans the functions of a pattern, one after the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.cleanup.policy import Policy
from headgate.cleanup.schedule import ScheduledCleaning
from headgate.errors import Transient
from tests.builders import OWN
from tests.fakes.old_versions import OldVersions
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.cleanup.versions import Account, FunctionVersions


@pytest.fixture
def fake(lambda_client: Any, scaling_client: Any, metrics_client: Any) -> Iterator[OldVersions]:
    """Three functions with four versions, and one of Headgate's own."""
    fake = OldVersions("shop-a", "shop-b", "payroll", "headgate-warden", count=4)
    detach = [fake.attach(client) for client in (lambda_client, scaling_client, metrics_client)]
    yield fake
    for each in detach:
        each()


@pytest.fixture
def account(stock_of: Callable[[str], FunctionVersions], monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("headgate.cleanup.cleaner.PACE_SECONDS", 0)
    return stock_of("any")._account


def cleaning(account: Account, pattern: str = "*", keep: int = 2) -> ScheduledCleaning:
    return ScheduledCleaning(account, pattern, Policy(keep, 0), OWN)


def run(scheduled: ScheduledCleaning, may_go_on: Callable[[], bool] = lambda: True) -> dict[str, int]:
    return scheduled.clean(may_go_on, "headgate-cleaner")


def test_it_cleans_the_functions_of_its_pattern(fake: OldVersions, account: Account) -> None:
    assert run(cleaning(account, "shop-*")) == {"shop-a": 2, "shop-b": 2}
    assert fake.deleted == ["shop-a:1", "shop-a:2", "shop-b:1", "shop-b:2"]


def test_it_leaves_headgates_own_functions_out(fake: OldVersions, account: Account) -> None:
    assert set(run(cleaning(account))) == {"shop-a", "shop-b", "payroll"}


def test_it_counts_what_it_deleted_and_logs_each(
    fake: OldVersions, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cleaning(account, "payroll"))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (metric,) = [line for line in lines if "_aws" in line]
    assert metric["DeletedVersions"] == [2.0]
    assert metric["FunctionName"] == "headgate-cleaner"


def test_it_records_no_metric_where_nothing_was_deleted(
    fake: OldVersions, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cleaning(account, "payroll", keep=9)) == {}
    assert "_aws" not in capsys.readouterr().out


def test_a_fault_in_one_function_does_not_keep_the_others_from_being_cleaned(
    fake: OldVersions, account: Account
) -> None:
    fake.refusals["shop-a:1"] = Refusal("ResourceConflictException", "in use")

    def interrupt(name: str, when: str) -> None:
        if name == "ListAliases" and when == "before" and fake.deleted == ["shop-a:2"] and not interrupt.done:  # type: ignore[attr-defined]
            interrupt.done = True  # type: ignore[attr-defined]
            raise Refusal("AccessDeniedException", "not allowed")

    interrupt.done = False  # type: ignore[attr-defined]
    fake.interrupt = interrupt

    with pytest.raises(Transient, match="could not be cleaned") as error:
        run(cleaning(account))

    assert fake.deleted == ["shop-a:2", "payroll:1", "payroll:2"]
    assert "shop-a: version 1: Lambda refused: ResourceConflictException: in use" in str(error.value)
    assert "shop-b: An error occurred (AccessDeniedException)" in str(error.value)


def test_it_leaves_the_rest_to_the_next_day_when_its_time_is_up(fake: OldVersions, account: Account) -> None:
    assert run(cleaning(account), may_go_on=lambda: not fake.deleted) == {"shop-a": 1}
    assert fake.deleted == ["shop-a:1"]


def test_a_function_that_is_throttled_is_a_fault(
    fake: OldVersions, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled: Any = {"Error": {"Code": "TooManyRequestsException", "Message": "Rate Exceeded"}}

    def remove(_stock: object, _version: str) -> None:
        raise ClientError(throttled, "DeleteFunction")

    monkeypatch.setattr("headgate.cleanup.versions.FunctionVersions.remove", remove)

    with pytest.raises(Transient, match="payroll: AWS throttles calls"):
        run(cleaning(account, "payroll"))
