"""``headgate stop-traffic`` and ``headgate restore-traffic``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import jsonschema
import pytest
from botocore.exceptions import ClientError

from headgate_cli import confirmation
from headgate_cli.failures import Failure
from headgate_cli.kill_switch import TAG, Stop, refused
from headgate_cli.stack import Stack
from tests.builders import ACCOUNT, REGION, ROOT
from tests.fakes.services import Refusal
from tests.unit.cli.installations import LAMBDA, Installation, PlayedStack, Ran, played, run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = json.loads((ROOT / "docs/schemas/headgate-stop-traffic.json").read_text("utf-8"))
SINCE = "2026-11-30T11:12:00.000Z"


@pytest.fixture
def installation() -> Installation:
    made = Installation()
    made.function("shop-cart", "6", "7", live="7", blue="6")
    return made


@pytest.fixture(autouse=True)
def stack(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedStack]:
    for made in played(installation):
        for name in ("client", "session"):
            monkeypatch.setattr(Stack, name, getattr(made, name))
        yield made


def run(*words: str, typed: str = "") -> Ran:
    return run_command(*words, typed=typed)


def switched(*words: str) -> dict[str, Any]:
    result = run(*words, "--yes", "--format", "json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(answer)
    return answer


def remembered(installation: Installation) -> str | None:
    return installation.tags.get("shop-cart", {}).get(TAG)


@pytest.mark.parametrize("before", [None, 1, 50])
def test_what_was_set_is_remembered_and_put_back_exactly(installation: Installation, before: int | None) -> None:
    if before is not None:
        installation.reserved["shop-cart"] = before
    stopped = switched("stop-traffic", "shop-cart")
    assert (stopped["outcome"], stopped["reservedNow"], stopped.get("reservedBefore")) == ("stopped", 0, before)
    assert installation.reserved["shop-cart"] == 0
    assert remembered(installation) == f"reserved={before or 'none'} since={stopped['stoppedAt']}"

    restored = switched("restore-traffic", "shop-cart")
    assert (restored["outcome"], restored.get("reservedNow")) == ("restored", before)
    assert installation.reserved.get("shop-cart") == before
    assert remembered(installation) is None


def test_it_is_remembered_before_anything_changes(installation: Installation) -> None:
    switched("stop-traffic", "shop-cart")
    changes = [name for name in installation.called if name.startswith(("Put", "Tag"))]
    assert changes == ["TagResource", "PutFunctionConcurrency"]
    switched("restore-traffic", "shop-cart")
    changes = [name for name in installation.called if name.startswith(("Delete", "Untag"))]
    assert changes == ["DeleteFunctionConcurrency", "UntagResource"]


def test_a_second_stop_remembers_what_the_first_one_has_found(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    first = switched("stop-traffic", "shop-cart")
    second = switched("stop-traffic", "shop-cart")
    assert (second["outcome"], second["reservedBefore"]) == ("already-stopped", 50)
    assert second["stoppedAt"] == first["stoppedAt"]
    assert installation.called.count("PutFunctionConcurrency") == 1
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 50


@pytest.mark.parametrize("before", [None, 50])
def test_a_stop_that_died_in_between_is_finished(installation: Installation, before: int | None) -> None:
    # The tag was written, and the concurrency was not changed.
    installation.tags["shop-cart"] = {TAG: Stop(before, SINCE).tag}
    if before is not None:
        installation.reserved["shop-cart"] = before
    assert switched("stop-traffic", "shop-cart").get("reservedBefore") == before
    assert switched("restore-traffic", "shop-cart").get("reservedNow") == before


@pytest.mark.parametrize("now", [None, 1])
def test_what_an_earlier_stop_remembers_is_not_overwritten(installation: Installation, now: int | None) -> None:
    installation.tags["shop-cart"] = {TAG: Stop(50, SINCE).tag}
    if now is not None:
        installation.reserved["shop-cart"] = now
    result = run("stop-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert f"remembers a reserved concurrency of {50}; only one can be remembered" in result.output
    assert result.output.count("--forget") == 2
    assert (installation.reserved.get("shop-cart"), remembered(installation)) == (now, Stop(50, SINCE).tag)

    assert switched("stop-traffic", "shop-cart", "--forget").get("reservedBefore") == now
    assert switched("restore-traffic", "shop-cart").get("reservedNow") == now


@pytest.mark.parametrize(
    "error",
    [
        Refusal("ServiceException", "internal error", 500),
        Refusal("TooManyRequestsException", "Rate Exceeded", 429),
    ],
)
def test_what_was_set_is_remembered_where_the_effect_is_not_known(installation: Installation, error: Refusal) -> None:
    installation.reserved["shop-cart"] = 50
    installation.answers_after["PutFunctionConcurrency"] = error
    result = run("stop-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "it is not known whether shop-cart is stopped" in result.output
    assert "a reserved concurrency of 50) is remembered" in result.output

    del installation.answers_after["PutFunctionConcurrency"]
    assert switched("stop-traffic", "shop-cart")["outcome"] == "already-stopped"
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 50


@pytest.mark.parametrize(
    ("answer", "certain"),
    [
        ({"HTTPStatusCode": 403}, True),
        ({"HTTPStatusCode": 400, "RetryAttempts": 0}, True),
        # The attempt before may have had its effect.
        ({"HTTPStatusCode": 409, "RetryAttempts": 1}, False),
        ({"HTTPStatusCode": 429}, False),
        ({"HTTPStatusCode": 500}, False),
        ({}, False),
    ],
)
def test_only_the_refusal_of_a_first_attempt_is_certain(answer: Any, certain: bool) -> None:
    error = ClientError({"Error": {}, "ResponseMetadata": answer}, "PutFunctionConcurrency")
    assert refused(error) == certain


def test_a_denied_stop_takes_back_only_what_it_wrote(installation: Installation) -> None:
    installation.tags["shop-cart"] = {TAG: Stop(50, SINCE).tag}
    installation.reserved["shop-cart"] = 1
    installation.denied.add("PutFunctionConcurrency")
    with pytest.raises(ClientError):
        run("stop-traffic", "shop-cart", "--yes", "--forget")
    assert remembered(installation) == Stop(50, SINCE).tag

    # Another stop has written its own in between.
    other = Stop(1, SINCE).tag
    installation.meanwhile["PutFunctionConcurrency"] = lambda: installation.tags["shop-cart"].update({TAG: other})
    with pytest.raises(ClientError):
        run("stop-traffic", "shop-cart", "--yes", "--forget")
    assert remembered(installation) == other


def test_a_restore_does_not_forget_what_another_stop_remembers(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    other = Stop(7, SINCE).tag
    installation.meanwhile["PutFunctionConcurrency"] = lambda: installation.tags["shop-cart"].update({TAG: other})
    switched("restore-traffic", "shop-cart")
    assert remembered(installation) == other


@pytest.mark.parametrize("before", [None, 50])
def test_a_restore_that_died_in_between_is_finished(installation: Installation, before: int | None) -> None:
    installation.tags["shop-cart"] = {TAG: Stop(before, SINCE).tag}
    if before is not None:
        installation.reserved["shop-cart"] = before
    assert switched("restore-traffic", "shop-cart")["outcome"] == "restored"
    assert remembered(installation) is None
    assert not {"PutFunctionConcurrency", "DeleteFunctionConcurrency"} & set(installation.called)


def test_a_zero_of_somebody_else_is_left_alone(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 0
    answer = switched("stop-traffic", "shop-cart")
    assert answer["outcome"] == "already-stopped"
    assert "stoppedAt" not in answer
    assert remembered(installation) is None
    assert "which stop-traffic has not set" in run("stop-traffic", "shop-cart", "--yes").output


@pytest.mark.parametrize(
    ("reserved", "said"),
    [(None, "no reserved concurrency"), (5, "a reserved concurrency of 5"), (0, "concurrency of 0")],
)
def test_a_restore_without_a_stop_is_refused_with_the_current_setting(
    installation: Installation, reserved: int | None, said: str
) -> None:
    if reserved is not None:
        installation.reserved["shop-cart"] = reserved
    result = run("restore-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "was not stopped by headgate stop-traffic" in result.output
    assert said in result.output
    assert installation.reserved.get("shop-cart") == reserved


def test_a_setting_that_somebody_has_changed_since_is_kept(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    installation.reserved["shop-cart"] = 20
    result = run("restore-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "has a reserved concurrency of 20 now, which somebody has set" in result.output
    assert switched("restore-traffic", "shop-cart", "--forget")["outcome"] == "kept"
    assert (installation.reserved["shop-cart"], remembered(installation)) == (20, None)


def test_a_restore_for_which_the_account_has_no_room_is_refused_before_it_begins(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    installation.unreserved = 149
    result = run("restore-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "of the account's 1000 concurrent executions only 149 are not reserved" in result.output
    assert installation.reserved["shop-cart"] == 0
    installation.unreserved = 150
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 50


def test_a_stop_that_lambda_refuses_leaves_nothing_behind(installation: Installation) -> None:
    installation.refuses_concurrency = "0 is below the provisioned concurrency"
    result = run("stop-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "delete-provisioned-concurrency-config" in result.output
    assert remembered(installation) is None


def test_a_restore_that_lambda_refuses_can_be_tried_again(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    installation.refuses_concurrency = "too much"
    assert run("restore-traffic", "shop-cart", "--yes").exit_code == 2
    installation.refuses_concurrency = ""
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 50


# Questions


def test_it_says_who_is_hit_before_it_asks(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "can_ask", lambda: True)
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
    installation.mappings["1"] = {"FunctionArn": f"{LAMBDA}:function:shop-cart:live", "EventSourceArn": queue}
    off = {"FunctionArn": f"{LAMBDA}:function:shop-cart", "EventSourceArn": f"{queue}-off", "State": "Disabled"}
    installation.mappings["2"] = off
    installation.lock("lambda-alias/shop-cart/live", "cart-1")
    installation.lock("event-source/1", "orders-1", throughKey="lambda-alias/shop-cart/live")
    installation.lock("lambda-alias/shop-cart-2/live", "other-1")
    result = run("stop-traffic", "shop-cart", typed="n\n")
    assert result.exit_code == 1
    assert "Nothing was changed." in result.output
    said = ("alias live (version 7)", "alias blue (version 6)", f"{queue}:", "rollout cart-1:", "rollout orders-1:")
    assert [each for each in said if each not in result.output] == []
    assert [each for each in ("other-1", "orders-off") if each in result.output] == []
    assert "shop-cart" not in installation.reserved
    assert run("stop-traffic", "shop-cart", typed="y\n").exit_code == 0
    assert installation.reserved["shop-cart"] == 0


@pytest.mark.parametrize("name", ["stop-traffic", "restore-traffic"])
def test_without_a_terminal_it_needs_a_yes(installation: Installation, name: str) -> None:
    installation.tags["shop-cart"] = {TAG: Stop(50, SINCE).tag}
    installation.reserved["shop-cart"] = 0 if name == "restore-traffic" else 50
    before = dict(installation.reserved)
    result = run(name, "shop-cart")
    assert result.exit_code == 2
    assert "give --yes" in result.output
    assert installation.reserved == before


def test_what_cannot_be_read_does_not_keep_anybody_from_stopping(installation: Installation) -> None:
    installation.denied |= {"Query", "ListFunctionUrlConfigs"}
    hit = switched("stop-traffic", "shop-cart")["hit"]
    assert [each.partition(":")[0] for each in hit["notChecked"]] == ["function URLs", "rollouts"]


def test_a_function_can_be_stopped_where_the_stack_cannot_be_read(installation: Installation) -> None:
    installation.denied.add("DescribeStacks")
    assert switched("stop-traffic", "shop-cart")["outcome"] == "stopped"
    assert run("stop-traffic", "headgate-judge", "--yes").exit_code == 2


def asked(*words: str, meanwhile: Callable[[], object], answers: str, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run a command at a terminal; somebody else does something while its first question is open."""
    left = [meanwhile]

    def confirm(question: str, **_: Any) -> bool:
        click.echo(question, err=True)
        while left:
            left.pop()()
        nonlocal answers
        answer, answers = answers[0], answers[1:]
        return answer == "y"

    monkeypatch.setattr(confirmation, "can_ask", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    ran = run(*words)
    assert answers == ""
    return ran


@pytest.mark.parametrize(("answers", "now", "tagged"), [("yy", 0, 80), ("yn", 80, None)])
def test_a_stop_asks_again_if_the_setting_has_changed_meanwhile(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, answers: str, now: int, tagged: int | None
) -> None:
    installation.reserved["shop-cart"] = 50

    def change() -> None:
        installation.reserved["shop-cart"] = 80

    result = asked("stop-traffic", "shop-cart", meanwhile=change, answers=answers, monkeypatch=monkeypatch)
    assert "The setting of shop-cart has changed meanwhile." in result.output
    assert "shop-cart has a reserved concurrency of 80. It gets 0" in result.output
    assert installation.reserved["shop-cart"] == now
    tag = remembered(installation)
    assert (Stop.of_tag(tag).reserved if tag else None) == tagged


def test_a_stop_with_yes_remembers_what_is_set_when_it_acts(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    installation.meanwhile["ListAliases"] = lambda: installation.reserved.update({"shop-cart": 80})
    assert switched("stop-traffic", "shop-cart")["reservedBefore"] == 80
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 80


def test_a_stop_by_somebody_else_meanwhile_is_told(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installation.reserved["shop-cart"] = 50

    def stop() -> None:
        switched("stop-traffic", "shop-cart")

    result = asked("stop-traffic", "shop-cart", meanwhile=stop, answers="y", monkeypatch=monkeypatch)
    assert "shop-cart is stopped already" in result.output
    assert switched("restore-traffic", "shop-cart")["reservedNow"] == 50


@pytest.mark.parametrize("forget", [False, True])
def test_a_restore_by_somebody_else_meanwhile_is_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, forget: bool
) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    if forget:  # A stop that stands is not forgotten.
        installation.reserved["shop-cart"] = 10

    def restore() -> None:
        switched("restore-traffic", "shop-cart", *(["--forget"] if forget else []))
        installation.reserved["shop-cart"] = 20

    words = ["restore-traffic", "shop-cart", *(["--forget"] if forget else [])]
    result = asked(*words, meanwhile=restore, answers="y", monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "somebody else has put back or forgotten the setting of shop-cart meanwhile" in result.output
    assert installation.reserved["shop-cart"] == 20


def test_a_setting_that_somebody_changes_while_a_restore_asks_is_kept(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")

    def change() -> None:
        installation.reserved["shop-cart"] = 20

    result = asked("restore-traffic", "shop-cart", meanwhile=change, answers="y", monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "20 now, which somebody has set since" in result.output
    assert (installation.reserved["shop-cart"], remembered(installation) is None) == (20, False)


def test_what_is_forgotten_is_asked_again_if_it_has_changed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.tags["shop-cart"] = {TAG: Stop(50, SINCE).tag}
    installation.reserved["shop-cart"] = 20

    def change() -> None:
        installation.reserved["shop-cart"] = 30

    words = ("restore-traffic", "shop-cart", "--forget")
    result = asked(*words, meanwhile=change, answers="yy", monkeypatch=monkeypatch)
    assert "Keep a reserved concurrency of 30 of shop-cart" in result.output
    assert (installation.reserved["shop-cart"], remembered(installation)) == (30, None)


# Refusals


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stop-traffic", "end its rollout (headgate abort web/shop), or stop all its tasks (aws ecs update-service"),
        ("restore-traffic", "to let it run again, give it tasks (aws ecs update-service --cluster web --service shop"),
    ],
)
@pytest.mark.usefixtures("installation")
def test_a_service_gets_the_advice_that_fits_the_command(name: str, said: str) -> None:
    result = run(name, "web/shop", "--yes")
    assert (result.exit_code, said in " ".join(result.output.split())) == (2, True), result.output


@pytest.mark.parametrize("name", ["stop-traffic", "restore-traffic"])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("headgate-judge", "one of Headgate's own functions"),
        (f"{LAMBDA}:function:headgate-judge", "one of Headgate's own functions"),
        ("shop-cart:live", "without a version or alias"),
        ("arn:aws:lambda:us-west-2:123456789012:function:shop-cart", "is in us-west-2, not in"),
        ("shop-till", "does not exist"),
        ("a b", "is not a function"),
        ("web/shop", "web/shop is an ECS service, which has no reserved concurrency: "),
    ],
)
def test_these_functions_are_refused(installation: Installation, name: str, function: str, said: str) -> None:
    result = run(name, function, "--yes")
    assert result.exit_code == 2
    assert said in result.output
    assert not {"TagResource", "PutFunctionConcurrency"} & set(installation.called)


def test_a_function_can_be_named_by_its_arn() -> None:
    assert switched("stop-traffic", f"{LAMBDA}:function:shop-cart")["function"] == "shop-cart"


def test_a_tag_that_cannot_be_read_is_refused(installation: Installation) -> None:
    installation.tags["shop-cart"] = {TAG: "fifty"}
    installation.reserved["shop-cart"] = 0
    result = run("restore-traffic", "shop-cart", "--yes")
    assert result.exit_code == 2
    assert "fifty, which cannot be read" in result.output
    with pytest.raises(Failure):
        Stop.of_tag("reserved=-1 since=now")


@pytest.mark.parametrize("reserved", [None, 1, 1000])
def test_the_tag_says_what_was_set(reserved: int | None) -> None:
    assert Stop.of_tag(Stop(reserved, SINCE).tag) == Stop(reserved, SINCE)


def test_a_denied_stop_leaves_nothing_behind(installation: Installation) -> None:
    installation.denied.add("PutFunctionConcurrency")
    with pytest.raises(ClientError):  # headgate_cli.entry explains it in one line.
        run("stop-traffic", "shop-cart", "--yes")
    assert remembered(installation) is None


def test_a_stop_that_stands_is_not_forgotten(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 50
    switched("stop-traffic", "shop-cart")
    result = run("restore-traffic", "shop-cart", "--forget", "--yes")

    assert (result.exit_code, "leave out --forget to put that back" in result.output) == (2, True), result.output
    switched("restore-traffic", "shop-cart")
    assert installation.reserved["shop-cart"] == 50


def test_a_function_that_somebody_else_has_stopped_says_how_to_open_it(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 0
    result = run("restore-traffic", "shop-cart", "--yes")

    assert "aws lambda delete-function-concurrency --function-name shop-cart" in result.output
