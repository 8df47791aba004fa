"""The template's roles as IAM sees them: the template with parameters, and an evaluation of their policies.

No role of the template is made by SAM (test_template.py), so that what is written there is what is deployed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cfnlint.decode import cfn_yaml

from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

PATH = ROOT / "template.yaml"
SOURCE: dict[str, Any] = cfn_yaml.load(str(PATH))
REGION, ACCOUNT = "eu-west-1", "123456789012"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b"
NOTHING = object()
"""AWS::NoValue."""
PSEUDO: dict[str, Any] = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": "stack",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": NOTHING,
}


def arn(service: str, resource: str, region: str = REGION) -> str:
    """An ARN in the account."""
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


class Statement(NamedTuple):
    """A statement of an identity policy, with every intrinsic function resolved."""

    effect: str
    actions: list[str]
    resources: list[str]
    conditions: dict[str, dict[str, list[str]]]


@dataclass
class Stack:
    """The template with these parameters; the others have their defaults.

    Names that CloudFormation would make up are the logical ids.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)

    def resource(self, name: str) -> dict[str, Any]:
        """The properties of a resource."""
        found: dict[str, Any] = self.resolve(SOURCE["Resources"][name].get("Properties", {}))
        return found

    def exists(self, name: str) -> bool:
        """Whether the condition of a resource holds."""
        condition = SOURCE["Resources"][name].get("Condition")
        return condition is None or self.holds(condition)

    def names(self, kind: str) -> list[str]:
        """Logical ids of the resources of a type that exist."""
        return [name for name, found in SOURCE["Resources"].items() if found["Type"] == kind and self.exists(name)]

    def holds(self, condition: str) -> bool:
        """Whether a condition holds."""
        return bool(self.resolve(SOURCE["Conditions"][condition]))

    def statements(self, role: str) -> list[Statement]:
        """What the policies of a role say, the managed ones of the template included."""
        properties = SOURCE["Resources"][role]["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [SOURCE["Resources"][name]["Properties"]["PolicyDocument"] for name in self.managed(role)]
        return [each for document in documents for each in self._read(document)]

    def managed(self, role: str) -> list[str]:
        """Logical ids of the managed policies of a role."""
        attached = SOURCE["Resources"][role]["Properties"].get("ManagedPolicyArns", [])
        return [each.rpartition("/")[2] for each in self.resolve(attached)]

    def _read(self, document: dict[str, Any]) -> Iterator[Statement]:
        for each in self.resolve(document["Statement"]):
            known = {"Sid", "Effect", "Action", "Resource", "Condition"}
            assert not each.keys() - known, f"policies.py does not know {sorted(each.keys() - known)}"
            conditions = {
                operator: {key.lower(): _list(values) for key, values in keys.items()}
                for operator, keys in each.get("Condition", {}).items()
            }
            yield Statement(each["Effect"], _list(each["Action"]), _list(each["Resource"]), conditions)

    def resolve(self, node: Any) -> Any:
        """What CloudFormation makes of a part of the template."""
        if isinstance(node, list):
            return [found for found in map(self.resolve, node) if found is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, given) = next(iter(node.items()))
            if function in _FUNCTIONS:
                return _FUNCTIONS[function](self, given)
        found = {name: self.resolve(value) for name, value in node.items()}
        return {name: value for name, value in found.items() if value is not NOTHING}

    def ref(self, name: str) -> Any:
        """The value of a Ref."""
        if name in PSEUDO:
            return PSEUDO[name]
        if name in SOURCE["Parameters"]:
            return self.parameters.get(name, SOURCE["Parameters"][name].get("Default", ""))
        kind = SOURCE["Resources"][name]["Type"]
        by_arn = {"AWS::Serverless::StateMachine", "AWS::SNS::Topic", "AWS::IAM::ManagedPolicy"}
        return self.attribute(name, "Arn") if kind in by_arn else self._name(name)

    def attribute(self, name: str, attribute: str) -> Any:
        """The value of a GetAtt."""
        kind, own = SOURCE["Resources"][name]["Type"], self._name(name)
        if attribute in {"QueueName", "Name", "RoleId"}:
            return own
        if attribute == "StreamArn":
            return arn("dynamodb", f"table/{own}/stream/2026")
        assert attribute == "Arn", f"policies.py does not know {name}.{attribute}"
        return _ARNS[kind](own)

    def _name(self, name: str) -> str:
        properties = SOURCE["Resources"][name].get("Properties", {})
        keys = ("FunctionName", "Name", "LogGroupName", "RuleName", "TableName", "QueueName")
        given = next((properties[key] for key in keys if key in properties), name)
        return str(self.resolve(given))


_ARNS = {
    "AWS::Serverless::Function": lambda name: arn("lambda", f"function:{name}"),
    "AWS::Serverless::StateMachine": lambda name: arn("states", f"stateMachine:{name}"),
    "AWS::SQS::Queue": lambda name: arn("sqs", name),
    "AWS::SNS::Topic": lambda name: arn("sns", name),
    "AWS::DynamoDB::Table": lambda name: arn("dynamodb", f"table/{name}"),
    "AWS::Kinesis::Stream": lambda name: arn("kinesis", f"stream/{name}"),
    "AWS::Events::EventBus": lambda name: arn("events", f"event-bus/{name}"),
    "AWS::Events::ApiDestination": lambda name: arn("events", f"api-destination/{name}/0a1b"),
    "AWS::Events::Rule": lambda name: arn("events", f"rule/{name}"),
    # With ":*" for its streams: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-logs-loggroup.html
    "AWS::Logs::LogGroup": lambda name: arn("logs", f"log-group:{name}:*"),
    "AWS::IAM::Role": lambda name: arn("iam", f"role/{name}", ""),
    "AWS::IAM::ManagedPolicy": lambda name: arn("iam", f"policy/{name}", ""),
}


def _substitute(stack: Stack, given: Any) -> str:
    text, values = given if isinstance(given, list) else (given, {})

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return str(stack.resolve(values[name]))
        resource, dot, attribute = name.partition(".")
        return str(stack.attribute(resource, attribute) if dot else stack.ref(name))

    return re.sub(r"\$\{([^}!]+)\}", one, text)


def _if(stack: Stack, given: Any) -> Any:
    condition, then, otherwise = given
    return stack.resolve(then if stack.holds(condition) else otherwise)


def _get_att(stack: Stack, given: Any) -> Any:
    name, attribute = given.split(".") if isinstance(given, str) else given
    return stack.attribute(name, attribute)


def _equals(stack: Stack, given: Any) -> bool:
    left, right = stack.resolve(given)
    return bool(left == right)


_FUNCTIONS: dict[str, Callable[[Stack, Any], Any]] = {
    "Ref": lambda stack, given: stack.ref(given),
    # As in Fn::And. Elsewhere, it has other keys beside it.
    "Condition": lambda stack, given: stack.holds(given),
    "Fn::Sub": _substitute,
    "Fn::If": _if,
    "Fn::GetAtt": _get_att,
    "Fn::Equals": _equals,
    "Fn::Join": lambda stack, given: given[0].join(map(str, stack.resolve(given[1]) or [])),
    "Fn::Not": lambda stack, given: not stack.resolve(given)[0],
    "Fn::And": lambda stack, given: all(stack.resolve(given)),
    "Fn::Or": lambda stack, given: any(stack.resolve(given)),
}


def _list(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def allows(statements: Iterable[Statement], action: str, resource: str, keys: Mapping[str, Any] | None = None) -> bool:
    """Whether identity policies allow an action: an explicit deny, else an allow, else an implicit deny.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    context = {key.lower(): _list(value) for key, value in (keys or {}).items()}
    effects = {each.effect for each in statements if _applies(each, action, resource, context)}
    return "Deny" not in effects and "Allow" in effects


def _applies(statement: Statement, action: str, resource: str, context: Mapping[str, list[str]]) -> bool:
    return (
        any(_like(action.lower(), pattern.lower()) for pattern in statement.actions)
        and any(_arn_like(resource, pattern) for pattern in statement.resources)
        and all(
            _met(operator, context.get(key), values)
            for operator, keys in statement.conditions.items()
            for key, values in keys.items()
        )
    )


def _met(operator: str, actual: list[str] | None, wanted: list[str]) -> bool:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html."""
    kind = operator.removeprefix("ForAllValues:")
    matches = {"StringEquals": str.__eq__, "StringLike": _like, "ArnLike": _arn_like, "ArnEquals": _arn_like}[kind]
    if actual is None:
        return operator.startswith("ForAllValues:")
    found = [any(matches(value, pattern) for pattern in wanted) for value in actual]
    return all(found) if operator.startswith("ForAllValues:") else any(found)


def _like(value: str, pattern: str) -> bool:
    translated = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(translated, value, re.DOTALL) is not None


def _arn_like(value: str, pattern: str) -> bool:
    """Part by part. A "*" in the last part, the resource, may stand for colons.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    if pattern == "*" or value == "*":
        return pattern == "*"
    values, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(values) == len(patterns) and all(map(_like, values, patterns))
