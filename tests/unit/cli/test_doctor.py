"""``headgate doctor``: what it reads, and what it prints."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, get_args

import jsonschema
import pytest

from headgate.rollouts import locks
from headgate_cli import records
from headgate_cli.doctor import target_reader
from headgate_cli.doctor.findings import Severity
from headgate_cli.stack import Stack
from tests.builders import ACCOUNT, REGION, ROOT
from tests.unit.cli.installations import LAMBDA, MAPPING, Installation, PlayedStack, Ran, played, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads((ROOT / "docs/schemas/headgate-doctor.json").read_text("utf-8"))
CONSUMER = "0b52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e"


@pytest.fixture
def installation() -> Installation:
    made = Installation()
    made.outputs["Version"] = version("headgate")
    made.function("shop-cart", "6", "7", live="7")
    made.counts["all"] = [10.0, 20.0]
    return made


@pytest.fixture(autouse=True)
def stack(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedStack]:
    for made in played(installation):
        for name in ("client", "session"):
            monkeypatch.setattr(Stack, name, getattr(made, name))
        yield made


def run(*options: str) -> Ran:
    return run_command("doctor", *options)


def findings(*options: str) -> dict[str, list[tuple[str, str]]]:
    """What each check found, as severities and messages."""
    result = run(*options, "--format", "json")
    checkup = json.loads(result.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(checkup)
    assert result.exit_code == (0 if checkup["healthy"] else 1), result.output
    found: dict[str, list[tuple[str, str]]] = {}
    for each in checkup["findings"]:
        found.setdefault(each["check"], []).append((each["severity"], each["message"]))
    return found


def problems(*options: str) -> dict[str, list[tuple[str, str]]]:
    """The same without what is ok."""
    return findings(*options, "--problems")


def test_an_installation_as_deployed_has_no_problem(installation: Installation) -> None:
    assert problems() == {}
    assert len(findings()) == 18


def test_the_documentation_has_every_check(installation: Installation) -> None:
    # A service has checks of its own, in the table after these.
    page = (ROOT / "docs/doctor.md").read_text("utf-8").partition("\nOf an [ECS service]")[0]
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) - set(get_args(Severity))
    consumer(installation)
    assert listed == findings(CONSUMER).keys()


def test_it_only_reads(installation: Installation) -> None:
    run("shop-cart:live", "--format", "json")
    changing = [name for name in installation.called if not name.startswith(("Get", "List", "Describe", "Query"))]
    assert changing == []


def test_what_the_caller_may_not_read_is_not_checked_and_no_fault(installation: Installation) -> None:
    installation.denied |= {"GetRole", "DescribeAlarms"}
    found = problems()
    assert found == {
        "roles": [("not-checked", "not checked: you are not authorized to perform GetRole")],
        "alarms": [("not-checked", "not checked: you are not authorized to perform DescribeAlarms")],
    }


def test_a_fault_makes_the_exit_code_1_and_is_told_with_its_fix(installation: Installation) -> None:
    del installation.functions["headgate-judge"]
    result = run("--problems")
    assert result.exit_code == 1
    assert "function headgate-judge does not exist" in result.output
    assert "Fix: deploy the stack again" in result.output
    assert "1 fault, 0 warnings." in result.output


def test_texts_of_others_do_not_reach_the_terminal_as_they_are(installation: Installation) -> None:
    installation.depths["Undelivered"], installation.reasons["Undelivered"] = 1, "\x1b[31m[bold]red"
    result = run("--peek", "--problems")
    assert "?[31m[bold]red" in result.output
    assert "\x1b" not in result.output


def test_dead_letters_are_read_only_if_asked(installation: Installation) -> None:
    installation.depths["RequestDeadLetters"] = 2
    installation.reasons = dict.fromkeys(
        ("RequestDeadLetters", "RequestFifoDeadLetters", "JobDeadLetters", "SignalDeadLetters", "Undelivered"),
        "target: ?",
    )
    assert problems()["dead-letters"] == [("fault", "RequestDeadLetters has 2 messages")]
    assert "ReceiveMessage" not in installation.called
    assert problems("--peek")["dead-letters"][0][1].endswith("the newest of those read: target: ?")


def test_requests_that_wait_are_judged_by_the_age_that_cloudwatch_knows(installation: Installation) -> None:
    installation.depths["JobQueue"] = 1
    assert problems()["queues"] == [("fault", "JobQueue has 1 message, the oldest 900 s old")]


def test_locks_are_compared_with_records_and_executions(installation: Installation) -> None:
    earlier = (datetime.now(UTC) - timedelta(minutes=9)).isoformat()
    installation.lock("lambda-alias/shop-cart/live", "cart-1")
    installation.lock("lambda-alias/shop-till/live", "till-1", status="succeeded", endedAt=earlier)
    installation.lock("lambda-alias/shop-pay/live", "pay-1", startedAt=earlier)
    installation.executions.pop(next(arn for arn in installation.executions if arn.endswith(":pay-1")))
    assert [message for _, message in problems()["locks"]] == [
        "lambda-alias/shop-till/live is locked, but rollout till-1 has ended (promoted)",
        "lambda-alias/shop-pay/live is locked, but the execution of rollout pay-1 does not exist",
    ]


def test_a_held_queue_belongs_to_the_rollout_of_its_tag(installation: Installation) -> None:
    installation.lock("event-source/1", "orders-1")
    installation.held = {"headgate-held-1": "orders-1", "headgate-held-2": "orders-0"}
    installation.depths["headgate-held-2"] = 3
    [(severity, message)] = problems()["held-queues"]
    assert severity == "fault"
    assert message == "queue headgate-held-2, of rollout orders-0, which has ended, still holds 3 messages"


def test_a_stack_that_is_not_there_is_one_line_with_exit_code_2() -> None:
    result = run("--stack", "nobodys")
    assert result.exit_code == 2
    assert result.output.startswith("Error: there is no stack nobodys")


def test_a_stack_whose_creation_failed_is_a_fault_and_one_without_outputs_is_not_headgate(
    installation: Installation,
) -> None:
    installation.outputs, installation.status = {}, "ROLLBACK_COMPLETE"
    assert problems() == {"stack": [("fault", "headgate is ROLLBACK_COMPLETE")]}
    installation.status = "CREATE_COMPLETE"
    result = run()
    assert result.exit_code == 2
    assert "it is not Headgate" in result.output


# Targets


def test_an_alias_that_can_be_rolled_out_has_no_problem(installation: Installation) -> None:
    found = findings("shop-cart:live")
    assert problems("shop-cart:live") == {}
    assert found["target-evidence"][0] == ("ok", "CloudWatch counts 30 requests by shop-cart:live in 15 minutes")
    assert [name for name in found if name.startswith("target-")] == [
        *("target-permission", "target-alias", "target-versions", "target-concurrency", "target-provisioned"),
        *("target-stack", "target-evidence"),
    ]


@pytest.mark.parametrize(
    ("target", "check", "said"),
    [
        ("shop-till:live", "target-alias", "function shop-till does not exist"),
        ("shop-cart:blue", "target-alias", "shop-cart has no alias blue"),
        ("headgate-judge:live", "target-permission", "headgate-judge is one of Headgate's own functions"),
        ("basket:live", "target-permission", "basket is not covered by TargetFunctions, which is shop-*"),
        (CONSUMER, "target-mapping", f"event source mapping {CONSUMER} does not exist"),
    ],
)
def test_a_target_that_cannot_be_rolled_out_is_a_fault(target: str, check: str, said: str) -> None:
    assert ("fault", said) in problems(target)[check]


def test_a_target_that_is_none_is_refused_before_anything_is_read(installation: Installation) -> None:
    result = run("checkout")
    assert result.exit_code == 2
    assert "checkout is not a target" in result.output
    assert installation.called == []


def test_a_stopped_function_is_a_fault(installation: Installation) -> None:
    installation.reserved["shop-cart"] = 0
    assert problems("shop-cart:live")["target-concurrency"][0][0] == "fault"


def test_telemetry_is_noted_in_the_table(installation: Installation) -> None:
    installation.parameters["Telemetry"] = "true"
    assert ("warning", "shop-cart:live has sent no telemetry for a day") in problems("shop-cart:live")[
        "target-evidence"
    ]
    note = {"pk": "TARGET#lambda-alias/shop-cart/live", "sk": "TELEMETRY", "seenAt": int(datetime.now(UTC).timestamp())}
    installation.items.append(note)
    assert ("ok", "shop-cart:live sends telemetry") in findings("shop-cart:live")["target-evidence"]


def consumer(installation: Installation, **fields: Any) -> None:
    source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
    known = {"EventSourceArn": source, "FunctionArn": f"{LAMBDA}:function:shop-cart:live", "BatchSize": 1}
    installation.mappings[CONSUMER] = known | fields
    dead = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders-dead", "maxReceiveCount": 5}
    installation.queue_attributes["orders"] = {"VisibilityTimeout": "60", "RedrivePolicy": json.dumps(dead)}
    installation.queue_attributes["orders-dead"] = {}
    installation.parameters["TargetQueues"] = "orders*"


def test_a_consumer_is_checked_with_its_alias_and_its_queue(installation: Installation) -> None:
    consumer(installation)
    assert problems(CONSUMER) == {}
    assert "target-failures" in findings(CONSUMER)
    del installation.queue_attributes["orders-dead"]
    installation.parameters["TargetQueues"] = ""
    found = problems(CONSUMER)
    assert "orders-dead" in found["target-failures"][0][1]
    assert found["target-source"] == [("fault", "orders is not covered by TargetQueues, which is empty")]


def test_dead_letters_that_still_go_to_a_rollouts_queue_are_a_fault(installation: Installation) -> None:
    consumer(installation)
    dead = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:headgate-held-1", "maxReceiveCount": 5}
    installation.queue_attributes["orders"]["RedrivePolicy"] = json.dumps(dead)
    installation.queue_attributes["headgate-held-1"] = {}
    assert problems(CONSUMER)["target-failures"][0][0] == "fault"
    installation.lock(f"event-source/{CONSUMER}", "orders-1")
    assert "target-failures" not in problems(CONSUMER)


def test_a_mapping_that_may_not_be_read_is_not_checked(installation: Installation) -> None:
    consumer(installation)
    installation.denied.add("GetEventSourceMapping")
    found = problems(CONSUMER)
    assert found["target-mapping"][0][0] == "not-checked"
    assert "target-alias" not in found


def test_a_target_that_may_not_be_read_is_not_checked(installation: Installation) -> None:
    installation.denied.add("GetAlias")
    assert [severity for severity, _ in problems("shop-cart:live")["target-alias"]] == ["not-checked"]


def test_a_consumer_without_an_alias_has_nothing_more_to_check(installation: Installation) -> None:
    consumer(installation, FunctionArn=f"{LAMBDA}:function:shop-cart")
    assert set(problems(CONSUMER)) == {"target-mapping"}


# Readers


def test_a_mark_on_an_alias_counts_only_while_its_rollout_runs(installation: Installation, stack: PlayedStack) -> None:
    key = "lambda-alias/shop-cart/live"
    read = records.Records(stack)
    assert read.moved_by(key) == ""
    installation.items.append({"pk": f"TARGET#{key}", "sk": "THROUGH", "owner": "orders-1"})
    assert read.moved_by(key) == ""
    installation.lock("event-source/1", "orders-1")
    assert read.moved_by(key) == "orders-1"
    installation.items[-1]["status"] = "succeeded"
    assert read.moved_by(key) == ""


def test_versions_are_counted_only_where_lambda_counts_them(stack: PlayedStack, installation: Installation) -> None:
    from headgate.spec.targets import LambdaAliasTarget

    target = LambdaAliasTarget(kind="lambda-alias", function="shop-cart", alias="live")
    reader = target_reader.AliasReader(stack, records.Records(stack), target, target.key)
    installation.counts |= {"v7": [5.0], "v6": [4.0]}
    assert reader.evidence().invocations == {"all": 30}
    reader.__dict__["alias"] = reader.alias._replace(weights={"6": 0.4})
    assert reader.evidence().invocations == {"all": 30, "7": 5, "6": 4}


def test_the_index_of_locks_is_the_one_that_functions_use() -> None:
    assert records.HELD_LOCKS == locks.HELD_LOCKS


def test_the_mapping_of_the_stack_is_read_by_its_id(installation: Installation) -> None:
    installation.mappings[MAPPING] = {"State": "Disabled"}
    [(severity, message)] = problems()["mappings"]
    assert severity == "fault"
    assert message == "event source mapping Outbox is Disabled, so what it reads waits"
