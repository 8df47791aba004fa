"""The gap ``bus_policies``: a bus's policy denies, in the embedded AWS and not in MiniStack as it is."""

from __future__ import annotations

import json
from typing import Any

import botocore.exceptions
import pytest

from tests.local.callers import Caller, make_role_session, make_user
from tests.local.clients import Aws, error_code

pytestmark = pytest.mark.embedded

PUT = {"Action": "events:PutEvents", "Resource": "*"}


def statement(bus: str, *allowed: Caller) -> dict[str, Any]:
    """Denies events of a source to all but these callers."""
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": f"arn:aws:events:us-east-1:000000000000:event-bus/{bus}",
        "Condition": {
            "ForAnyValue:StringEquals": {"events:source": "headgate"},
            "ArnNotEquals": {"aws:PrincipalArn": [caller.arn for caller in allowed]},
        },
    }


def deploy(aws: Aws, bus: str, *allowed: Caller) -> None:
    """Deploy a bus with a policy."""
    policy = {"EventBusName": {"Ref": "Bus"}, "StatementId": "OnlyThese", "Statement": statement(bus, *allowed)}
    resources = {
        "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": bus}},
        "Policy": {"Type": "AWS::Events::EventBusPolicy", "Properties": policy},
    }
    aws.cloudformation.create_stack(StackName=bus, TemplateBody=json.dumps({"Resources": resources}))
    aws.cloudformation.get_waiter("stack_create_complete").wait(StackName=bus, WaiterConfig={"Delay": 1})


def put(caller: Caller, bus: str, *sources: str) -> Any:
    entries = [{"EventBusName": bus, "Source": each, "DetailType": "Ended", "Detail": "{}"} for each in sources]
    return caller.client("events").put_events(Entries=entries)["FailedEntryCount"]


def test_a_bus_policy_denies_a_source_to_all_but_those_that_it_names(aws: Aws) -> None:
    # GIVEN a bus whose policy, from a template, lets only one role put events of a source
    bus = f"{aws.prefix}-bus"
    publisher = make_role_session(aws.server, f"{aws.prefix}-publisher", PUT)
    mallory = make_user(aws.server, f"{aws.prefix}-mallory", PUT)
    deploy(aws, bus, publisher)
    # THEN the role may put them, and others may put other events
    assert put(publisher, bus, "headgate") == 0
    assert put(mallory, bus, "team.checkout") == 0
    assert put(mallory, "default", "headgate") == 0
    # AND a call with one such event is refused as a whole
    assert error_code(lambda: put(mallory, bus, "headgate")) == "AccessDeniedException"
    for sources in (["headgate"], ["team.checkout", "headgate"]):
        with pytest.raises(botocore.exceptions.ClientError, match=f"User: {mallory.arn} is not authorized"):
            put(mallory, bus, *sources)
    # AND the policy is gone with the stack
    [found] = json.loads(aws.events.describe_event_bus(Name=bus)["Policy"])["Statement"]
    assert (found["Sid"], found["Effect"]) == ("OnlyThese", "Deny")
    aws.cloudformation.delete_stack(StackName=bus)
    aws.cloudformation.get_waiter("stack_delete_complete").wait(StackName=bus, WaiterConfig={"Delay": 1})


def test_a_whole_policy_may_be_put_on_a_bus(aws: Aws) -> None:
    bus = f"{aws.prefix}-bus"
    mallory = make_user(aws.server, f"{aws.prefix}-mallory", PUT)
    aws.events.create_event_bus(Name=bus)
    policy = {"Version": "2012-10-17", "Statement": [{"Sid": "None", **statement(bus)}]}
    policy["Statement"][0]["Condition"].pop("ArnNotEquals")  # type: ignore[index]
    aws.events.put_permission(EventBusName=bus, Policy=json.dumps(policy))
    assert json.loads(aws.events.describe_event_bus(Name=bus)["Policy"]) == policy
    with pytest.raises(botocore.exceptions.ClientError, match="explicit deny in a resource-based policy"):
        put(mallory, bus, "headgate")


def test_ministack_knows_no_policies_of_buses(bare: Aws) -> None:
    bus = f"{bare.prefix}-bus"
    with pytest.raises(
        botocore.exceptions.ClientError, match=r"Unrecognized resource types: \[AWS::Events::EventBusPo"
    ):
        deploy(bare, bus)
    bare.events.create_event_bus(Name=f"{bus}-2")
    policy = {"Version": "2012-10-17", "Statement": [{"Sid": "None", **statement(f"{bus}-2")}]}
    bare.events.put_permission(EventBusName=f"{bus}-2", Policy=json.dumps(policy))
    mallory = make_user(bare.server, f"{bare.prefix}-mallory", PUT)
    assert put(mallory, f"{bus}-2", "headgate") == 0
