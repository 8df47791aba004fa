"""What SAM makes of the sample shop: everything that calls it goes through the alias that Headgate moves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

from tests.builders import ROOT

Resources = dict[str, dict[str, Any]]

BOUND = ("AWS::Lambda::Url", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission")
"""Types of the resources that call a function, or allow it."""


class NoPolicies:
    """Managed policies by name; without one, SAM takes those that it knows."""

    def load(self) -> dict[str, str]:
        return {}


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def transformed(name: str, *, code: str = "s3://artifacts/one") -> Resources:
    """Return the resources of a template as ``sam deploy`` sends it and SAM transforms it."""
    template = yaml_parse((ROOT / "examples" / name).read_text("utf-8"))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
    resources: Resources = transform(template, {}, NoPolicies())["Resources"]
    return resources


def of_type(resources: Resources, *types: str) -> Resources:
    return {name: resource for name, resource in resources.items() if resource["Type"] in types}


def callee(resource: dict[str, Any]) -> Any:
    """Return the function, version or alias that a resource calls."""
    return resource["Properties"].get("TargetFunctionArn") or resource["Properties"]["FunctionName"]


def integrations(resources: Resources) -> list[str]:
    """Return the URIs of the operations of all APIs."""
    apis = of_type(resources, "AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api")
    return [
        operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
        for api in apis.values()
        for path in api["Properties"]["Body"]["paths"].values()
        for operation in path.values()
    ]


def test_everything_that_calls_the_shop_is_bound_to_the_alias_that_sam_makes() -> None:
    resources = transformed("shop.yaml")
    bound = of_type(resources, *BOUND)
    assert {resource["Type"] for resource in bound.values()} == set(BOUND)
    assert all(callee(resource) == {"Ref": "ShopAliaslive"} for resource in bound.values())
    [uri] = integrations(resources)
    assert uri.endswith("/functions/${ShopAliaslive}/invocations")
    assert resources["ShopRollout"]["Properties"]["Alias"] == {"Ref": "ShopAliaslive"}


@pytest.mark.parametrize("name", ["shop.yaml", "shop_consumer.yaml"])
def test_a_change_of_code_leaves_alias_and_version_as_they_are(name: str) -> None:
    before, after = transformed(name), transformed(name, code="s3://artifacts/two")
    assert before["Shop"]["Properties"]["Code"] != after["Shop"]["Properties"]["Code"]
    kinds = ("AWS::Lambda::Alias", "AWS::Lambda::Version")
    assert of_type(before, *kinds) == of_type(after, *kinds)
    assert list(of_type(after, "AWS::Lambda::Version")) == ["ShopVersion0000000000"]
    assert of_type(before, *BOUND) == of_type(after, *BOUND)


def test_without_the_constant_a_change_of_code_moves_the_alias() -> None:
    # GIVEN the shop as it was, without Headgate
    before, after = transformed("shop_before.yaml"), transformed("shop_before.yaml", code="s3://artifacts/two")
    # THEN its alias follows each version
    assert before["ShopAliaslive"]["Properties"] != after["ShopAliaslive"]["Properties"]
    assert "CodeDeployLambdaAliasUpdate" in before["ShopAliaslive"]["UpdatePolicy"]


def test_the_shop_keeps_its_alias_and_what_is_bound_to_it_when_it_moves_to_headgate() -> None:
    before, after = transformed("shop_before.yaml"), transformed("shop.yaml")
    assert of_type(before, *BOUND).keys() - {"ShopUrlPublicPermissions"} == of_type(after, *BOUND).keys()
    for name, resource in of_type(after, *BOUND).items():
        assert before[name] == resource
    assert not of_type(after, "AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup")


def test_explicit_resources_are_bound_to_the_alias_that_headgate_makes() -> None:
    resources = transformed("shop_explicit.yaml")
    bound = of_type(resources, *BOUND)
    assert {resource["Type"] for resource in bound.values()} == set(BOUND)
    assert all(callee(resource) == {"Ref": "ShopRollout"} for resource in bound.values())
    [uri] = integrations(resources)
    assert uri.endswith("/functions/${ShopRollout}/invocations")
    # AND nothing calls the alias that SAM publishes through
    others = {name: resource for name, resource in resources.items() if name != "ShopAliascandidate"}
    assert "ShopAliascandidate" not in json.dumps(others)


def test_a_change_of_code_changes_the_version_of_the_explicit_shop() -> None:
    one, two = (transformed("shop_explicit.yaml", code=f"s3://artifacts/{name}") for name in ("one", "two"))
    assert one["ShopRollout"]["Properties"]["Version"] != two["ShopRollout"]["Properties"]["Version"]
    assert list(one["ShopRollout"]["Properties"]["Version"]) == ["Ref"]


def test_the_consumers_mapping_and_its_rollout_are_about_the_same_alias() -> None:
    resources = transformed("shop_consumer.yaml")
    [(mapping, resource)] = of_type(resources, "AWS::Lambda::EventSourceMapping").items()
    assert callee(resource) == {"Ref": "ShopAliaslive"}
    assert resources["ShopRollout"]["Properties"]["Mapping"] == {"Ref": mapping}
