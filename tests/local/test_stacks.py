"""Stacks that roll out with Headgate, on the embedded AWS: every turn of a stack's life."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from demo.traffic import Traffic, tally
from tests.local.deployed import BAD_HOOK, GOOD_HOOK, eventually
from tests.local.stacks import Shop, Stack, one_rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

BRIEF, LONG = "Canary50Percent1Second", "Canary10Percent30Minutes"
names = (f"shop-{uuid.uuid4().hex[:6]}-{number}" for number in itertools.count())


@pytest.fixture
def stack(headgate: Headgate) -> Iterator[Stack]:
    """A stack with nothing but a rollout, for the alias of a service that is not its own."""
    with Stack(headgate, next(names)) as made:
        yield made


def live(service: Service, more: dict[str, Any] | None = None, **properties: Any) -> str:
    """A template that rolls a service's version 2 out, or another one."""
    return one_rollout(more, Alias=f"{service.function}:live", **{"Version": "2", "Strategy": BRIEF, **properties})


# The samples


def test_a_shop_is_deployed_rolled_out_and_rolled_back_by_its_stack(headgate: Headgate) -> None:
    with Shop(headgate, next(names), "shop") as shop:
        # WHEN the shop is deployed for the first time
        assert shop.release("1") == "CREATE_COMPLETE", shop.events()
        # THEN nothing is shifted, but the hook is asked, and everything that calls the shop goes through the alias
        assert (shop.outputs["Version"], shop.outputs["RolloutId"], shop.rollouts()) == ("1", "", [])
        assert headgate_asked(shop) == 1
        assert (shop.by_api(), shop.by_url()) == ("1", "1")

        # WHEN a good release is deployed under traffic
        with Traffic(headgate.aws, shop.function, "live", 10) as traffic:
            assert shop.release("2") == "UPDATE_COMPLETE", shop.events()
        # THEN the new version serves whoever calls, and no request has failed
        assert (shop.alias(), shop.outputs["Version"]) == (("2", {}), "2")
        assert (shop.by_api(), shop.by_url()) == ("2", "2")
        shop.by_queue()
        counts = tally(traffic.requests)
        assert (counts["1"][1], counts["2"][1], traffic.unanswered) == (0, 0, 0)
        [good] = shop.rollouts()
        assert (good["status"], good["rolloutId"]) == ("succeeded", shop.outputs["RolloutId"])

        # WHEN nothing changes, or nothing of the function
        with pytest.raises(botocore.exceptions.ClientError, match="No updates are to be performed"):
            shop.release("2")
        changed = shop.template("2").replace("VisibilityTimeout: 60", "VisibilityTimeout: 90")
        assert shop.deploy(changed, **shop.given("2")) == "UPDATE_COMPLETE"
        # THEN nothing is rolled out
        assert (shop.alias(), len(shop.rollouts())) == (("2", {}), 1)

        # WHEN a bad release is deployed under traffic
        with Traffic(headgate.aws, shop.function, "live", 20):
            status = shop.release("3", ErrorRate="1", Strategy="Canary50Percent60Seconds")
        assert status == "UPDATE_ROLLBACK_COMPLETE", shop.events()
        # THEN the stack says why, and alias and code are those of the release before
        assert shop.alias() == ("2", {})
        [_, rolled_back] = shop.rollouts()
        assert rolled_back["status"] == "rolled-back"
        [failure] = shop.failures()
        assert rolled_back["reason"] in failure
        assert f"headgate explain {rolled_back['rolloutId']}" in failure
        variables = headgate.functions.get_function_configuration(FunctionName=shop.function)["Environment"][
            "Variables"
        ]
        assert (variables["RELEASE"], variables["ERROR_RATE"]) == ("2", "0")

        # AND the next good release starts from there
        with Traffic(headgate.aws, shop.function, "live", 10):
            assert shop.release("4", Strategy=BRIEF) == "UPDATE_COMPLETE", shop.events()
        assert shop.alias()[1] == {}
        assert shop.by_api() == shop.outputs["Version"] == shop.alias()[0]
        function = shop.function
        assert shop.delete() == "DELETE_COMPLETE"
        with pytest.raises(headgate.functions.exceptions.ResourceNotFoundException):
            headgate.functions.get_function(FunctionName=function)


def headgate_asked(shop: Shop) -> int:
    """How often the shop's hook has been invoked."""
    check = shop.physical_id("ShopCheck")
    found = shop.headgate.aws.client("logs").describe_log_streams(logGroupName=f"/aws/lambda/{check}")["logStreams"]
    return len(found)


def test_a_shop_keeps_its_alias_when_it_moves_from_codedeploy(headgate: Headgate, command: Command) -> None:
    name = next(names)
    with Shop(headgate, name, "shop_before") as before:
        assert before.release("1") == "CREATE_COMPLETE", before.events()
        # SAM names the version by the code. The same name keeps CloudFormation off the alias.
        resources = before.client.list_stack_resources(StackName=name)["StackResourceSummaries"]
        [version] = [each["LogicalResourceId"] for each in resources if each["ResourceType"] == "AWS::Lambda::Version"]
        alias, revision = before.alias(), revision_of(before)
        # AND adopt reads what CodeDeploy does, and tells what the hook needs
        adopted = command("adopt", f"{before.function}:live", "--format", "json")
        assert adopted.code == 0, adopted.err
        ready, _, hand_over, _ = adopted.json["steps"]
        assert "no deployment of CodeDeploy runs" in {check["message"] for check in ready["checks"]}
        assert version.removeprefix("ShopVersion") in hand_over["diff"]
        layer = headgate.outputs["CodeDeployHookLayerArn"]
        for told in (f"({layer})", "variable NEW_VERSION", "Role of ShopCheck"):
            assert told in " ".join(hand_over["notes"])
        # WHEN Headgate takes its place, with a new release at once
        after = Shop(headgate, name, "shop")
        after.id = before.id
        template = after.template("2").replace('"0000000000"', f'"{version.removeprefix("ShopVersion")}"')
        after.start(template, **after.given("2", Strategy=LONG))
        record = after.baking()
        # THEN CloudFormation has not touched the alias: Headgate shifts the new version on it
        assert (record["stable"], after.alias()) == ("1", ("1", {"2": 0.1}))
        headgate.signal(record["rolloutId"], "promote-fully")
        assert after.end() == "UPDATE_COMPLETE", after.events()
        assert (alias, after.alias()) == (("1", {}), ("2", {}))
        assert revision != revision_of(after)


def revision_of(shop: Shop) -> str:
    return str(shop.headgate.functions.get_alias(FunctionName=shop.function, Name="live")["RevisionId"])


def test_the_explicit_shop_gets_its_alias_from_headgate(headgate: Headgate) -> None:
    with Shop(headgate, next(names), "shop_explicit") as shop:
        assert shop.release("1") == "CREATE_COMPLETE", shop.events()
        assert (shop.alias(), shop.by_url(), shop.outputs["RolloutId"]) == (("1", {}), "1", "")
        assert shop.outputs["Alias"] == f"arn:aws:lambda:us-east-1:000000000000:function:{shop.function}:live"
        # WHEN the function changes
        with Traffic(headgate.aws, shop.function, "live", 10):
            assert shop.release("2") == "UPDATE_COMPLETE", shop.events()
        # THEN its version has changed, so it is rolled out
        assert (shop.alias(), shop.by_url(), shop.outputs["Version"]) == (("2", {}), "2", "2")
        shop.by_queue()


def test_a_consumer_is_rolled_out_by_its_stack(headgate: Headgate) -> None:
    with Shop(headgate, next(names), "shop_consumer") as shop:
        assert shop.release("1") == "CREATE_COMPLETE", shop.events()
        assert shop.physical_id() == shop.outputs["Mapping"]
        assert shop.release("2") == "UPDATE_COMPLETE", shop.events()
        assert (shop.alias(), shop.outputs["Version"]) == (("2", {}), "2")
        [record] = shop.rollouts()
        assert (record["targetKey"], record["status"]) == (f"event-source/{shop.outputs['Mapping']}", "succeeded")
        shop.by_queue()


# A rollout alone


def test_a_rollout_that_its_hook_refuses_fails_the_stack_and_leaves_the_alias(
    headgate: Headgate, stack: Stack, service: Service
) -> None:
    hooks = {"beforeTraffic": [{"lambda": headgate.make_hook(BAD_HOOK)}]}
    assert stack.deploy(live(service, Hooks=hooks)) == "ROLLBACK_COMPLETE"
    [failure] = stack.failures()
    assert "does not add up" in failure
    assert (service.serving.version, service.serving.weights) == ("1", {})
    assert any(event.startswith("Rollout DELETE_COMPLETE") for event in stack.events())


def test_a_cancelled_update_takes_the_alias_back(stack: Stack, service: Service) -> None:
    assert stack.deploy(live(service)) == "CREATE_COMPLETE", stack.events()
    third = service.publish()
    stack.start(live(service, Version=third, Strategy=LONG))
    record = stack.baking(2)
    # A stack that is being updated cannot be deleted.
    with pytest.raises(botocore.exceptions.ClientError, match="cannot be deleted while in status UPDATE_IN_PROGRESS"):
        stack.client.delete_stack(StackName=stack.name)
    stack.client.cancel_update_stack(StackName=stack.name)
    assert stack.end() == "UPDATE_ROLLBACK_COMPLETE", stack.events()
    assert (service.serving.version, service.serving.weights) == ("2", {})
    ended = stack.headgate.ended(record["rolloutId"])
    assert ended["status"] in ("rolled-back", "stopped")
    # The version that served before still does, so nothing else is rolled out.
    assert len(stack.rollouts()) == 2


def test_a_stack_that_is_deleted_in_mid_rollout_ends_it(stack: Stack, service: Service) -> None:
    stack.start(live(service, Strategy=LONG))
    record = stack.baking()
    assert stack.delete() == "DELETE_COMPLETE"
    assert stack.headgate.record(record["rolloutId"])["status"] == "rolled-back"
    # The alias is not the stack's own.
    assert (service.serving.version, service.serving.weights) == ("1", {})


def test_an_alias_that_the_stack_creates_goes_with_it_or_stays(
    headgate: Headgate, stack: Stack, service: Service
) -> None:
    hooks = {"beforeTraffic": [{"lambda": headgate.make_hook(GOOD_HOOK)}]}

    def with_alias(name: str, **properties: Any) -> str:
        return one_rollout(Alias=f"{service.function}:{name}", Version="1", Hooks=hooks, **properties)

    def aliases() -> set[str]:
        return {each["Name"] for each in headgate.functions.list_aliases(FunctionName=service.function)["Aliases"]}

    # WHEN the alias does not exist
    assert stack.deploy(with_alias("blue")) == "CREATE_COMPLETE", stack.events()
    assert (stack.outputs["Version"], stack.outputs["RolloutId"], aliases()) == ("1", "", {"live", "blue"})
    first = stack.physical_id()
    # AND it is renamed
    assert stack.deploy(with_alias("green")) == "UPDATE_COMPLETE", stack.events()
    # THEN the resource is replaced, and its alias with it
    assert (stack.physical_id(), first) == (first.replace(":blue", ":green"), first)
    assert aliases() == {"live", "green"}
    # WHEN the template retains the alias
    assert stack.deploy(with_alias("green", OnDelete="retain")) == "UPDATE_COMPLETE", stack.events()
    assert stack.delete() == "DELETE_COMPLETE"
    assert aliases() == {"live", "green"}


def test_two_stacks_cannot_roll_out_on_one_target(headgate: Headgate, stack: Stack, service: Service) -> None:
    assert stack.deploy(live(service)) == "CREATE_COMPLETE", stack.events()
    with Stack(headgate, next(names)) as second:
        assert second.deploy(live(service)) == "ROLLBACK_COMPLETE"
        [failure] = second.failures()
        assert stack.name in failure
    assert service.serving.version == "2"


def test_the_alias_goes_back_if_another_resource_fails_after_the_promotion(stack: Stack, service: Service) -> None:
    assert stack.deploy(live(service)) == "CREATE_COMPLETE", stack.events()
    third = service.publish()
    nobody = "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    late = {"Late": {"Type": "Custom::Late", "DependsOn": "Rollout", "Properties": {"ServiceToken": nobody}}}
    assert stack.deploy(live(service, late, Version=third)) == "UPDATE_ROLLBACK_COMPLETE"
    assert [record["status"] for record in stack.rollouts()] == ["succeeded"] * 3
    assert (service.serving.version, service.serving.weights) == ("2", {})
    eventually(lambda: stack.outputs["Version"] == "2", 1, lambda: str(stack.outputs))


def test_an_alias_that_the_stack_moves_itself_fails_the_update(
    headgate: Headgate, stack: Stack, service: Service
) -> None:
    third = service.publish()

    def owning(alias_version: str, version: str) -> str:
        alias = {"FunctionName": service.function, "FunctionVersion": alias_version, "Name": "own"}
        more = {"Alias": {"Type": "AWS::Lambda::Alias", "Properties": alias}}
        return one_rollout(more, Alias={"Ref": "Alias"}, Version=version, Strategy=BRIEF)

    def serving() -> str:
        found = headgate.functions.get_alias(FunctionName=service.function, Name="own")
        return str(found["FunctionVersion"])

    assert stack.deploy(owning("1", "1")) == "CREATE_COMPLETE", stack.events()
    # WHEN the template itself gives the alias the new version
    assert stack.deploy(owning(third, third)) == "UPDATE_ROLLBACK_COMPLETE", stack.events()
    # THEN the update fails with the fix, and the alias is back
    [failure] = stack.failures()
    assert f"CloudFormation has moved {service.function}:own itself" in failure
    assert (serving(), stack.rollouts()) == ("1", [])
    # AND an update that leaves the alias alone rolls out
    assert stack.deploy(owning("1", third)) == "UPDATE_COMPLETE", stack.events()
    assert (serving(), len(stack.rollouts())) == (third, 1)


def test_a_rollout_longer_than_cloudformation_waits_is_refused(stack: Stack, service: Service) -> None:
    assert stack.deploy(live(service, Strategy="Linear10PercentEvery10Minutes")) == "ROLLBACK_COMPLETE"
    [failure] = stack.failures()
    assert "Nothing has moved" in failure
    assert "headgate start" in failure
    assert (service.serving.version, stack.rollouts()) == ("1", [])
