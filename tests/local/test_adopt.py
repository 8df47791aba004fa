"""An alias that a stack moves becomes Headgate's, and the stack's again: no request gets a version unasked."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from emulator.application import parameters
from tests.local.deployed import zipped
from tests.local.roles import ROLE

if TYPE_CHECKING:
    from tests.local.commands import Command
    from tests.local.deployed import Headgate

pytestmark = pytest.mark.embedded

STACK = FUNCTION = "till"

TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Release: {Type: String, Default: none}
Resources:
  Shop:
    Type: AWS::Serverless::Function
    # attributes
    Properties:
      FunctionName: till
      Role: ROLE
      Handler: app.handler
      Runtime: RUNTIME
      CodeUri: s3://till-code/CODE
      AutoPublishAlias: live
      DeploymentPreference:
        Enabled: false
        Type: Canary10Percent5Minutes
"""

CUSTOM_RESOURCE = """\
  ShopRollout:
    Type: Custom::HeadgateRollout
    Properties:
      ServiceToken: !ImportValue headgate-ServiceToken
      Alias: !Ref Shop.Alias
      Release: !Ref Release
      Strategy: AllAtOnce
      Guards: none
"""

HANDLER = """
def handler(event, context):
    return {"version": context.function_version, "code": "CODE"}
"""


class Shop:
    """A stack whose function publishes its alias by itself."""

    def __init__(self, headgate: Headgate) -> None:
        self._headgate, self._formation = headgate, headgate.aws.client("cloudformation")
        self._count = 0

    def plan(self, template: str, kind: str = "UPDATE", *, release: str = "none") -> str:
        """Make a change set, as ``sam deploy --no-execute-changeset`` does; answers its name."""
        self._count += 1
        name = f"change-{self._count}"
        self._formation.create_change_set(
            StackName=STACK, ChangeSetName=name, ChangeSetType=kind, TemplateBody=template,
            Parameters=[{"ParameterKey": "Release", "ParameterValue": release}],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )  # fmt: skip
        self._formation.get_waiter("change_set_create_complete").wait(
            StackName=STACK, ChangeSetName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
        )
        return name

    def carry_out(self, name: str, waiter: str = "stack_update_complete") -> None:
        """Deploy a change set."""
        self._formation.execute_change_set(StackName=STACK, ChangeSetName=name)
        self._formation.get_waiter(waiter).wait(StackName=STACK, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})

    def answers(self) -> dict[str, str]:
        """What a request by the alias gets."""
        found: dict[str, str] = json.load(
            self._headgate.functions.invoke(FunctionName=FUNCTION, Qualifier="live")["Payload"]
        )
        return found

    def resources(self) -> dict[str, str]:
        """Physical ids of alias and version, by logical id."""
        found = self._formation.describe_stack_resources(StackName=STACK)["StackResources"]
        kinds = ("AWS::Lambda::Alias", "AWS::Lambda::Version")
        return {
            each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found if each["ResourceType"] in kinds
        }

    def rollouts(self) -> list[Any]:
        """Records of the rollouts that the stack has started."""
        found = self._headgate.aws.client("dynamodb").scan(
            TableName=self._headgate.outputs["TableName"],
            FilterExpression="begins_with(pk, :pk) AND sk = :sk",
            ExpressionAttributeValues={":pk": {"S": f"ROLLOUT#{STACK}/"}, ":sk": {"S": "ROLLOUT"}},
            ConsistentRead=True,
        )["Items"]
        return [self._headgate.record(item["pk"]["S"].removeprefix("ROLLOUT#")) for item in found]

    def close(self) -> None:
        """Delete it, and what it retains."""
        self._formation.delete_stack(StackName=STACK)
        self._formation.get_waiter("stack_delete_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
        )


class Traffic:
    """Requests by the alias, one after the other."""

    def __init__(self, shop: Shop) -> None:
        self._shop, self._ends = shop, threading.Event()
        self.seen: list[str] = []
        """The code that answered each."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.wait(0.05):
            self.seen.append(self._shop.answers()["code"])

    def stop(self) -> None:
        """Send no more."""
        self._ends.set()
        self._thread.join()


def test_an_alias_is_taken_over_from_a_stack_and_given_back_without_a_wrong_request(
    headgate: Headgate, command: Command, request: pytest.FixtureRequest
) -> None:
    # GIVEN a stack that moves its alias when it is deployed, under traffic
    before = TEMPLATE.replace("ROLE", ROLE).replace("RUNTIME", parameters()["Runtime"])
    storage = headgate.aws.client("s3")
    storage.create_bucket(Bucket="till-code")
    for name in ("first", "second", "third"):
        storage.put_object(Bucket="till-code", Key=name, Body=zipped(HANDLER.replace("CODE", name)))
    shop = Shop(headgate)
    shop.carry_out(shop.plan(before.replace("CODE", "first"), "CREATE"), "stack_create_complete")
    made = shop.resources()
    traffic = Traffic(shop)
    request.addfinalizer(traffic.stop)

    def adopt(*words: str) -> tuple[int, Any]:
        done = command("adopt", f"{FUNCTION}:live", "--format", "json", *words)
        assert done.code in (0, 1), done.err
        return done.code, done.json

    def statuses(adoption: Any) -> dict[str, str]:
        return {step["name"]: step["status"] for step in adoption["steps"]}

    def failing(adoption: Any) -> dict[str, str]:
        return {each["name"]: each["message"] for each in adoption["changeSet"]["checks"] if not each["passed"]}

    # WHEN it is taken over, step by step
    retained = before.replace("    # attributes\n", "    DeletionPolicy: Retain\n    UpdateReplacePolicy: Retain\n")
    step = shop.plan(retained.replace("CODE", "first"))
    code, adoption = adopt("--change-set", step)
    assert (code, failing(adoption), statuses(adoption)["retain"]) == (0, {}, "next")
    shop.carry_out(step)
    digits = adoption["versionResource"].removeprefix("ShopVersion")
    preference = TEMPLATE[TEMPLATE.index("      DeploymentPreference") :]
    constant = "      AutoPublishCodeSha256: 'DIGITS'\n"
    handed = retained.replace(preference, constant) + CUSTOM_RESOURCE

    # AND a change set that would move the alias is found out
    wrong = shop.plan(handed.replace("DIGITS", "0000000000").replace("CODE", "third"))
    code, adoption = adopt("--change-set", wrong)
    assert (code, set(failing(adoption))) == (1, {"pattern", "alias", "version"})
    assert statuses(adoption)["hand-over"] == "next"
    assert f'+      AutoPublishCodeSha256: "{digits}"' in adoption["steps"][2]["diff"]

    # AND the right one is deployed, with the code that is served
    handed = handed.replace("DIGITS", digits)
    step = shop.plan(handed.replace("CODE", "first"))
    code, adoption = adopt("--change-set", step)
    assert (code, failing(adoption)) == (0, {})
    shop.carry_out(step)

    # THEN version and alias are what they were, and nothing was rolled out
    code, adoption = adopt()
    assert (code, adoption["standing"], statuses(adoption)["roll-out"]) == (0, "done", "next"), adoption
    assert (shop.resources(), shop.answers()) == (made, {"version": "1", "code": "first"})
    assert shop.rollouts() == []

    # WHEN other code is deployed with another Release
    step = shop.plan(handed.replace("CODE", "second"), release="2")
    code, adoption = adopt("--change-set", step)
    assert (code, failing(adoption)) == (0, {})
    shop.carry_out(step)

    # THEN a rollout has moved the alias, which has no reason to warn, and the command knows
    [rollout] = shop.rollouts()
    assert (rollout["status"], shop.answers()["code"]) == ("succeeded", "second")
    assert "adopt" not in json.dumps(rollout["plan"]["warnings"])
    code, adoption = adopt()
    assert (code, adoption["served"]) == (0, shop.answers()["version"])

    # WHEN another deployment changes the code without another Release
    shop.carry_out(shop.plan(handed.replace("CODE", "third"), release="2"))

    # THEN the alias stays where the rollout has moved it
    assert shop.answers()["code"] == "second"

    # WHEN the code that is served is deployed, and the stack takes the alias back
    shop.carry_out(shop.plan(handed.replace("CODE", "second"), release="2"))
    back = retained.replace(preference, "")
    step = shop.plan(back.replace("CODE", "second"), release="2")
    code, adoption = adopt("--undo", "--change-set", step)
    assert (code, failing(adoption), statuses(adoption)["take-back"]) == (0, {}, "next")
    shop.carry_out(step)
    traffic.stop()

    # THEN it points the alias at a version of the same code, and no request ever got code that was not promoted
    code, adoption = adopt("--undo")
    assert (code, statuses(adoption)["take-back"], adoption["served"]) == (0, "done", adoption["stackVersion"]), (
        adoption
    )
    assert shop.answers() == {"version": adoption["stackVersion"], "code": "second"}
    assert list(dict.fromkeys(traffic.seen)) == ["first", "second"]
    shop.close()
