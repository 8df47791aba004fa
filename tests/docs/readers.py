"""Reads what the documentation shows as JSON, each by the model or the rules that it is for."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore import session

from headgate.analysis.count_functions import counts_in, questions_of
from headgate.analysis.telemetry_counter import parse_record
from headgate.counting.prometheus_config import PrometheusConfig
from headgate.ecs_tasks.request import read_task
from headgate.events import EVENTS
from headgate.redrive.request import read_redrive
from headgate.spec.request import read_request
from headgate.spec.signal_models import read_signal
from headgate.spec.undo import read_undo
from headgate.triggers.occurrences import PARAMETERS, PLACEHOLDERS, Occurrence
from headgate.triggers.templates import read_templates
from headgate_cli.costs.prices import PriceFile
from tests.builders import plan_of
from tests.docs.pages import ROOT
from tools.reference import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGION, ACCOUNT, STACK = "eu-central-1", "123456789012", "headgate"
"""Of the examples."""

SERVICES = {"states": "stepfunctions", "tag": "resourcegroupstaggingapi", "elasticloadbalancing": "elbv2"}
"""Names of botocore's where IAM's differ."""


def read_json(title: str, data: Any) -> None:
    """Read an example; an error of any kind says that it is wrong.

    Raises
    ------
    KeyError
        If nothing is known by that title.
    """
    READERS[title](data)


def check_policy(policy: Any) -> None:
    """Refuse a policy with an action that there is not, or a resource that the template does not make."""
    known = [
        *_arns(),
        *_arns_of_service(),
        _arn("kms", "key/11111111-2222-3333-4444-555555555555"),
        _arn("cloudformation", f"stack/{STACK}/00000000-1111-2222-3333-444444444444"),
    ]
    for statement in _statements(policy):
        for resource in _list(statement["Resource"]):
            assert resource == "*" or any(fnmatchcase(arn, resource) for arn in known), f"no resource fits {resource}"
        _check_conditions(statement.get("Condition", {}))


def check_policy_of_a_resource(policy: Any) -> None:
    """Refuse the policy of a key or repository with an action, service or role that there is not."""
    for statement in _statements(policy):
        for service in _list(statement["Principal"].get("Service", [])):
            assert service.endswith(".amazonaws.com"), f"there is no service {service}"
        for role in _list(statement["Principal"].get("AWS", [])):
            assert role in _arns(), f"there is no role {role}"


def check_trust_policy(policy: Any) -> None:
    """Refuse a trust policy that lets more in than one repository's jobs."""
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRoleWithWebIdentity")
        account, _, issuer = statement["Principal"]["Federated"].partition(":oidc-provider/")
        assert account == f"arn:aws:iam::{ACCOUNT}"
        claims = statement["Condition"]["StringEquals"]
        assert claims.keys() == {f"{issuer}:aud", f"{issuer}:sub"}


def _statements(policy: Any) -> Iterator[Any]:
    """The statements of a policy, all of whose actions exist."""
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert statement["Effect"] in ("Allow", "Deny")
        for action in _list(statement["Action"]):
            service, name = action.split(":")
            operations = session.get_session().get_service_model(SERVICES.get(service, service)).operation_names
            assert any(fnmatchcase(each, name) for each in operations), f"there is no action {action}"
        yield statement


def _check_conditions(conditions: dict[str, dict[str, Any]]) -> None:
    """Refuse an event that there is not, and a comparison that does not look at every entry of PutEvents.

    A call has a value of these keys for each of its entries. ``ForAllValues`` is also true of a key that is missing.
    """
    required = conditions.get("Null", {})
    for operator, condition in conditions.items():
        if operator == "Null":
            continue
        for name in _list(condition.get("events:detail-type", [])):
            assert name in EVENTS, f"there is no event {name}"
        for key in ("events:source", "events:detail-type"):
            if key in condition:
                assert operator.startswith("ForAllValues:"), f"{operator} of {key} needs ForAllValues"
                assert required.get(key) == "false", f"ForAllValues of {key} needs Null false"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _arns() -> Iterator[str]:
    """ARNs in a stack of the template; where it gives no name, CloudFormation makes one of stack, resource and more."""
    for logical_id, resource in template()["Resources"].items():
        properties = resource.get("Properties", {})
        made = f"{STACK}-{logical_id}-1ABCDEFGHIJKL"
        match resource["Type"]:
            case "AWS::Events::EventBus":
                yield _arn("events", f"event-bus/{STACK}")
            case "AWS::Events::Rule" if "EventBusName" in properties:
                yield _arn("events", f"rule/{STACK}/{made}")
            case "AWS::Serverless::StateMachine":
                name = f"{STACK}-{_words(logical_id.removesuffix('Machine'))}"
                yield _arn("states", f"stateMachine:{name}")
                yield _arn("states", f"execution:{name}:checkout-42")
            case "AWS::DynamoDB::Table":
                yield _arn("dynamodb", f"table/{made}")
                yield _arn("dynamodb", f"table/{made}/index/by-status")
            case "AWS::IAM::Role":
                yield f"arn:aws:iam::{ACCOUNT}:role/{made}"
            case "AWS::SQS::Queue":
                yield _arn("sqs", made)
            case "AWS::Kinesis::Stream":
                yield _arn("kinesis", f"stream/{made}")
            case "AWS::Serverless::Function":
                yield from _arns_of_function(logical_id, properties)


def _arns_of_service() -> Iterator[str]:
    """An ECS service that is a target, and everything that a rollout changes or leaves."""
    yield _arn("ecs", "service/prod/shop")
    yield _arn("ecs", "service/prod/shop-hg-0123abcd")
    yield _arn("ecs", "task-set/prod/shop/ecs-svc/1234567890123456789")
    yield _arn("elasticloadbalancing", "listener/app/shop-web/50dc6c495c0c9188/0467ef3c8400ae65")
    yield _arn("elasticloadbalancing", "listener-rule/app/shop-web/50dc6c495c0c9188/0467ef3c8400ae65/8ed2a9b7c1d3f405")
    yield _arn("application-autoscaling", "scalable-target/0ec4c3d2b1a09f8e7d6c5b4a39281706f5e4")


def _arns_of_function(logical_id: str, properties: dict[str, Any]) -> Iterator[str]:
    """Its log group, and the rollouts' own queues if it makes them."""
    yield _arn("logs", f"log-group:/aws/lambda/{STACK}/{logical_id.lower()}")
    if properties.get("Environment", {}).get("Variables", {}).get("HOLDING_PREFIX"):
        yield _arn("sqs", f"{STACK}-held-{'0' * 24}")


def _words(camel: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", camel).lower()


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def check_hook_answer(answer: Any) -> None:
    """Refuse what a hook may not answer."""
    assert answer["hookStatus"] in ("SUCCEEDED", "FAILED", "IN_PROGRESS")
    assert answer.keys() <= {"hookStatus", "callBackDelay", "hookDetails"}
    assert isinstance(answer.get("hookDetails", {}), dict)


def check_service_of_hook_event(service: dict[str, Any]) -> None:
    """It is the one in the sample event of the hook that ships for services."""
    sample = json.loads((ROOT / "events" / "functions" / "http_smoke_tester.json").read_text("utf-8"))
    assert service == sample["service"]


def check_hook_event(event: Any) -> None:
    """Refuse another shape than that of the sample, which the tests of the hooks use."""
    places = [ROOT / "events" / "functions" / "smoke_tester.json", ROOT / "events" / "functions" / "smoke_tester.json"]
    sample = json.loads(next(place for place in places if place.is_file()).read_text("utf-8"))
    assert event.keys() == sample.keys()
    assert {name: type(value) for name, value in event.items()} == {name: type(value) for name, value in sample.items()}


def check_code_deploy_event(event: Any) -> None:
    """Refuse another shape than what the hooks machine sends, which is CodeDeploy's and beside it that of a hook."""
    assert event.keys() == {"DeploymentId", "LifecycleEventHookExecutionId", "headgate"}
    assert re.fullmatch(r"d-[A-Z0-9]{9}", event["DeploymentId"])
    check_hook_event({**event["headgate"], "config": {}})


_QUESTION_MINUTES = "2026-12-01T08:00:00Z", "2026-12-01T08:20:00Z"


def check_count_question(question: Any) -> None:
    """Refuse another shape than what Headgate asks a function that counts."""
    since, until = (datetime.fromisoformat(minute) for minute in _QUESTION_MINUTES)
    guard = {"name": question["guard"], "counts": {"lambda": "shop-counts", "config": question["config"]}}
    plan = plan_of(question["rolloutId"], strategy="Linear10PercentEvery5Minutes", guards={"custom": [guard]})
    (asked,) = questions_of(plan, question["revisions"], int(until.timestamp()) * 1000)
    assert question == asked.event
    assert since == until - timedelta(minutes=question["minutes"])


def check_count_answer(answer: Any) -> None:
    """Read it as Headgate reads the answer to the question in the documentation."""
    since, until = (int(datetime.fromisoformat(minute).timestamp()) * 1000 for minute in _QUESTION_MINUTES)
    assert counts_in(json.dumps(answer).encode(), since, until)


def check_pattern(pattern: Any) -> None:
    """Refuse a pattern that no event of Headgate's matches."""
    assert pattern["source"] == ["headgate"]
    assert set(pattern["detail-type"]) <= EVENTS.keys(), "there is no such event"


def check_secret(secret: Any, fields: set[str]) -> None:
    """Refuse a secret that has other fields than its function reads."""
    assert secret.keys() == fields
    assert all(isinstance(value, str) for value in secret.values())


def check_trigger(parameter: str, data: Any) -> None:
    """Refuse the template of a trigger if what it makes of an event that it is for is no request."""
    trigger = next(name for name, known in PARAMETERS.items() if known == parameter)
    for each in read_templates(json.dumps(data), trigger):
        values = dict.fromkeys(PLACEHOLDERS[trigger], "7")
        values |= {name: patterns[0].replace("*", "a").replace("?", "a") for name, patterns in each.when.items()}
        occurrence = Occurrence(trigger, "by-hand", values)
        assert each.fits(occurrence)
        read_request(each.fill(occurrence, occurrence.id), "by-hand")


READERS: dict[str, Callable[[Any], object]] = {
    **{name: model.model_validate for name, model in EVENTS.items()},
    "Rollout Requested": lambda data: read_request(data, "by-hand"),
    "Undo Requested": lambda data: read_undo(data, "by-hand"),
    "Rollout Signal": read_signal,
    "Task Requested": lambda data: read_task(data, "by-hand"),
    "Redrive Requested": lambda data: read_redrive(data, "by-hand"),
    "Telemetry record": lambda data: parse_record("shard", "key", "1", json.dumps(data).encode()),
    "IAM policy": check_policy,
    "Trust policy": check_trust_policy,
    "Key policy": check_policy_of_a_resource,
    "Repository policy": check_policy_of_a_resource,
    "Hook answer": check_hook_answer,
    "Hook event": check_hook_event,
    "Service of a hook event": check_service_of_hook_event,
    "Event of a CodeDeploy hook": check_code_deploy_event,
    "Count question": check_count_question,
    "Count answer": check_count_answer,
    "Event pattern": check_pattern,
    "Prices": PriceFile.model_validate,
    "Prometheus config": PrometheusConfig.of,
    "Prometheus secret": lambda data: check_secret(data, {"url", "token"}),
    "Datadog secret": lambda data: check_secret(data, {"apiKey", "applicationKey"}),
    **{parameter: partial(check_trigger, parameter) for parameter in PARAMETERS.values()},
}
"""What reads an example, by the title of its block."""
