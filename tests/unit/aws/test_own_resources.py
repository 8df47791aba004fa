"""Headgate's own functions, state machines and queues, which are no targets, hooks or ends of redrives."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from headgate.aws.own_resources import FUNCTIONS, MACHINES, SAMPLE_HOOKS, OwnResources
from headgate.errors import RequestRefused
from tests.builders import ROOT

RESOURCES: dict[str, Any] = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]
QUEUES = {"requests": "", "dead": "requests", "undelivered": ""}
OWN = OwnResources("headgate", QUEUES)
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:headgate-publisher"


def names_of(kind: str, name: str) -> set[str]:
    """The names of the resources of a type in the template, after the prefix."""
    given = [each["Properties"][name]["Fn::Sub"] for each in RESOURCES.values() if each["Type"] == kind]
    return {re.sub(r"^\$\{[A-Za-z:]+\}-", "", text) for text in given}


def test_every_function_of_the_template_is_known() -> None:
    assert names_of("AWS::Serverless::Function", "FunctionName") == FUNCTIONS
    assert SAMPLE_HOOKS < FUNCTIONS


def test_every_state_machine_of_the_template_is_known() -> None:
    assert names_of("AWS::Serverless::StateMachine", "Name") == MACHINES


@pytest.mark.parametrize("function", ["Planner", "RedrivePlanner"])
def test_every_queue_of_the_template_is_known_and_where_its_messages_may_go(function: str) -> None:
    variables = RESOURCES[function]["Properties"]["Environment"]["Variables"]
    told = json.loads(re.sub(r"\$\{(\w+)\.QueueName\}", r"\1", variables["OWN_QUEUES"]["Fn::Sub"]))
    queues = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"}
    back_to = {
        each["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]: name
        for name, each in queues.items()
        if "RedrivePolicy" in each
    }
    assert told == {name: back_to.get(name, "") for name in queues}


@pytest.mark.parametrize(
    "function",
    [
        "headgate-publisher",
        "headgate-publisher:live",
        ARN,
        f"{ARN}:live",
        "123456789012:function:headgate-publisher",
        "123456789012:headgate-publisher",
        "eu-central-1:123456789012:headgate-publisher:7",
        "function:headgate-publisher",
    ],
)
def test_a_function_of_its_own_is_neither_a_target_nor_a_hook(function: str) -> None:
    with pytest.raises(RequestRefused, match=r"^target.function: .* is one of Headgate's own functions; name a fun"):
        OWN.refuse_target(function, "target.function")
    with pytest.raises(
        RequestRefused,
        match=r"^hook: .*; name .*headgate-http-smoke-tester or .*version-checker$",
    ):
        OWN.refuse_hook(function, "hook")


@pytest.mark.parametrize("function", ["headgate-demo-checkout", "publisher", "my-headgate-publisher", "headgate-", ""])
def test_a_function_of_a_team_may_be_both(function: str) -> None:
    OWN.refuse_target(function, "target.function")
    OWN.refuse_hook(function, "hook")


def test_a_sample_hook_is_a_hook_and_no_target() -> None:
    OWN.refuse_hook("headgate-smoke-tester", "hook")
    with pytest.raises(RequestRefused):
        OWN.refuse_target("headgate-smoke-tester", "target.function")


def test_a_state_machine_of_its_own_is_no_hook() -> None:
    here = "arn:aws:states:eu-central-1:123456789012:stateMachine:"
    OWN.refuse_machine(f"{here}headgate-load-test", "hook")
    with pytest.raises(RequestRefused, match=r"^hook: .*:headgate-redrive is one of Headgate's own state machines"):
        OWN.refuse_machine(f"{here}headgate-redrive", "hook")


@pytest.mark.parametrize("queue", [*QUEUES, "headgate-held-0a1b", "headgate-held-0a1b.fifo"])
def test_a_consumer_of_an_own_queue_is_no_target(queue: str) -> None:
    with pytest.raises(RequestRefused, match=f"^target.mapping: {queue} is one of Headgate's own queues"):
        OWN.refuse_source(f"arn:aws:sqs:eu-central-1:123456789012:{queue}", "target.mapping")
    OWN.refuse_source("arn:aws:sqs:eu-central-1:123456789012:headgate-orders", "target.mapping")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("dead", "requests"), ("orders-dead", "orders"), ("orders-dead", None), ("headgate-held-1", "orders")],
)
def test_a_redrive_between_a_teams_queues_or_back_to_its_own_is_allowed(source: str, destination: str | None) -> None:
    OWN.refuse_redrive(source, destination)


@pytest.mark.parametrize(
    ("source", "destination", "told"),
    [
        ("undelivered", "orders", "from.queue: undelivered is one of Headgate's own queues, which cannot be redriven"),
        ("requests", "orders", "from.queue: requests is one of Headgate's own queues, which cannot be redriven"),
        ("dead", "orders", "to: messages of dead, one of Headgate's own queues, may only go back to requests"),
        ("dead", None, "to: messages of dead, one of Headgate's own queues, may only go back to requests"),
        ("orders-dead", "requests", "to.queue: requests is one of Headgate's own queues; name another queue"),
        ("orders-dead", "dead", "to.queue: dead is one of Headgate's own queues; name another queue"),
        ("headgate-held-1", "requests", "to.queue: requests is one of Headgate's own queues; name another queue"),
        ("orders", "headgate-held-1", "to.queue: headgate-held-1 is one of Headgate's own queues; name another queue"),
    ],
)
def test_any_other_redrive_of_an_own_queue_is_refused(source: str, destination: str | None, told: str) -> None:
    with pytest.raises(RequestRefused, match=f"^{re.escape(told)}"):
        OWN.refuse_redrive(source, destination)
