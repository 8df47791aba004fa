"""Every gap between MiniStack and AWS: it is filled in the embedded AWS, and still there in MiniStack as it is.

When a test of the second kind fails, MiniStack has closed the gap: remove the module which fills it.
"""

import io
import json
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.config
import botocore.exceptions
import pytest

from emulator.roles import make_role
from tests.local.clients import ECHO, LONGEST_POLL, Aws, error_code, eventually
from tests.local.patience import A_WHILE
from tests.local.roles import EXPECTS_DENIAL

pytestmark = pytest.mark.embedded

RAISING = """
import os
class OutOfLuckError(Exception): pass
def handler(event, context):
    if event.get("raise"):
        raise OutOfLuckError("no luck")
    return os.getpid()
"""


def lambda_task(name: str, **fields: Any) -> dict[str, Any]:
    """A Task which invokes the function with the state's input."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": name, "Payload": "{% $states.input %}"},
        "End": True,
        **fields,
    }


def callback_task(queue: str, **fields: Any) -> dict[str, Any]:
    """A Task which sends its token to the queue and waits."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Arguments": {"QueueUrl": queue, "MessageBody": {"token": "{% $states.context.Task.Token %}"}},
        "End": True,
        **fields,
    }


# --- function_errors ---------------------------------------------------------------------------------------------


def test_a_functions_error_names_its_exception_and_leaves_the_environment_warm(aws: Aws) -> None:
    # GIVEN a warm function
    name = aws.function(RAISING)
    pid, _ = aws.invoke(name)
    # WHEN it raises
    answer, response = aws.invoke(name, {"raise": True})
    # THEN the error is told as Lambda tells it
    assert response["FunctionError"] == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("OutOfLuckError", "no luck")
    assert "raise OutOfLuckError" in "".join(answer["stackTrace"])
    # AND the next invocation finds the same process
    assert aws.invoke(name)[0] == pid


def test_bare_a_functions_error_is_a_handler_error_and_ends_the_environment(bare: Aws) -> None:
    name = bare.function(RAISING)
    pid, _ = bare.invoke(name)
    assert bare.invoke(name, {"raise": True})[0]["errorType"] == "Runtime.HandlerError"
    assert bare.invoke(name)[0] != pid


# --- exec_wrappers -----------------------------------------------------------------------------------------------

WRAPPED = """
import os

def handler(event, context):
    if event.get("raise"):
        raise ValueError("out of paper")
    if event.get("exit"):
        os._exit(1)
    return [event, os.environ.get("WRAPPED"), "AWS_LAMBDA_RUNTIME_API" in os.environ]
"""


def wrapped_function(aws: Aws) -> str:
    """A function with a wrapper script in a layer, which sets a variable."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        script = zipfile.ZipInfo("wrapper")
        script.external_attr = 0o755 << 16
        package.writestr(script, '#!/bin/sh\nWRAPPED=yes exec "$@"\n')
    layer = aws.lambda_.publish_layer_version(LayerName=f"{aws.prefix}-l", Content={"ZipFile": archive.getvalue()})
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    layers = [layer["LayerVersionArn"]]
    return aws.function(WRAPPED, Layers=layers, Environment={"Variables": variables})


def test_a_wrapper_script_starts_the_runtime_which_asks_the_runtime_api(aws: Aws) -> None:
    name = wrapped_function(aws)
    assert aws.invoke(name, {"order": 1})[0] == [{"order": 1}, "yes", True]
    error, response = aws.invoke(name, {"raise": True})
    assert (response["FunctionError"], error["errorType"], error["errorMessage"]) == (
        "Unhandled",
        "ValueError",
        "out of paper",
    )
    assert aws.invoke(name, {"exit": True})[0]["errorType"] == "Runtime.ExitError"
    assert aws.invoke(name, {"order": 2})[0] == [{"order": 2}, "yes", True]


def test_bare_a_wrapper_script_is_not_called(bare: Aws) -> None:
    assert bare.invoke(wrapped_function(bare), {"order": 1})[0] == [{"order": 1}, None, False]


# --- provisioned_lists -------------------------------------------------------------------------------------------


def provisioned(aws: Aws) -> Any:
    """What lists a function's provisioned concurrency: that of version 1."""
    name = aws.two_versions()
    aws.lambda_.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
    return aws.lambda_.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]


def test_provisioned_concurrency_of_all_versions_is_listed(aws: Aws) -> None:
    (config,) = provisioned(aws)
    assert config["FunctionArn"].endswith(":1")
    assert config["RequestedProvisionedConcurrentExecutions"] == 1


def test_bare_provisioned_concurrency_is_not_listed(bare: Aws) -> None:
    assert error_code(provisioned, aws=bare) == "ProvisionedConcurrencyConfigNotFoundException"


# --- scalable_targets --------------------------------------------------------------------------------------------

SCALED = {"ServiceNamespace": "lambda", "ScalableDimension": "lambda:function:ProvisionedConcurrency"}


def test_scalable_targets_are_kept(aws: Aws) -> None:
    scaling = aws.server.client("application-autoscaling")
    for name in ("one", "two"):
        resource = f"function:{aws.prefix}-{name}:1"
        scaling.register_scalable_target(**SCALED, ResourceId=resource, MinCapacity=1, MaxCapacity=4)

    asked = scaling.describe_scalable_targets(**SCALED, ResourceIds=[f"function:{aws.prefix}-one:1"])["ScalableTargets"]
    every = scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"]

    assert [(each["ResourceId"], each["MaxCapacity"]) for each in asked] == [(f"function:{aws.prefix}-one:1", 4)]
    assert {f"function:{aws.prefix}-{name}:1" for name in ("one", "two")} <= {each["ResourceId"] for each in every}
    assert scaling.describe_scalable_targets(ServiceNamespace="dynamodb")["ScalableTargets"] == []


def test_bare_there_is_no_application_auto_scaling(bare: Aws) -> None:
    with pytest.raises(botocore.exceptions.ClientError):
        bare.server.client("application-autoscaling").describe_scalable_targets(**SCALED)


# --- log_permissions ---------------------------------------------------------------------------------------------


def logging_function(aws: Aws, *actions: str) -> str:
    """A function whose role may do these actions on all logs, after one invocation. Returns its log group."""
    role = f"{aws.prefix}-writer"
    aws.iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.iam.put_role_policy(RoleName=role, PolicyName="logs", PolicyDocument=document)
    name = aws.function(ECHO, Role=f"arn:aws:iam::000000000000:role/{role}")
    aws.invoke(name)
    return f"/aws/lambda/{name}"


def log_streams(aws: Aws, group: str) -> int | None:
    """How many streams a log group has, None if there is no such group."""
    try:
        return len(aws.logs.describe_log_streams(logGroupName=group)["logStreams"])
    except aws.logs.exceptions.ResourceNotFoundException:
        return None


def test_a_function_makes_no_log_group_unless_its_role_may(aws: Aws) -> None:
    group = logging_function(aws, "logs:CreateLogStream", "logs:PutLogEvents")
    assert log_streams(aws, group) is None

    aws.logs.create_log_group(logGroupName=group)
    aws.invoke(group.rpartition("/")[2])
    assert eventually(lambda: log_streams(aws, group)) == 1


def test_a_function_whose_role_may_makes_its_log_group(aws: Aws) -> None:
    group = logging_function(aws, "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
    assert eventually(lambda: log_streams(aws, group)) == 1


def test_bare_a_function_makes_its_log_group_whatever_its_role_may(bare: Aws) -> None:
    assert eventually(lambda: log_streams(bare, logging_function(bare, "sqs:SendMessage"))) == 1


# --- quiet_functions ---------------------------------------------------------------------------------------------


def _milliseconds_of(aws: Aws, invocations: int) -> Iterator[float]:
    name = aws.function(ECHO)
    for _ in range(invocations):
        started = time.monotonic()
        aws.invoke(name)
        yield (time.monotonic() - started) * 1000


def test_a_quiet_function_answers_at_once(aws: Aws) -> None:
    # One is enough: MiniStack holds each one back, and a busy machine may hold back many.
    assert any(taken < 40 for taken in _milliseconds_of(aws, 200))


def test_bare_a_quiet_function_is_held_back(bare: Aws) -> None:
    assert min(_milliseconds_of(bare, 8)) > 50


# --- shared_layers -----------------------------------------------------------------------------------------------

LAYERED = """
import pathlib, first, second
def handler(event, context):
    return [first.name, second.name, str(pathlib.Path(first.__file__).parent)]
"""


def _layer(aws: Aws, module: str, content: str) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(f"python/{module}.py", content)
    layer = aws.lambda_.publish_layer_version(LayerName=f"{aws.prefix}-l", Content={"ZipFile": archive.getvalue()})
    return str(layer["LayerVersionArn"])


def _folders_of_a_layer(aws: Aws) -> set[str]:
    """Where two functions have the same layer, beside another one that is new for the second function."""
    first, folders = _layer(aws, "first", "name = 'first'"), set()
    for second in ("second", "third"):
        layers = [first, _layer(aws, "second", f"name = '{second}'")]
        answer, _ = aws.invoke(aws.function(LAYERED, f"with-{second}", Layers=layers))
        assert answer[:2] == ["first", second]
        folders.add(answer[2])
    return folders


def test_a_layer_is_unpacked_once(aws: Aws) -> None:
    assert len(_folders_of_a_layer(aws)) == 1


def test_bare_a_layer_is_unpacked_for_each_environment(bare: Aws) -> None:
    assert len(_folders_of_a_layer(bare)) == 2


# --- running_invocations -----------------------------------------------------------------------------------------

GATED = """
import os, pathlib, time
folder, gate = pathlib.Path(os.environ["FOLDER"]), os.environ["GATE"]
def handler(event, context):
    (folder / "begun").touch()
    while gate and not (folder / gate).exists():
        time.sleep(0.02)
    return gate
"""


def _answers_around_an_update(aws: Aws, folder: Path) -> tuple[Any, Any]:
    """What an invocation answers that was running during an update, and what the next one does."""
    variables = {"FOLDER": str(folder), "GATE": "open"}
    name = aws.function(GATED, Timeout=round(A_WHILE), Environment={"Variables": variables})
    with ThreadPoolExecutor(1) as caller:
        running = caller.submit(aws.invoke, name)
        assert eventually((folder / "begun").exists)
        aws.lambda_.update_function_configuration(
            FunctionName=name, Environment={"Variables": variables | {"GATE": ""}}
        )
        following, _ = aws.invoke(name)
        (folder / "open").touch()
        return running.result()[0], following


def test_an_invocation_outlives_the_update_of_its_function(aws: Aws, tmp_path: Path) -> None:
    assert _answers_around_an_update(aws, tmp_path) == ("open", "")


def test_bare_an_invocation_dies_by_the_update_of_its_function(bare: Aws, tmp_path: Path) -> None:
    running, following = _answers_around_an_update(bare, tmp_path)
    assert (running["errorMessage"], following) == ("Worker process died", "")


# --- reserved_concurrency ----------------------------------------------------------------------------------------


def _throttled_by_alias(aws: Aws) -> str | None:
    name = aws.two_versions()
    aws.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    aws.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    return error_code(aws.lambda_.invoke, FunctionName=name, Qualifier="live")


def test_reserved_concurrency_throttles_an_alias_too(aws: Aws) -> None:
    assert _throttled_by_alias(aws) == "TooManyRequestsException"


def test_bare_reserved_concurrency_does_not_reach_an_alias(bare: Aws) -> None:
    assert _throttled_by_alias(bare) is None


# --- lambda_metrics ----------------------------------------------------------------------------------------------


def test_lambda_metrics_are_told_by_alias_and_by_executed_version(aws: Aws) -> None:
    # GIVEN an alias whose versions share the traffic
    name = aws.two_versions(RAISING)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    aws.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=routing)
    # WHEN it is invoked, with an error each time
    ran = [aws.invoke(name, {"raise": True}, Qualifier="live")[1]["ExecutedVersion"] for _ in range(20)]
    # THEN each version's share is told
    by_alias = {"FunctionName": name, "Resource": f"{name}:live"}
    assert aws.metric("Invocations", FunctionName=name) == 20
    assert aws.metric("Errors", **by_alias) == 20
    for version in ("1", "2"):
        assert aws.metric("Errors", **by_alias, ExecutedVersion=version) == ran.count(version)


def test_lambda_metrics_count_what_a_state_machine_invokes(aws: Aws) -> None:
    name = aws.function(ECHO)
    assert aws.run({"Do": lambda_task(name)})["status"] == "SUCCEEDED"
    assert aws.metric("Invocations", FunctionName=name, Resource=name) == 1


def test_lambda_metrics_do_not_count_a_throttled_request_as_an_invocation(aws: Aws) -> None:
    name = aws.function(ECHO)
    aws.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert error_code(aws.lambda_.invoke, FunctionName=name) == "TooManyRequestsException"
    assert aws.metric("Throttles", FunctionName=name) == 1
    assert not aws.metric("Invocations", FunctionName=name)


def test_bare_lambda_metrics_know_no_alias_and_no_state_machine(bare: Aws) -> None:
    name = bare.two_versions()
    bare.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    bare.invoke(name, Qualifier="live")
    bare.run({"Do": lambda_task(name)})
    assert bare.metric("Invocations", FunctionName=name, Resource=f"{name}:live", ExecutedVersion="1") is None
    assert bare.metric("Invocations", FunctionName=name) == 1


# --- metrics_in_logs ---------------------------------------------------------------------------------------------

TELLING = """
import json, time
def handler(event, context):
    directive = {"Namespace": "AWS/Lambda", "Dimensions": [["FunctionName"]], "Metrics": [{"Name": "Told"}]}
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    print("not of this kind", json.dumps({"_aws": 1}))
    print(json.dumps({"_aws": about, "FunctionName": context.function_name, "Told": [1, 2.5]}))
"""


def _told_by_its_log(aws: Aws) -> float | None:
    name = aws.function(TELLING)
    aws.invoke(name)
    aws.invoke(name)  # What comes late belongs to the next invocation's log: see quiet_functions.
    return aws.metric("Told", FunctionName=name)


def test_a_function_tells_metrics_by_its_log(aws: Aws) -> None:
    assert (_told_by_its_log(aws) or 0) >= 3.5


def test_bare_a_log_is_only_a_log(bare: Aws) -> None:
    assert _told_by_its_log(bare) is None


# --- metric_data -------------------------------------------------------------------------------------------------


def _latency(aws: Aws, *values: float, minutes_ago: int = 2, metric: str = "Latency", version: str = "7") -> float:
    """Put values into one whole minute; answers when that began."""
    minute = time.time() // 60 * 60 - 60 * minutes_ago
    dimensions = [{"Name": "Version", "Value": version}]
    data = [
        {"MetricName": metric, "Dimensions": dimensions, "Timestamp": minute + 10 + number, "Value": value}
        for number, value in enumerate(values)
    ]
    aws.cloudwatch.put_metric_data(Namespace=aws.prefix, MetricData=data)
    return minute


def _query(
    aws: Aws, query_id: str, stat: str = "Sum", metric: str = "Latency", version: str = "7", *, told: bool = True
) -> Any:
    dimensions = [{"Name": "Version", "Value": version}]
    about = {"Namespace": aws.prefix, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": query_id, "MetricStat": {"Metric": about, "Period": 60, "Stat": stat}, "ReturnData": told}


def _metric_data(aws: Aws, *queries: Any, **options: Any) -> dict[str, dict[float, float]]:
    """Values by id and the minute's beginning."""
    end = time.time() // 60 * 60
    answer = aws.cloudwatch.get_metric_data(
        MetricDataQueries=list(queries), StartTime=end - 20 * 60, EndTime=end, **options
    )
    return {
        result["Id"]: {
            stamp.timestamp(): value for stamp, value in zip(result["Timestamps"], result["Values"], strict=True)
        }
        for result in answer["MetricDataResults"]
    }


def test_a_trimmed_count_counts_the_values_between_its_bounds(aws: Aws) -> None:
    # GIVEN values in two minutes, one of which still runs
    minute = _latency(aws, 100, 800, 801, 5000)
    _latency(aws, 9000, minutes_ago=0)
    stats = {"above": "TC(800:)", "between": "TC(100:801)", "below": "TC(:800)", "all": "SampleCount", "p": "p50"}
    found = _metric_data(aws, *(_query(aws, query_id, stat) for query_id, stat in stats.items()))
    # THEN the lower bound is left out and the upper one is not, and only whole minutes with values are told
    counts = {"above": 2, "between": 2, "below": 2, "all": 4, "p": 800.5}
    assert found == {query_id: {minute: count} for query_id, count in counts.items()}


def test_metric_math_is_worked_out_with_0_for_what_is_missing(aws: Aws) -> None:
    # GIVEN two metrics of which one has no value in a minute
    older, newer = _latency(aws, 9, minutes_ago=4, metric="All"), _latency(aws, 20, minutes_ago=3, metric="All")
    _latency(aws, 5, 6, minutes_ago=3, metric="Good")
    _latency(aws, 1000, minutes_ago=3, metric="All", version="6")
    named = [_query(aws, "all", metric="All", told=False), _query(aws, "good", metric="Good", told=False)]
    expressions = {
        "bad": "all - good",
        "twice": "(all - FILL(good, 1)) * 2",
        "rate": "all / good",
        "sum": "SUM([all, good])",
    }
    math = [{"Id": query_id, "Expression": expression} for query_id, expression in expressions.items()]
    # THEN each expression says what it would on AWS
    found = _metric_data(aws, *named, *math)
    assert found["bad"] == {older: 9, newer: 9}
    assert found["sum"] == {older: 9, newer: 31}
    assert found["rate"] == {newer: pytest.approx(20 / 11)}
    assert (found["twice"][older], found["twice"][newer]) == (16, 18)
    assert set(found) == set(expressions)


def test_the_newest_value_comes_first_unless_asked_otherwise(aws: Aws) -> None:
    older, newer = _latency(aws, 9, minutes_ago=4), _latency(aws, 20, minutes_ago=3)
    assert list(_metric_data(aws, _query(aws, "m"))["m"]) == [newer, older]
    assert list(_metric_data(aws, _query(aws, "m"), ScanBy="TimestampAscending")["m"]) == [older, newer]


def test_one_query_that_cannot_be_read_fails_the_call(aws: Aws) -> None:
    sound = _query(aws, "m")
    assert _refusal(aws, sound, {"Id": "bad", "Expression": "SUM(m"}) == "ValidationError"
    assert _refusal(aws, sound, {"Id": "bad", "Expression": "m - nobody"}) == "ValidationError"
    assert _refusal(aws, sound, _query(aws, "bad", "Summe")) == "ValidationError"
    assert _refusal(aws, sound, sound) == "ValidationError"
    assert _refusal(aws, *(_query(aws, f"m{number}") for number in range(501))) == "ValidationError"
    assert _refusal(aws, *(_query(aws, f"m{number}") for number in range(500))) is None


def _refusal(aws: Aws, *queries: Any) -> str | None:
    try:
        _metric_data(aws, *queries)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def test_bare_a_trimmed_count_is_an_average_and_math_is_not_done(bare: Aws) -> None:
    minute = _latency(bare, 100, 300)
    asked = [_query(bare, "count", "TC(800:)"), {"Id": "math", "Expression": "count + 1"}]
    assert _metric_data(bare, *asked) == {"count": {minute: 200}, "math": {}}
    assert _refusal(bare, *(_query(bare, f"m{number}") for number in range(501))) is None


# --- weighted_aliases --------------------------------------------------------------------------------------------


def _split(aws: Aws) -> str:
    name = aws.two_versions()
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    aws.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=routing)
    return name


def test_a_weighted_alias_runs_both_versions_and_says_which(aws: Aws) -> None:
    name = _split(aws)
    seen = set()
    for _ in range(40):
        answer, response = aws.invoke(name, Qualifier="live")
        assert answer["version"] == response["ExecutedVersion"]
        assert answer["arn"].endswith(f":function:{name}:live")
        seen.add(answer["version"])
    assert seen == {"1", "2"}
    # AND looking at it does not depend on chance
    looks = [aws.lambda_.get_function_configuration(FunctionName=name, Qualifier="live") for _ in range(10)]
    assert {look["Version"] for look in looks} == {"1"}


def test_a_weighted_alias_without_weights_runs_one_version_again(aws: Aws) -> None:
    name = _split(aws)
    aws.lambda_.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert {aws.invoke(name, Qualifier="live")[1]["ExecutedVersion"] for _ in range(20)} == {"1"}


def test_a_weighted_alias_splits_what_a_state_machine_invokes(aws: Aws) -> None:
    name = _split(aws)
    task = lambda_task(f"{name}:live", Output="{% $states.result.Payload %}")
    each = {"Type": "Map", "Items": "{% [1..30] %}", "MaxConcurrency": 1, "End": True}
    output = json.loads(
        aws.run({"Each": {**each, "ItemProcessor": {"StartAt": "Do", "States": {"Do": task}}}})["output"]
    )
    assert {answer["version"] for answer in output} == {"1", "2"}
    assert all(answer["arn"].endswith(":live") for answer in output)


def test_bare_a_weighted_alias_runs_one_version(bare: Aws) -> None:
    name = _split(bare)
    assert {bare.invoke(name, Qualifier="live")[0]["version"] for _ in range(40)} == {"1"}


# --- alias_validation --------------------------------------------------------------------------------------------


def _refusals(aws: Aws) -> list[str | None]:
    name = _split(aws)

    def update(version: str = "1", **weights: float) -> str | None:
        routing = {"AdditionalVersionWeights": {key[1:]: weight for key, weight in weights.items()}}
        return error_code(
            aws.lambda_.update_alias, FunctionName=name, Name="live", FunctionVersion=version, RoutingConfig=routing
        )

    return [update("9"), update(v9=0.1), update(v1=0.1), update(v2=1.5), update("$LATEST", v2=0.1), update(v2=1.0)]


def test_an_alias_is_refused_versions_and_weights_that_cannot_be(aws: Aws) -> None:
    invalid = "InvalidParameterValueException"
    missing = "ResourceNotFoundException"
    assert _refusals(aws) == [missing, missing, invalid, invalid, invalid, None]


def test_bare_an_alias_takes_any_version_and_weight(bare: Aws) -> None:
    assert _refusals(bare) == [None] * 6


# --- version_packages --------------------------------------------------------------------------------------------


def _package_of_a_replaced_version(aws: Aws) -> str:
    """The handler in the package that GetFunction links to for version 1, once $LATEST has other code."""
    name = aws.function("first = True")
    aws.lambda_.publish_version(FunctionName=name)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", "second = True")
    aws.lambda_.update_function_code(FunctionName=name, ZipFile=archive.getvalue())
    found = aws.lambda_.get_function(FunctionName=name, Qualifier="1")
    with urllib.request.urlopen(found["Code"]["Location"], timeout=A_WHILE) as response:  # noqa: S310 - the embedded AWS's own
        downloaded: bytes = response.read()
    return zipfile.ZipFile(io.BytesIO(downloaded)).read("app.py").decode()


def test_the_link_of_a_version_leads_to_its_own_package(aws: Aws) -> None:
    assert _package_of_a_replaced_version(aws) == "first = True"


def test_bare_the_link_of_a_version_leads_to_the_package_of_latest(bare: Aws) -> None:
    assert _package_of_a_replaced_version(bare) == "second = True"


def test_an_alias_is_updated_only_at_the_revision_last_seen(aws: Aws) -> None:
    # not a gap: MiniStack does this, and the application leans on it
    name = _split(aws)
    seen = aws.lambda_.get_alias(FunctionName=name, Name="live")["RevisionId"]
    after = aws.lambda_.update_alias(FunctionName=name, Name="live", Description="moved", RevisionId=seen)["RevisionId"]
    assert after != seen
    stale = error_code(aws.lambda_.update_alias, FunctionName=name, Name="live", RevisionId=seen)
    assert stale == "PreconditionFailedException"


# --- async_invocations -------------------------------------------------------------------------------------------


def _failed_rule_target(aws: Aws, seconds: int = LONGEST_POLL) -> Any:
    name = aws.function(RAISING)
    url, arn = aws.queue("failed")
    aws.lambda_.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    aws.events.put_rule(Name=aws.prefix, EventPattern=json.dumps({"source": [aws.prefix]}))
    target = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    aws.events.put_targets(Rule=aws.prefix, Targets=[{"Id": "fn", "Arn": target, "Input": '{"raise": true}'}])
    aws.events.put_events(Entries=[{"Source": aws.prefix, "DetailType": "Any", "Detail": "{}"}])
    return aws.receive(url, seconds)


def test_a_rules_event_whose_function_fails_goes_to_the_failure_destination(aws: Aws) -> None:
    assert _failed_rule_target(aws)["requestPayload"] == {"raise": True}


def test_bare_a_rules_event_whose_function_fails_is_lost(bare: Aws) -> None:
    assert _failed_rule_target(bare, 1) is None


# --- stream_consumers --------------------------------------------------------------------------------------------

# A consumer notes what it was given in a file: its memory is no witness, as there may be more than one process.
FAILING_ONCE_AT_TWO = """
import base64, os, pathlib
notes = pathlib.Path(os.environ["NOTES"])
def handler(event, context):
    for record in event["Records"]:
        number = base64.b64decode(record["kinesis"]["data"]).decode()
        again = number in notes.read_text()
        with notes.open("a") as file:
            file.write(number)
        if number == "2" and not again:
            return {"batchItemFailures": [{"itemIdentifier": record["kinesis"]["sequenceNumber"]}]}
    return {"batchItemFailures": []}
"""
NOTING = """
import os, pathlib, time
notes, awaited = pathlib.Path(os.environ["NOTES"]), os.environ["AWAITED"]
def note(text):
    with notes.open("a") as file:
        file.write(text + " ")
def handler(event, context):
    note(os.environ["NAME"])
    ends = time.monotonic() + float(os.environ["SECONDS"])
    while awaited not in notes.read_text() and time.monotonic() < ends:
        time.sleep(0.02)
    if awaited:
        note("end")
"""
"""Notes its name, and then waits until another one's is noted or its seconds are over."""


def _stream(aws: Aws, name: str, function: str, **settings: Any) -> str:
    stream = f"{aws.prefix}-{name}"
    aws.kinesis.create_stream(StreamName=stream, ShardCount=1)
    eventually(lambda: aws.kinesis.describe_stream(StreamName=stream)["StreamDescription"]["StreamStatus"] == "ACTIVE")
    aws.lambda_.create_event_source_mapping(
        FunctionName=function,
        EventSourceArn=f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}",
        StartingPosition="TRIM_HORIZON",
        **settings,
    )
    return stream


def _put(aws: Aws, stream: str, *numbers: int) -> None:
    records = [{"Data": str(number).encode(), "PartitionKey": "one"} for number in numbers]
    aws.kinesis.put_records(StreamName=stream, Records=records)


def _seen_with_a_partial_failure(aws: Aws, notes: Path, wanted: str, seconds: float = A_WHILE) -> str:
    notes.touch()
    name = aws.function(FAILING_ONCE_AT_TWO, Environment={"Variables": {"NOTES": str(notes)}})
    _put(aws, _stream(aws, "stream", name, FunctionResponseTypes=["ReportBatchItemFailures"]), 1, 2, 3)
    eventually(lambda: notes.read_text() == wanted, seconds)
    return notes.read_text()


def test_a_stream_goes_on_at_the_record_which_the_consumer_reports(aws: Aws, tmp_path: Path) -> None:
    assert _seen_with_a_partial_failure(aws, tmp_path / "notes", "1223") == "1223"


def test_bare_a_stream_loses_the_records_which_the_consumer_reports(bare: Aws, tmp_path: Path) -> None:
    assert _seen_with_a_partial_failure(bare, tmp_path / "notes", "1223", 2) == "12"


def _order_behind_a_slow_consumer(aws: Aws, notes: Path, seconds: float) -> list[str]:
    """What happens if a consumer, for so many seconds at most, waits for another one that gets its record later."""
    notes.touch()
    streams = {}
    for name, awaited in (("slow", "quick"), ("quick", "")):
        variables = {"NOTES": str(notes), "NAME": name, "AWAITED": awaited, "SECONDS": str(seconds)}
        function = aws.function(NOTING, name, Environment={"Variables": variables}, Timeout=round(seconds) + 5)
        streams[name] = _stream(aws, name, function)
    _put(aws, streams["slow"], 1)
    assert eventually(lambda: "slow" in notes.read_text())
    _put(aws, streams["quick"], 1)
    assert eventually(lambda: len(notes.read_text().split()) == 3)
    return notes.read_text().split()


def test_a_slow_stream_consumer_holds_up_no_other(aws: Aws, tmp_path: Path) -> None:
    assert _order_behind_a_slow_consumer(aws, tmp_path / "notes", A_WHILE / 2) == ["slow", "quick", "end"]


def test_bare_a_slow_stream_consumer_holds_up_all_others(bare: Aws, tmp_path: Path) -> None:
    assert _order_behind_a_slow_consumer(bare, tmp_path / "notes", 2) == ["slow", "end", "quick"]


def test_a_stream_batch_past_its_retries_goes_to_the_failure_destination(aws: Aws) -> None:
    name = aws.function("def handler(event, context): raise ValueError('never')")
    url, arn = aws.queue("failed")
    destination = {"OnFailure": {"Destination": arn}}
    _put(aws, _stream(aws, "stream", name, MaximumRetryAttempts=0, DestinationConfig=destination), 1)
    record = aws.receive(url)
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["KinesisBatchInfo"]["batchSize"] == 1


# --- alarm_events, alarm_evaluation ------------------------------------------------------------------------------


def _alarm(aws: Aws, **settings: Any) -> str:
    aws.cloudwatch.put_metric_alarm(
        **{
            "AlarmName": aws.prefix,
            "Namespace": aws.prefix,
            "MetricName": "Errors",
            "Dimensions": [{"Name": "Resource", "Value": "mine"}],
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            **settings,
        }
    )
    return aws.prefix


def _errors(aws: Aws, resource: str, count: float) -> None:
    data = {"MetricName": "Errors", "Dimensions": [{"Name": "Resource", "Value": resource}], "Value": count}
    aws.cloudwatch.put_metric_data(Namespace=aws.prefix, MetricData=[data])


def _alarm_state(aws: Aws) -> dict[str, Any]:
    return dict(aws.cloudwatch.describe_alarms(AlarmNames=[aws.prefix])["MetricAlarms"][0])


def test_the_deletion_of_an_alarm_is_an_event_on_the_default_bus(aws: Aws) -> None:
    name = _alarm(aws)
    events = aws.listen({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name], "operation": ["delete"]}})
    aws.cloudwatch.delete_alarms(AlarmNames=[name])
    event = aws.receive(events)
    assert event["detail-type"] == "CloudWatch Alarm Configuration Change"
    assert event["detail"]["configuration"]["metrics"][0]["metricStat"]["metric"]["name"] == "Errors"


def test_bare_the_deletion_of_an_alarm_is_no_event(bare: Aws) -> None:
    name = _alarm(bare)
    events = bare.listen({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name]}})
    bare.cloudwatch.delete_alarms(AlarmNames=[name])
    assert bare.receive(events, seconds=1) is None


def test_a_change_of_an_alarms_state_is_an_event_on_the_default_bus(aws: Aws) -> None:
    # GIVEN a rule for the alarm's events
    name = _alarm(aws)
    events = aws.listen({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name]}})
    # WHEN somebody sets its state
    aws.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="because")
    # THEN the event has the documented shape
    event = aws.receive(events)
    arn = f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:{name}"
    assert (event["detail-type"], event["resources"]) == ("CloudWatch Alarm State Change", [arn])
    detail = event["detail"]
    assert (detail["state"]["value"], detail["state"]["reason"]) == ("ALARM", "because")
    assert detail["previousState"]["value"] == "INSUFFICIENT_DATA"
    metric = detail["configuration"]["metrics"][0]["metricStat"]["metric"]
    assert metric == {"dimensions": {"Resource": "mine"}, "name": "Errors", "namespace": name}
    # AND the alarm says when, to the millisecond
    described = _alarm_state(aws)
    assert described["StateTransitionedTimestamp"].microsecond
    assert described["StateTransitionedTimestamp"] <= described["StateUpdatedTimestamp"]


def test_bare_a_change_of_an_alarms_state_is_no_event(bare: Aws) -> None:
    name = _alarm(bare)
    events = bare.listen({"source": ["aws.cloudwatch"]})
    bare.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="because")
    assert bare.receive(events, 1) is None
    assert "StateTransitionedTimestamp" not in _alarm_state(bare)


def test_an_alarm_looks_at_its_own_dimensions_only(aws: Aws) -> None:
    _alarm(aws, TreatMissingData="notBreaching")
    _errors(aws, "other", 5)
    assert _alarm_state(aws)["StateValue"] == "OK"
    _errors(aws, "mine", 1)
    assert _alarm_state(aws)["StateValue"] == "ALARM"
    assert json.loads(_alarm_state(aws)["StateReasonData"])["recentDatapoints"] == [1.0]


def test_an_alarm_goes_off_by_itself(aws: Aws) -> None:
    # GIVEN an alarm on a function's errors
    function = aws.function(RAISING)
    dimensions = [{"Name": "FunctionName", "Value": function}]
    name = _alarm(aws, Namespace="AWS/Lambda", Dimensions=dimensions)
    events = aws.listen({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name], "state": {"value": ["ALARM"]}}})
    # WHEN the function fails, and nobody asks CloudWatch anything
    aws.invoke(function, {"raise": True})
    # THEN the alarm tells
    assert aws.receive(events)["detail"]["state"]["reason"].startswith("Threshold Crossed: 1 out of the last 1")


def test_an_alarm_needs_as_many_datapoints_as_it_says(aws: Aws) -> None:
    _alarm(aws, EvaluationPeriods=3, DatapointsToAlarm=2, TreatMissingData="ignore")
    _errors(aws, "mine", 5)
    assert _alarm_state(aws)["StateValue"] == "INSUFFICIENT_DATA"
    _alarm(aws, EvaluationPeriods=3, DatapointsToAlarm=2, TreatMissingData="breaching")
    assert _alarm_state(aws)["StateValue"] == "ALARM"


def test_bare_an_alarm_adds_up_all_dimensions(bare: Aws) -> None:
    _alarm(bare)
    _errors(bare, "other", 5)
    assert _alarm_state(bare)["StateValue"] == "ALARM"


# --- state_variables ---------------------------------------------------------------------------------------------

PARALLEL: dict[str, Any] = {
    "Both": {
        "Type": "Parallel",
        "Arguments": {"from": "{% 'arguments' %}"},
        "Branches": [{"StartAt": "One", "States": {"One": {"Type": "Pass", "End": True}}}],
        "Assign": {"answer": "{% $states.result[0].from %}"},
        "Output": {"first": "{% $states.result[0] %}"},
        "Next": "Done",
    },
    "Done": {"Type": "Succeed", "Output": {"assigned": "{% $answer %}", "input": "{% $states.input %}"}},
}


def test_jsonata_works_in_parallel_and_succeed_states(aws: Aws) -> None:
    output = json.loads(aws.run(PARALLEL)["output"])
    assert output == {"assigned": "arguments", "input": {"first": {"from": "arguments"}}}


def test_bare_jsonata_is_not_read_in_parallel_and_succeed_states(bare: Aws) -> None:
    assert json.loads(bare.run(PARALLEL)["output"]) == [{}]


# --- task_timeouts -----------------------------------------------------------------------------------------------


def test_a_callback_task_times_out_by_expression(aws: Aws) -> None:
    url, _ = aws.queue()
    catch = [{"ErrorEquals": ["States.Timeout"], "Output": {"caught": "{% $states.errorOutput.Error %}"}, "Next": "On"}]
    waiting = callback_task(url, TimeoutSeconds="{% $states.input.seconds %}", Catch=catch)
    ended = aws.run({"Wait": waiting, "On": {"Type": "Succeed"}}, {"seconds": 1})
    assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", {"caught": "States.Timeout"})


def test_a_lambda_task_times_out_by_expression_and_by_path(aws: Aws) -> None:
    name = aws.function("import time\ndef handler(event, context): time.sleep(3)")
    by_expression = aws.machine({"Do": lambda_task(name, TimeoutSeconds="{% $states.input.seconds %}")}, "expression")
    by_path: dict[str, Any] = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": name},
    }
    by_path |= {"TimeoutSecondsPath": "$.seconds", "End": True}
    machines = [by_expression, aws.machine({"Do": by_path}, "path", QueryLanguage="JSONPath")]
    executions = [aws.start(machine, {"seconds": 1}) for machine in machines]
    assert [aws.outcome(execution)["error"] for execution in executions] == ["States.Timeout"] * 2


def test_a_timeout_that_is_no_positive_integer_fails_the_task(aws: Aws) -> None:
    url, _ = aws.queue()
    ended = aws.run({"Wait": callback_task(url, TimeoutSeconds="{% 0 %}")})
    assert ended["error"] == "States.QueryEvaluationError"


def test_a_callback_task_ends_when_its_heart_stops(aws: Aws) -> None:
    url, _ = aws.queue()
    ended = aws.run({"Wait": callback_task(url, HeartbeatSeconds=1, TimeoutSeconds=30)})
    assert ended["error"] == "States.HeartbeatTimeout"


def test_bare_a_timeout_by_expression_crashes(bare: Aws) -> None:
    url, _ = bare.queue()
    ended = bare.run({"Wait": callback_task(url, TimeoutSeconds="{% 1 %}")})
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Runtime")


# --- task_tokens -------------------------------------------------------------------------------------------------


def _tokens_of_two_attempts(aws: Aws) -> tuple[str, str, str]:
    url, _ = aws.queue()
    retry = [{"ErrorEquals": ["Again"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    execution = aws.start(aws.machine({"Wait": callback_task(url, Retry=retry, TimeoutSeconds=20)}))
    first = aws.receive(url)["token"]
    aws.states.send_task_failure(taskToken=first, error="Again")
    return execution, first, aws.receive(url)["token"]


def test_each_attempt_of_a_callback_task_has_a_token_of_its_own(aws: Aws) -> None:
    # GIVEN a second attempt
    execution, first, second = _tokens_of_two_attempts(aws)
    assert first != second
    # THEN the first attempt's token is closed
    assert error_code(aws.states.send_task_success, taskToken=first, output="{}") == "TaskTimedOut"
    # AND the second's answers once
    assert error_code(aws.states.send_task_success, taskToken=second, output="no JSON") == "InvalidOutput"
    assert error_code(aws.states.send_task_success, taskToken=second, output='{"n": 1}') is None
    assert json.loads(aws.outcome(execution)["output"]) == {"n": 1}
    assert error_code(aws.states.send_task_heartbeat, taskToken=second) == "TaskTimedOut"
    # AND what never was a token is none
    assert error_code(aws.states.send_task_failure, taskToken="never") == "InvalidToken"


def test_bare_all_attempts_of_a_callback_task_share_a_token(bare: Aws) -> None:
    execution, first, second = _tokens_of_two_attempts(bare)
    assert first == second
    bare.states.stop_execution(executionArn=execution)


# --- task_errors -------------------------------------------------------------------------------------------------


def _callback_task_of_a_failing_function(aws: Aws) -> dict[str, Any]:
    name = aws.function(RAISING)
    payload = {"raise": True, "token": "{% $states.context.Task.Token %}"}
    waiting = lambda_task(name, Arguments={"FunctionName": name, "Payload": payload}, TimeoutSeconds=2)
    waiting["Resource"] += ".waitForTaskToken"
    return aws.run({"Wait": waiting})


def test_a_callback_task_fails_at_once_when_its_function_does(aws: Aws) -> None:
    ended = _callback_task_of_a_failing_function(aws)
    assert ended["error"] == "OutOfLuckError"
    assert json.loads(ended["cause"])["errorMessage"] == "no luck"


def test_bare_a_callback_task_waits_though_its_function_failed(bare: Aws) -> None:
    assert _callback_task_of_a_failing_function(bare)["error"] == "States.Timeout"


def _error_of_a_throttled_function(aws: Aws) -> str:
    name = aws.function(ECHO)
    aws.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    return str(aws.run({"Do": lambda_task(name)})["error"])


def test_a_throttled_function_fails_its_task_as_too_many_requests(aws: Aws) -> None:
    assert _error_of_a_throttled_function(aws) == "Lambda.TooManyRequestsException"


def test_bare_a_throttled_function_fails_its_task_as_unknown(bare: Aws) -> None:
    assert _error_of_a_throttled_function(bare) == "Lambda.Unknown"


def test_a_functions_timeout_fails_its_task_as_sandbox_timed_out(aws: Aws) -> None:
    # not a gap: MiniStack does this, and the application leans on it
    name = aws.function("import time\ndef handler(event, context): time.sleep(9)", Timeout=1)
    assert aws.run({"Do": lambda_task(name)})["error"] == "Sandbox.Timedout"


# --- retry_delays ------------------------------------------------------------------------------------------------


def _seconds_before_the_second_retry(aws: Aws) -> float:
    """How long that waits: at most two seconds by its maximum, and six by its rate alone."""
    name = aws.function("import time\ndef handler(event, context): raise ValueError(time.time())")
    retry = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "BackoffRate": 6.0, "MaxAttempts": 2}
    execution = aws.start(aws.machine({"Do": lambda_task(name, Retry=[{**retry, "MaxDelaySeconds": 2}])}))
    aws.outcome(execution)
    events = aws.states.get_execution_history(executionArn=execution)["events"]
    [_, second, third] = [
        float(json.loads(event["taskFailedEventDetails"]["cause"])["errorMessage"])
        for event in events
        if "taskFailedEventDetails" in event
    ]
    return float(third - second)


def test_a_retry_waits_no_longer_than_its_maximum(aws: Aws) -> None:
    assert 2 <= _seconds_before_the_second_retry(aws) < 6


def test_bare_a_retry_knows_no_maximum(bare: Aws) -> None:
    assert _seconds_before_the_second_retry(bare) >= 6


# --- execution_endings -------------------------------------------------------------------------------------------


def _stopped_while_waiting(aws: Aws, seconds: float) -> tuple[str, str | None, list[str]]:
    url, _ = aws.queue()
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    machine = aws.machine({"Wait": callback_task(url, TimeoutSeconds=1, Retry=retry)})
    events = aws.listen({"source": ["aws.states"], "detail": {"stateMachineArn": [machine]}})
    execution = aws.start(machine)
    token = aws.receive(url)["token"]
    aws.states.stop_execution(executionArn=execution)
    answer = error_code(aws.states.send_task_success, taskToken=token, output="{}")
    again = aws.receive(url, round(seconds))
    told = []
    while event := aws.receive(events, 0):
        told.append(event["detail"]["status"])
    assert again is None or answer is None
    return aws.states.describe_execution(executionArn=execution)["status"], answer, told


def test_a_stopped_execution_ends_though_it_waits_for_a_callback(aws: Aws) -> None:
    assert _stopped_while_waiting(aws, 2) == ("ABORTED", "TaskTimedOut", ["RUNNING", "ABORTED"])


def test_an_execution_past_its_machines_timeout_has_timed_out(aws: Aws) -> None:
    url, _ = aws.queue()
    machine = aws.machine({"Wait": callback_task(url, TimeoutSeconds=60)}, TimeoutSeconds=1)
    events = aws.listen({"source": ["aws.states"], "detail": {"stateMachineArn": [machine], "status": ["TIMED_OUT"]}})
    assert aws.outcome(aws.start(machine))["status"] == "TIMED_OUT"
    assert aws.receive(events)["detail"]["name"]


def test_bare_a_stopped_executions_token_is_still_open(bare: Aws) -> None:
    status, answer, _told = _stopped_while_waiting(bare, 0)
    assert (status, answer) == ("ABORTED", None)


# --- nested_executions -------------------------------------------------------------------------------------------


def _nested(aws: Aws, child: dict[str, Any]) -> dict[str, Any]:
    machine = aws.machine({"Child": child}, "child")
    step = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": machine, "Input": {"a": 1}},
        "Output": "{% $states.result.Output %}",
        "End": True,
    }
    return aws.run({"Nest": step})


def test_a_nested_executions_output_is_read(aws: Aws) -> None:
    assert json.loads(_nested(aws, {"Type": "Succeed"})["output"]) == {"a": 1}


def test_a_nested_execution_that_fails_fails_its_step(aws: Aws) -> None:
    ended = _nested(aws, {"Type": "Fail", "Error": "Mine", "Cause": "why"})
    assert ended["error"] == "States.TaskFailed"
    assert json.loads(ended["cause"])["Error"] == "Mine"


def test_a_nested_execution_whose_name_is_used_up_has_the_name_of_the_sdks_exception(aws: Aws) -> None:
    inner = aws.machine({"Done": {"Type": "Succeed"}}, name="inner")
    aws.outcome(str(aws.states.start_execution(stateMachineArn=inner, name="taken", input="{}")["executionArn"]))
    run = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": inner, "Name": "taken", "Input": {"other": 1}},
        "End": True,
    }
    assert aws.run({"Run": run})["error"] == "StepFunctions.ExecutionAlreadyExistsException"


def test_bare_a_nested_execution_that_fails_lends_its_error(bare: Aws) -> None:
    assert _nested(bare, {"Type": "Fail", "Error": "Mine", "Cause": "why"})["error"] == "Mine"


# --- stack_lookup ------------------------------------------------------------------------------------------------


def _owner(aws: Aws) -> str | None:
    resources = {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": f"{aws.prefix}-owned"}}}
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps({"Resources": resources}))
    found = eventually(lambda: aws.cloudformation.list_stack_resources(StackName=aws.prefix)["StackResourceSummaries"])
    physical = found[0]["PhysicalResourceId"]
    try:
        owned = aws.cloudformation.describe_stack_resources(PhysicalResourceId=physical)["StackResources"]
    except botocore.exceptions.ClientError:
        return None
    return str(owned[0]["StackName"])


def test_a_resources_stack_is_found_by_its_physical_id(aws: Aws) -> None:
    assert _owner(aws) == aws.prefix
    missing = aws.cloudformation.describe_stack_resources
    assert error_code(missing, PhysicalResourceId="nobodys") == "ValidationError"


def test_bare_a_resources_stack_is_not_found_by_its_physical_id(bare: Aws) -> None:
    assert _owner(bare) is None


# --- table_settings ----------------------------------------------------------------------------------------------


def _table_settings(aws: Aws) -> tuple[Any, Any, Any]:
    """When the items of a table of a stack expire, whether it recovers, and the status of its index."""
    name, key = f"{aws.prefix}-records", [{"AttributeName": "pk", "KeyType": "HASH"}]
    properties = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": key,
        "GlobalSecondaryIndexes": [{"IndexName": "i", "KeySchema": key, "Projection": {"ProjectionType": "ALL"}}],
        "TimeToLiveSpecification": {"AttributeName": "expiresAt", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
    resources = {"T": {"Type": "AWS::DynamoDB::Table", "Properties": properties}}
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps({"Resources": resources}))
    eventually(lambda: name in aws.dynamodb.list_tables()["TableNames"])
    expiry = aws.dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    backups = aws.dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    [index] = aws.dynamodb.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]
    return (
        expiry["TimeToLiveStatus"],
        backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        index.get("IndexStatus"),
    )


def test_a_table_of_a_stack_has_its_settings(aws: Aws) -> None:
    assert _table_settings(aws) == ("ENABLED", "ENABLED", "ACTIVE")


def test_bare_a_table_of_a_stack_lacks_its_settings(bare: Aws) -> None:
    assert _table_settings(bare) == ("DISABLED", "DISABLED", None)


# --- custom_resources --------------------------------------------------------------------------------------------

PROVIDER = """
import json, urllib.request
def handler(event, context):
    given = event["ResourceProperties"]
    with open(given["Log"], "a") as log:
        log.write(json.dumps(event) + "\\n")
    if given["Does"] == "nothing":
        return
    failed = given["Does"] == "fail" and event["RequestType"] != "Delete"
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"PhysicalResourceId": "mine", "Status": "FAILED" if failed else "SUCCESS", "Reason": "no luck"}
    body, headers = json.dumps(answer).encode(), {"content-type": given.get("ContentType", "")}
    urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], body, headers, method="PUT"))
"""


class CustomStack:
    """A stack with one custom resource, and the requests that its function gets."""

    def __init__(self, aws: Aws, tmp_path: Path) -> None:
        self.stacks, self._log = aws.cloudformation, tmp_path / "requests"
        self._log.touch()
        self.name, self._function = aws.prefix, aws.function(PROVIDER)

    def template(self, does: str, **properties: str) -> str:
        token = f"arn:aws:lambda:us-east-1:000000000000:function:{self._function}"
        given = {
            "ServiceToken": token,
            "ServiceTimeout": round(A_WHILE),
            "Log": str(self._log),
            "Does": does,
            **properties,
        }
        return json.dumps({"Resources": {"Mine": {"Type": "Custom::Mine", "Properties": given}}})

    def create(self, does: str, **properties: str) -> None:
        self.stacks.create_stack(StackName=self.name, TemplateBody=self.template(does, **properties))

    def update(self, does: str) -> None:
        self.stacks.update_stack(StackName=self.name, TemplateBody=self.template(does))

    def requests(self, count: int = 0) -> list[tuple[str, str]]:
        """Type and physical ID of each request so far, once there are ``count``."""
        eventually(lambda: len(self._log.read_text().splitlines()) >= count)
        events = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [(event["RequestType"], event.get("PhysicalResourceId", "")) for event in events]

    def status(self, *wanted: str, seconds: float = A_WHILE) -> str:
        """The stack's status, once it is one of these or the time is up."""

        def now() -> str:
            return str(self.stacks.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"])

        eventually(lambda: now() in wanted, seconds)
        return now()

    def reasons(self) -> list[str]:
        events = self.stacks.describe_stack_events(StackName=self.name)["StackEvents"]
        return [event.get("ResourceStatusReason", "") for event in events if event["LogicalResourceId"] == "Mine"]


def test_a_custom_resource_that_fails_is_told_with_its_reason_and_deleted(aws: Aws, tmp_path: Path) -> None:
    stack = CustomStack(aws, tmp_path)
    stack.create("fail")
    assert stack.status("ROLLBACK_COMPLETE") == "ROLLBACK_COMPLETE"
    assert stack.requests() == [("Create", ""), ("Delete", "mine")]
    told = "Received response status [FAILED] from custom resource. Message returned: no luck (RequestId: "
    assert any(reason.startswith(told) for reason in stack.reasons())


def test_bare_a_custom_resource_that_fails_is_forgotten(bare: Aws, tmp_path: Path) -> None:
    stack = CustomStack(bare, tmp_path)
    stack.create("fail")
    assert stack.status("ROLLBACK_COMPLETE") == "ROLLBACK_COMPLETE"
    assert stack.requests() == [("Create", "")]
    assert "no luck" in stack.reasons()


def test_a_cancelled_update_does_not_wait_for_its_custom_resource(aws: Aws, tmp_path: Path) -> None:
    # GIVEN a stack whose custom resource is being updated, without an answer
    stack = CustomStack(aws, tmp_path)
    stack.create("answer")
    stack.status("CREATE_COMPLETE")
    stack.update("nothing")
    stack.requests(2)
    # THEN it cannot be deleted
    assert error_code(stack.stacks.delete_stack, StackName=stack.name) == "ValidationError"
    # AND a cancelled update goes back at once, with a request of its own
    stack.stacks.cancel_update_stack(StackName=stack.name)
    assert stack.status("UPDATE_ROLLBACK_COMPLETE", seconds=A_WHILE / 2) == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.requests() == [("Create", ""), ("Update", "mine"), ("Update", "mine")]
    assert "Resource update cancelled" in stack.reasons()


def test_bare_a_cancelled_update_waits_and_a_stack_is_deleted_meanwhile(bare: Aws, tmp_path: Path) -> None:
    stack = CustomStack(bare, tmp_path)
    stack.create("answer")
    stack.status("CREATE_COMPLETE")
    stack.update("nothing")
    stack.requests(2)
    stack.stacks.cancel_update_stack(StackName=stack.name)
    assert stack.status("UPDATE_ROLLBACK_COMPLETE", seconds=2) == "UPDATE_IN_PROGRESS"
    assert error_code(stack.stacks.delete_stack, StackName=stack.name) is None


def test_a_stack_that_is_deleted_while_it_is_created_deletes_its_custom_resource(aws: Aws, tmp_path: Path) -> None:
    stack = CustomStack(aws, tmp_path)
    answered = stack.stacks.create_stack(
        StackName=stack.name, TemplateBody=stack.template("nothing", ServiceTimeout="2")
    )
    stack.requests(1)
    stack.stacks.delete_stack(StackName=stack.name)
    [_, (kind, physical)] = stack.requests(2)
    assert (kind, physical.startswith(f"{stack.name}-Mine-")) == ("Delete", True)
    # It does not answer, so its deletion fails when its time is up.
    stack.name = answered["StackId"]
    assert stack.status("DELETE_FAILED") == "DELETE_FAILED"


def _shown(stack: CustomStack) -> tuple[str, str]:
    resource = stack.stacks.describe_stack_resource(StackName=stack.name, LogicalResourceId="Mine")
    detail = resource["StackResourceDetail"]
    return detail["ResourceStatus"], detail.get("PhysicalResourceId", "")


def test_a_resource_with_a_request_under_way_is_shown_as_it_is(aws: Aws, tmp_path: Path) -> None:
    stack = CustomStack(aws, tmp_path)
    stack.create("answer")
    stack.status("CREATE_COMPLETE")
    assert _shown(stack) == ("CREATE_COMPLETE", "mine")
    stack.update("nothing")
    stack.requests(2)
    assert _shown(stack) == ("UPDATE_IN_PROGRESS", "mine")


def test_a_resource_that_is_created_is_shown_without_a_physical_id(aws: Aws, tmp_path: Path) -> None:
    stack = CustomStack(aws, tmp_path)
    stack.create("nothing")
    stack.requests(1)
    assert _shown(stack) == ("CREATE_IN_PROGRESS", "")


def test_bare_a_resource_with_a_request_under_way_is_shown_as_it_was(bare: Aws, tmp_path: Path) -> None:
    stack = CustomStack(bare, tmp_path)
    stack.create("answer")
    stack.status("CREATE_COMPLETE")
    stack.update("nothing")
    stack.requests(2)
    assert _shown(stack) == ("CREATE_COMPLETE", "mine")


def test_an_answer_with_a_content_type_is_forbidden(aws: Aws, tmp_path: Path) -> None:
    stack = CustomStack(aws, tmp_path)
    stack.create("answer", ContentType="application/json", ServiceTimeout="1")
    assert stack.status("ROLLBACK_IN_PROGRESS") == "ROLLBACK_IN_PROGRESS"
    assert any("did not receive a response" in reason for reason in stack.reasons())


def test_bare_an_answer_with_a_content_type_is_taken(bare: Aws, tmp_path: Path) -> None:
    stack = CustomStack(bare, tmp_path)
    stack.create("answer", ContentType="application/json")
    assert stack.status("CREATE_COMPLETE") == "CREATE_COMPLETE"


# --- codedeploy_resources ----------------------------------------------------------------------------------------


def _with_codedeploy(aws: Aws) -> str | None:
    resources = {"A": {"Type": "AWS::CodeDeploy::Application", "Properties": {"ComputePlatform": "Lambda"}}}
    return error_code(
        aws.cloudformation.create_stack, StackName=aws.prefix, TemplateBody=json.dumps({"Resources": resources})
    )


def test_a_stack_can_have_an_application_of_codedeploy(aws: Aws) -> None:
    assert _with_codedeploy(aws) is None


def test_bare_a_stack_cannot_have_an_application_of_codedeploy(bare: Aws) -> None:
    assert _with_codedeploy(bare) == "ValidationError"


# --- untouched_resources -----------------------------------------------------------------------------------------


def _touched(aws: Aws) -> list[str]:
    """The resources of a stack with two queues that an update of one shows as changed by it."""

    def template(timeout: int) -> str:
        queues = {"Changed": {"VisibilityTimeout": timeout}, "Kept": {}}
        resources = {name: {"Type": "AWS::SQS::Queue", "Properties": queue} for name, queue in queues.items()}
        return json.dumps({"Resources": resources})

    def stack(status: str) -> Any:
        [found] = aws.cloudformation.describe_stacks(StackName=aws.prefix)["Stacks"]
        return found if found["StackStatus"] == status else None

    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=template(30))
    eventually(lambda: stack("CREATE_COMPLETE"))
    aws.cloudformation.update_stack(StackName=aws.prefix, TemplateBody=template(60))
    began = eventually(lambda: stack("UPDATE_COMPLETE"))["LastUpdatedTime"]
    listed = aws.cloudformation.list_stack_resources(StackName=aws.prefix)["StackResourceSummaries"]
    described = aws.cloudformation.describe_stack_resources(StackName=aws.prefix)["StackResources"]
    of_list = {each["LogicalResourceId"] for each in listed if each["LastUpdatedTimestamp"] >= began}
    of_description = {each["LogicalResourceId"] for each in described if each["Timestamp"] >= began}
    statuses = {each["LogicalResourceId"] for each in listed if each["ResourceStatus"] == "UPDATE_COMPLETE"}
    assert of_list == of_description == statuses
    return sorted(statuses)


def test_a_resource_that_an_update_does_not_touch_keeps_its_status_and_time(aws: Aws) -> None:
    assert _touched(aws) == ["Changed"]


def test_bare_each_resource_has_the_status_and_the_time_of_the_update(bare: Aws) -> None:
    assert _touched(bare) == ["Changed", "Kept"]


# --- codedeploy_deployments --------------------------------------------------------------------------------------

GROUP = {"applicationName": "shop", "deploymentGroupName": "shop"}


def test_codedeploy_lists_no_deployments(aws: Aws) -> None:
    found = aws.server.client("codedeploy").list_deployments(**GROUP, includeOnlyStatuses=["InProgress"])
    assert found["deployments"] == []


def test_bare_there_is_no_codedeploy(bare: Aws) -> None:
    with pytest.raises(botocore.exceptions.ClientError):
        bare.server.client("codedeploy").list_deployments(**GROUP)


# --- run_task_sync; where there is an engine: tests/docker/test_ecs_gaps.py --------------------------------------


def _run_task(aws: Aws, **fields: Any) -> dict[str, Any]:
    """A state that runs a task and waits for it; without an engine it runs until somebody stops it."""
    containers = [{"name": "app", "image": "any"}]
    aws.ecs.register_task_definition(family=aws.prefix, containerDefinitions=containers)
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::ecs:runTask.sync",
        "Arguments": {"Cluster": aws.prefix, "TaskDefinition": aws.prefix},
        "End": True,
        **fields,
    }


def _tasks(aws: Aws, **filters: str) -> Any:
    """The tasks that are meant to run."""
    return aws.ecs.list_tasks(cluster=aws.prefix, **filters)["taskArns"]


def _stopped_while_its_task_ran(aws: Aws) -> Any:
    execution = aws.start(aws.machine({"Run": _run_task(aws)}))
    [task] = eventually(lambda: _tasks(aws))
    aws.states.stop_execution(executionArn=execution)
    return task


def test_a_task_is_stopped_with_the_execution_that_waits_for_it(aws: Aws) -> None:
    aws.ecs.create_cluster(clusterName=aws.prefix)
    task = _stopped_while_its_task_ran(aws)
    assert eventually(lambda: not _tasks(aws))
    assert aws.ecs.describe_tasks(cluster=aws.prefix, tasks=[task])["tasks"][0]["stopCode"] == "UserInitiated"


def test_a_task_runs_on_when_its_state_has_timed_out(aws: Aws) -> None:
    aws.ecs.create_cluster(clusterName=aws.prefix)
    assert aws.run({"Run": _run_task(aws, TimeoutSeconds=1)})["error"] == "States.Timeout"
    time.sleep(0.2)
    assert len(_tasks(aws, startedBy="AWS Step Functions")) == 1


def test_a_task_is_run_in_a_cluster_that_is_there(aws: Aws) -> None:
    assert aws.run({"Run": _run_task(aws)})["error"] == "ECS.ClusterNotFoundException"


def test_bare_a_task_is_run_in_any_cluster_and_outlives_its_execution(bare: Aws) -> None:
    _stopped_while_its_task_ran(bare)
    time.sleep(1.5)
    assert len(_tasks(bare)) == 1
    assert _tasks(bare, startedBy="AWS Step Functions") == []


# --- request_authorization ---------------------------------------------------------------------------------------

CALLING = """
import boto3, botocore.exceptions
def handler(event, context):
    try:
        getattr(boto3.client(event["service"]), event["call"])(**event.get("with", {}))
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]
    return "allowed"
"""


def call_as_a_role(aws: Aws, statement: dict[str, Any], service: str, call: str, **parameters: Any) -> Any:
    """What AWS answers to a function whose role has one statement: "allowed", or the error."""
    role = make_role(aws.server, f"{EXPECTS_DENIAL}{aws.prefix}", {"Effect": "Allow", **statement})
    caller = aws.function(CALLING, "caller", Role=role, Timeout=60)
    return aws.invoke(caller, {"service": service, "call": call, "with": parameters})[0]


def read_alias(aws: Aws, *allowed: str) -> Any:
    """Let a function read an alias; its role is allowed to on these parts of the ARN."""
    name = aws.two_versions()
    aws.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    arns = [f"arn:aws:lambda:us-east-1:000000000000:function:{name}{part}" for part in allowed]
    statement = {"Action": "lambda:GetAlias", "Resource": arns}
    return call_as_a_role(aws, statement, "lambda", "get_alias", FunctionName=name, Name="live")


def send_a_batch(aws: Aws) -> Any:
    """Let a function that may send messages send two."""
    url, arn = aws.queue()
    entries = [{"Id": str(number), "MessageBody": "a"} for number in range(2)]
    statement = {"Action": "sqs:SendMessage", "Resource": arn}
    return call_as_a_role(aws, statement, "sqs", "send_message_batch", QueueUrl=url, Entries=entries)


def test_reading_an_alias_needs_that_permission(aws: Aws) -> None:
    assert read_alias(aws, "", ":live") == "allowed"


def test_a_denial_names_what_is_needed_and_is_kept(aws: Aws) -> None:
    error = read_alias(aws, "")
    assert error["Code"] == "AccessDeniedException"
    assert "not authorized to perform: lambda:GetAlias on resource: arn:aws:lambda:" in error["Message"]
    [denial] = [use for use in aws.server.denials() if use.role == f"{EXPECTS_DENIAL}{aws.prefix}"]
    assert (denial.action, denial.resource.endswith("-fn:live")) == ("lambda:GetAlias", True)


def test_bare_reading_an_alias_needs_another_permission(bare: Aws) -> None:
    assert "lambda:ListAliases" in read_alias(bare, "", ":live")["Message"]


def test_a_batch_needs_the_permission_of_its_single_action(aws: Aws) -> None:
    assert send_a_batch(aws) == "allowed"


def test_bare_a_batch_needs_an_action_that_does_not_exist(bare: Aws) -> None:
    assert "sqs:SendMessageBatch" in send_a_batch(bare)["Message"]


def test_a_condition_on_the_leading_key_restricts_a_role(aws: Aws) -> None:
    assert "dynamodb:GetItem" in read_the_key_b(aws)["Message"]


def test_bare_a_condition_on_the_leading_key_restricts_nobody(bare: Aws) -> None:
    assert read_the_key_b(bare) == "allowed"


def read_the_key_b(aws: Aws) -> Any:
    """Let a function read an item of a key that its role is not allowed."""
    table = f"{aws.prefix}-table"
    aws.dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    condition = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["a"]}}
    statement = {"Action": "dynamodb:GetItem", "Resource": "*", "Condition": condition}
    return call_as_a_role(aws, statement, "dynamodb", "get_item", TableName=table, Key={"pk": {"S": "b"}})


def find_scalable_targets(aws: Aws) -> Any:
    """Let a function whose role is allowed something else call a service that MiniStack does not know."""
    statement = {"Action": "sqs:SendMessage", "Resource": "*"}
    return call_as_a_role(
        aws, statement, "application-autoscaling", "describe_scalable_targets", ServiceNamespace="lambda"
    )


def test_a_request_to_any_service_is_authorized(aws: Aws) -> None:
    error = find_scalable_targets(aws)
    assert "application-autoscaling:DescribeScalableTargets" in error["Message"], error


def test_a_request_that_nobody_mapped_is_denied(aws: Aws) -> None:
    error = call_as_a_role(aws, {"Action": "*", "Resource": "*"}, "lambda", "list_code_signing_configs")
    assert "an unmapped request: lambda ListCodeSigningConfigs" in error["Message"]
