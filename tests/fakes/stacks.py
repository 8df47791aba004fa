"""A CloudFormation with one stack."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803

from __future__ import annotations

from typing import Any

from tests.fakes.services import Refusal, Service

ALIAS = "arn:aws:lambda:eu-central-1:123456789012:function:checkout:live"


class FakeStacks(Service):
    """CloudFormation's answer to whose a resource is."""

    def __init__(self) -> None:
        self.owned: dict[str, tuple[str, str]] = {}
        """Stack and logical id, by physical id."""
        self.status = "CREATE_COMPLETE"
        self.template: dict[str, Any] | str = {"Resources": {}}
        """The processed template of every stack."""
        self.original: dict[str, Any] | str = ""
        """The template of every stack before transforms."""
        self.types: dict[str, str] = {}
        """Types of the resources that are no aliases, by logical id."""
        self.failure: Exception | None = None
        self.asked = 0

    def GetTemplate(self, StackName: str, TemplateStage: str) -> dict[str, Any]:
        if StackName not in {stack for stack, _ in self.owned.values()}:
            raise Refusal("ValidationError", f"Stack with id {StackName} does not exist")
        return {"TemplateBody": {"Processed": self.template, "Original": self.original}[TemplateStage]}

    def DescribeStackResources(self, PhysicalResourceId: str) -> dict[str, Any]:
        self.asked += 1
        if self.failure:
            raise self.failure
        if PhysicalResourceId not in self.owned:
            raise Refusal("ValidationError", f"Stack for {PhysicalResourceId} does not exist")
        stack, _ = self.owned[PhysicalResourceId]
        resources = [
            {
                "StackName": owner,
                "LogicalResourceId": logical,
                "PhysicalResourceId": physical,
                "ResourceType": self.types.get(logical, "AWS::Lambda::Alias"),
            }
            for physical, (owner, logical) in self.owned.items()
            if owner == stack
        ]
        return {"StackResources": [resource | {"ResourceStatus": self.status} for resource in resources[:100]]}
