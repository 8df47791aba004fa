"""Every function, in its container, with its own sample event."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from emulator.application import ROOT
from emulator.server import REGION
from headgate.aws.arns import execution_arn, stack_execution_name
from headgate.aws.place import Place
from headgate.stacks.event import read_event
from headgate.stacks.store import StackStore
from tests.builders import stored_rollout
from tests.docker.checkout_42 import CANDIDATE, ID, STABLE, Checkout42, sample
from tests.fakes.prometheus import RealPrometheus
from tests.local.ecs_jobs import CLUSTER, define
from tools.invoke import event_for, function_names, sample_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.server import EmbeddedAws
    from tools.docker_engine import DockerEngine
    from tools.invoke import Containers


@pytest.fixture
def run(containers: Containers) -> Callable[..., Any]:
    """Invoke a function with its own sample event; answers what it returned."""

    def invoke(function: str, event: Path | None = None) -> Any:
        invocation = containers.invoke(function, event_for(function, event))
        assert invocation.error_type is None, f"{invocation.answer}\n{invocation.log}"
        return invocation.answer

    return invoke


@pytest.mark.parametrize("function", function_names())
def test_a_function_has_a_sample_event_and_a_test_here(function: str) -> None:
    event = sample_event(function)
    assert event.is_file(), f"{function} has no sample event; put one into events/functions/{event.name}"
    test = f"test_{event.stem}_"
    assert any(name.startswith(test) for name in globals()), f"{function} is not invoked here: write {test}..."


def test_intake_takes_a_request_in_and_starts_it(run: Callable[..., Any], rollout: Checkout42) -> None:
    assert run("Intake") == {"batchItemFailures": []}

    assert rollout.owner == ID
    execution = rollout.record["execution"]
    assert rollout.machines.describe_execution(executionArn=execution)["status"] == "RUNNING"
    rollout.machines.stop_execution(executionArn=execution, cause="the test has seen enough")
    rollout.eventually(lambda: "endedAt" in rollout.record)


def test_intake_puts_a_message_that_it_cannot_read_aside(
    run: Callable[..., Any], rollout: Checkout42, tmp_path: Path
) -> None:
    event = sample("intake")
    event["Records"][0]["body"] = "{not JSON"
    malformed = tmp_path / "malformed.json"
    malformed.write_text(json.dumps(event))

    assert run("Intake", malformed) == {"batchItemFailures": []}

    [message] = rollout.messages(rollout.outputs["RequestDeadLettersUrl"])
    assert message["Body"] == "{not JSON"
    assert "is not JSON" in message["MessageAttributes"]["reason"]["StringValue"]


def test_intake_takes_a_request_of_the_fifo_queue_in(
    run: Callable[..., Any], rollout: Checkout42, tmp_path: Path
) -> None:
    # An id of its own: the other one's execution has run, and a name is used once.
    event = tmp_path / "fifo.json"
    event.write_text((ROOT / "events" / "aws" / "intake_fifo.json").read_text().replace(ID, "checkout-43"))
    assert run("Intake", event) == {"batchItemFailures": []}

    assert rollout.owner == "checkout-43"
    record = stored_rollout(rollout.table, "checkout-43")
    assert record is not None
    rollout.machines.stop_execution(executionArn=record["execution"], cause="the test has seen enough")
    rollout.eventually(lambda: "endedAt" in (stored_rollout(rollout.table, "checkout-43") or {}))


def test_planner_works_the_strategy_out(run: Callable[..., Any], rollout: Checkout42) -> None:
    answer = run("Planner")

    plan = answer["plan"]
    assert answer["request"]["id"] == plan["rolloutId"] == ID
    assert plan["steps"] == [{"weight": 10.0, "bakeSeconds": 300}]
    assert plan["firing"] == []
    driver = rollout.functions.get_function_configuration(FunctionName="headgate-lambda-alias-driver")
    assert plan["driver"] == driver["FunctionArn"]


def test_acquirer_takes_the_lock_and_records_the_start(run: Callable[..., Any], rollout: Checkout42) -> None:
    assert run("Acquirer") == {"lock": "held", "epoch": 1, "reason": ""}

    assert rollout.owner == ID
    assert rollout.record["status"] == "running"
    assert rollout.item("EVENT#started")["detailType"] == "Rollout Started"


def test_lambda_alias_driver_shifts_traffic(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.start(sample("acquirer")["execution"])

    state = run("LambdaAliasDriver")["state"]

    assert (state["stable"], state["candidate"], state["weight"]) == (STABLE, CANDIDATE, 10.0)
    assert rollout.serving == (STABLE, {CANDIDATE: 0.1})


def test_event_source_driver_describes_a_consumer(
    run: Callable[..., Any], rollout: Checkout42, aws: EmbeddedAws, tmp_path: Path
) -> None:
    queues = aws.client("sqs")
    url = queues.create_queue(QueueName="checkout-consumed", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    function = f"{sample('event_source_driver')['plan']['through']['function']}:live"
    uuid = rollout.functions.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)["UUID"]
    event = sample("event_source_driver") | {"action": "describe"}
    described = tmp_path / "describe.json"
    described.write_text(json.dumps(event).replace(event["plan"]["target"]["mapping"], uuid))

    told = run("EventSourceDriver", described)["state"]

    rollout.functions.delete_event_source_mapping(UUID=uuid)
    assert (told["version"], told["settings"]["batchSize"]) == (rollout.serving[0], 10)
    assert told["function"].endswith(f":function:{function}")


def test_ecs_service_driver_asks_ecs_for_the_service(containers: Containers, aws: EmbeddedAws, tmp_path: Path) -> None:
    aws.client("ecs").create_cluster(clusterName="prod")
    described = tmp_path / "describe.json"
    described.write_text(json.dumps(sample("ecs_service_driver") | {"action": "describe"}))

    told = containers.invoke("EcsServiceDriver", event_for("EcsServiceDriver", described))

    assert told.error_type == "RequestRefused"
    fix = "give the name of an existing one"
    assert told.answer["errorMessage"] == f"target.service: there is no service shop in cluster prod; {fix}"


def test_baker_leaves_its_token_where_a_signal_finds_it(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Baker") is None

    assert (rollout.record["phase"], rollout.record["token"]) == ("baking", sample("baker")["token"])
    assert rollout.item("STEP#000#00")["weight"] == 10


def test_pauser_leaves_its_token_where_a_signal_finds_it(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Pauser") is None

    assert (rollout.record["phase"], rollout.record["token"]) == ("paused", sample("pauser")["token"])
    assert rollout.item("PAUSE#001")["reason"] == sample("pauser")["verdict"]["reason"]


def test_judge_bakes_on_where_nothing_was_counted(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    verdict = run("Judge")

    assert (verdict["outcome"], verdict["next"]) == ("inconclusive", "bake")
    assert rollout.item("STEP#000#00")["verdict"] == verdict


def test_settler_ends_the_record_and_frees_the_lock(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Settler") == {
        "outcome": "succeeded",
        "reason": sample("settler")["verdict"]["reason"],
        "serving": CANDIDATE,
    }

    assert (rollout.record["status"], rollout.owner) == ("succeeded", None)


def test_signaller_records_an_operators_signal(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Signaller") is None

    [signal] = rollout.record["signals"].values()
    assert (signal["signal"], signal["by"]) == ("pause", "kim")


def test_publisher_puts_the_outbox_on_the_bus(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.messages(rollout.heard)

    assert run("Publisher") == {"batchItemFailures": []}

    [message] = rollout.eventually(lambda: rollout.messages(rollout.heard), 10)
    event = json.loads(message["Body"])
    assert (event["detail-type"], event["detail"]["id"]) == ("Rollout Started", f"{ID}/started")


def test_notifier_tells_the_topic_of_the_end(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.messages(rollout.mail)

    assert run("Notifier") is None

    [message] = rollout.eventually(lambda: rollout.messages(rollout.mail), 10)
    event = json.loads(message["Body"])
    assert (event["detail-type"], event["detail"]["id"]) == ("Rollout Rolled Back", f"{ID}/ended")


def test_cleaner_deletes_no_version_of_other_functions(run: Callable[..., Any], rollout: Checkout42) -> None:
    assert run("Cleaner") == {"deleted": {}}

    found = rollout.functions.list_versions_by_function(FunctionName="checkout")["Versions"]
    assert len(found) > 2


def test_trigger_requests_a_rollout_of_the_published_version(
    run: Callable[..., Any], rollout: Checkout42, aws: EmbeddedAws, tmp_path: Path
) -> None:
    here = aws.client("sts").get_caller_identity()["Account"]
    event = tmp_path / "published.json"
    event.write_text(json.dumps(sample("trigger") | {"account": here, "region": rollout.functions.meta.region_name}))

    assert run("Trigger", event) is None

    # It is requested, and refused when it is planned, because there is no such function.
    record = rollout.eventually(lambda: stored_rollout(rollout.table, "by-trigger"), 10)
    assert record["targetKey"] == "lambda-alias/no-such-function/live"


def test_counter_counts_what_services_report(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Counter") == {"batchItemFailures": []}

    ledger = rollout.ledgers.read(ID)
    assert ledger is not None
    candidate = ledger.at_step(0, "errors").candidate
    assert (candidate.requests, candidate.failures) == (5, 1)


def test_observer_looks_at_no_rollout_that_telemetry_judges(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Observer") == {"looked": []}


def test_warden_rolls_back_what_its_execution_left_unfinished(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.shift()

    assert run("Warden") is None

    assert (rollout.record["status"], rollout.owner) == ("rolled-back", None)
    assert rollout.serving == (STABLE, {})


def test_smoke_tester_is_content_with_the_candidate(run: Callable[..., Any], rollout: Checkout42) -> None:
    answer = run("SmokeTester")

    assert answer == {"hookStatus": "SUCCEEDED", "hookDetails": {"cases": 1, "version": CANDIDATE}}


def test_http_smoke_tester_looks_for_the_candidate(run: Callable[..., Any], aws: EmbeddedAws, tmp_path: Path) -> None:
    asked = {"Name": "shop-green", "Protocol": "HTTP", "Port": 8080, "VpcId": "vpc-0a1b", "TargetType": "instance"}
    group = aws.client("elbv2").create_target_group(**asked)["TargetGroups"][0]["TargetGroupArn"]
    event = sample("http_smoke_tester")
    event["service"]["candidateGroups"] = [group]
    looked = tmp_path / "looked.json"
    looked.write_text(json.dumps(event))

    answer = run("HttpSmokeTester", looked)

    assert answer["hookStatus"] == "FAILED"
    assert "the targets of shop-green are of type instance" in answer["hookDetails"]["reason"]


def test_version_checker_sees_that_the_candidate_serves_alone(run: Callable[..., Any], rollout: Checkout42) -> None:
    rollout.serve(CANDIDATE)

    answer = run("VersionChecker")

    assert answer == {"hookStatus": "SUCCEEDED", "hookDetails": {"invocations": 3, "version": CANDIDATE}}


def test_prometheus_counter_asks_a_server_for_each_minute(
    run: Callable[..., Any], engine: DockerEngine, tmp_path: Path
) -> None:
    event, begin = sample("prometheus_counter"), 1_796_032_800
    total = 'payments_total{version="%s"}'
    scraped = [(total % version, 12.0 * scrape, begin + 15.0 * scrape) for version in "67" for scrape in range(13)]
    asked = tmp_path / "asked.json"
    with RealPrometheus(tmp_path, scraped) as prometheus, engine.passage(prometheus.port) as url:
        event["config"]["url"] = url
        asked.write_text(json.dumps(event))

        answer = run("PrometheusCounter", asked)

    counted = {"requests": 48, "failures": 0}
    assert answer["minutes"][1:] == [
        {"minute": f"2026-11-30T10:0{minute}:00Z", "candidate": counted, "stable": counted} for minute in (1, 2)
    ]


def test_task_planner_works_out_what_is_run(run: Callable[..., Any], aws: EmbeddedAws) -> None:
    for _ in range(3):
        definition = define(aws)
    assert definition == "migrate:3"

    plan = run("TaskPlanner")["plan"]

    assert plan["taskDefinition"].endswith(":task-definition/migrate:3")
    assert plan["parameters"]["Overrides"]["ContainerOverrides"][0]["Command"] == ["migrate", "--to", "42"]


def test_task_classifier_says_how_the_task_ended(run: Callable[..., Any]) -> None:
    told = run("TaskClassifier")

    assert (told["again"], told["error"]) == (True, "TaskExitedNonZero")
    assert told["ending"]["exitCodes"] == {"app": 3, "router": 0}


def test_task_stopper_finds_nothing_where_nothing_runs(run: Callable[..., Any], aws: EmbeddedAws) -> None:
    aws.client("ecs").create_cluster(clusterName=CLUSTER)

    assert run("TaskStopper") == {"stopped": []}


def test_starter_starts_the_task_that_is_requested(run: Callable[..., Any], rollout: Checkout42) -> None:
    assert run("Starter") == {"batchItemFailures": []}

    [job] = rollout.table.query("pk = :pk", {":pk": "TASK#migrate-42"})
    assert "startedAt" in job
    execution = rollout.machines.describe_execution(executionArn=job["execution"])
    assert json.loads(execution["input"])["taskDefinition"] == "migrate:3"


NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def of_a_stack(tmp_path: Path) -> Callable[[str], Path]:
    """The sample event of a function of custom resources, about a stack of the embedded AWS."""

    def write(function: str) -> Path:
        event = tmp_path / sample_event(function).name
        text = sample_event(function).read_text("utf-8")
        text = text.replace("123456789012", "000000000000").replace("eu-central-1", REGION)
        # Nobody waits for an answer there.
        event.write_text(
            text.replace("https://cloudformation-custom-resource-response-eucentral1.s3.example.com", NOWHERE)
        )
        return event

    return write


def test_stack_intake_starts_a_request_that_is_delivered_again(
    run: Callable[..., Any], rollout: Checkout42, of_a_stack: Callable[[str], Path]
) -> None:
    given = json.loads(of_a_stack("StackIntake").read_text("utf-8"))
    # The stack does not exist, so a request that is not on record would be refused.
    store = StackStore(rollout.dynamodb, rollout.outputs["TableName"])
    store.accept(read_event(given, Place("aws", "000000000000", REGION)), given["ResponseURL"])

    run("StackIntake", of_a_stack("StackIntake"))

    asked = json.loads(of_a_stack("StackPlanner").read_text("utf-8"))
    stored = {item["sk"]: item for item in rollout.table.query("pk = :pk", {":pk": asked["resource"]})}
    assert stored["RESOURCE"]["latest"] == asked["requestId"]
    assert "responseUrl" in stored[f"REQUEST#{asked['requestId']}"]
    execution = execution_arn(rollout.outputs["StackMachineArn"], stack_execution_name(asked["requestId"]))
    begun = json.loads(rollout.machines.describe_execution(executionArn=execution)["input"])
    assert begun == {"resource": asked["resource"], "requestId": asked["requestId"]}
    rollout.machines.stop_execution(executionArn=execution, cause="the test has seen enough")


def test_stack_planner_answers_a_request_of_a_stack_that_is_gone(
    run: Callable[..., Any], rollout: Checkout42, of_a_stack: Callable[[str], Path]
) -> None:
    given = json.loads(of_a_stack("StackIntake").read_text("utf-8"))
    store = StackStore(rollout.dynamodb, rollout.outputs["TableName"])
    store.accept(read_event(given, Place("aws", "000000000000", REGION)), given["ResponseURL"])

    told = run("StackPlanner", of_a_stack("StackPlanner"))

    assert (told["next"]["do"], told["next"]["answer"]["Status"]) == ("respond", "FAILED")
    assert "stack shop is gone" in told["next"]["answer"]["Reason"]


def test_stack_responder_answers_no_request_that_is_not_on_record(run: Callable[..., Any], rollout: Checkout42) -> None:
    assert run("StackResponder") == {"answer": "expired"}


@pytest.fixture
def orders(aws: EmbeddedAws) -> tuple[str, str]:
    """The queue that the samples of a redrive are about, empty, and its dead-letter queue with two messages."""
    queues = aws.client("sqs")
    dead = queues.create_queue(QueueName="orders-dead")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    alive = queues.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    # Emptied and not deleted: a deleted queue's name is not to be had again for a minute.
    for url in (alive, dead):
        queues.purge_queue(QueueUrl=url)
    for reason in ("no such table: orders", "timeout"):
        attributes = {"reason": {"DataType": "String", "StringValue": reason}}
        queues.send_message(QueueUrl=dead, MessageBody="{}", MessageAttributes=attributes)
    return alive, dead


def test_redrive_planner_says_what_it_would_do(run: Callable[..., Any], orders: tuple[str, str]) -> None:
    told = run("RedrivePlanner")

    assert (told["plan"]["way"], told["plan"]["dryRun"]) == ("move-task", True)
    assert told["report"]["reasons"] == {"no such table: orders": 1, "timeout": 1}


def test_redriver_moves_what_matches(
    run: Callable[..., Any], aws: EmbeddedAws, orders: tuple[str, str], tmp_path: Path
) -> None:
    event = sample("redriver")
    for name, url in zip(("destination", "source"), orders, strict=True):
        event["plan"][name]["url"] = url
    event["plan"]["began"] = time.time() + 60
    slice_ = tmp_path / "slice.json"
    slice_.write_text(json.dumps(event))

    told = run("Redriver", slice_)

    assert (told["progress"]["moved"], told["progress"]["skipped"], told["next"]) == (1, 1, "watch")
    [moved] = aws.client("sqs").receive_message(QueueUrl=orders[0], MessageAttributeNames=["All"])["Messages"]
    assert moved["MessageAttributes"]["reason"]["StringValue"] == "no such table: orders"


def test_redrive_stopper_cancels_nothing_where_nothing_moves(run: Callable[..., Any], orders: tuple[str, str]) -> None:
    assert run("RedriveStopper") == {"cancelled": False, "remaining": 2}


def test_a_call_tells_how_long_the_cold_start_took(containers: Containers, rollout: Checkout42) -> None:
    invocation = containers.invoke("VersionChecker", sample_event("VersionChecker"))

    assert invocation.init_milliseconds is not None, invocation.log
    assert invocation.init_milliseconds > 10
