"""Which stack a resource belongs to, as CloudFormation tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from cfnlint.decode import cfn_yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from headgate.aws.clients import impatient_client
from headgate.aws.owning_stack import OF_ALIAS, OF_VERSION, StackOwner, keeps_version, owner_of
from headgate.aws.place import Place
from headgate.planning.stack_owner import StackOwners
from headgate.spec.routing import GroupPair, Routing
from headgate.spec.targets import LambdaAliasTarget
from tests.builders import ACCOUNT, REGION, ROOT
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.routing import Way
from tests.fakes.stacks import ALIAS, FakeStacks


@pytest.fixture(scope="module")
def client(_nobodys_account: None) -> Any:
    return boto3.client("cloudformation")


@pytest.fixture
def fake(client: Any) -> Iterator[FakeStacks]:
    fake = FakeStacks()
    detach = fake.attach(client)
    yield fake
    detach()


@pytest.fixture
def stacks(client: Any, fake: FakeStacks) -> StackOwners:
    return StackOwners(client, Place("aws", ACCOUNT, REGION))


def test_a_resource_of_no_stack_has_no_owner(fake: FakeStacks, client: Any) -> None:
    assert owner_of(client, ALIAS) is None


def test_an_owner_is_found_among_the_other_resources_of_its_stack(fake: FakeStacks, client: Any) -> None:
    fake.owned |= {"checkout": ("shop", "Checkout"), ALIAS: ("shop", "Live"), "basket": ("other", "Basket")}
    assert owner_of(client, ALIAS) == StackOwner("shop", "Live")


def test_of_a_stack_with_more_resources_than_it_tells_at_once_the_name_is_known(fake: FakeStacks, client: Any) -> None:
    fake.owned |= {f"queue-{number}": ("shop", f"Queue{number}") for number in range(100)} | {ALIAS: ("shop", "Live")}
    assert owner_of(client, ALIAS) == StackOwner("shop", "")


def test_a_warning_names_the_alias_the_stack_and_the_resource_where_it_is_known() -> None:
    warning = StackOwner("shop", "Live").warning_about("checkout:live")
    assert warning.startswith("target.alias: checkout:live is resource Live of the CloudFormation stack shop, and ")
    assert " is a resource of the CloudFormation stack shop, and " in StackOwner("shop", "").warning_about(
        "checkout:live"
    )


TARGET = LambdaAliasTarget(kind="lambda-alias", function="checkout", alias="live")
BY_SAM: dict[str, Any] = {"Fn::GetAtt": ["CheckoutVersionab12cd34ef", "Version"]}
"""What AutoPublishAlias becomes."""
BY_CODEDEPLOY: dict[str, Any] = {"CodeDeployLambdaAliasUpdate": {"ApplicationName": "shop"}}


LITERAL = "Resources:\n  Live:\n    Properties:\n      FunctionVersion: '1'\n"


def template_of(version: Any, logical: str = "Live", name: Any = "live", **more: Any) -> dict[str, Any]:
    alias = {"Type": "AWS::Lambda::Alias", "Properties": {"FunctionVersion": version, "Name": name}, **more}
    return {"Resources": {"Version": {"Type": "AWS::Lambda::Version"}, logical: alias}}


def test_the_shipped_example_which_does_what_is_advised_gets_no_warning(fake: FakeStacks, stacks: StackOwners) -> None:
    text = (ROOT / "examples" / "checkout.yaml").read_text("utf-8")
    fake.owned[ALIAS] = ("checkout", "Live")
    # As CloudFormation answers it: text as it was written, and an object after SAM's transform.
    for fake.template in (text, cfn_yaml.loads(text)):
        assert stacks.warnings_about(TARGET) == []


@pytest.mark.parametrize(
    ("template", "moves"),
    [
        (template_of("1"), False),
        (template_of(1), False),
        (template_of(BY_SAM), True),
        (template_of({"Ref": "LiveVersion"}), True),
        (template_of("1", UpdatePolicy=BY_CODEDEPLOY), True),
        ({"Resources": {}}, True),
        ("Resources:\n  Live:\n    Properties:\n      FunctionVersion: '1'  # literal\n", False),
        ("Resources:\n  Live:\n    Properties:\n      FunctionVersion: !GetAtt Version.Version\n", True),
        ("Resources:\n  Other:\n    Properties:\n      FunctionVersion: 1\n  Live:\n    Type: X\n", True),
        ("Resources:\n  Live: {Properties: {FunctionVersion: 1}}\n", True),
        ("Resources:\n  Live:\n    UpdatePolicy: {CodeDeployLambdaAliasUpdate: {}}\n    FunctionVersion: 1\n", True),
        (LITERAL + "      Description: first\n", False),
        (LITERAL + "      Description: !Ref Release\n", True),
        (LITERAL + "      ProvisionedConcurrencyConfig:\n        ProvisionedConcurrentExecutions: !Ref N\n", True),
        (LITERAL + "      FunctionName: !Ref Checkout\n", False),
        ("", True),
    ],
)
def test_a_warning_is_given_unless_the_template_certainly_leaves_the_alias_alone(
    fake: FakeStacks, stacks: StackOwners, template: Any, *, moves: bool
) -> None:
    fake.owned[ALIAS], fake.template = ("shop", "Live"), template
    assert [each.split(" is ")[0] for each in stacks.warnings_about(TARGET)] == ["target.alias: checkout:live"] * moves


@pytest.mark.parametrize(
    ("template", "moves"),
    [
        (template_of("1", "Some"), False),
        (template_of("1", "Some", {"Ref": "Name"}), False),
        (template_of(BY_SAM, "Some", {"Ref": "Name"}), True),
        (template_of(BY_SAM, "Some", "other"), True),
        ("Resources:\n  Some:\n    Properties:\n      FunctionVersion: 1\n", True),
    ],
)
def test_of_a_resource_that_is_not_known_every_alias_that_it_may_be_must_have_a_literal_version(
    template: Any, *, moves: bool
) -> None:
    assert keeps_version(template, "", "live") is not moves


def test_a_template_that_cannot_be_read_leaves_the_warning(
    fake: FakeStacks, stacks: StackOwners, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.owned[ALIAS] = ("shop", "Live")

    def denied(**_: Any) -> Any:
        raise Refusal("AccessDenied")

    monkeypatch.setattr(fake, "GetTemplate", denied)
    assert len(stacks.warnings_about(TARGET)) == 1


IN_YAML = """
Resources:
  Checkout:
    Type: AWS::Serverless::Function
    Properties:
      AutoPublishAlias: live
      AutoPublishCodeSha256: {}
"""


def sam_function(constant: Any) -> dict[str, Any]:
    properties = {"AutoPublishAlias": "live", "AutoPublishCodeSha256": constant}
    return {"Resources": {"Checkout": {"Type": "AWS::Serverless::Function", "Properties": properties}}}


def sam_alias(**more: Any) -> dict[str, Any]:
    template = template_of(BY_SAM, "CheckoutAliaslive", **more)
    template["Resources"]["CheckoutAliaslive"]["Properties"]["FunctionName"] = {"Ref": "Checkout"}
    return template


@pytest.mark.parametrize(
    ("original", "moves"),
    [
        (sam_function("ab12cd34ef"), False),
        (sam_function("ab12cd34ef" + 54 * "0"), False),
        (sam_function("0123456789"), True),  # Another template than the one that was processed.
        (sam_function({"Ref": "Sha"}), True),
        (sam_function(None), True),
        ({"Resources": {}}, True),
        (IN_YAML.format("'ab12cd34ef'"), False),
        (IN_YAML.format("ab12cd34ef  # constant"), False),
        (IN_YAML.format("!Ref Sha"), True),
        (IN_YAML.replace("Checkout:", "Basket:").format("ab12cd34ef"), True),
        ("", True),
    ],
)
def test_a_version_that_sam_makes_of_a_constant_gets_no_warning(
    fake: FakeStacks, stacks: StackOwners, original: Any, *, moves: bool
) -> None:
    fake.owned[ALIAS] = ("shop", "CheckoutAliaslive")
    fake.template, fake.original = sam_alias(), original
    assert len(stacks.warnings_about(TARGET)) == int(moves)
    assert keeps_version(fake.template, "", "live", original) is not moves


def test_a_constant_does_not_excuse_codedeploy_or_a_version_of_another_function() -> None:
    original = sam_function("ab12cd34ef")
    assert not keeps_version(sam_alias(UpdatePolicy=BY_CODEDEPLOY), "CheckoutAliaslive", "live", original)
    template = sam_alias()
    template["Resources"]["CheckoutAliaslive"]["Properties"]["FunctionName"] = "checkout"
    assert not keeps_version(template, "CheckoutAliaslive", "live", original)


MOVING: list[tuple[str, str, Any]] = [
    ("CheckoutVersionab12cd34ef", "Description", {"Ref": "Release"}),
    ("CheckoutVersionab12cd34ef", "Description", {"Fn::Sub": "release ${Release} of ${AWS::StackName}"}),
    ("CheckoutVersionab12cd34ef", "Description", {"Fn::Join": [" ", ["release", {"Ref": "Release"}]]}),
    ("CheckoutVersionab12cd34ef", "Description", {"Fn::If": ["IsProduction", "one", "other"]}),
    ("CheckoutVersionab12cd34ef", "CodeSha256", {"Ref": "Sha"}),
    ("CheckoutVersionab12cd34ef", "RuntimePolicy", {"UpdateRuntimeOn": {"Ref": "When"}}),
    ("CheckoutVersionab12cd34ef", "ProvisionedConcurrencyConfig", {"ProvisionedConcurrentExecutions": {"Ref": "N"}}),
    ("CheckoutAliaslive", "ProvisionedConcurrencyConfig", {"ProvisionedConcurrentExecutions": {"Ref": "N"}}),
    ("CheckoutAliaslive", "Description", {"Ref": "Release"}),
    ("CheckoutAliaslive", "RoutingConfig", {"AdditionalVersionWeights": [{"FunctionWeight": {"Ref": "Share"}}]}),
]


@pytest.mark.parametrize(("resource", "name", "value"), MOVING)
def test_a_constant_does_not_excuse_another_property_that_moves_the_alias(resource: str, name: str, value: Any) -> None:
    original = sam_function("ab12cd34ef")
    template = sam_alias()
    version = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Checkout"}}}
    template["Resources"]["CheckoutVersionab12cd34ef"] = version
    assert keeps_version(template, "CheckoutAliaslive", "live", original)
    template["Resources"][resource]["Properties"][name] = value
    assert not keeps_version(template, "CheckoutAliaslive", "live", original)
    assert not keeps_version(template, "", "live", original)


def test_the_properties_that_move_an_alias_are_those_of_cloudformation() -> None:
    version, alias = (
        PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, f"AWS::Lambda::{name}").schema
        for name in ("Version", "Alias")
    )
    replaced = {each.removeprefix("/properties/") for each in version["createOnlyProperties"]}
    # Of a version that SAM makes, FunctionName always refers to its function.
    assert replaced - {"FunctionName"} == set(OF_VERSION)
    assert set(alias["properties"]) - {"AliasArn", "FunctionName", "FunctionVersion", "Name"} == set(OF_ALIAS)


@pytest.mark.parametrize("value", ["first", {"Fn::Sub": "${AWS::StackName} ${!literal}"}, {"Ref": "AWS::Region"}])
def test_a_description_that_never_changes_gets_no_warning(value: Any) -> None:
    template = sam_alias()
    version = {"Type": "AWS::Lambda::Version", "Properties": {"Description": value}}
    template["Resources"]["CheckoutVersionab12cd34ef"] = version
    assert keeps_version(template, "CheckoutAliaslive", "live", sam_function("ab12cd34ef"))


def in_function(name: str, value: Any) -> dict[str, Any]:
    original = sam_function("ab12cd34ef")
    original["Resources"]["Checkout"]["Properties"][name] = value
    return original


PROVISIONED = {"ProvisionedConcurrentExecutions": {"Ref": "N"}}


@pytest.mark.parametrize(
    ("original", "moves"),
    [
        (in_function("VersionDescription", {"Ref": "Release"}), True),
        (in_function("ProvisionedConcurrencyConfig", PROVISIONED), True),
        (sam_function("ab12cd34ef") | {"Globals": {"Function": {"ProvisionedConcurrencyConfig": PROVISIONED}}}, True),
        (in_function("VersionDescription", "first"), False),
        (in_function("Description", {"Ref": "Release"}), False),
        (IN_YAML.format("ab12cd34ef\n      VersionDescription: !Ref Release"), True),
        (IN_YAML.format("ab12cd34ef\n      VersionDescription: {Ref: Release}"), True),
        (IN_YAML.format("ab12cd34ef\n      VersionDescription:\n        Fn::Sub: of ${Release}"), True),
        (IN_YAML.format("ab12cd34ef\n      VersionDescription: first"), False),
        ("Globals:\n  Function:\n    ProvisionedConcurrencyConfig:\n      ProvisionedConcurrentExecutions: !Ref N\n"
         + IN_YAML.format("ab12cd34ef"), True),
    ],
)  # fmt: skip
def test_a_parameter_that_another_transform_has_put_in_still_moves_the_alias(original: Any, *, moves: bool) -> None:
    assert keeps_version(sam_alias(), "CheckoutAliaslive", "live", original) is not moves


@pytest.mark.parametrize("release", [{"Ref": "Release"}, "first"])
def test_of_a_literal_version_too_a_parameter_may_have_been_put_into_the_alias(
    fake: FakeStacks, stacks: StackOwners, release: Any
) -> None:
    fake.owned[ALIAS], fake.template, original = ("shop", "Live"), template_of("1"), template_of("1")
    original["Resources"]["Live"]["Properties"]["Description"] = release
    yaml = f"{LITERAL}      Description: {'first' if release == 'first' else '!Ref Release'}\n"
    for fake.original in (original, yaml):
        assert len(stacks.warnings_about(TARGET)) == int(release != "first")


def test_a_custom_resource_that_has_made_an_alias_and_moves_it_by_rollouts_is_no_owner(
    fake: FakeStacks, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.owned[ALIAS], fake.types = ("shop", "CheckoutRollout"), {"CheckoutRollout": "Custom::HeadgateRollout"}
    assert owner_of(client, ALIAS) is None

    # GIVEN an alias of the stack's own beside it, whose ARN is the physical id of both
    [custom] = fake.DescribeStackResources(ALIAS)["StackResources"]
    alias = custom | {"LogicalResourceId": "Live", "ResourceType": "AWS::Lambda::Alias"}
    monkeypatch.setattr(fake, "DescribeStackResources", lambda **_: {"StackResources": [custom, alias]})
    assert owner_of(client, ALIAS) == StackOwner("shop", "Live")


@pytest.mark.parametrize("status", ["DELETE_COMPLETE", "DELETE_SKIPPED"])
def test_a_stack_that_was_deleted_owns_nothing_any_more(fake: FakeStacks, client: Any, status: str) -> None:
    fake.owned[ALIAS], fake.status = ("shop", "Live"), status
    assert owner_of(client, ALIAS) is None


@pytest.mark.parametrize(
    "failure", [Refusal("AccessDenied"), Refusal("ValidationError", "1 validation error detected: too long")]
)
def test_what_is_no_answer_is_not_taken_for_one(fake: FakeStacks, client: Any, failure: Refusal) -> None:
    fake.failure = failure
    with pytest.raises(ClientError):
        owner_of(client, ALIAS)


def test_its_client_neither_waits_nor_tries_again() -> None:
    config: Any = impatient_client("cloudformation").meta.config
    assert config.connect_timeout + config.read_timeout <= 3
    assert config.retries["total_max_attempts"] == 1


def test_the_planner_may_find_the_stack_of_a_resource_and_read_the_template_of_its_own_account_and_region() -> None:
    template = (ROOT / "template.yaml").read_text("utf-8")
    # This call names a resource, not a stack.
    _, _, statement = template.partition("Action: cloudformation:DescribeStackResources\n")
    assert statement.split("\n")[0].strip() == 'Resource: "*"'
    _, _, statement = template.partition("Action: cloudformation:GetTemplate\n")
    assert statement.split("\n")[0].endswith("cloudformation:${AWS::Region}:${AWS::AccountId}:stack/*")


SERVICE = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/prod/shop"
RULES = [f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:listener-rule/app/web/1/2/{number}" for number in range(3)]
LISTENER = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:listener/app/web/1/2"


def routing(way: Way = "green-service", *rules: str) -> Routing:
    pair = GroupPair(load_balancer="web", stable="blue", candidate="green", container="app", port=80, rules=[*rules])
    return Routing(way=way, pairs=[pair])


def test_stacks_of_a_service_and_its_rules_are_told_once_each(fake: FakeStacks, stacks: StackOwners) -> None:
    fake.owned |= {SERVICE: ("shop", "Service"), **{rule: ("web", f"R{place}") for place, rule in enumerate(RULES)}}
    fake.types |= {"Service": "AWS::ECS::Service"} | dict.fromkeys(
        ("R0", "R1", "R2"), "AWS::ElasticLoadBalancingV2::ListenerRule"
    )
    of_service, of_rules = stacks.warnings_about_service("shop", SERVICE, routing("green-service", *RULES))
    assert of_service.startswith("target.service: shop is resource Service of the CloudFormation stack shop, and ")
    assert of_rules.startswith(f"target.rules: {RULES[2]} is resource R2 of the CloudFormation stack web, and ")
    assert of_rules.endswith("; do not deploy it during the rollout")


def test_default_actions_are_those_of_a_listener(fake: FakeStacks, stacks: StackOwners) -> None:
    fake.owned[LISTENER] = ("web", "Listener")
    fake.types["Listener"] = "AWS::ElasticLoadBalancingV2::Listener"
    (warning,) = stacks.warnings_about_service("shop", SERVICE, routing("task-sets", LISTENER))
    assert warning.startswith(f"target.rules: {LISTENER} is resource Listener of the CloudFormation stack web")
    assert warning.endswith(
        "; after a promotion swap the two weights in its template, because the target groups alternate"
    )


def test_a_look_for_the_stacks_of_a_service_that_fails_is_not_repeated(fake: FakeStacks, stacks: StackOwners) -> None:
    fake.failure = Refusal("Throttling", "Rate exceeded")
    assert stacks.warnings_about_service("shop", SERVICE, routing("green-service", *RULES)) == []
    assert fake.asked == 1
