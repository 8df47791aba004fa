"""What must hold for every rule, invocation, mapping, queue, function and statement of template.yaml.

A test's name says what is missing, its parameter where; docs/how-it-works.md has the table of deliveries.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import pytest
from cfnlint.decode import cfn_yaml

from headgate.aws.observability import NAMESPACE, SERVICE, UNEXPECTED_ERRORS_METRIC
from headgate.notices.notice import OUTCOMES, Outcome
from headgate.rollouts.recovery import UNSETTLED_METRIC
from headgate.triggers.occurrences import PARAMETERS as PARAMETERS_OF_TRIGGERS
from headgate.triggers.trigger import SOURCE
from tests.builders import ROOT, event

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = ROOT / "template.yaml"
TEMPLATE = cfn_yaml.load(str(PATH))
LINES = PATH.read_text("utf-8").splitlines()
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
GLOBALS: dict[str, Any] = TEMPLATE["Globals"]["Function"]
BY_EVENTBRIDGE = {"EventBridgeRule", "CloudWatchEvent", "Schedule", "ScheduleV2"}
ASYNCHRONOUS = BY_EVENTBRIDGE | {"SNS", "S3", "CloudWatchLogs", "IoTRule"}
STREAMS = {"Kinesis", "DynamoDB"}
FOURTEEN_DAYS = 1_209_600
TIMES_TIMEOUT = 6
"""https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
LEAST_RECEIVES = 5
"""Ditto: fewer, and a message is given up while Lambda itself is throttled."""


class Delivery(NamedTuple):
    """Something that is delivered: where the template says so, and how."""

    name: str
    """As in the documentation's table: a resource, or ``Function.Event``."""
    settings: dict[str, Any]


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Properties of all resources of a type, by logical id."""
    return {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == kind}


FUNCTIONS = resources("AWS::Serverless::Function")
MACHINES = resources("AWS::Serverless::StateMachine")
QUEUES = resources("AWS::SQS::Queue")
ALARMS = resources("AWS::CloudWatch::Alarm")
ROLLS_BACK = {"Signaller", "Judge", "LambdaAliasDriver", "EventSourceDriver", "EcsServiceDriver"}
"""What must run between an alarm and traffic that is back on the stable version."""


def events(kinds: set[str]) -> list[Delivery]:
    """The events of functions and state machines that are of one of these types."""
    return [
        Delivery(f"{name}.{event}", found["Properties"])
        for kind in ("AWS::Serverless::Function", "AWS::Serverless::StateMachine")
        for name, properties in resources(kind).items()
        for event, found in properties.get("Events", {}).items()
        if found["Type"] in kinds
    ]


def rule_targets() -> list[Delivery]:
    """Targets of EventBridge rules and schedules, those included that SAM makes."""
    rules = resources("AWS::Events::Rule") | resources("AWS::Scheduler::Schedule")
    return [
        *(
            Delivery(name, target)
            for name, rule in rules.items()
            for target in rule.get("Targets", [rule.get("Target", {})])
        ),
        *events(BY_EVENTBRIDGE),
    ]


def invoked_asynchronously() -> list[str]:
    """Functions that EventBridge, SNS and the like invoke."""
    by_events = {delivery.name.split(".")[0] for delivery in events(ASYNCHRONOUS)}
    by_rules = {logical_id(target.settings.get("Arn")) for target in rule_targets()}
    by_topics = {logical_id(one.get("Endpoint")) for one in resources("AWS::SNS::Subscription").values()}
    return sorted((by_events | by_rules | by_topics) & FUNCTIONS.keys())


def logical_id(reference: Any) -> str:
    """The resource that a Ref or GetAtt names, also under a condition; empty where it is neither."""
    if not isinstance(reference, dict):
        return ""
    if "Fn::If" in reference:
        return logical_id(reference["Fn::If"][1])
    named = reference.get("Ref") or reference.get("Fn::GetAtt") or ""
    return str(named[0] if isinstance(named, list) else named).split(".")[0]


def statements(node: Any = TEMPLATE) -> Iterator[Any]:
    """Every policy statement in the template."""
    if isinstance(node, dict):
        if "Effect" in node and "Action" in node:
            yield node
        for child in node.values():
            yield from statements(child)
    elif isinstance(node, list):
        for child in node:
            yield from statements(child)


def mentions(node: Any, text: str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every ARN that has the text in it, with the conditions of the Ifs and resources around it."""
    if isinstance(node, str) and text in node and node.startswith("arn:"):
        yield path, node
    elif isinstance(node, dict):
        around = (*path, str(node["Condition"])) if isinstance(node.get("Condition"), str) else path
        if "Fn::If" in node:
            around = (*around, node["Fn::If"][0])
        for child in node.values():
            yield from mentions(child, text, around)
    elif isinstance(node, list):
        for child in node:
            yield from mentions(child, text, path)


def condition_needs(node: Any, parameter: str) -> bool:
    """Whether the condition holds only if the parameter is not empty."""
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}
    if node == given:
        return True
    needed = node.get("Fn::And", []) if isinstance(node, dict) else []
    return any(condition_needs(TEMPLATE["Conditions"].get(each.get("Condition"), each), parameter) for each in needed)


def by_pattern(role: dict[str, Any]) -> list[Any]:
    """Statements of a role that allow something on functions that a parameter's pattern names."""
    return [
        each
        for each in statements(role)
        if each["Effect"] == "Allow"
        and re.search(r":function:\$\{(Target|Hook|Count|CleanVersionsOf)Functions\}", str(each.get("Resource")))
    ]


def allows_everything(statement: dict[str, Any]) -> bool:
    resource = statement.get("Resource", [])
    return "*" in (resource if isinstance(resource, list) else [resource])


UNSCOPED = [(statement.start_mark.line, statement) for statement in statements() if allows_everything(statement)]


def named(deliveries: list[Delivery]) -> pytest.MarkDecorator:
    """Parameters of a test, each under its own name."""
    return pytest.mark.parametrize("delivery", deliveries, ids=lambda delivery: delivery.name)


# EventBridge


@named(rule_targets())
def test_a_rules_target_says_how_often_it_is_tried_for_how_long_and_where_it_goes_then(delivery: Delivery) -> None:
    retry = delivery.settings.get("RetryPolicy", {})
    for field in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds"):
        assert field in retry, f"{delivery.name}: give its RetryPolicy a {field}"
    assert logical_id(delivery.settings.get("DeadLetterConfig", {}).get("Arn")) in QUEUES, (
        f"{delivery.name}: give it a DeadLetterConfig whose Arn is one of the queues {', '.join(QUEUES)}"
    )


@pytest.mark.parametrize("function", invoked_asynchronously())
def test_an_asynchronous_invocation_says_how_often_it_is_tried_for_how_long_and_where_it_goes_then(
    function: str,
) -> None:
    config = FUNCTIONS[function].get("EventInvokeConfig", {})
    for field in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds"):
        assert field in config, f"{function} is invoked asynchronously: give its EventInvokeConfig a {field}"
    assert failure_destination(config) in QUEUES, (
        f"{function} is invoked asynchronously: give its EventInvokeConfig a DestinationConfig.OnFailure"
    )


def failure_destination(settings: dict[str, Any]) -> str:
    return logical_id(settings.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"))


# Event source mappings


def test_mappings_are_written_as_events_of_their_function_where_these_tests_look() -> None:
    written_out = list(resources("AWS::Lambda::EventSourceMapping"))
    assert not written_out, f"write {', '.join(written_out)} as Events of the function"


@named(events(STREAMS))
def test_a_streams_mapping_says_what_becomes_of_a_batch_that_fails(delivery: Delivery) -> None:
    wanted = ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError")
    for field in wanted:
        assert field in delivery.settings, f"{delivery.name}: choose its {field}"
    assert delivery.settings.get("FunctionResponseTypes") == ["ReportBatchItemFailures"], delivery.name
    assert failure_destination(delivery.settings) in QUEUES, f"{delivery.name}: give it a DestinationConfig.OnFailure"


@named(events({"SQS"}))
def test_a_queues_mapping_reports_single_messages_and_has_a_limit(delivery: Delivery) -> None:
    assert delivery.settings.get("FunctionResponseTypes") == ["ReportBatchItemFailures"], (
        f"{delivery.name}: one bad message must not bring the batch back; report batch item failures"
    )
    concurrency = delivery.settings.get("ScalingConfig", {}).get("MaximumConcurrency")
    assert concurrency is not None, f"{delivery.name}: a flood needs a limit; set ScalingConfig.MaximumConcurrency"
    assert 2 <= concurrency <= 1000


@named(events({"SQS"}))
def test_a_queue_hides_a_message_for_six_times_the_timeout_of_its_function(delivery: Delivery) -> None:
    queue = logical_id(delivery.settings["Queue"])
    timeout = FUNCTIONS[delivery.name.split(".")[0]].get("Timeout", GLOBALS["Timeout"])
    hidden = QUEUES[queue].get("VisibilityTimeout", 30)
    assert hidden >= TIMES_TIMEOUT * timeout, (
        f"{queue}: VisibilityTimeout {hidden} is less than {TIMES_TIMEOUT} x {timeout}, the timeout of its function"
    )


# Queues

CONSUMED = {logical_id(mapping.settings["Queue"]) for mapping in events({"SQS"})}


@named(events({"SQS"}))
def test_a_queue_with_a_consumer_has_dead_letters_of_its_own_kind(delivery: Delivery) -> None:
    queue = logical_id(delivery.settings["Queue"])
    redrive = QUEUES[queue].get("RedrivePolicy", {})
    letters = logical_id(redrive.get("deadLetterTargetArn"))
    assert letters in QUEUES, f"{queue}: give it a RedrivePolicy"
    assert redrive["maxReceiveCount"] >= LEAST_RECEIVES, f"{queue}: give a message {LEAST_RECEIVES} tries at least"
    assert QUEUES[queue].get("FifoQueue") == QUEUES[letters].get("FifoQueue"), f"{queue}, {letters}: one is FIFO"


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_keeps_messages_as_long_as_sqs_can_and_takes_the_key_of_whoever_has_one(queue: str) -> None:
    # A standard queue's dead letters keep the time of their first queue: theirs must not be shorter.
    assert QUEUES[queue].get("MessageRetentionPeriod") == FOURTEEN_DAYS, f"{queue}: keep messages for 14 days"
    assert "KmsMasterKeyId" in QUEUES[queue], f"{queue}: encrypt it with the key that is given, if one is"
    # SQS encrypts with a key of its own unless this says no: docs/security.md, Encryption.
    assert "SqsManagedSseEnabled" not in QUEUES[queue], f"{queue}: leave SQS's own encryption as it is"


def test_the_topic_is_encrypted_with_a_customers_key_or_not_at_all() -> None:
    # Under the managed key of SNS, neither EventBridge nor alarms could publish.
    topics = resources("AWS::SNS::Topic")
    assert set(topics) == {"Notifications", "AmazonQNotifications"}
    for topic in topics.values():
        assert topic["KmsMasterKeyId"] == {"Fn::If": ["Encrypted", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}


@pytest.mark.parametrize(
    "queue", sorted(QUEUES.keys() - {logical_id(one.settings["Queue"]) for one in events({"SQS"})})
)
def test_a_queue_that_nothing_consumes_has_an_alarm_on_its_first_message(queue: str) -> None:
    alarms = [
        alarm
        for alarm in ALARMS.values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        and [logical_id(one["Value"]) for one in alarm["Dimensions"]] == [queue]
    ]
    assert alarms, f"{queue}: nobody would look; add an alarm on ApproximateNumberOfMessagesVisible"
    assert all(alarm["Threshold"] == 0 and alarm["AlarmActions"] for alarm in alarms)


# Alarms


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_tells_somebody_and_is_quiet_while_nothing_is_measured(alarm: str) -> None:
    assert [logical_id(action) for action in ALARMS[alarm]["AlarmActions"]] == ["Notifications"], alarm
    assert ALARMS[alarm]["TreatMissingData"] == "notBreaching", alarm


def watched(alarm: dict[str, Any]) -> tuple[str, str, frozenset[str]]:
    """The metric of an alarm, and the names that its dimensions refer to."""
    names = (logical_id(one["Value"]) or str(one["Value"]) for one in alarm["Dimensions"])
    return alarm["Namespace"], alarm["MetricName"], frozenset(names)


WATCHED = {watched(alarm) for alarm in ALARMS.values()}
RAISES_ON_PURPOSE = {"LambdaAliasDriver", "EventSourceDriver", "EcsServiceDriver"}
"""Functions that tell the machine by an error what comes next, so that their Errors say nothing."""


@pytest.mark.parametrize("function", sorted(ROLLS_BACK))
def test_what_must_run_to_roll_back_has_alarms_on_its_errors_and_throttles(function: str) -> None:
    assert ("AWS/Lambda", "Throttles", frozenset({function})) in WATCHED
    if function in RAISES_ON_PURPOSE:
        assert (NAMESPACE, UNEXPECTED_ERRORS_METRIC, frozenset({function, SERVICE})) in WATCHED
    assert (("AWS/Lambda", "Errors", frozenset({function})) in WATCHED) is (function not in RAISES_ON_PURPOSE)


def test_what_raises_errors_on_purpose_counts_the_others() -> None:
    counting = {
        name
        for name, properties in FUNCTIONS.items()
        if "@counts_unexpected_errors" in (ROOT / properties["CodeUri"] / "app.py").read_text("utf-8")
    }
    assert counting == RAISES_ON_PURPOSE


def test_the_age_of_the_outbox_has_an_alarm() -> None:
    assert ("AWS/Lambda", "IteratorAge", frozenset({"Publisher"})) in WATCHED


# Failed executions

FAILED_RULE = RESOURCES["FailedExecutionRule"]["Properties"]
OUR_FAULT = FAILED_RULE["EventPattern"]["detail"]["$or"][1]["error"]


def is_our_fault(error: str) -> bool:
    """Whether the rule takes an execution that failed with this error."""
    return any(error.startswith(one["prefix"]) if isinstance(one, dict) else error == one for one in OUR_FAULT)


def fail_states() -> Iterator[tuple[str, str, str]]:
    """Each Fail state: machine, state, and every error that it may name."""
    for path in sorted((ROOT / "statemachines").glob("*.asl.json")):
        for name, state in json.loads(path.read_text("utf-8"))["States"].items():
            if state["Type"] == "Fail":
                quoted = re.findall(r"'(\w+)'", state["Error"]) if state["Error"].startswith("{%") else [state["Error"]]
                # A task ends with the error of its outcome, whose names begin with Task.
                for error in [one for one in quoted if one[:1].isupper()] or ["TaskFailed"]:
                    yield path.name, name, error


OUR_FAILURES = {("rollout.asl.json", "Unsettled"), ("stack.asl.json", "Unanswered")}


@pytest.mark.parametrize(("machine", "state", "error"), list(fail_states()))
def test_an_execution_that_fails_on_purpose_raises_no_alarm(machine: str, state: str, error: str) -> None:
    assert is_our_fault(error) is ((machine, state) in OUR_FAILURES)


@pytest.mark.parametrize(
    "error",
    ["States.Runtime", "States.TaskFailed", "States.DataLimitExceeded", "Lambda.Unknown", "Sandbox.Timedout"],
)
def test_an_execution_that_fails_for_a_reason_that_no_state_caught_raises_an_alarm(error: str) -> None:
    assert is_our_fault(error)


def test_the_rule_on_failed_executions_watches_every_machine_and_has_the_alarm() -> None:
    machines = [properties["Name"]["Fn::Sub"] for properties in resources("AWS::Serverless::StateMachine").values()]
    arns = [one["Fn::Sub"] for one in FAILED_RULE["EventPattern"]["detail"]["stateMachineArn"]]
    assert sorted(arn.split(":stateMachine:")[1] for arn in arns) == sorted(machines)
    assert "EventBusName" not in FAILED_RULE, "Step Functions publishes on the default bus"
    assert ("AWS/Events", "MatchedEvents", frozenset({"FailedExecutionRule"})) in WATCHED


def test_the_alarm_on_what_stays_unsettled_reads_what_the_warden_tells() -> None:
    alarm = ALARMS["UnsettledAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == (NAMESPACE, UNSETTLED_METRIC, "Maximum")
    # An alarm reads the metric with exactly its dimensions.
    dimensions = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    assert (set(dimensions), logical_id(dimensions["FunctionName"])) == ({"FunctionName", "service"}, "Warden")
    assert dimensions["service"] == GLOBALS["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == SERVICE
    # A sweep each minute, cut short at its timeout, leaves no period without a value while something is stuck.
    assert alarm["Period"] * alarm["EvaluationPeriods"] > 2 * FUNCTIONS["Warden"]["Timeout"]


# Functions


def role_of(function: str) -> str:
    """The role of a function. Rules had NotifierRole before there was a notifier: see test_upgrade.py."""
    return {"Notifier": "NotifierFunctionRole"}.get(function, f"{function}Role")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_a_folder_a_role_and_a_log_group_of_its_own(function: str) -> None:
    properties = FUNCTIONS[function]
    assert (ROOT / properties["CodeUri"] / "app.py").is_file(), (
        f"{function}: there is no {properties['CodeUri']}/app.py"
    )
    role = role_of(function)
    assert logical_id(properties.get("Role")) == role, f"{function}: give it a role {role}"
    logs = logical_id(properties.get("LoggingConfig", {}).get("LogGroup"))
    assert logs == f"{function}Logs", f"{function}: set LoggingConfig.LogGroup to a log group {function}Logs"
    assert "RetentionInDays" in RESOURCES[logs]["Properties"], f"{logs}: say how long logs are kept"
    for part in (logs, role):
        wanted = RESOURCES[function].get("Condition")
        assert RESOURCES[part].get("Condition") == wanted, f"{part}: give it the Condition of {function}"


ROLES = resources("AWS::IAM::Role")
OF_EVERYBODY = {"Fn::If": ["Encrypted", {"Ref": "KeyAccess"}, {"Ref": "AWS::NoValue"}]}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_has_no_policy_of_aws_and_is_bounded_where_the_parameter_says_so(role: str) -> None:
    attached = ROLES[role].get("ManagedPolicyArns", [])
    ours = [{"Ref": name} for name in resources("AWS::IAM::ManagedPolicy")]
    assert [one for one in attached if one not in [*ours, OF_EVERYBODY]] == [], f"{role}: write out what it may do"
    assert ROLES[role].get("PermissionsBoundary") == {
        "Fn::If": ["Bounded", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]
    }, f"{role}: give it the boundary"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_writes_its_own_logs_and_no_others(function: str) -> None:
    writing = [one for one in statements(ROLES[role_of(function)]) if "logs:PutLogEvents" in one["Action"]]
    assert [logical_id(one["Resource"]) for one in writing] == [f"{function}Logs"]


def test_nothing_makes_log_groups_again_after_the_stack_has_deleted_them() -> None:
    # The next deployment under the same name would find them, and fail.
    assert not [one for one in statements() if "logs:CreateLogGroup" in str(one["Action"])]


def test_no_role_is_made_by_sam_which_adds_policies_of_its_own() -> None:
    made = {logical_id(each["Role"]) for each in [*FUNCTIONS.values(), *MACHINES.values()]}
    assert made <= ROLES.keys()
    assert not [name for name, each in [*FUNCTIONS.items(), *MACHINES.items()] if "Policies" in each]


def test_concurrency_is_reserved_for_what_must_run_to_roll_back_and_only_if_the_parameter_asks() -> None:
    reserved = {
        name: properties["ReservedConcurrentExecutions"]
        for name, properties in FUNCTIONS.items()
        if "ReservedConcurrentExecutions" in properties
    }
    wanted = {"Fn::If": ["WithReservedConcurrency", {"Ref": "ReservedConcurrency"}, {"Ref": "AWS::NoValue"}]}
    assert reserved == dict.fromkeys(ROLLS_BACK, wanted)
    assert TEMPLATE["Conditions"]["WithReservedConcurrency"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "ReservedConcurrency"}, ""]}]
    }


def test_every_driver_is_among_what_must_run_to_roll_back() -> None:
    drivers = FUNCTIONS["Planner"]["Environment"]["Variables"]["DRIVERS"]["Fn::Sub"]
    assert set(re.findall(r"\$\{(\w+)\.Arn\}", drivers)) == ROLLS_BACK - {"Signaller", "Judge"}


@pytest.mark.parametrize(
    ("value", "allowed"), [("", True), ("1", True), ("25", True), ("0", False), ("00", False), ("-1", False)]
)
def test_a_reserved_concurrency_that_would_stop_a_function_is_refused(value: str, *, allowed: bool) -> None:
    parameter = TEMPLATE["Parameters"]["ReservedConcurrency"]
    assert parameter["Default"] == ""
    assert bool(re.fullmatch(parameter["AllowedPattern"], value)) is allowed


def test_no_two_functions_share_a_folder_or_a_log_group() -> None:
    folders = [properties["CodeUri"] for properties in FUNCTIONS.values()]
    groups = [str(group["LogGroupName"]) for group in resources("AWS::Logs::LogGroup").values()]
    for names in (folders, groups):
        assert len(set(names)) == len(names), names


@pytest.mark.parametrize(("line", "statement"), UNSCOPED, ids=[f"line-{line + 1}" for line, _ in UNSCOPED])
def test_a_statement_without_a_scope_says_why(line: int, statement: Any) -> None:
    end = next(number for number in range(line, len(LINES)) if re.search(r"^\s*-?\s*Resource: ", LINES[number]))
    assert any("#" in text for text in LINES[max(0, line - 1) : end]), (
        f"template.yaml:{line + 1}: {statement.get('Sid')} allows {statement['Action']} on everything; "
        "name a resource, or say in a comment above Resource why there is none"
    )


def test_roles_are_passed_to_ecs_tasks_alone_and_only_those_that_the_parameter_names() -> None:
    passing = [statement for statement in statements() if "iam:PassRole" in str(statement["Action"])]
    assert len(passing) == 3, "the machine that runs tasks, the planner that registers definitions, and their services"
    for statement in passing:
        assert statement["Action"] == "iam:PassRole"
        assert statement["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${TaskRoles}"}
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert TEMPLATE["Parameters"]["TaskRoles"]["Default"] == "", "no role, unless the parameter names some"


# What a request reaches

ALLOWS_NOTHING = [
    *("TargetQueues", "TargetStreams", "TargetServices", "HookFunctions", "HookMachines", "CodeObjects"),
    "CountFunctions",
    *("CodeRepositories", "TaskDefinitions", "TaskRoles", "RedriveQueues", "RedriveStreams"),
]
"""Parameters whose resources anyone who may put requests on the bus can reach."""
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]


@pytest.mark.parametrize("parameter", ALLOWS_NOTHING)
def test_a_pattern_allows_nothing_by_default_and_its_resources_are_in_no_statement_then(parameter: str) -> None:
    assert PARAMETERS[parameter]["Default"] == ""
    assert re.fullmatch(PARAMETERS[parameter].get("AllowedPattern", ".*"), ""), f"{parameter}='' takes it back"
    # An ARN without a name would be refused by IAM.
    for path, text in mentions(TEMPLATE["Resources"], f"${{{parameter}}}"):
        assert any(condition in OF_PARAMETER[parameter] for condition in path), f"{text} needs an If of {parameter}"


OF_PARAMETER = {
    name: {condition for condition, node in TEMPLATE["Conditions"].items() if condition_needs(node, name)}
    for name in ALLOWS_NOTHING
}
"""The conditions that hold only where the parameter is not empty."""


def test_no_versions_are_deleted_and_nothing_may_delete_some_by_default() -> None:
    assert PARAMETERS["CleanVersionsOfFunctions"]["Default"] == ""
    for path, text in mentions(TEMPLATE["Resources"], "${CleanVersionsOfFunctions}"):
        assert "WithCleaning" in path, text
    for name in ("Cleaner", "CleanerRole", "CleanerLogs"):
        assert TEMPLATE["Resources"][name]["Condition"] == "WithCleaning"


def test_which_functions_may_be_rolled_out_has_to_be_said() -> None:
    assert "Default" not in PARAMETERS["TargetFunctions"]
    assert not re.fullmatch(PARAMETERS["TargetFunctions"]["AllowedPattern"], "")


def test_the_outputs_name_every_pattern_that_allows_all() -> None:
    named = re.findall(r"'(\w+) '", str(TEMPLATE["Outputs"]["OpenPatterns"]["Value"]))
    assert set(named) == {"TargetFunctions", *ALLOWS_NOTHING}


NAMED_IN_REQUESTS = {"SmokeTester", "HttpSmokeTester", "VersionChecker", "PrometheusCounter"}
"""The sample hooks, and the function that counts."""


def test_no_pattern_reaches_headgates_own_functions_but_for_those_that_requests_may_name() -> None:
    (statement,) = RESOURCES["NotOnOwnFunctions"]["Properties"]["PolicyDocument"]["Statement"]
    denied = {one["Fn::Sub"].split(":function:")[1] for one in statement["Resource"]}
    names = {FUNCTIONS[name]["FunctionName"]["Fn::Sub"] for name in FUNCTIONS.keys() - NAMED_IN_REQUESTS}
    assert (statement["Effect"], statement["Action"]) == ("Deny", "lambda:*")
    assert denied == names | {f"{name}:*" for name in names}
    reaching = {name for name, role in ROLES.items() if by_pattern(role)}
    limited = {
        name for name, role in ROLES.items() if {"Ref": "NotOnOwnFunctions"} in role.get("ManagedPolicyArns", [])
    }
    assert reaching == limited


def test_announcements_come_from_those_who_may_put_events_and_from_nobody_else() -> None:
    statement = RESOURCES["BusPolicy"]["Properties"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"]["ForAnyValue:StringEquals"] == {"events:source": "headgate"}
    exempt = [logical_id(one) for one in statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]]
    announcing = {
        name
        for name, role in ROLES.items()
        if any(each["Action"] == "events:PutEvents" and may_announce(each) for each in statements(role))
    }
    assert sorted(exempt) == sorted(announcing)


def may_announce(statement: dict[str, Any]) -> bool:
    """Whether a statement that allows PutEvents does not limit it to sources other than ``headgate``."""
    sources = statement.get("Condition", {}).get("ForAllValues:StringEquals", {}).get("events:source", "headgate")
    return "headgate" in ([sources] if isinstance(sources, str) else sources)


def made_by_sam(delivery: Delivery) -> str:
    """The logical id that SAM gives to the rule of an event."""
    return delivery.name.replace(".", "")


def test_a_queue_takes_events_of_its_own_rules_alone() -> None:
    rules = resources("AWS::Events::Rule")
    filled = {"Undelivered": {"Bus", *rules, *(made_by_sam(each) for each in events(BY_EVENTBRIDGE))}}
    for name, rule in rules.items():
        if (queue := logical_id(rule["Targets"][0]["Arn"])) in QUEUES:
            filled.setdefault(queue, set()).add(name)
    allowed = {
        logical_id(each["Resource"]): {
            logical_id(one.get("Fn::If", [None, one])[1]) for one in each["Condition"]["ArnEquals"]["aws:SourceArn"]
        }
        for each in RESOURCES["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    }
    assert allowed == filled
    assert [logical_id(one) for one in RESOURCES["QueuePolicy"]["Properties"]["Queues"]] == list(allowed)


TOLD_BY = {
    name: rule
    for name, rule in resources("AWS::Events::Rule").items()
    if logical_id(rule["Targets"][0]["Arn"]) == "Notifier"
}
"""The rules whose events somebody is told of."""


def test_the_topic_takes_alarms_and_what_the_notifier_publishes() -> None:
    (statement,) = RESOURCES["NotificationsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    publishing = {
        name
        for name, role in ROLES.items()
        if any(
            "sns:Publish" in str(each["Action"]) and logical_id(each["Resource"]) == "Notifications"
            for each in statements(role)
        )
    }
    assert publishing == {"NotifierFunctionRole"}
    assert set(TOLD_BY) == {"EndRule", "RefusedJobRule", "FailedExecutionRule"}


def test_the_notifier_has_an_outcome_for_every_event_that_its_rules_take() -> None:
    taken = {each for rule in TOLD_BY.values() for each in rule["EventPattern"]["detail-type"]}
    assert taken == set(OUTCOMES)


def test_an_upgrade_loses_no_notification() -> None:
    # EventBridge does not try again what it may not do. So a rule gets its new target when it may invoke it already, in
    # one call that replaces the target with the same id; and the topic takes the rules' events until all rules have it.
    allowed = RESOURCES["NotifierPermission"]["Properties"]
    assert (logical_id(allowed["FunctionName"]), allowed["Action"]) == ("Notifier", "lambda:InvokeFunction")
    # Neither the rules' own ARNs, which would be known only when the rules have their new target, nor a pattern of
    # their names, which CloudFormation makes of the stack's name and shortens as it likes.
    assert allowed["SourceArn"]["Fn::Sub"].endswith(":${AWS::AccountId}:rule/*")
    for name, rule in TOLD_BY.items():
        assert RESOURCES[name]["DependsOn"] == "NotifierPermission"
        assert [target["Id"] for target in rule["Targets"]] == ["topic"]
    assert sorted(RESOURCES["NotificationsPolicy"]["DependsOn"]) == sorted(TOLD_BY)


# ECS services


def takes(pattern: Any, given: Any) -> bool:
    """Whether a pattern of EventBridge takes an event, by the filters that the rules on services use.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    if isinstance(pattern, dict):
        return all(
            any(takes(one, given) for one in inner) if name == "$or" else takes(inner, given.get(name))
            for name, inner in pattern.items()
        )
    values = given if isinstance(given, list) else [given]
    return any(filter_takes(one, value) for one in pattern for value in values if value is not None)


def filter_takes(one: Any, value: str) -> bool:
    match one:
        case {"anything-but": refused}:
            return value not in refused
        case {"prefix": prefix}:
            return value.startswith(prefix)
        case {"wildcard": {"Fn::Sub": text}}:
            parameters = {"Partition": "aws", "Region": "eu-central-1", "AccountId": "123456789012"}
            values = {f"AWS::{name}": value for name, value in parameters.items()}
            values |= {"TargetClusters": "prod", "TargetServices": "shop*"}
            filled = re.sub(r"\$\{([\w:]+)\}", lambda found: values[found[1]], text)
            return filter_takes({"wildcard": filled}, value)
        case {"wildcard": text}:
            return re.fullmatch(".*".join(map(re.escape, text.split("*"))), value) is not None
    return bool(one == value)


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"group": "service:shop"}, True),
        ({"stopCode": "TaskFailedToStart"}, True),
        ({"stopCode": "SpotInterruption"}, True),
        ({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (...)"}, True),
        ({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Host EC2 (instance i-0) terminated."}, True),
        ({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Scaling activity initiated by ..."}, False),
        ({"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"}, False),
        ({"lastStatus": "RUNNING"}, False),
        ({"group": "family:shop"}, False),
        ({"group": "service:checkout"}, False),
        ({"clusterArn": "arn:aws:ecs:eu-central-1:123456789012:cluster/test"}, False),
    ],
)
def test_the_signaller_hears_of_tasks_that_stopped_by_themselves_and_of_no_others(
    changes: dict[str, str], taken: bool
) -> None:
    told = event("ecs_task_state_change")
    pattern = RESOURCES["StoppedTaskRule"]["Properties"]["EventPattern"]
    assert takes(pattern, told | {"detail": told["detail"] | changes}) is taken


@pytest.mark.parametrize(
    ("name", "service", "taken"),
    [
        ("SERVICE_DEPLOYMENT_FAILED", "prod/shop-hg-12ab34cd", True),
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", "prod/shop", True),
        ("SERVICE_DEPLOYMENT_COMPLETED", "prod/shop", False),
        ("SERVICE_DEPLOYMENT_FAILED", "prod/checkout", False),
        ("SERVICE_DEPLOYMENT_FAILED", "test/shop", False),
    ],
)
def test_the_signaller_hears_of_deployments_that_begin_or_fail(name: str, service: str, taken: bool) -> None:
    told = event("ecs_deployment_state_change")
    told = told | {"resources": [f"arn:aws:ecs:eu-central-1:123456789012:service/{service}"]}
    pattern = RESOURCES["ServiceDeploymentRule"]["Properties"]["EventPattern"]
    assert takes(pattern, told | {"detail": told["detail"] | {"eventName": name}}) is taken


def test_no_event_of_services_is_heard_where_none_may_be_rolled_out() -> None:
    for name in ("StoppedTaskRule", "ServiceDeploymentRule"):
        rule = RESOURCES[name]
        assert rule["Condition"] == RESOURCES[name.replace("Rule", "Permission")]["Condition"] == "WithTargetServices"
        assert "EventBusName" not in rule["Properties"], "ECS publishes on the default bus"


@pytest.mark.parametrize("parameter", ["TargetServices", "TargetClusters"])
def test_a_pattern_that_events_do_not_have_is_refused(parameter: str) -> None:
    allowed = re.compile(TEMPLATE["Parameters"][parameter]["AllowedPattern"])
    for pattern in ("*", "shop", "shop-*", "*-shop", "*shop*", "shop-*-web", "a*b*c"):
        assert allowed.fullmatch(pattern), pattern
    for pattern in ("shop-?", "**", "shop-**", "a*b*c*"):
        assert not allowed.fullmatch(pattern), pattern


MOST_WILDCARDS = 6
"""Of the patterns of a field. EventBridge is known to take six, and to refuse a rule with eight as too complex:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html"""


@pytest.mark.parametrize("rule", ["StoppedTaskRule", "ServiceDeploymentRule"])
def test_a_rule_for_services_has_few_wildcards_even_with_the_widest_parameters(rule: str) -> None:
    pattern = RESOURCES[rule]["Properties"]["EventPattern"]
    fields = [pattern.get("resources", []), *(each for each in pattern["detail"].values() if isinstance(each, list))]
    for field in fields:
        texts = [each["wildcard"] for each in field if isinstance(each, dict) and "wildcard" in each]
        plain = [text["Fn::Sub"] if isinstance(text, dict) else text for text in texts]
        filled = [re.sub(r"\$\{Target\w+\}", "a*b*c", text) for text in plain]
        assert sum(text.count("*") for text in filled) <= MOST_WILDCARDS


# Chat

CHATS = {"SlackRule": "$.detail.slack", "TeamsRule": "$.detail.teams", "AmazonQRule": "$.detail.amazonQ"}


@pytest.mark.parametrize(("rule", "path"), CHATS.items())
def test_a_chat_gets_its_ready_made_message_of_the_targets_and_outcomes_that_the_parameters_name(
    rule: str, path: str
) -> None:
    found = RESOURCES[rule]["Properties"]
    assert found["EventPattern"] == {
        "source": ["headgate"],
        "detail-type": ["Notification"],
        "detail": {"outcome": {"Ref": "ChatOutcomes"}, "target": [{"wildcard": {"Ref": "ChatTargets"}}]},
    }
    [target] = found["Targets"]
    assert target["InputPath"] == path
    assert logical_id(target["RoleArn"]) == "ChatRole"
    assert not target.keys() & {"Input", "InputTransformer"}


@pytest.mark.parametrize("parameter", ["SlackChannel", "TeamsUrl"])
def test_no_chat_is_set_up_unless_a_parameter_says_so(parameter: str) -> None:
    assert PARAMETERS[parameter]["Default"] == PARAMETERS["ChatSecret"]["Default"] == ""
    assert PARAMETERS["AmazonQTopic"]["Default"] == PARAMETERS["FleetDashboard"]["Default"] == "false"
    of_chat = [name for name in RESOURCES if re.match(r"Slack|Teams|AmazonQ|ChatRole|Dashboard", name)]
    assert len(of_chat) == 10
    assert all("Condition" in RESOURCES[name] for name in of_chat)


def test_a_secret_of_a_chat_is_a_reference_that_no_parameter_and_no_event_of_the_stack_holds() -> None:
    slack = RESOURCES["SlackConnection"]["Properties"]["AuthParameters"]["ApiKeyAuthParameters"]
    token = "Bearer {{resolve:secretsmanager:${ChatSecret}:SecretString:slackToken}}"
    assert slack == {"ApiKeyName": "Authorization", "ApiKeyValue": {"Fn::Sub": token}}
    teams = RESOURCES["TeamsConnection"]["Properties"]["AuthParameters"]["InvocationHttpParameters"]
    signature = {"Fn::Sub": "{{resolve:secretsmanager:${ChatSecret}:SecretString:teamsSignature}}"}
    assert teams == {"QueryStringParameters": [{"Key": "sig", "Value": signature, "IsValueSecret": True}]}


LOGIC_APPS = "https://prod-1.westeurope.logic.azure.com"
WORKFLOW = f"{LOGIC_APPS}/workflows/0a1b/triggers/manual/paths/invoke"
POWER_PLATFORM = (
    "https://default0a1b.2c.environment.api.powerplatform.com:443/powerautomate/automations/direct/workflows/0a1b"
    "/triggers/manual/paths/invoke"
)


def test_a_url_of_teams_that_is_refused_says_where_its_secret_belongs() -> None:
    said = PARAMETERS["TeamsUrl"]["ConstraintDescription"]
    assert all(word in said for word in ("sig", "ChatSecret", "webhook.office.com"))


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("TeamsUrl", "", True),
        ("TeamsUrl", f"{LOGIC_APPS}:443/workflows/0a/triggers/manual/paths/invoke", True),
        ("TeamsUrl", f"{WORKFLOW}?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0", True),
        ("TeamsUrl", f"{WORKFLOW}?api-version=2016-06-01&sp=/triggers/manual/run&sv=1.0", True),
        ("TeamsUrl", f"{POWER_PLATFORM}?api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0", True),
        ("TeamsUrl", POWER_PLATFORM.replace("/invoke", "/invoke/?api-version=1"), True),
        ("TeamsUrl", f"{WORKFLOW}?api-version=1&sig=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?sig=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?SIG=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?s%69g=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?sv=1.0&sig%3Dabc", False),
        ("TeamsUrl", f"{WORKFLOW}?sv=1.0;sig=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?code=abc", False),
        ("TeamsUrl", f"{WORKFLOW}?sp=%2Ftriggers%2Fmanual%2Frun%26sig%3Dabc", False),
        ("TeamsUrl", f"{WORKFLOW}/sig/abc", False),
        ("TeamsUrl", WORKFLOW.replace("/workflows/", "/secret/workflows/"), False),
        ("TeamsUrl", f"{WORKFLOW}#sig=abc", False),
        ("TeamsUrl", WORKFLOW.replace("https", "http"), False),
        ("TeamsUrl", WORKFLOW.replace("https://", "https://user:secret@"), False),
        ("TeamsUrl", WORKFLOW.replace("logic.azure.com", "logic.azure.com.example"), False),
        ("TeamsUrl", "https://team.webhook.office.com/webhookb2/0a@1b/IncomingWebhook/2c/3d", False),
        ("TeamsUrl", "https://hooks.example/services/abc", False),
        ("ChatSecret", "headgate/chat", True),
        ("ChatSecret", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:headgate/chat-a1b2c3", True),
        ("ChatSecret", "chat}}{{resolve:ssm:other", False),
        ("ChatTargets", "*", True),
        ("ChatTargets", "lambda-alias/checkout-*/live", True),
        ("ChatTargets", "lambda-alias/*/live*", True),
        ("ChatTargets", "lambda-alias/**", False),
        ("ChatOutcomes", "rolled-back", True),
        ("ChatOutcomes", "rolled-back,stopped", True),
        ("ChatOutcomes", "rolledback", False),
        ("SlackChannel", "C0123456789", True),
        ("SlackChannel", "#deployments", True),
        ("SlackChannel", "two words", False),
    ],
)
def test_a_parameter_of_chat_allows_what_works(parameter: str, value: str, *, allowed: bool) -> None:
    assert bool(re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], value)) is allowed


def test_chat_knows_every_outcome() -> None:
    assert set(PARAMETERS["ChatOutcomes"]["Default"].split(",")) == set(get_args(Outcome))


def test_the_notifier_may_announce_notifications_alone() -> None:
    [statement] = [each for each in statements(ROLES["NotifierFunctionRole"]) if each["Action"] == "events:PutEvents"]
    assert statement["Condition"] == {"ForAllValues:StringEquals": {"events:detail-type": "Notification"}}


# Triggers

TRIGGERS = {
    "PublishedVersion": ("OnPublishedVersion", "PublishedVersionRequest", "published-version"),
    "PushedImage": ("OnPushedImage", "PushedImageRequest", "pushed-image"),
    "CreatedObject": ("OnCreatedObject", "CreatedObjectRequest", "created-object"),
    "Schedule": ("OnSchedule", "ScheduledRequest", "schedule"),
}
"""Of each trigger: its condition, its parameter and its name in the code."""


def test_the_code_knows_every_trigger_and_its_parameter() -> None:
    assert {name: parameter for _, parameter, name in TRIGGERS.values()} == PARAMETERS_OF_TRIGGERS


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_trigger_is_off_unless_its_parameter_has_a_template(trigger: str) -> None:
    condition, parameter, name = TRIGGERS[trigger]
    assert PARAMETERS[parameter]["Default"] == ""
    assert TEMPLATE["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}
    assert {"Condition": condition} in TEMPLATE["Conditions"]["WithTriggers"]["Fn::Or"]
    for part in (f"{trigger}Rule", f"{trigger}Template", f"{trigger}Permission"):
        assert RESOURCES[part]["Condition"] == condition
    # The function must find the template when the first event comes.
    assert RESOURCES[f"{trigger}Rule"]["DependsOn"] == f"{trigger}Template"
    stored = RESOURCES[f"{trigger}Template"]["Properties"]
    folder = FUNCTIONS["Trigger"]["Environment"]["Variables"]["TRIGGER_FOLDER"]["Fn::Sub"]
    assert (stored["Name"]["Fn::Sub"], stored["Value"]) == (f"{folder}/{name}", {"Ref": parameter})


def test_no_rule_but_a_triggers_own_may_invoke_the_trigger() -> None:
    # Another rule of the account could forge an event with a constant input.
    permissions = [
        each["Properties"]
        for each in RESOURCES.values()
        if each["Type"] == "AWS::Lambda::Permission" and logical_id(each["Properties"]["FunctionName"]) == "Trigger"
    ]
    assert {str(each["SourceArn"]) for each in permissions} == {
        str({"Fn::GetAtt": [f"{trigger}Rule", "Arn"]}) for trigger in TRIGGERS
    }
    assert {(each["Action"], each["Principal"]) for each in permissions} == {
        ("lambda:InvokeFunction", "events.amazonaws.com")
    }


def test_events_of_aws_are_taken_from_the_default_bus_where_they_are() -> None:
    assert not [name for name in TRIGGERS if "EventBusName" in RESOURCES[f"{name}Rule"]["Properties"]]


def test_what_a_rollout_publishes_starts_nothing_whichever_role_publishes_it() -> None:
    publishing = {
        name
        for name, role in ROLES.items()
        for each in statements(role)
        if each["Effect"] == "Allow" and {"lambda:PublishVersion", "lambda:UpdateFunctionCode"} & set(actions_of(each))
    }
    known = FUNCTIONS["Trigger"]["Environment"]["Variables"]["PUBLISHING_ROLES"]["Fn::Sub"]
    assert set(re.findall(r"\$\{(\w+)\.Arn\}", known)) == publishing
    # Such as a managed policy, which would count for several roles.
    assert publishing <= ROLES.keys()


def actions_of(statement: dict[str, Any]) -> list[str]:
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else actions


def test_nothing_of_headgate_writes_objects_or_images_which_would_start_another_rollout() -> None:
    touching = {
        action
        for each in statements()
        if each["Effect"] == "Allow"
        for action in actions_of(each)
        if action.startswith(("s3:", "ecr:"))
    }
    assert touching == {"s3:GetObject", "s3:GetObjectVersion", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}


def test_the_trigger_may_put_requests_on_the_bus_and_nothing_else() -> None:
    [statement] = [each for each in statements(ROLES["TriggerRole"]) if each["Action"] == "events:PutEvents"]
    assert statement["Condition"] == {
        "ForAllValues:StringEquals": {"events:source": SOURCE, "events:detail-type": "Rollout Requested"}
    }
    assert logical_id(statement["Resource"]) == "Bus"


@pytest.mark.parametrize("parameter", [parameter for _, parameter, _ in TRIGGERS.values()])
@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("", True),
        ('{"target": {"kind": "lambda-alias", "function": "<function>"}}', True),
        ('{\n  "target": {"kind": "x"},\n  "when": {}\n}', True),
        ('{"target": "{{resolve:ssm:other}}"}', False),
        ('{\n"target": "{{resolve:secretsmanager:other}}"}', False),
    ],
)
def test_a_template_of_a_request_allows_json_and_no_references(parameter: str, value: str, *, allowed: bool) -> None:
    assert bool(re.fullmatch(PARAMETERS[parameter]["AllowedPattern"], value)) is allowed
    # A parameter of Systems Manager takes no more.
    assert PARAMETERS[parameter]["MaxLength"] == 4096


@pytest.mark.parametrize(
    ("value", "allowed"),
    [("", False), ("rate(1 day)", True), ("cron(0 9 ? * MON-FRI *)", True), ("1 day", False), ("rate()", False)],
)
def test_a_schedule_is_a_rate_or_cron_expression(value: str, *, allowed: bool) -> None:
    assert bool(re.fullmatch(PARAMETERS["ScheduleExpression"]["AllowedPattern"], value)) is allowed


@pytest.mark.parametrize("queue", ["SignalDeadLetters", "Undelivered"])
def test_no_queue_can_make_it_its_dead_letter_queue(queue: str) -> None:
    # The queues of requests cannot name theirs here, which name them: the redrive planner looks whose they are.
    assert QUEUES[queue]["RedriveAllowPolicy"] == {"redrivePermission": "denyAll"}


def test_the_table_outlives_the_stack_but_not_a_creation_that_fails() -> None:
    assert RESOURCES["Table"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert RESOURCES["Table"]["UpdateReplacePolicy"] == "Retain"


def test_the_key_is_used_through_the_services_that_it_encrypts_for_alone() -> None:
    granting = [each for each in statements() if "kms:" in str(each["Action"])]
    assert granting
    assert all("kms:ViaService" in str(each["Condition"]) for each in granting)


# The documentation


def section() -> str:
    page = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")
    found = re.search(r"^## Delivery\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found, "docs/how-it-works.md has no section Delivery"
    return found[1]


def duration(seconds: int) -> str:
    """Seconds as the documentation writes them."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def documented() -> Iterator[tuple[str, int, str, str]]:
    """Each delivery: name, retries, maximum age, and where it goes after that; what is missing is told of above."""
    for target in rule_targets():
        retry = target.settings.get("RetryPolicy", {})
        letters = logical_id(target.settings.get("DeadLetterConfig", {}).get("Arn"))
        yield target.name, *times(retry, "MaximumEventAgeInSeconds"), letters
    for function in invoked_asynchronously():
        config = FUNCTIONS[function].get("EventInvokeConfig", {})
        yield function, *times(config, "MaximumEventAgeInSeconds"), failure_destination(config)
    for mapping in events(STREAMS):
        yield mapping.name, *times(mapping.settings, "MaximumRecordAgeInSeconds"), failure_destination(mapping.settings)
    for mapping in events({"SQS"}):
        queue = QUEUES[logical_id(mapping.settings["Queue"])]
        redrive = queue.get("RedrivePolicy", {})
        days = f"{queue.get('MessageRetentionPeriod', 0) // 86400} d"
        letters = logical_id(redrive.get("deadLetterTargetArn"))
        yield mapping.name, redrive.get("maxReceiveCount", 0) - 1, days, letters


def times(settings: dict[str, Any], age: str) -> tuple[int, str]:
    """How often something is tried again, and until when."""
    return settings.get("MaximumRetryAttempts", 0), duration(settings.get(age, 0))


@pytest.mark.parametrize(("name", "retries", "age", "letters"), list(documented()), ids=str)
def test_the_table_of_deliveries_says_what_the_template_does(name: str, retries: int, age: str, letters: str) -> None:
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section().splitlines() if "|" in line]
    found = [row for row in rows if row[0] == f"`{name}`"]
    assert len(found) == 1, f"docs/how-it-works.md, Delivery: add a row for `{name}`"
    assert found[0][2:5] == [str(retries), age, f"`{letters}`"], f"the row of `{name}` is out of date"
    assert found[0][5], f"the row of `{name}` does not say why"


def raised_at(alarm: dict[str, Any]) -> str:
    """What the documentation must say of an alarm's threshold."""
    threshold, minutes = alarm["Threshold"], duration(alarm["Period"] * alarm["EvaluationPeriods"])
    match alarm["MetricName"]:
        case metric if metric == UNSETTLED_METRIC:
            return f"longer than {duration(threshold)}"
        case "IteratorAge":
            return f"older than {duration(threshold // 1000)}"
        case "Throttles":
            return f"in {alarm['DatapointsToAlarm']} of {minutes}"
        case "Errors" | "UnexpectedErrors":
            return f"an error within {minutes}"
        case "MatchedEvents":
            return "the first execution"
    return "the first message"


@pytest.mark.parametrize("alarm", ALARMS)
def test_the_table_of_alarms_says_what_the_template_does(alarm: str) -> None:
    lines = (ROOT / "docs" / "operate.md").read_text("utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith(f"| `{alarm}`")
    ]
    assert len(rows) == 1, f"docs/operate.md, Alarms: add a row for `{alarm}`"
    assert raised_at(ALARMS[alarm]) in rows[0][1], f"the row of `{alarm}` is out of date: it says {rows[0][1]}"
    assert rows[0][2], f"the row of `{alarm}` does not say what to do"


ASKED_BESIDES = {
    "sqs:StartMessageMoveTask": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"},
    "sqs:ListMessageMoveTasks": {"sqs:GetQueueAttributes"},
    "sqs:CancelMessageMoveTask": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"},
    "sqs:CreateQueue": {"sqs:TagQueue"},
}
"""What SQS asks for besides the action of an operation's own name, of the same queue.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
"""


@pytest.mark.parametrize("role", sorted(ROLES))
def test_whoever_may_move_messages_may_do_all_that_sqs_asks_for_it(role: str) -> None:
    for statement in statements(ROLES[role]):
        if statement["Effect"] == "Allow":
            actions = statement["Action"]
            allowed = set(actions if isinstance(actions, list) else [actions])
            missing = {action: ASKED_BESIDES[action] - allowed for action in ASKED_BESIDES.keys() & allowed}
            assert {action: more for action, more in missing.items() if more} == {}


def test_every_function_is_kept_awake_by_the_warden_which_comes_each_minute() -> None:
    others = FUNCTIONS.keys() - {"Warden"}
    warden = FUNCTIONS["Warden"]
    names = str(warden["Environment"]["Variables"]["KEEP_AWAKE"])
    assert sorted({*re.findall(r"\$\{(\w+)\}", names), *re.findall(r"'Ref': '(\w+)'", names)}) == sorted(others)
    (statement,) = [each for each in statements(ROLES["WardenRole"]) if each.get("Sid") == "KeepAwake"]
    invoked = {logical_id(one.get("Fn::If", [None, one])[1]) for one in statement["Resource"]}
    assert invoked == others
    schedules = [event["Properties"] for event in warden["Events"].values() if event["Type"] == "Schedule"]
    assert {schedule["Schedule"] for schedule in schedules} == {"rate(1 minute)", "rate(1 day)"}
    [daily] = [json.loads(schedule["Input"]) for schedule in schedules if schedule["Schedule"] == "rate(1 day)"]
    assert daily == {"keepAwake": True}
