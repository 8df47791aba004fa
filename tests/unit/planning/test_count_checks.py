"""Functions that count are asked before the rollout starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError

from headgate.analysis.count_functions import CountFunctions
from headgate.analysis.ledger_store import now_ms
from headgate.aws.patterns import Patterns
from headgate.errors import RequestRefused, Transient
from headgate.planning.count_checks import CountChecks
from tests.builders import ACCOUNT, OWN, REGION, plan_of
from tests.fakes.cloudwatch import FIVE_MINUTES
from tests.fakes.services import FakeLambda, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.plan import Plan

REVISIONS: Any = {"candidate": "1", "stable": "1"}


@pytest.fixture
def shop() -> FakeLambda:
    return FakeLambda()


@pytest.fixture
def checks(shop: FakeLambda) -> Iterator[CountChecks]:
    client = boto3.client("lambda", region_name=REGION)
    detach = shop.attach(client)
    yield CountChecks(CountFunctions(client), OWN, Patterns({"CountFunctions": "shop-*"}))
    detach()


def guarded(*functions: str) -> Plan:
    custom = [{"name": name, "counts": {"lambda": name}} for name in functions]
    return plan_of(strategy=FIVE_MINUTES, guards={"custom": custom})


@pytest.mark.parametrize(
    "name",
    [
        "shop-counts",
        "shop-counts:live",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shop-counts",
        "headgate-prometheus-counter",
        f"{ACCOUNT}:function:headgate-prometheus-counter",
    ],
)
def test_a_function_that_the_parameter_covers_and_headgates_own_counter_may_count(
    checks: CountChecks, name: str
) -> None:
    checks.refuse_forbidden(guarded(name).guards)


def test_a_function_that_the_parameter_does_not_cover_is_refused_by_its_name(checks: CountChecks) -> None:
    with pytest.raises(RequestRefused) as refused:
        checks.refuse_forbidden(guarded("shop-counts", "payroll").guards)
    assert str(refused.value).startswith(
        'guards.custom[1].counts: payroll is not covered by Headgate\'s parameter CountFunctions, which is "shop-*"'
    )


@pytest.mark.parametrize("name", ["headgate-publisher", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-judge"])
def test_headgates_other_functions_do_not_count(checks: CountChecks, name: str) -> None:
    with pytest.raises(RequestRefused, match="own functions; name a function of yours, or headgate-prometheus-counter"):
        checks.refuse_forbidden(guarded(name).guards)


def test_a_function_that_answers_is_asked_once_about_the_past_minutes(checks: CountChecks, shop: FakeLambda) -> None:
    shop.others["shop-counts"] = lambda _: {"minutes": []}
    checks.refuse_what_does_not_count(guarded("shop-counts"), REVISIONS, now_ms())
    (event,) = shop.asked
    assert (event["minutes"], event["revisions"]) == (20, REVISIONS)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"minute": []}, "answered what is no count: minutes: is missing; add it; minute: is not a known field; did"),
        (ValueError("a secret"), "failed with ValueError; see the logs of shop-counts"),
    ],
)
def test_a_function_that_does_not_count_is_refused_with_what_it_answered(
    checks: CountChecks, shop: FakeLambda, answer: Any, told: str
) -> None:
    shop.others = {"shop-sound": lambda _: {"minutes": []}, "shop-counts": answer}
    if isinstance(answer, dict):
        shop.others["shop-counts"] = lambda _: answer
    with pytest.raises(RequestRefused) as refused:
        checks.refuse_what_does_not_count(guarded("shop-sound", "shop-counts"), REVISIONS, now_ms())
    assert str(refused.value).startswith(f"guards.custom[1].counts: shop-counts {told}")


def test_a_function_that_does_not_exist_is_refused(checks: CountChecks) -> None:
    with pytest.raises(RequestRefused, match=r"guards\.custom\[0\]\.counts: shop-counts cannot be called: ResourceNot"):
        checks.refuse_what_does_not_count(guarded("shop-counts"), REVISIONS, now_ms())


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Refusal("TooManyRequestsException"), "TooManyRequestsException"),
        (Refusal("ServiceException", status=500), "ServiceException"),
        (Refusal("CodeArtifactUserPendingException"), "CodeArtifactUserPendingException"),
        (ConnectTimeoutError(endpoint_url="there"), "Connect timeout"),
    ],
)
def test_where_lambda_cannot_say_now_the_machine_asks_again(
    checks: CountChecks, shop: FakeLambda, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    def refuse(**_: Any) -> Any:
        raise failure

    monkeypatch.setattr(shop, "Invoke", refuse)
    with pytest.raises(Transient, match=f"shop-counts cannot be called: {told}"):
        checks.refuse_what_does_not_count(guarded("shop-counts"), REVISIONS, now_ms())
