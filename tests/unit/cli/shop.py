"""A stack that owns an alias, deployed by a small CloudFormation with the real transform of SAM.

It carries out what counts for aliases: a resource is updated only if one of its properties has another value than
before, a new AWS::Lambda::Version publishes $LATEST, and what leaves the template is deleted unless retained.
"""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime
from typing import Any

from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

from headgate_cli.adopting.templates import parsed
from tests.builders import ACCOUNT, REGION
from tests.fakes.services import Refusal
from tests.unit.cli.installations import LAMBDA, Installation, gone

ALIAS, VERSION, FUNCTION = "AWS::Lambda::Alias", "AWS::Lambda::Version", "AWS::Lambda::Function"
ORDER = (FUNCTION, VERSION, ALIAS)
ATTRIBUTES = ("DeletionPolicy", "UpdateReplacePolicy", "UpdatePolicy")

Template = dict[str, Any]


def stack_id(name: str) -> str:
    return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/1"


def transformed(text: str) -> Template:
    """A template after SAM's transform."""
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    template = copy.deepcopy(parsed(text))
    if "Transform" not in template:
        return template
    return dict(Translator({}, Parser()).translate(template, {}))


def resources_of(text: str) -> Template:
    """The resources that the stack of a template has. A condition compares two texts."""
    template = transformed(text)
    conditions = template.get("Conditions", {})
    holds = {name: len(set(each["Fn::Equals"])) == 1 for name, each in conditions.items()}
    return {name: each for name, each in template["Resources"].items() if holds.get(each.get("Condition"), True)}


def _rank(resource: Template) -> int:
    return ORDER.index(resource["Type"]) if resource["Type"] in ORDER else 0


class Shop(Installation):
    """The stack ``shop`` with the function ``shop-cart``, beside Headgate's own."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs["CodeDeployHookLayerArn"] = f"{LAMBDA}:layer:CodeDeployHookLayer:1"
        self.text, self.living = "", Template()
        self.physical: dict[str, str] = {}
        self.published: list[str] = []
        """The code of each version."""
        self.latest = ""
        """The code in $LATEST."""
        self.moves: list[str] = []
        """Each version that CloudFormation has pointed the alias at."""
        self.serves, self.weights = "", dict[str, float]()
        self.shop_status, self.root = "CREATE_COMPLETE", "shop"
        self.root_status = "UPDATE_COMPLETE"
        self.planned: dict[str, tuple[str, dict[str, Any]]] = {}
        """Text and description of change sets, by name."""
        self.deployments: list[str] = []
        self.values: dict[str, str] = {}
        self.hides_after = 100
        self._described: dict[str, str] = {}
        """Description of each version that CloudFormation has published."""
        self._pointed: dict[str, str] = {}
        """Version that CloudFormation has written to each alias."""

    # What tests do

    def deploy(self, text: str) -> None:
        """Deploy a template: first functions, then versions, then aliases."""
        before, after = self.living, resources_of(text)
        for logical, each in sorted(after.items(), key=lambda item: _rank(item[1])):
            self._make(logical, each, before.get(logical))
        for logical in before.keys() - after.keys():
            if before[logical].get("DeletionPolicy") != "Retain":
                del self.physical[logical]
        self.text, self.living = text, after

    def _make(self, logical: str, resource: Template, before: Template | None) -> None:
        if resource["Type"] == FUNCTION and logical != "Cart":
            self.physical[logical] = resource["Properties"].get("FunctionName", f"shop-{logical}")
        elif resource["Type"] == FUNCTION:
            self.latest = json.dumps(resource["Properties"], sort_keys=True)
            self.physical[logical] = "shop-cart"
        elif resource["Type"] == VERSION:
            # Another description replaces a version, in which the logical id stays.
            description = self._value(resource["Properties"].get("Description", ""))
            if before is not None and description == self._described[logical]:
                return
            about = {"Description": description} if description else {}
            self.published.append(json.dumps(json.loads(self.latest) | about, sort_keys=True))
            self._described[logical] = description
            self.physical[logical] = f"{LAMBDA}:function:shop-cart:{len(self.published)}"
        elif resource["Type"] == ALIAS:
            version = self._value(resource["Properties"]["FunctionVersion"])
            if before is None or version != self._pointed[logical]:
                self.serves, self.weights = version, {}
                self.moves.append(version)
            self._pointed[logical] = version
            self.physical[logical] = f"{LAMBDA}:function:shop-cart:live"
        else:
            self.physical.setdefault(logical, f"shop-{logical}")

    def _value(self, value: Any) -> str:
        if isinstance(value, dict) and "Fn::GetAtt" in value:
            return self.physical[value["Fn::GetAtt"][0]].rpartition(":")[2]
        return self.values[value["Ref"]] if isinstance(value, dict) else str(value)

    def plan(self, text: str, **fields: Any) -> str:
        """Make a change set, and return its name."""
        name = f"change-{len(self.planned) + 1}"
        before, after = self.living, resources_of(text)
        changes = [change for logical in {**before, **after} if (change := self._change(logical, before, after))]
        about = {"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE", "Changes": changes, **fields}
        self.planned[name] = text, about
        return name

    def _change(self, logical: str, before: Template, after: Template) -> dict[str, Any] | None:
        kind = (after.get(logical) or before[logical])["Type"]
        about = {"LogicalResourceId": logical, "ResourceType": kind}
        if logical not in before or logical not in after:
            return {"ResourceChange": {"Action": "Remove" if logical in before else "Add", **about}}
        old, new = before[logical], after[logical]
        details: list[dict[str, Any]] = [
            {"Target": {"Attribute": name}, "Evaluation": "Static", "ChangeSource": "DirectModification"}
            for name in ATTRIBUTES
            if old.get(name) != new.get(name)
        ]
        scope = [each["Target"]["Attribute"] for each in details]
        for name in {**old.get("Properties", {}), **new.get("Properties", {})}:
            wanted = new.get("Properties", {}).get(name)
            if old.get("Properties", {}).get(name) != wanted:
                target = {"Attribute": "Properties", "Name": name}
                details.append({"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"})
            elif (
                isinstance(wanted, dict)
                and (cause := wanted.get("Fn::GetAtt"))
                and self._touched(cause[0], before, after)
            ):
                # As on AWS: the attribute of a changed resource might change.
                target = {"Attribute": "Properties", "Name": name}
                detail = {"Target": target, "Evaluation": "Dynamic", "ChangeSource": "ResourceAttribute"}
                details.append(detail | {"CausingEntity": ".".join(cause)})
        if not details:
            return None
        dynamic = any(each["Evaluation"] == "Dynamic" for each in details)
        scope += ["Properties"] if len(details) > len(scope) else []
        replacement = "Conditional" if dynamic and kind in (VERSION, ALIAS) else "False"
        if kind == FUNCTION and old["Properties"].get("FunctionName") != new["Properties"].get("FunctionName"):
            replacement = "True"
        about |= {"Replacement": replacement, "Scope": scope, "Details": details}
        return {"ResourceChange": {"Action": "Modify", **about}}

    def _touched(self, logical: str, before: Template, after: Template) -> bool:
        return logical in before and logical in after and self._change(logical, before, after) is not None

    def roll_out(self) -> None:
        """Let Headgate publish $LATEST and promote it."""
        self.published.append(self.latest)
        self.serves = str(len(self.published))
        self.items.append({"pk": "TARGET#lambda-alias/shop-cart/live", "sk": "LOCK", "last": "shop-1"})

    # CloudFormation

    def DescribeStacks(self, StackName: str) -> Any:
        nested = {"RootId": stack_id(self.root), "ParentId": stack_id(self.root)} if self.root != "shop" else {}
        about: dict[str, Any] = {"CreationTime": datetime.now(UTC)}
        if StackName == "shop":
            given = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.values.items()]
            about |= {"StackName": "shop", "StackId": stack_id("shop"), "StackStatus": self.shop_status, **nested}
            return {"Stacks": [about | {"Parameters": given}]}
        if StackName == stack_id(self.root):
            return {"Stacks": [about | {"StackName": self.root, "StackId": StackName, "StackStatus": self.root_status}]}
        return super().DescribeStacks(StackName)

    def _resources(self) -> list[dict[str, Any]]:
        about = {"ResourceStatus": "CREATE_COMPLETE", "StackName": "shop"}
        return [
            {**about, "LogicalResourceId": logical, "ResourceType": each["Type"],
             "PhysicalResourceId": self.physical[logical]}
            for logical, each in self.living.items()
        ]  # fmt: skip

    def DescribeStackResources(self, PhysicalResourceId: str) -> Any:
        found = self._resources()
        if PhysicalResourceId not in {each["PhysicalResourceId"] for each in found}:
            return super().DescribeStackResources(PhysicalResourceId)
        return {"StackResources": found[: self.hides_after]}

    def ListStackResources(self, StackName: str) -> Any:
        if StackName != "shop":
            return super().ListStackResources(StackName)
        return {"StackResourceSummaries": self._resources()}

    def GetTemplate(self, StackName: str, TemplateStage: str, ChangeSetName: str = "") -> Any:
        text = self.planned[ChangeSetName.rpartition("/")[2]][0] if ChangeSetName else self.text
        return {"TemplateBody": text if TemplateStage == "Original" else transformed(text)}

    def DescribeChangeSet(self, StackName: str, ChangeSetName: str, NextToken: str = "") -> Any:
        name = ChangeSetName.rpartition("/")[2]
        if name not in self.planned:
            raise Refusal("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)
        about = {**self.planned[name][1], "ChangeSetId": f"arn:nested/{name}"}
        if StackName == self.root != "shop":
            nested = {
                "LogicalResourceId": "Shop", "ResourceType": "AWS::CloudFormation::Stack", "Action": "Modify",
                "PhysicalResourceId": stack_id("shop"),
                **({"ChangeSetId": about["ChangeSetId"]} if "IncludeNestedStacks" in about else {}),
            }  # fmt: skip
            return about | {"Changes": [{"ResourceChange": nested}]}
        # A change on each page.
        at = int(NextToken or 0)
        more = {"NextToken": str(at + 1)} if at + 1 < len(about["Changes"]) else {}
        return about | {"Changes": about["Changes"][at : at + 1], **more}

    # Lambda and CodeDeploy

    def GetAlias(self, FunctionName: str, Name: str) -> Any:
        if (FunctionName, Name) != ("shop-cart", "live") or not self.serves:
            raise gone(Name)
        routing = {"RoutingConfig": {"AdditionalVersionWeights": self.weights}} if self.weights else {}
        arn = f"{LAMBDA}:function:shop-cart:live"
        return {"Name": Name, "AliasArn": arn, "FunctionVersion": self.serves, **routing}

    def GetFunctionConfiguration(self, FunctionName: str, Qualifier: str) -> Any:
        code = self.latest if Qualifier == "$LATEST" else self.published[int(Qualifier) - 1]
        properties = json.loads(code)
        told: dict[str, Any] = {
            "Description": properties.get("Description", ""),
            "CodeSha256": str(properties.get("Code")),
        }
        # As on AWS: the runtime of $LATEST and of versions is updated at different times, and each upload is signed.
        told |= {"RuntimeVersionConfig": {"RuntimeVersionArn": Qualifier}, "SigningJobArn": Qualifier}
        told["SnapStart"] = {"ApplyOn": "None", "OptimizationStatus": "Off"}
        return {"FunctionName": FunctionName, "Version": Qualifier, **told}

    def ListDeployments(self, applicationName: str, deploymentGroupName: str, includeOnlyStatuses: list[str]) -> Any:
        assert (applicationName, deploymentGroupName) == (
            "shop-ServerlessDeploymentApplication",
            "shop-CartDeploymentGroup",
        )
        assert "InProgress" in includeOnlyStatuses
        return {"deployments": self.deployments}
