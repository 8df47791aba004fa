"""``headgate adopt``, with templates that the real SAM transforms."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from headgate_cli.adopting.templates import Edit, as_yaml, diff_of, parsed
from headgate_cli.failures import Failure
from headgate_cli.stack import Stack
from tests.builders import ROOT
from tests.unit.cli.installations import PlayedStack, Ran, played, run_command
from tests.unit.cli.shop import Shop, transformed

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads((ROOT / "docs/schemas/headgate-adopt.json").read_text("utf-8"))

BY_SAM = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      # A comment that stays.
      FunctionName: shop-cart
      Handler: app.handler
      Runtime: python3.13
      CodeUri: s3://bucket/first
      AutoPublishAlias: live
      DeploymentPreference:
        Type: Linear10PercentEvery1Minute
        Alarms:
        - !Ref CartErrors
        Hooks:
          PreTraffic: !Ref CartTest
      Events:
        Api: {Type: Api, Properties: {Path: /, Method: get}}
  CartErrors: {Type: AWS::CloudWatch::Alarm}
  CartTest: {Type: AWS::SNS::Topic}
"""

PREFERENCE = BY_SAM[BY_SAM.index("      DeploymentPreference") : BY_SAM.index("      Events")]

BY_HAND = """\
Resources:
  Cart:
    Type: AWS::Lambda::Function
    Properties: {FunctionName: shop-cart, Code: {S3Bucket: bucket, S3Key: first}}
  CartVersion1:
    Type: AWS::Lambda::Version
    Properties: {FunctionName: !Ref Cart}
  Live:
    Type: AWS::Lambda::Alias
    Properties:
      FunctionName: !Ref Cart
      FunctionVersion: !GetAtt CartVersion1.Version
      Name: live
"""

WITH_HOOK = (
    BY_SAM.replace("  CartTest: {Type: AWS::SNS::Topic}\n", "")
    + """\
  CartTest:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: shop-check-cart
      Handler: app.handler
      Runtime: python3.13
      CodeUri: s3://bucket/check
      Environment: {Variables: {NewVersion: !Ref Cart.Version}}
      Policies:
        - Statement: [{Effect: Allow, Action: lambda:InvokeFunction, Resource: !Ref Cart.Version}]
"""
)

WRAPPED = """\
      Layers: [!Ref Layer]
      Environment: {Variables: {AWS_LAMBDA_EXEC_WRAPPER: /opt/headgate-codedeploy-hook}}
"""

MENDED = WITH_HOOK.replace("      Environment: {Variables: {NewVersion: !Ref Cart.Version}}\n", WRAPPED).replace(
    "Resource: !Ref Cart.Version", 'Resource: !Sub "${Cart.Arn}:*"'
)

RETAINED = "    DeletionPolicy: Retain\n    UpdateReplacePolicy: Retain\n"

CUSTOM = """\
  CartRollout:
    Type: Custom::HeadgateRollout
    Properties: {ServiceToken: token, Alias: !Ref ALIAS, Release: "1", Strategy: Linear10PercentEvery1Minute}
"""


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(autouse=True)
def stack(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedStack]:
    for made in played(shop):
        for name in ("client", "session"):
            monkeypatch.setattr(Stack, name, getattr(made, name))
        yield made


def run(*words: str) -> Ran:
    return run_command("adopt", "shop-cart:live", *words)


def adopted(*words: str, code: int = 0) -> dict[str, Any]:
    """What the command tells, as JSON by its schema."""
    result = run("--format", "json", *words)
    assert result.exit_code == code, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(answer)
    return answer


def statuses(adoption: dict[str, Any]) -> list[str]:
    return [f"{step['name']} {step['status']}" for step in adoption["steps"]]


def failing(checks: list[dict[str, Any]]) -> dict[str, str]:
    """Names and fixes of the checks that failed. Each says what to do."""
    found = {check["name"]: check["fix"] for check in checks if not check["passed"]}
    assert all(found.values())
    return found


def step(adoption: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in adoption["steps"] if each["name"] == name)


def retained(text: str) -> str:
    return text.replace("Function\n    Properties:\n", f"Function\n{RETAINED}    Properties:\n")


def with_constant(text: str, constant: str) -> str:
    assert PREFERENCE in text
    constant = f"      AutoPublishCodeSha256: {constant}\n"
    return text.replace(PREFERENCE, constant) + CUSTOM.replace("ALIAS", "Cart.Alias")


def digits_of(adoption: dict[str, Any]) -> str:
    found = re.search(r'AutoPublishCodeSha256: "([0-9a-f]{10})"', step(adoption, "hand-over")["diff"])
    assert found
    return found[1]


@pytest.fixture
def handed_over(shop: Shop) -> str:
    """The template of a stack whose alias was taken over."""
    shop.deploy(BY_SAM)
    shop.deploy(retained(BY_SAM))
    text = with_constant(retained(BY_SAM), f'"{digits_of(adopted())}"')
    shop.deploy(text)
    return text


def test_the_steps_hand_an_alias_over_and_none_of_them_moves_it(shop: Shop) -> None:
    # GIVEN a stack with AutoPublishAlias and DeploymentPreference
    shop.deploy(BY_SAM)
    version = adopted()["versionResource"]
    assert statuses(adopted()) == ["ready done", "retain next", "hand-over later", "roll-out later"]

    # WHEN each step is checked as a change set, and deployed
    retaining = retained(BY_SAM)
    checks = adopted("--change-set", shop.plan(retaining))["changeSet"]
    assert (checks["step"], failing(checks["checks"])) == ("retain", {})
    shop.deploy(retaining)
    found = adopted()
    assert statuses(found) == ["ready done", "retain done", "hand-over next", "roll-out later"]
    handing = with_constant(retaining, f'"{digits_of(found)}"').replace("first", "second")
    checks = adopted("--change-set", shop.plan(handing))["changeSet"]
    assert (checks["step"], failing(checks["checks"])) == ("hand-over", {})
    shop.deploy(handing)

    # THEN the version is the same, and no deployment has moved the alias, nor does the next one
    found = adopted()
    assert statuses(found) == ["ready done", "retain done", "hand-over done", "roll-out next"]
    assert (found["standing"], found["versionResource"]) == ("done", version)
    checks = adopted("--change-set", shop.plan(handing.replace("second", "third")))["changeSet"]
    assert (checks["step"], failing(checks["checks"])) == ("roll-out", {})
    shop.deploy(handing.replace("second", "third"))
    assert shop.moves == ["1"]
    shop.roll_out()
    assert "to which a rollout has moved it" in str(step(adopted(), "hand-over")["checks"])


def test_the_change_is_shown_in_the_words_of_the_template(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    lines = step(adopted(), "retain")["diff"].splitlines()
    changed = [line for line in lines if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")]
    assert changed == ["+    DeletionPolicy: Retain", "+    UpdateReplacePolicy: Retain"]
    shop.deploy(retained(BY_SAM))
    found = step(adopted(), "hand-over")
    removed = [line[1:] for line in found["diff"].splitlines() if line.startswith("-") and line[:3] != "---"]
    assert removed == PREFERENCE.splitlines()
    # AND the custom resource does what DeploymentPreference did
    added = parsed(found["added"])
    assert added["Parameters"] == {"Release": {"Type": "String"}}
    assert added["Resources"]["CartRollout"]["Properties"] == {
        "ServiceToken": {"Fn::ImportValue": "headgate-ServiceToken"},
        "Alias": {"Ref": "Cart.Alias"},
        "Release": {"Ref": "Release"},
        "Strategy": "Linear10PercentEvery1Minute",
        "Alarms": [{"Ref": "CartErrors"}],
        "Hooks": {"PreTraffic": {"Ref": "CartTest"}},
    }


def test_what_runs_on_the_alias_comes_first(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    shop.weights, shop.deployments, shop.shop_status = {"2": 0.1}, ["d-1"], "UPDATE_ROLLBACK_FAILED"
    shop.serves = "2"
    found = adopted(code=1)
    assert statuses(found)[:2] == ["ready blocked", "retain later"]
    assert set(failing(step(found, "ready")["checks"])) == {"stack", "deployment", "weights", "served"}
    assert "changeSet" not in adopted("--change-set", shop.plan(retained(BY_SAM)), code=1)

    shop.weights, shop.deployments, shop.shop_status, shop.serves = {}, [], "UPDATE_COMPLETE", "1"
    assert adopted()["standing"] == "ready"
    shop.lock("lambda-alias/shop-cart/live", "shop-7")
    assert "headgate watch shop-7" in failing(step(adopted(code=1), "ready")["checks"])["rollout"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda text, _: with_constant(text, '"0000000000"'), {"pattern", "version", "alias"}),
        (lambda text, _: with_constant(text, "!Ref Sha"), {"pattern", "version", "alias"}),
        (lambda text, digits: with_constant(text, digits) + "X", {"custom-resource"}),
        (lambda text, digits: with_constant(text, digits).replace(RETAINED, ""), {"retained"}),
        (lambda text, digits: with_constant(text, digits).replace("shop-cart", "basket"), {"function"}),
        (lambda text, digits: text.replace(PREFERENCE, f"{PREFERENCE}      AutoPublishCodeSha256: {digits}\n"),
         {"pattern", "custom-resource"}),
        (lambda text, digits: with_constant(text, digits).replace("Alias: live", "Alias: blue"),
         {"pattern", "alias"}),
    ],
)  # fmt: skip
def test_a_change_set_that_does_something_else_is_found_out(shop: Shop, change: Any, names: set[str]) -> None:
    shop.deploy(retained(BY_SAM))
    digits = digits_of(adopted())
    text = change(retained(BY_SAM), f'"{digits}"')
    if text.endswith("X"):
        text = text[: text.index("  CartRollout")]
    text = text.replace("Resources:\n", "Parameters: {Sha: {Type: String, Default: ff}}\nResources:\n", 1)
    found = adopted("--change-set", shop.plan(text), code=1)
    assert set(failing(found["changeSet"]["checks"])) == names
    if "pattern" in names and "version" in names:
        assert digits in failing(found["changeSet"]["checks"])["pattern"]


@pytest.mark.parametrize(
    ("fields", "fix"),
    [
        ({"Status": "CREATE_IN_PROGRESS", "ExecutionStatus": "UNAVAILABLE"}, "wait"),
        ({"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}, "built"),
        ({"Status": "FAILED", "StatusReason": "no such bucket"}, "another one"),
        ({"ExecutionStatus": "OBSOLETE"}, "another one"),
    ],
)
def test_a_change_set_that_cannot_be_executed_is_no_step(shop: Shop, fields: dict[str, str], fix: str) -> None:
    shop.deploy(BY_SAM)
    found = adopted("--change-set", shop.plan(retained(BY_SAM), **fields), code=1)["changeSet"]
    assert fix in failing(found["checks"])["change-set"]


def test_an_alias_with_provisioned_concurrency_cannot_be_rolled_out_so_it_is_not_taken_over(shop: Shop) -> None:
    provisioned = "      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 1}\n"
    shop.deploy(BY_SAM.replace(PREFERENCE, provisioned))
    assert set(failing(step(adopted(code=1), "ready")["checks"])) == {"provisioned"}


def described(text: str, description: str) -> str:
    """A template whose version has a description, and a parameter that it may refer to."""
    text = text.replace("Resources:\n", "Parameters: {Release: {Type: String}}\nResources:\n", 1)
    return text.replace(
        "AutoPublishAlias: live\n", f"AutoPublishAlias: live\n      VersionDescription: {description}\n"
    )


def test_a_description_that_follows_a_parameter_comes_out_before_the_hand_over(shop: Shop) -> None:
    shop.values["Release"] = "abc"
    text = described(retained(BY_SAM), "!Ref Release")
    shop.deploy(text)
    found = adopted(code=1)
    assert statuses(found)[:3] == ["ready blocked", "retain done", "hand-over later"]
    assert "remove VersionDescription of Cart" in failing(step(found, "ready")["checks"])["settled"]
    shop.deploy(retained(BY_SAM))
    digits = digits_of(adopted())

    # AND a hand-over that brings one is found out
    handing = described(with_constant(retained(BY_SAM), f'"{digits}"'), "!Ref Release")
    assert "settled" in failing(adopted("--change-set", shop.plan(handing), code=1)["changeSet"]["checks"])


def test_a_description_of_a_version_that_a_literal_does_not_point_at_may_change(shop: Shop) -> None:
    shop.values["Release"] = "abc"
    text = BY_HAND.replace("{FunctionName: !Ref Cart}", "{FunctionName: !Ref Cart, Description: !Ref Release}")
    shop.deploy(text)
    assert statuses(adopted())[:2] == ["ready done", "retain next"]
    shop.deploy(text + "      Description: !Ref Release\n")
    assert "remove Description of Live" in failing(step(adopted(code=1), "ready")["checks"])["settled"]


def test_a_description_that_follows_a_parameter_moves_an_alias_that_was_handed_over(shop: Shop) -> None:
    # GIVEN an alias that was handed over by hand, of a version whose description is the release
    shop.values["Release"] = "abc"
    text = described(with_constant(retained(BY_SAM), '"0123456789"'), "!Ref Release")
    shop.deploy(text)
    shop.values["Release"] = "def"
    shop.deploy(text.replace("first", "second"))
    assert shop.moves == ["1", "2"]  # Nobody has judged the second.

    # THEN the command says so, with the only text that moves nothing
    found = adopted(code=1)
    assert statuses(found)[2:] == ["hand-over blocked", "roll-out later"]
    assert 'the literal "def"' in failing(step(found, "hand-over")["checks"])["settled"]
    settled = described(with_constant(retained(BY_SAM), '"0123456789"'), '"def"')
    shop.deploy(settled)
    again = failing(adopted("--change-set", shop.plan(text), code=1)["changeSet"]["checks"])
    assert again["settled"] == "leave VersionDescription of Cart as it is deployed"
    shop.values["Release"] = "ghi"
    shop.deploy(settled.replace("first", "third"))
    assert (adopted()["standing"], shop.moves) == ("done", ["1", "2"])


def test_a_change_set_that_does_not_exist_is_an_error(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    result = run("--change-set", "nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "list-change-sets --stack-name shop" in result.output


def test_globals_are_overridden_for_the_function_alone(shop: Shop) -> None:
    everywhere = "Globals: {Function: {AutoPublishAlias: live, DeploymentPreference: {Type: AllAtOnce}}}\n"
    text = everywhere + retained(BY_SAM).replace(PREFERENCE, "").replace("      AutoPublishAlias: live\n", "")
    shop.deploy(text)
    found = adopted()
    assert "+      DeploymentPreference: {Enabled: false}" in step(found, "hand-over")["diff"]
    assert "AutoPublishAlias stays in Globals" in step(found, "hand-over")["happens"]
    lines = f'      DeploymentPreference: {{Enabled: false}}\n      AutoPublishCodeSha256: "{digits_of(found)}"\n'
    handing = text.replace("      Events:", f"{lines}      Events:") + CUSTOM.replace("ALIAS", "Cart.Alias")
    assert failing(adopted("--change-set", shop.plan(handing))["changeSet"]["checks"]) == {}
    shop.deploy(handing)
    assert (adopted()["standing"], shop.moves) == ("done", ["1"])


def test_a_constant_that_is_there_stays(shop: Shop) -> None:
    constant = "      AutoPublishCodeSha256: '0123456789abcdef'\n"
    shop.deploy(retained(BY_SAM).replace(PREFERENCE, constant + PREFERENCE))
    found = step(adopted(), "hand-over")
    assert "AutoPublishCodeSha256" not in "".join(line for line in found["diff"].splitlines() if line[:1] in "+-")
    shop.deploy(retained(BY_SAM).replace(PREFERENCE, constant) + CUSTOM.replace("ALIAS", "Cart.Alias"))
    assert (adopted()["standing"], shop.moves) == ("done", ["1"])


def test_an_alias_of_the_templates_own_gets_the_number_that_it_serves(shop: Shop) -> None:
    # GIVEN a stack whose alias names a version that moves, and a function with a rollout behind it
    shop.deploy(BY_HAND.replace("CartVersion1", "CartVersion0"))
    shop.deploy(BY_HAND.replace("first", "second"))
    assert (shop.serves, adopted()["pattern"]) == ("2", "alias")
    diff = step(adopted(), "retain")["diff"]
    assert diff.count("+    DeletionPolicy: Retain") == 2  # Of the version too.

    # WHEN it is handed over
    second = BY_HAND.replace("first", "second")
    for kind in ("Version", "Alias"):
        second = second.replace(f"Lambda::{kind}\n", f"Lambda::{kind}\n{RETAINED}")
    assert failing(adopted("--change-set", shop.plan(second))["changeSet"]["checks"]) == {}
    shop.deploy(second)
    found = step(adopted(), "hand-over")
    assert '+      FunctionVersion: "2"' in found["diff"]
    assert parsed(found["added"])["Resources"]["CartRollout"]["Properties"]["Version"] == {
        "Fn::GetAtt": ["CartVersion1", "Version"]
    }
    literal = second.replace("!GetAtt CartVersion1.Version", '"NUMBER"')
    custom = CUSTOM.replace("ALIAS", "Live").replace("Release:", "Version: !Ref CartVersion1, Release:")
    wrong = adopted("--change-set", shop.plan(literal.replace("NUMBER", "1") + custom), code=1)
    assert set(failing(wrong["changeSet"]["checks"])) == {"alias"}
    handed = literal.replace("NUMBER", "2") + custom
    assert failing(adopted("--change-set", shop.plan(handed))["changeSet"]["checks"]) == {}
    shop.deploy(handed)

    # THEN it is Headgate's, and the way back wants a new version
    assert (adopted()["standing"], shop.moves) == ("done", ["1", "2"])
    shop.roll_out()
    back = adopted("--undo")
    assert "FunctionVersion: !GetAtt CartVersion1.Version" in step(back, "take-back")["diff"]
    old = adopted("--undo", "--change-set", shop.plan(second), code=1)
    assert set(failing(old["changeSet"]["checks"])) == {"version"}
    new = second.replace("CartVersion1", "CartVersion2")
    assert failing(adopted("--undo", "--change-set", shop.plan(new))["changeSet"]["checks"]) == {}


def test_the_way_back_publishes_the_code_that_is_served(shop: Shop, handed_over: str) -> None:
    # GIVEN an adopted alias that a rollout has moved on, and other code in $LATEST
    shop.deploy(handed_over.replace("first", "second"))
    shop.roll_out()
    shop.deploy(handed_over.replace("first", "third"))
    found = adopted("--undo", code=1)
    assert set(failing(step(found, "ready")["checks"])) == {"same-code"}

    # WHEN the served code is deployed, and the stack takes the alias back
    shop.deploy(handed_over.replace("first", "second"))
    found = adopted("--undo")
    assert statuses(found) == ["ready done", "take-back next", "by-codedeploy later", "drop-retain later"]
    assert "-      AutoPublishCodeSha256:" in step(found, "take-back")["diff"]
    preference = retained(BY_SAM).replace("first", "second")
    plain = preference.replace(PREFERENCE, "")
    # AND not with CodeDeploy, which would shift from the version of the adoption
    wrong = adopted("--undo", "--change-set", shop.plan(preference), code=1)
    assert set(failing(wrong["changeSet"]["checks"])) == {"pattern"}
    assert failing(adopted("--undo", "--change-set", shop.plan(plain))["changeSet"]["checks"]) == {}
    shop.deploy(plain)

    # THEN it serves a new version of the same code, and CodeDeploy may come back
    found = adopted("--undo")
    assert statuses(found) == ["ready done", "take-back done", "by-codedeploy next", "drop-retain next"]
    assert (found["standing"], shop.moves, shop.serves) == ("done", ["1", "3"], "3")
    assert '"Key": "second"' in shop.published[2].replace("S3Key", "Key")
    assert failing(adopted("--undo", "--change-set", shop.plan(preference))["changeSet"]["checks"]) == {}
    shop.deploy(preference)
    assert statuses(adopted("--undo")) == ["ready done", "take-back done", "by-codedeploy done", "drop-retain next"]
    shop.deploy(preference.replace(RETAINED, ""))
    assert statuses(adopted("--undo"))[-1] == "drop-retain done"
    assert run("--undo", "--change-set", shop.plan(preference)).exit_code == 2  # No step is left.
    assert shop.moves == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "properties"),
    [
        (lambda text: text.replace("s3://bucket/first", "s3://bucket/unjudged"), "Code"),
        (lambda text: text.replace("      Handler: app.handler", "      Handler: other.handler"), "Handler"),
        (lambda text: "Globals: {Function: {MemorySize: 512}}\n" + text, "MemorySize"),
        (lambda text: text.replace("      Events:", "      Layers: [!Ref CartLayer]\n      Events:"), "Layers"),
    ],
)
def test_the_stack_takes_an_alias_back_with_no_code_that_is_not_served(
    shop: Shop, handed_over: str, change: Any, properties: str
) -> None:
    # The description had the constant, and tags often name the commit. Neither is part of what is served.
    plain = retained(BY_SAM).replace(PREFERENCE, "      Tags: {Commit: abc}\n")
    assert failing(adopted("--undo", "--change-set", shop.plan(plain))["changeSet"]["checks"]) == {}
    unjudged = adopted("--undo", "--change-set", shop.plan(change(plain)), code=1)["changeSet"]["checks"]
    assert "rollout first" in failing(unjudged)["same-code"]
    assert set(failing(unjudged)) == {"same-code"}
    [found] = [each for each in unjudged if each["name"] == "same-code"]
    assert f"Cart changes: {properties};" in found["message"]


def test_a_function_that_the_alias_names_by_its_name_is_looked_at_all_the_same(shop: Shop) -> None:
    # GIVEN an adopted alias of the template's own, which does not refer to the function
    named = BY_HAND.replace("FunctionName: !Ref Cart", "FunctionName: shop-cart")
    custom = CUSTOM.replace("ALIAS", "Live").replace("Release:", "Version: !Ref CartVersion1, Release:")
    shop.deploy(named.replace("!GetAtt CartVersion1.Version", '"1"') + custom)
    # WHEN the stack takes it back
    back = named.replace("CartVersion1", "CartVersion2")
    assert failing(adopted("--undo", "--change-set", shop.plan(back))["changeSet"]["checks"]) == {}
    # THEN other code is found out
    unjudged = shop.plan(back.replace("first", "second"))
    checks = adopted("--undo", "--change-set", unjudged, code=1)["changeSet"]["checks"]
    assert set(failing(checks)) == {"same-code"}


@pytest.mark.parametrize(
    "detail",
    [
        {"Evaluation": "Static", "ChangeSource": "ParameterReference", "CausingEntity": "Key"},
        {"Evaluation": "Dynamic", "ChangeSource": "DirectModification"},  # Such as a mapping.
    ],
)
def test_the_stack_takes_an_alias_back_with_no_other_value_of_a_parameter(
    shop: Shop, handed_over: str, detail: dict[str, str]
) -> None:
    # GIVEN a change set that changes the function, although its resource is the same in both templates
    name = shop.plan(retained(BY_SAM).replace(PREFERENCE, ""))
    change: dict[str, Any] = {"LogicalResourceId": "Cart", "ResourceType": "AWS::Lambda::Function", "Action": "Modify"}
    change |= {"Replacement": "False", "Scope": ["Properties"]}
    target = {"Attribute": "Properties", "Name": "Code", "RequiresRecreation": "Never"}
    shop.planned[name][1]["Changes"].append({"ResourceChange": change | {"Details": [{"Target": target, **detail}]}})
    # THEN the check fails
    checks = adopted("--undo", "--change-set", name, code=1)["changeSet"]["checks"]
    assert set(failing(checks)) == {"same-code"}


def test_a_custom_resource_whose_condition_is_false_rolls_nothing_out(shop: Shop) -> None:
    # GIVEN a hand-over in which the custom resource is left out
    shop.deploy(retained(BY_SAM))
    handing = with_constant(retained(BY_SAM), f'"{digits_of(adopted())}"')
    conditional = handing.replace("HeadgateRollout\n", "HeadgateRollout\n    Condition: IsProduction\n")
    left_out = f"Conditions: {{IsProduction: !Equals [test, production]}}\n{conditional}"
    # THEN neither its change set nor its deployment hands the alias over
    checks = adopted("--change-set", shop.plan(left_out), code=1)["changeSet"]["checks"]
    assert "Condition" in failing(checks)["custom-resource"]
    shop.deploy(left_out)
    assert statuses(adopted())[2] == "hand-over next"
    assert "Condition of CartRollout must be true" in step(adopted(), "hand-over")["happens"]
    assert step(adopted(), "hand-over").get("added", "") == ""
    # AND it does so when the condition is true, and no longer when it is false again
    whole = left_out.replace("[test,", "[production,")
    assert failing(adopted("--change-set", shop.plan(whole))["changeSet"]["checks"]) == {}
    shop.deploy(whole)
    assert statuses(adopted())[2] == "hand-over done"
    checks = adopted("--change-set", shop.plan(left_out), code=1)["changeSet"]["checks"]
    assert set(failing(checks)) == {"custom-resource"}


@pytest.mark.parametrize("named", ["shop-cart:live", "!Ref CartAliaslive", "!Sub '${Cart}:live'"])
def test_the_custom_resource_of_the_alias_is_known_by_what_it_names(shop: Shop, handed_over: str, named: str) -> None:
    shop.deploy(handed_over.replace("!Ref Cart.Alias", named))
    assert adopted()["standing"] == "done"
    shop.deploy(handed_over.replace("!Ref Cart.Alias", "!Sub '${AWS::StackName}-cart:live'"))
    assert adopted()["standing"] == "ready"
    # AND, once it is deployed, by the ARN that is its physical id
    shop.physical["CartRollout"] = shop.physical["CartAliaslive"]
    assert adopted()["standing"] == "done"


def test_an_alias_that_moved_without_a_rollout_is_found_out(shop: Shop, handed_over: str) -> None:
    shop.published.append("by hand")
    shop.serves = "2"
    assert "CloudTrail" in failing(step(adopted(code=1), "hand-over")["checks"])["served"]


def test_a_nested_stack_is_deployed_by_the_outermost(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    shop.root, shop.root_status = "mall", "UPDATE_IN_PROGRESS"
    assert failing(step(adopted(code=1), "ready")["checks"])["stack"] == "wait until it has ended"
    shop.root_status = "UPDATE_COMPLETE"
    assert "pass the parameter Release on to shop" in step(adopted(), "hand-over")["happens"]
    assert step(adopted(), "retain")["commands"][0] == "sam deploy --stack-name mall --no-execute-changeset"
    result = run("--change-set", shop.plan(retained(BY_SAM)))
    assert (result.exit_code, "--include-nested-stacks" in result.output) == (2, True)
    name = shop.plan(retained(BY_SAM), IncludeNestedStacks=True)
    assert failing(adopted("--change-set", name)["changeSet"]["checks"]) == {}


def test_the_alias_of_a_large_stack_is_found(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    shop.hides_after = 1
    assert adopted()["resource"] == "CartAliaslive"


def test_an_alias_of_no_stack_needs_nothing(shop: Shop) -> None:
    shop.serves = "4"
    assert adopted() == {
        "target": "shop-cart:live", "way": "adopt", "stack": "", "resource": "", "pattern": "", "served": "4",
        "stackVersion": "", "versionResource": "", "standing": "done", "steps": [],
    }  # fmt: skip
    assert "belongs to no stack" in run("--undo").stdout
    assert run("--change-set", "x").exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shop-cart", "blue"), "there is no alias blue"),
        (("shop-cart",), "FUNCTION:ALIAS"),
        (("shop-cart", "7"), "is not a target"),
        (("4a52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e",), "is a consumer"),
        (("prod/shop",), "prod/shop is an ECS service, of which nothing is adopted"),
    ],
)
def test_what_is_no_alias_is_refused(shop: Shop, words: tuple[str, ...], said: str) -> None:
    result = run_command("adopt", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.output


def test_an_alias_of_latest_is_refused(shop: Shop) -> None:
    shop.serves = "$LATEST"
    assert "publish a version" in run().output


def test_what_a_macro_makes_is_refused(shop: Shop) -> None:
    shop.deploy(BY_SAM)
    shop.text = "Transform: Ours\nResources: {Functions: {Type: Ours::Functions}}\n"
    shop.GetTemplate = lambda **given: {  # type: ignore[method-assign]
        "TemplateBody": shop.text if given["TemplateStage"] == "Original" else transformed(BY_SAM)
    }
    result = run()
    assert (result.exit_code, "a macro or a loop" in result.output) == (2, True)


def test_the_text_shows_each_step_and_no_control_characters(shop: Shop, handed_over: str) -> None:
    shop.deploy(BY_SAM)
    shop.text = BY_SAM.replace("Type: AWS::Serverless::Function", "Type: AWS::Serverless::Function  # \u202eevil")
    shown = run().stdout
    assert shown.startswith("shop-cart:live is resource CartAliaslive of stack shop; its template points it at Cart")
    assert "1. The stack can no longer delete the alias  next" in shown
    assert "$ headgate adopt shop-cart:live --change-set NAME" in shown
    assert "+    DeletionPolicy: Retain" in shown
    assert "# ?evil" in shown
    shop.deploy(handed_over)
    assert run().stdout.endswith("The alias is Headgate's: deploying the stack moves it by rollouts only.\n")
    refused = run("--change-set", shop.plan(handed_over.replace("AutoPublishCodeSha256: ", "VersionDescription: ")))
    assert refused.exit_code == 1
    assert "A check failed. Nothing was changed" in refused.stdout
    assert "$ " not in refused.stdout
    assert "It may be executed." in run("--change-set", shop.plan(handed_over.replace("first", "next"))).stdout


@pytest.mark.parametrize(
    "text",
    [
        "Resources: {Cart: {Type: X, Properties: {A: 1, B: [2]}}}",
        "Resources:\n  Cart:\n    Type: X\n    Properties:\n      A: 1\n      B:\n      - 2\n",
        "Resources:\n    Cart:\n\n      Type: X  # kind\n      Properties:\n       # one\n       A: 1\n       B: [2]\n",
        json.dumps({"Resources": {"Cart": {"Type": "X", "Properties": {"A": 1, "B": [2]}}}}),
        {"Resources": {"Cart": {"Type": "X", "Properties": {"A": 1, "B": [2]}}}},
        {"Resources": {"Cart": OrderedDict(Type="X", Properties=OrderedDict(A=1, B=[2]))}},  # As boto3 returns JSON.
    ],
)
def test_an_edit_is_shown_whatever_the_style_of_the_template(text: Any) -> None:
    edit = Edit("Cart", attributes={"DeletionPolicy": "Retain"}, properties={"B": None, "C": {"D": "0123"}})
    diff = diff_of(text, [edit])
    added = [line[1:].strip() for line in diff.splitlines() if line[:1] == "+" and line[:3] != "+++"]
    assert "DeletionPolicy: Retain" in added
    assert any("0123" in line and '"' in line for line in added)
    assert edit.of(parsed(text)["Resources"]["Cart"]) == {
        "Type": "X", "DeletionPolicy": "Retain", "Properties": {"A": 1, "C": {"D": "0123"}},
    }  # fmt: skip


def test_functions_of_cloudformation_are_read_and_written() -> None:
    text = "A: !Ref X\nB: !GetAtt X.Y.Z\nC: !Sub '${A}'\nD: !Join [',', [a, !Ref B]]\nE: 2012-10-17\n"
    value = parsed(text)
    assert value == {
        "A": {"Ref": "X"},
        "B": {"Fn::GetAtt": ["X", "Y.Z"]},
        "C": {"Fn::Sub": "${A}"},
        "D": {"Fn::Join": [",", ["a", {"Ref": "B"}]]},
        "E": "2012-10-17",
    }
    assert parsed(as_yaml(value)) == value
    for wrong in ("a: [", "- a", "&a [*a"):
        with pytest.raises(Failure):
            parsed(wrong)


# What Headgate needs beside the alias


def with_hooks(text: str, constant: str) -> str:
    """The template after the hand-over, with the hook of before."""
    return with_constant(text, constant).replace("Minute}\n", "Minute, Hooks: {PreTraffic: !Ref CartTest}}\n")


@pytest.mark.parametrize(
    ("parameter", "pattern", "check", "value"),
    [
        ("TargetFunctions", "shop-check*", "target-functions", "shop-c*"),
        ("HookFunctions", "", "hook-functions", "shop-check-cart"),
        ("HookFunctions", "shop-cart-*", "hook-functions", "shop-c*"),
    ],
)
def test_a_function_that_headgate_may_not_reach_comes_first(
    shop: Shop, parameter: str, pattern: str, check: str, value: str
) -> None:
    shop.deploy(WITH_HOOK)
    assert failing(step(adopted(), "ready")["checks"]) == {}
    shop.parameters[parameter] = pattern
    found = adopted(code=1)
    [(name, fix)] = failing(step(found, "ready")["checks"]).items()
    assert (name, statuses(found)[:2]) == (check, ["ready blocked", "retain later"])
    assert f'deploy stack headgate with "{parameter}={value}"' in fix

    # AND after the hand-over, where the next release would be refused
    shop.deploy(retained(MENDED))
    shop.parameters[parameter] = "*"
    shop.deploy(with_hooks(retained(MENDED), f'"{digits_of(adopted())}"'))
    assert statuses(adopted())[-1] == "roll-out next"
    shop.parameters[parameter] = pattern
    found = adopted(code=1)
    assert (statuses(found)[-1], list(failing(step(found, "roll-out")["checks"]))) == ("roll-out blocked", [check])


def test_what_a_hook_of_codedeploy_needs_is_told_with_the_hand_over(shop: Shop) -> None:
    shop.deploy(retained(WITH_HOOK))
    found = adopted()
    layer, version, role = step(found, "hand-over")["notes"]
    assert layer.startswith("CartTest reports to CodeDeploy, and Headgate gets that by a layer only: add the layer of")
    assert f"({shop.outputs['CodeDeployHookLayerArn']})" in layer
    assert "AWS_LAMBDA_EXEC_WRAPPER: /opt/headgate-codedeploy-hook" in layer
    assert version.startswith("CartTest gets Cart.Version in its environment variable NewVersion, which stays version")
    assert role.startswith("Role of CartTest (its Policies): it allows Cart.Version, which stays version 1")
    assert '!Sub "${Cart.Arn}:*"' in role
    assert all(line in run().stdout for line in (layer, version, role))

    # AND a change set that leaves the hook as it is does not pass, as the next release would be refused
    constant = f'"{digits_of(found)}"'
    judged = adopted("--change-set", shop.plan(with_hooks(retained(WITH_HOOK), constant)), code=1)["changeSet"]
    [(name, fix)] = failing(judged["checks"]).items()
    assert (name, judged["notes"]) == ("hook-version", [layer, version, role])
    assert fix.startswith("remove NewVersion, and let CartTest invoke the version in headgate.candidate")

    # BUT one with the hook mended does
    name = shop.plan(with_hooks(retained(MENDED), constant))
    judged = adopted("--change-set", name)["changeSet"]
    assert (failing(judged["checks"]), judged["notes"]) == ({}, [])
    assert "It may be executed." in run("--change-set", name).stdout


def test_what_else_names_the_first_version_is_told(shop: Shop) -> None:
    outputs = 'Outputs:\n  Serves: {Value: !Sub "${Cart.Version}"}\n  Other: {Value: !Ref Cart}\n'
    permission = (
        "  Caller: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Cart.Version, "
        "Principal: events.amazonaws.com, Action: lambda:InvokeFunction}}\n"
    )
    shop.deploy(retained(MENDED) + permission + outputs)
    caller, serves = step(adopted(), "hand-over")["notes"]
    assert caller.startswith("Caller refers to Cart.Version")
    assert serves.startswith("Output Serves refers to Cart.Version")


def test_a_hook_of_another_stack_is_checked_by_its_name(shop: Shop) -> None:
    shop.deploy(retained(BY_SAM.replace("!Ref CartTest", "CodeDeployHook_all")))
    found = adopted(code=1)
    assert "CodeDeployHook_all is not covered by HookFunctions" in str(step(found, "ready")["checks"])
    shop.parameters["HookFunctions"] = "CodeDeployHook_*"
    [note] = step(adopted(), "hand-over")["notes"]
    assert note.startswith("CodeDeployHook_all is not in this template. If it reports to CodeDeploy, add the layer")


def test_a_hook_that_answers_headgate_needs_no_layer(shop: Shop) -> None:
    shop.deploy(retained(MENDED).replace(WRAPPED, ""))
    text = with_constant(retained(MENDED).replace(WRAPPED, ""), f'"{digits_of(adopted())}"')
    shop.deploy(text.replace("Minute}\n", "Minute, Hooks: {beforeTraffic: [{lambda: !Ref CartTest}]}}\n"))
    found = step(adopted(), "roll-out")
    assert found["notes"] == []
    assert [each["name"] for each in found["checks"]] == ["target-functions", "hook-functions"]


def test_the_way_back_shows_what_goes_and_what_refers_to_it(shop: Shop, handed_over: str) -> None:
    after = "  Late: {Type: AWS::SNS::Topic, DependsOn: CartRollout}\n"
    shop.deploy(f"{handed_over}{after}Outputs:\n  Serves: {{Value: !GetAtt CartRollout.Version}}\n")
    found = step(adopted("--undo"), "take-back")
    assert "-  CartRollout:\n-    Type: Custom::HeadgateRollout\n" in found["diff"]
    assert found["notes"] == [
        "Late refers to CartRollout: remove the reference in the same deployment.",
        "output Serves refers to CartRollout: remove the reference in the same deployment.",
    ]
