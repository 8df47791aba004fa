"""``make probe-aws``: each probe's calls, the run around them, and that nothing is left in an account."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from moto import mock_aws

from tests.builders import ROOT
from tests.fakes.modelled_aws import ACCOUNT, MADE_UP, ModelledAws, body
from tests.unit.project.policies import Stack
from tools.asl import check as asl
from tools.probes.__main__ import main
from tools.probes.account import Account, Journal
from tools.probes.lab import PROBE_SECONDS, Lab
from tools.probes.model import Answer, Probe, UnclearError
from tools.probes.questions import PROBES, machine_errors
from tools.probes.resources import KINDS, Resource, resource_of
from tools.probes.run import Outcome, Result, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUN = "abc123"
OPTIONS = {"subnet": "subnet-1"}


class Clock:
    """A clock that only waits make go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        # Looking at it takes a moment, so that a loop without a wait ends, too.
        self.now += 0.01
        return self.now


def execution(error: str = "SomeError", cause: str = "User is not authorized") -> dict[str, Any]:
    output = {"Error": error, "Cause": cause, "text": "7"}
    return {"status": "SUCCEEDED", "output": json.dumps(output), "error": error, "cause": cause}


def answers(folder: Path) -> dict[str, Any]:
    """Answers with which each probe comes to its end."""
    package = folder / "package.zip"
    package.write_bytes(b"package")
    message = {"MessageId": "1", "ReceiptHandle": "1", "Body": json.dumps(BATCH)}
    return {
        "GetCallerIdentity": {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"},
        "GetFunctionConfiguration": {"State": "Active", "LastUpdateStatus": "Successful"},
        "GetFunction": {"Code": {"Location": package.as_uri()}, "Configuration": {"CodeSha256": "other"}},
        "PublishVersion": {"Version": "1"},
        "Invoke": lambda: {"ExecutedVersion": "1", "Payload": body(b"{}"), "FunctionError": None},
        "PutEvents": {"Entries": [{"EventId": "1"}]},
        "GetEventSourceMapping": {"State": "Enabled"},
        "DescribeTable": {
            "Table": {"TableStatus": "ACTIVE", "TableName": "t", "TableArn": "a", "LatestStreamArn": "s"}
        },
        "DescribeStacks": {"Stacks": [{"StackName": "s", "StackStatus": "CREATE_COMPLETE"}]},
        "DescribeExecution": execution(),
        "ReceiveMessage": {"Messages": [message]},
        "GetMetricData": {"MetricDataResults": [{"Id": id_, "Values": [24.0]} for id_ in METRICS]},
        "GetResources": {"ResourceTagMappingList": []},
        "ListRoles": {"Roles": []},
    }


BATCH = {"DDBStreamBatchInfo": {"batchSize": 3}, "size": 10, "failed": 1}
METRICS = ("alias", "version", "all", "slow1", "slow2", "failed")


@pytest.fixture
def modelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelledAws:
    found = ModelledAws(answers(tmp_path))
    found.install(monkeypatch)
    return found


class OneClientEach:
    """A session that makes each client once, which takes longer than the test of a probe."""

    region_name = "eu-west-1"

    def __init__(self) -> None:
        self._session = boto3.Session("nobody", "nobody", region_name=self.region_name)
        self._clients: dict[str, Any] = {}

    def client(self, service: Any, **options: Any) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service, **options)
        return self._clients[service]


SESSION: Any = OneClientEach()


def account(folder: Path) -> Account:
    return Account(SESSION, RUN, Journal(folder / "journal.jsonl"), Clock())


def asked(probe: Probe, folder: Path) -> Answer:
    """The answer of one probe, in a run of its own."""
    outcome = Run(account(folder), say=lambda _: None, options=OPTIONS).ask([probe])
    assert (outcome.left, outcome.unchecked) == ({}, "")
    return outcome.results[0].answer


# Each probe


NEVER_CLEAR_HERE = {
    "timeout-of-each-attempt": "the execution does not time out",
}
"""Probes to which the made-up answers give no yes or no; tests of their own give them others."""


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_probe_makes_the_call_that_it_names_and_deletes_what_it_created(
    probe: Probe, modelled: ModelledAws, tmp_path: Path
) -> None:
    answer = asked(probe, tmp_path)

    assert probe.call in modelled.calls
    assert (answer.verdict == "unclear") == (probe.id in NEVER_CLEAR_HERE), answer.raw
    created, deleted = in_journal(tmp_path)
    assert sorted(created) == sorted(deleted)
    assert (probe.creates != "nothing") == bool(created)
    # Names of functions, roles and rules have 64 characters at most, the shortest limit of all.
    for name in (re.split(r"[:/]", identifier)[-1] for _, identifier in created):
        assert len(name) <= 64, name
        assert f"-{RUN}-" in name or name.startswith(MADE_UP) or name == "taskDefinitionArn"


def in_journal(folder: Path) -> list[list[tuple[str, str]]]:
    """What was created and what was deleted."""
    file = folder / "journal.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [[(e["kind"], e["id"]) for e in lines if e["what"] == what] for what in ("created", "deleted")]


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_probe_says_what_it_asks(probe: Probe) -> None:
    assert probe.question.endswith("?")
    assert probe.matters.endswith(".")
    assert 0 < probe.minutes <= PROBE_SECONDS / 60 + 1  # The deletion takes up to a minute.
    assert set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", probe.matters)) <= known_paths()


def test_names_in_the_questions_are_those_of_the_machines_and_the_template() -> None:
    machines = "".join(path.read_text("utf-8") for path in (ROOT / "statemachines").glob("*.asl.json"))
    # What probes ask of an error's name matters only as long as a machine has the name.
    for name in ("StepFunctions.AWSStepFunctionsException", "Sfn.SfnException", "States.DataLimitExceeded"):
        assert f'"{name}"' in machines
    for name in (*machine_errors.PUT_EVENTS_ERRORS, *machine_errors.FUNCTION_TIMEOUTS):
        assert f'"{name}"' in machines
    template = (ROOT / "template.yaml").read_text("utf-8")
    for probe in PROBES.values():
        for name in re.findall(r"`template\.yaml`, (\w+)", probe.matters):
            assert re.search(rf"(^  {name}:|Sid: {name}$)", template, re.MULTILINE), probe.id


def known_paths() -> set[str]:
    """Paths as the probes name them: within the checkout, or within the package."""
    package = ROOT / "layers" / "headgate" / "python" / "headgate"
    return {
        path.relative_to(root).as_posix()
        for root, folder in ((package, package), (ROOT, ROOT / "statemachines"))
        for path in folder.rglob("*.py")
    }


def test_calls_of_probes_are_in_the_models_of_boto3() -> None:
    loader = Loader(include_default_search_paths=True)
    for probe in PROBES.values():
        service, _, operation = probe.call.partition(":")
        assert operation in loader.load_service_model(service, "service-2")["operations"], probe.id


@pytest.mark.parametrize(
    ("identifier", "given", "verdict"),
    [
        ("weight-decimals", {"GetAlias": {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.123456789}}}}, "yes"),
        ("weight-decimals", {"GetAlias": {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.12}}}}, "no"),
        ("code-revision", {}, "no"),
        (
            "error-of-start-execution",
            {"DescribeExecution": execution("StepFunctions.AWSStepFunctionsException")},
            "yes",
        ),
        ("error-of-start-execution", {"DescribeExecution": execution("StepFunctions.ThrottlingException")}, "no"),
        ("error-of-start-execution", {"DescribeExecution": execution(cause="no such machine")}, "unclear"),
        ("child-that-timed-out", {"DescribeExecution": execution("States.TaskFailed")}, "yes"),
        ("child-that-timed-out", {"DescribeExecution": execution("States.Timeout")}, "no"),
        ("timeout-of-function", {"DescribeExecution": execution("Sandbox.Timedout")}, "yes"),
        ("timeout-of-each-attempt", {"DescribeExecution": execution("States.Timeout")}, "yes"),
        ("reserved-error-name", {"DescribeExecution": execution("States.Timeout")}, "yes"),
        ("reserved-error-name", {"DescribeExecution": execution("States.Runtime")}, "no"),
        ("machines-are-valid", {"ValidateStateMachineDefinition": {"result": "FAIL", "diagnostics": []}}, "no"),
        (
            "digits-of-entered-time",
            {"DescribeExecution": {"status": "SUCCEEDED", "output": '["2026-01-01T00:00:00.000Z"]'}},
            "yes",
        ),
        (
            "digits-of-entered-time",
            {"DescribeExecution": {"status": "SUCCEEDED", "output": '["2026-01-01T00:00:00.5Z"]'}},
            "no",
        ),
        (
            "digits-of-entered-time",
            {"DescribeExecution": {"status": "SUCCEEDED", "output": '["2026-01-01T00:00:00.120Z"]'}},
            "unclear",
        ),
        ("metrics-of-one-version", {"GetMetricData": {"MetricDataResults": [{"Id": "alias", "Values": [10.0]}]}}, "no"),
        ("metrics-of-one-version", {"GetMetricData": {"MetricDataResults": []}}, "unclear"),
        ("metrics-of-direct-calls", {"GetMetricData": {"MetricDataResults": [{"Id": "all", "Values": [10.0]}]}}, "no"),
        ("failed-events", {"GetMetricData": {"MetricDataResults": [{"Id": "failed", "Values": [1.0]}]}}, "yes"),
        ("failed-events", {"GetMetricData": {"MetricDataResults": [{"Id": "failed", "Values": [10.0]}]}}, "no"),
        ("topic-for-own-account", {"ReceiveMessage": {"Messages": []}}, "unclear"),
    ],
)
def test_probe_judges_the_answer(
    identifier: str, given: dict[str, Any], verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ModelledAws(answers(tmp_path) | given).install(monkeypatch)

    assert asked(PROBES[identifier], tmp_path).verdict == verdict


REFUSALS = [(probe.id, *refusal.split(":")) for probe in PROBES.values() for refusal in probe.no_if_refused]


def refuses(operation: str, code: str, message: str) -> dict[str, Any]:
    """An answer of AWS that is an error."""

    def refuse() -> dict[str, Any]:
        raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

    return {operation: refuse}


@pytest.mark.parametrize(("identifier", "operation", "code"), REFUSALS)
def test_refusal_that_is_the_answer_is_a_no(
    identifier: str, operation: str, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ModelledAws(answers(tmp_path) | refuses(operation, code, "not like this")).install(monkeypatch)

    answer = asked(PROBES[identifier], tmp_path)

    assert answer.verdict == "no"
    assert code in answer.raw["refusal"]
    assert "not like this" in answer.raw["refusal"]


@pytest.mark.parametrize(("identifier", "operation"), sorted({each[:2] for each in REFUSALS}))
def test_refusal_for_a_missing_right_is_no_answer(
    identifier: str, operation: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ModelledAws(answers(tmp_path) | refuses(operation, "AccessDeniedException", "no right")).install(monkeypatch)

    assert asked(PROBES[identifier], tmp_path).verdict == "unclear"


def test_probes_whose_question_a_definition_answers_take_its_refusal_for_a_no() -> None:
    takes = {identifier for identifier, operation, _ in REFUSALS if operation == "CreateStateMachine"}
    assert takes == {
        "variable-named-as-function",
        "reserved-error-name",
        "large-result-is-caught",
        "role-of-run-task",
    }


# Roles


@pytest.mark.parametrize("service", ["events.amazonaws.com", "states.amazonaws.com", "lambda.amazonaws.com"])
def test_role_trusts_a_service_as_the_roles_of_the_template_do(
    service: str, modelled: ModelledAws, tmp_path: Path
) -> None:
    Lab(account(tmp_path), "p").role("role", service)

    created = modelled.bodies[modelled.calls.index("iam:CreateRole")]
    assert json.loads(created["AssumeRolePolicyDocument"])["Statement"] in trust_in_template(service)


def trust_in_template(service: str) -> list[Any]:
    """The statements by which roles of the template trust a service; they are all the same."""
    stack = Stack({"AmazonQTopic": "true"})
    documents = [stack.resource(name)["AssumeRolePolicyDocument"] for name in stack.names("AWS::IAM::Role")]
    found = [each["Statement"] for each in documents if each["Statement"][0]["Principal"] == {"Service": service}]
    assert found
    assert all(each == found[0] for each in found)
    return found


NOT_TRUSTED = {
    "topic-by-role": (
        "PutTargets",
        "ValidationException",
        "Provided role 'r' cannot be assumed by principal 'events.amazonaws.com'.",
    ),
    "trust-of-machines": (
        "CreateStateMachine",
        "AccessDeniedException",
        "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume it.",
    ),
}
"""How AWS refuses a role that the service cannot assume."""


def refuses_conditions(identifier: str, aws: list[ModelledAws]) -> dict[str, Any]:
    """An AWS that does not send the keys of the trust policy: a role is refused unless it is the control."""
    operation, code, message = NOT_TRUSTED[identifier]

    def answer() -> dict[str, Any]:
        policies = [given for given in aws[0].bodies if "AssumeRolePolicyDocument" in str(given)]
        if "aws:SourceAccount" in policies[-1]["AssumeRolePolicyDocument"]:
            raise ClientError({"Error": {"Code": code, "Message": message}}, operation)
        return {}

    return {operation: answer, "DescribeExecution": execution(cause="ok")}


@pytest.mark.parametrize("identifier", NOT_TRUSTED)
def test_condition_of_a_trust_policy_that_aws_does_not_meet_is_a_no(
    identifier: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[ModelledAws] = []
    found.append(ModelledAws(answers(tmp_path) | refuses_conditions(identifier, found)))
    found[0].install(monkeypatch)

    answer = asked(PROBES[identifier], tmp_path)

    assert answer.verdict == "no"
    assert "assume" in answer.raw["withConditions"]["refusal"]
    assert "refusal" not in answer.raw["withoutConditions"]


def test_machine_that_is_refused_also_without_conditions_is_unclear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ModelledAws(answers(tmp_path) | refuses(*NOT_TRUSTED["trust-of-machines"])).install(monkeypatch)

    assert asked(PROBES["trust-of-machines"], tmp_path).verdict == "unclear"


def test_clients_of_a_role_use_the_endpoint_of_the_profile(
    modelled: ModelledAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(f"{SANDBOX}\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:4999\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    session = boto3.Session(profile_name="sandbox")
    lab = Lab(Account(session, RUN, Journal(tmp_path / "journal.jsonl"), Clock()), "p")

    client = lab.as_role(lab.role("role", ""))("events")

    assert client.meta.endpoint_url == "http://127.0.0.1:4999"


# Two detail-types in one call


@pytest.mark.parametrize(
    ("allowed", "verdict"),
    [
        (lambda types: set(types) == {"Rollout Requested"}, "yes"),
        (lambda types: "Rollout Requested" in types, "no"),
        (lambda types: types[0] == "Rollout Requested", "no"),
        (lambda types: types[-1] == "Rollout Requested", "no"),
        (lambda _: False, "no"),
        (lambda _: True, "no"),
    ],
    ids=["all", "any", "first", "last", "none", "every"],
)
@pytest.mark.parametrize("identifier", ["requester-by-string-equals", "requester-by-all-values"])
def test_requester_is_stopped_only_if_no_call_with_another_detail_type_passes(
    identifier: str,
    allowed: Callable[[list[str]], bool],
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    aws: list[ModelledAws] = []

    def put() -> dict[str, Any]:
        types = [each["DetailType"] for each in json.loads(aws[0].bodies[-1])["Entries"]]
        if not allowed(types):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "PutEvents")
        return {"Entries": [{"EventId": "1"} for _ in types]}

    aws.append(ModelledAws(answers(tmp_path) | {"PutEvents": put}))
    aws[0].install(monkeypatch)

    answer = asked(PROBES[identifier], tmp_path)

    assert answer.verdict == verdict, answer.raw
    sent = [given for given in aws[0].bodies if "PolicyDocument" in str(given) and "RoleName" in str(given)]
    (document,) = [json.loads(given["PolicyDocument"]) for given in sent if "PolicyDocument" in given]
    assert document["Statement"][0]["Condition"] == answer.raw["condition"]


@pytest.mark.parametrize(
    ("stopped", "verdict"),
    [
        (lambda item: "detailType" in item, "yes"),
        (lambda _: True, "no"),
        (lambda _: False, "no"),
    ],
    ids=["others", "every", "none"],
)
def test_a_condition_on_attributes_holds_only_if_it_stops_others_and_no_named_ones(
    stopped: Callable[[dict[str, Any]], bool], verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws: list[ModelledAws] = []

    def put() -> dict[str, Any]:
        if stopped(json.loads(aws[0].bodies[-1])["Item"]):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "PutItem")
        return {}

    aws.append(ModelledAws(answers(tmp_path) | {"PutItem": put}))
    aws[0].install(monkeypatch)

    assert asked(PROBES["item-by-attributes"], tmp_path).verdict == verdict


ON_PURPOSE = {"variable-named-as-function": "the name of a function", "reserved-error-name": "States."}
"""What the definitions of these probes do wrong, because that is the question."""


@pytest.mark.parametrize(
    "probe", [each for each in PROBES.values() if each.call == "stepfunctions:StartExecution"], ids=lambda each: each.id
)
def test_definitions_of_a_probe_are_valid(
    probe: Probe, modelled: ModelledAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The project's own habits, such as retriers, are no part of the question.
    rules = [rule for rule in asl.STATE_RULES if rule.__module__ != "tools.asl.house"]
    monkeypatch.setattr(asl, "STATE_RULES", rules)

    asked(probe, tmp_path)

    sent = zip(modelled.calls, modelled.bodies, strict=True)
    definitions = [json.loads(given)["definition"] for call, given in sent if call.endswith(":CreateStateMachine")]
    assert definitions
    found = [problem for definition in definitions for _, problem in asl.check(definition)]
    allowed = ON_PURPOSE.get(probe.id)
    assert [problem for problem in found if allowed is None or allowed not in problem] == []


def test_no_probe_waits_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing ever gets ready, arrives or ends."""
    pending = {
        "GetFunctionConfiguration": {"State": "Pending"},
        "GetEventSourceMapping": {"State": "Creating"},
        "DescribeTable": {"Table": {"TableStatus": "CREATING"}},
        "DescribeExecution": {"status": "RUNNING"},
        "ReceiveMessage": {"Messages": []},
        "GetMetricData": {"MetricDataResults": []},
        "DescribeStacks": {"Stacks": [{"StackStatus": "CREATE_IN_PROGRESS"}]},
    }
    ModelledAws(answers(tmp_path) | pending).install(monkeypatch)
    found = account(tmp_path)

    outcome = Run(found, say=lambda _: None, options=OPTIONS).ask(PROBES.values())

    assert len(outcome.results) == len(PROBES)
    assert max(result.seconds for result in outcome.results) < PROBE_SECONDS + 30


def test_probe_runs_again_until_aws_knows_the_rights_of_its_role(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it, the refusal of a new role would be taken for the error in question."""
    later = [execution("Lambda.AWSLambdaException"), execution("Sandbox.Timedout", "Task timed out")]
    aws = ModelledAws(answers(tmp_path) | {"DescribeExecution": lambda: later.pop(0) if len(later) > 1 else later[0]})
    aws.install(monkeypatch)

    answer = asked(PROBES["timeout-of-function"], tmp_path)

    assert answer.raw["error"] == "Sandbox.Timedout"
    assert aws.calls.count("stepfunctions:StartExecution") == 2


# The run


def queue_probe(name: str, after: Callable[[Lab], Answer], assumed: Any = "yes") -> Probe:
    """A probe that creates two queues, and then does as it is told."""

    def ask(lab: Lab) -> Answer:
        lab.queue("one")
        lab.queue("two")
        return after(lab)

    return replace(PROBES["weight-decimals"], id=name, ask=ask, assumed=assumed)


def says(verdict: Any) -> Callable[[Lab], Answer]:
    return lambda _: Answer(verdict, {})


def raises(error: BaseException) -> Callable[[Lab], Answer]:
    def ask(_: Lab) -> Answer:
        raise error

    return ask


@pytest.fixture
def sandbox(aws: None, tmp_path: Path) -> Account:
    return account(tmp_path)


def queues() -> list[str]:
    urls = boto3.client("sqs", region_name="eu-west-1").list_queues().get("QueueUrls", [])
    return [url.rpartition("/")[2] for url in urls]


def ask(found: Account, *probes: Probe) -> Outcome:
    return Run(found, say=lambda _: None).ask(probes)


def test_run_deletes_the_latest_resource_first(sandbox: Account, tmp_path: Path) -> None:
    ask(sandbox, queue_probe("p", says("yes")))

    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(line["what"], line["id"].rpartition("-")[2]) for line in lines] == [
        ("created", "one"),
        ("created", "two"),
        ("deleted", "two"),
        ("deleted", "one"),
    ]
    assert queues() == []


def test_run_tags_what_it_creates(sandbox: Account) -> None:
    seen: list[dict[str, str]] = []

    def look(lab: Lab) -> Answer:
        sqs = lab.client("sqs")
        url = sqs.get_queue_url(QueueName=lab.name("one"))["QueueUrl"]
        seen.append(sqs.list_queue_tags(QueueUrl=url)["Tags"])
        return Answer("yes", {})

    ask(sandbox, queue_probe("p", look))

    assert seen == [{"headgate-probe": RUN}]


@pytest.mark.parametrize("error", [UnclearError("nothing came", seen=1), RuntimeError("broken"), KeyError("x")])
def test_probe_that_fails_is_unclear_and_the_others_go_on(sandbox: Account, error: Exception) -> None:
    outcome = ask(sandbox, queue_probe("fails", raises(error)), queue_probe("works", says("yes")))

    assert [result.answer.verdict for result in outcome.results] == ["unclear", "yes"]
    assert str(error) in outcome.results[0].answer.raw["why"]
    assert queues() == []
    assert outcome.exit_code == 2


def test_interruption_deletes_what_exists_and_ends_the_run(sandbox: Account) -> None:
    outcome = ask(sandbox, queue_probe("first", raises(KeyboardInterrupt())), queue_probe("second", says("yes")))

    assert outcome.results == []
    assert outcome.interrupted
    assert outcome.exit_code == 2
    assert queues() == []


def test_second_interruption_leaves_nothing_either(sandbox: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = sandbox.client("sqs")
    delete, interruptions = sqs.delete_queue, [KeyboardInterrupt()]

    def delete_later(**given: Any) -> Any:
        if interruptions:
            raise interruptions.pop()
        return delete(**given)

    monkeypatch.setattr(sqs, "delete_queue", delete_later)

    outcome = ask(sandbox, queue_probe("p", raises(KeyboardInterrupt())))

    assert (outcome.left, queues()) == ({}, [])
    assert outcome.exit_code == 2


def test_run_names_what_it_could_not_delete(sandbox: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = sandbox.client("sqs")
    denied = sqs.exceptions.ClientError({"Error": {"Code": "AccessDenied", "Message": "no right"}}, "DeleteQueue")
    monkeypatch.setattr(sqs, "delete_queue", _raiser(denied))

    outcome = ask(sandbox, queue_probe("p", says("yes")))

    assert [(each.id.rpartition("-")[2], "no right" in why) for each, why in outcome.left.items()] == [
        ("two", True),
        ("one", True),
    ]
    assert outcome.exit_code == 2


def _raiser(error: BaseException) -> Callable[..., None]:
    def call(**_: Any) -> None:
        raise error

    return call


def test_deletion_is_tried_again_while_a_resource_changes(sandbox: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs = sandbox.client("sqs")
    in_use = sqs.exceptions.ClientError({"Error": {"Code": "ResourceInUseException"}}, "DeleteQueue")
    delete, refusals = sqs.delete_queue, [in_use, in_use]

    def delete_later(**given: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return delete(**given)

    monkeypatch.setattr(sqs, "delete_queue", delete_later)

    assert ask(sandbox, queue_probe("p", says("yes"))).left == {}
    assert queues() == []


def test_run_deletes_a_leftover_that_its_journal_does_not_have(sandbox: Account) -> None:
    """An interruption may come between the creation of a resource and the note of its id."""

    def forget(lab: Lab) -> Answer:
        lab.client("sqs").create_queue(QueueName=lab.name("forgotten"), tags=lab.tags)
        return Answer("yes", {})

    assert ask(sandbox, queue_probe("p", forget)).left == {}
    assert queues() == []


def test_run_names_a_leftover_that_stays(sandbox: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(lab: Lab) -> Answer:
        lab.client("sqs").create_queue(QueueName=lab.name("forgotten"), tags=lab.tags)
        monkeypatch.setattr(lab.client("sqs"), "delete_queue", lambda **_: {})
        return Answer("yes", {})

    outcome = ask(sandbox, queue_probe("p", forget))

    assert "forgotten" in {each.id.rpartition("-")[2] for each in outcome.left}
    assert outcome.exit_code == 2


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["yes", "yes"], 0), (["yes", "no"], 1), (["yes", "unclear"], 2), (["no", "unclear"], 1), ([], 0)],
)
def test_exit_code_says_whether_all_is_as_assumed(verdicts: list[Any], code: int) -> None:
    probe = replace(PROBES["weight-decimals"], assumed="yes")

    assert Outcome([Result(probe, Answer(verdict, {}), 1) for verdict in verdicts]).exit_code == code


# A killed run


def test_clean_deletes_what_a_killed_run_left(sandbox: Account, tmp_path: Path) -> None:
    lab = Lab(sandbox, "killed")
    lab.queue("one")
    lab.role("role", "lambda.amazonaws.com", {"Action": "sqs:SendMessage", "Resource": "*"})

    outcome = Run(sandbox, say=lambda _: None).clean()

    assert outcome.left == {}
    assert queues() == []
    assert sandbox.client("iam").list_roles(PathPrefix="/headgate-probe/")["Roles"] == []
    assert Journal(tmp_path / "journal.jsonl").left() == []


def test_clean_works_without_the_journal_but_leaves_other_runs_alone(sandbox: Account, tmp_path: Path) -> None:
    lab = Lab(sandbox, "killed")
    lab.queue("one")
    lab.table("table")
    lab.bus()
    lab.rule(lab.name("bus"), {"source": ["x"]}, lab.queue_arn("one"))
    lab.role("role", "lambda.amazonaws.com")
    (tmp_path / "journal.jsonl").unlink()
    sandbox.client("sqs").create_queue(QueueName="other", tags={"headgate-probe": "def456"})

    outcome = Run(sandbox, say=lambda _: None).clean()

    assert outcome.left == {}
    assert queues() == ["other"]
    assert sandbox.client("dynamodb").list_tables()["TableNames"] == []
    assert sandbox.client("iam").list_roles(PathPrefix="/headgate-probe/")["Roles"] == []


@pytest.mark.parametrize(
    ("arn", "resource"),
    [
        ("arn:aws:lambda:r:1:function:f", Resource("function", "f")),
        ("arn:aws:lambda:r:1:event-source-mapping:u", Resource("mapping", "u")),
        ("arn:aws-cn:sqs:r:1:q", Resource("queue", "q")),
        ("arn:aws:sns:r:1:t", Resource("topic", "arn:aws:sns:r:1:t")),
        ("arn:aws:dynamodb:r:1:table/t", Resource("table", "t")),
        ("arn:aws:states:r:1:stateMachine:m", Resource("machine", "arn:aws:states:r:1:stateMachine:m")),
        ("arn:aws:events:r:1:event-bus/b", Resource("bus", "b")),
        ("arn:aws:events:r:1:rule/b/r", Resource("rule", "b/r")),
        ("arn:aws:cloudformation:r:1:stack/s/id", Resource("stack", "s")),
        ("arn:aws:ecr:r:1:repository/n", Resource("repository", "n")),
        ("arn:aws:kms:r:1:key/k", Resource("key", "k")),
        ("arn:aws:ecs:r:1:cluster/c", Resource("cluster", "c")),
        ("arn:aws:ecs:r:1:task-definition/d:1", Resource("task-definition", "arn:aws:ecs:r:1:task-definition/d:1")),
        ("arn:aws:logs:r:1:log-group:/a/b", Resource("log-group", "/a/b")),
        ("arn:aws:logs:r:1:log-group:/a/b:*", Resource("log-group", "/a/b")),
        ("arn:aws:s3:::bucket", None),
    ],
)
def test_resource_is_read_from_its_arn(arn: str, resource: Resource | None) -> None:
    assert resource_of(arn) == resource


def test_every_kind_but_roles_is_found_by_its_arn() -> None:
    """Roles are found by their path."""
    pattern = re.compile(r'Resource\("([a-z-]+)"')
    text = (ROOT / "tests" / "unit" / "tools" / "test_probes.py").read_text("utf-8")
    assert set(KINDS) - {"role"} <= set(pattern.findall(text))


# The command


SANDBOX = "[profile sandbox]\naws_access_key_id = nobody\naws_secret_access_key = nobody"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The command with a profile `sandbox`, in an account that is empty at first."""
    config = tmp_path / "config"
    config.write_text(f"{SANDBOX}\nregion = eu-west-1\n[profile nowhere]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION")
    with mock_aws():
        yield lambda *arguments: main(list(arguments), tmp_path / "work")


def test_command_refuses_to_create_anything_without_a_yes(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--profile", "sandbox", "--only", "or-with-prefixes") == 2

    told = capsys.readouterr()
    assert "YES=1 (--yes) is missing" in told.err
    assert "Account 123456789012, Region eu-west-1" in told.out
    assert "or-with-prefixes: creates a rule" in told.out
    assert boto3.client("events", region_name="eu-west-1").list_event_buses(NamePrefix="headgate")["EventBuses"] == []


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ("or-with-prefixes", "1 probe, at most about 1 minute and"),
        ("or-with-prefixes,weight-decimals", "2 probes one after another, at most about 2 minutes and"),
    ],
)
def test_command_says_how_long_it_takes_and_how_to_clean_up(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], only: str, told: str
) -> None:
    command("--profile", "sandbox", "--only", only)

    out = capsys.readouterr().out
    run = re.findall(r"^Run ([0-9a-f]{6}): ", out, re.MULTILINE)[0]
    assert f"Run {run}: {told}" in out
    assert f"delete the rest with CLEAN={run} (--clean {run})." in out


def test_variables_that_messages_name_are_those_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = (ROOT / "tools" / "probes" / "__main__.py").read_text("utf-8")
    options = set(re.findall(r"add_argument\(\s*\"--(\w+)", text))
    assert len(options) > 5
    for option in options:
        assert f"$(if $({option.upper()}),--{option}" in makefile


@pytest.mark.parametrize(("typed", "created"), [("n", False), ("", False), ("y", True)])
def test_command_asks_on_a_terminal(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str, created: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: typed)

    command("--profile", "sandbox", "--only", "weight-decimals")

    assert bool(list((tmp_path / "work").glob("*/journal.jsonl"))) == created


def test_command_writes_a_report_of_every_answer(command: Callable[..., int], tmp_path: Path) -> None:
    code = command("--profile", "sandbox", "--only", "weight-decimals, or-with-prefixes", "--yes")

    (file,) = (tmp_path / "work").glob("*/report.json")
    report = json.loads(file.read_text())
    assert [each["id"] for each in report["answers"]] == ["weight-decimals", "or-with-prefixes"]
    assert report["left"] == []
    page = file.with_suffix(".md").read_text()
    for each in report["answers"]:
        assert f"## {each['id']}: {each['answer']}" in page
    differs = any(each["answer"] == "no" for each in report["answers"])
    assert code == (1 if differs else 2 if any(each["answer"] == "unclear" for each in report["answers"]) else 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "PROFILE (--profile) is missing"),
        (["--profile", "none"], "none"),
        (["--profile", "nowhere"], "REGION (--region) is missing"),
        (["--profile", "sandbox", "--only", "x"], "ONLY (--only): there is no probe x; LIST=1 (--list) shows all"),
        (
            ["--profile", "sandbox", "--only", "role-of-run-task"],
            "ONLY=role-of-run-task (--only role-of-run-task): this probe needs SUBNET (--subnet)",
        ),
        (["--profile", "sandbox", "--only", "key-of-table"], "needs KEYS=1 (--keys)"),
        (["--profile", "sandbox", "--clean", "all"], "CLEAN (--clean) must be the six characters"),
    ],
)
def test_command_refuses_wrong_options(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command(*arguments) == 2
    assert said in capsys.readouterr().err


def test_command_lists_every_question_without_an_account(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--list") == 0
    told = capsys.readouterr().out
    assert all(probe.question in told for probe in PROBES.values())


def test_command_cleans_a_run_by_its_id(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Account(
        boto3.Session(profile_name="sandbox"), RUN, Journal(tmp_path / "work" / RUN / "journal.jsonl"), Clock()
    )
    Lab(found, "killed").queue("one")

    assert command("--profile", "sandbox", "--clean", RUN) == 0
    assert f"deleted: queue headgate-probe-{RUN}-killed-one" in capsys.readouterr().out
    assert queues() == []
