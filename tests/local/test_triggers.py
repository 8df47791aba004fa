"""Events of AWS start rollouts through the deployed application, and a rollout's own events start none.

Also the gaps ``api_calls`` and ``image_pushes``: the events are published by the embedded AWS, and not by MiniStack.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.clients import LONGEST_POLL, Aws, eventually
from tests.local.deployed import PREFIX, steps, zipped
from tests.local.triggers import NIGHTLY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.commands import Command
    from tests.local.deployed import Headgate

pytestmark = pytest.mark.embedded

CALLS = {"source": ["aws.lambda"], "detail-type": ["AWS API Call via CloudTrail"]}
PUSHES = {"source": ["aws.ecr"], "detail-type": ["ECR Image Action"]}


@pytest.fixture
def trail(aws: Aws) -> Iterator[None]:
    """A trail that is logging."""
    yield from logging_trail(aws)


def logging_trail(aws: Aws) -> Iterator[None]:
    name = f"{aws.prefix}-trail"
    aws.cloudtrail.create_trail(Name=name, S3BucketName="logs")
    aws.cloudtrail.start_logging(Name=name)
    yield
    aws.cloudtrail.delete_trail(Name=name)


def calls_of(aws: Aws, url: str, function: str, version: str) -> dict[str, Any]:
    """The event of the call that published a version."""
    while event := aws.receive(url):
        answer = event["detail"]["responseElements"]
        if (answer["functionName"], answer["version"]) == (function, version):
            return dict(event)
    raise AssertionError(f"no event tells of version {version} of {function}")


def was_skipped(aws: Aws, event_id: str, reason: str) -> bool:
    """Whether the trigger's log says that it skipped an event for this reason."""
    found = aws.logs.filter_log_events(logGroupName=f"/aws/lambda/{PREFIX}/trigger")["events"]
    return any(event_id in each["message"] and reason in each["message"] for each in found)


def test_a_published_version_starts_a_rollout_and_what_that_publishes_starts_none(
    headgate: Headgate, aws: Aws, trail: None
) -> None:
    # GIVEN a function that the trigger is for
    service = headgate.make_service(f"triggered-{aws.prefix}")
    url = aws.listen(CALLS)
    # WHEN somebody publishes a version
    version = service.publish()
    # THEN it is rolled out
    eventually(lambda: headgate.record(f"{service.function}/{version}"))
    assert headgate.ended(f"{service.function}/{version}")["status"] == "succeeded"
    assert service.serving.version == version
    # WHEN a rollout publishes one
    service.configure(RELEASE="by a rollout")
    rollout = headgate.request(target=service.target, candidate={"publish": {}}, strategy="AllAtOnce", guards="none")
    assert headgate.ended(rollout)["status"] == "succeeded"
    own = service.serving.version
    # THEN AWS tells of it, and it starts nothing
    told = calls_of(aws, url, service.function, own)
    assert "LambdaAliasDriverRole" in told["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"]
    assert eventually(lambda: was_skipped(aws, told["id"], "a rollout published this version"))
    assert headgate.record(f"{service.function}/{own}") == {}


def test_a_version_that_was_rolled_back_does_not_come_back_when_it_is_published_again(
    headgate: Headgate, aws: Aws
) -> None:
    service = headgate.make_service(f"triggered-{aws.prefix}")
    rollout = headgate.request(target=service.target, candidate={"version": "2"}, strategy=steps((10, 300)))
    eventually(lambda: headgate.record(rollout).get("token"))
    headgate.signal_now(rollout, "abort")
    assert headgate.ended(rollout)["status"] == "rolled-back"
    # Nothing has changed, so PublishVersion answers with the version that was rolled back.
    answer = {"functionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{service.function}:2", "version": "2"}
    call = {"eventName": "PublishVersion20150331", "userIdentity": {"type": "Root"}, "responseElements": answer}
    call |= {"eventID": aws.prefix}
    event = {"id": aws.prefix, "source": "aws.lambda", "detail-type": "AWS API Call via CloudTrail", "detail": call}
    here = {"time": "2026-09-01T09:00:00Z", "account": "000000000000", "region": "us-east-1"}
    _, response = aws.invoke(f"{PREFIX}-trigger", {**event, **here})
    assert "FunctionError" not in response
    assert eventually(lambda: was_skipped(aws, f"{service.function}/2", f"rollout {rollout} rejected version 2"))
    assert headgate.record(f"{service.function}/2") == {}


def test_a_template_that_cannot_be_filled_in_is_refused_and_announced_and_doctor_knows_it_before(
    headgate: Headgate, aws: Aws, trail: None, command: Command
) -> None:
    fault = "PublishedVersionRequest[1].candidate.version: <versoin> is not a placeholder"
    checkup = command("doctor", "--format", "json").json
    [found] = [each for each in checkup["findings"] if each["check"] == "triggers"]
    assert (found["severity"], found["message"].startswith(fault)) == ("fault", True)
    url = aws.listen(CALLS)
    service = headgate.make_service(f"misfilled-{aws.prefix}")
    event = calls_of(aws, url, service.function, "2")
    # Of two templates, the second is for this function.
    refused = f"published-version/{event['detail']['eventID']}/2"
    record = headgate.ended(refused)
    assert (record["status"], record["targetKey"]) == ("refused", f"lambda-alias/{service.function}/live")
    assert record["reason"].startswith(fault)
    assert eventually(lambda: headgate.announced(refused))[0]["detail-type"] == "Rollout Refused"


def test_a_created_object_becomes_the_code_of_a_rollout(headgate: Headgate, aws: Aws, trail: None) -> None:
    service = headgate.make_service(f"triggered-{aws.prefix}")
    # Its second version is published, too, and must not be rolled out after the object.
    eventually(lambda: headgate.record(f"{service.function}/2"))
    headgate.ended(f"{service.function}/2")
    url = aws.listen(CALLS)
    # WHEN a pipeline puts new code into a bucket whose events go to EventBridge
    aws.s3.create_bucket(Bucket=service.function)
    aws.s3.put_bucket_notification_configuration(
        Bucket=service.function, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    code = zipped("def handler(event, context): return 'triggered'")
    for key in ("notes.txt", "app.zip"):
        aws.s3.put_object(Bucket=service.function, Key=key, Body=code)
    # THEN it is rolled out
    rollout = f"{service.function}/app.zip"
    eventually(lambda: headgate.record(rollout))
    assert headgate.ended(rollout)["status"] == "succeeded"
    assert service.invoke() == "triggered"
    assert headgate.record(f"{service.function}/notes.txt") == {}
    # AND the version that UpdateFunctionCode has published for it starts nothing
    told = calls_of(aws, url, service.function, service.serving.version)
    assert told["detail"]["eventName"].startswith("UpdateFunctionCode")
    assert eventually(lambda: was_skipped(aws, told["id"], "a rollout published this version"))
    assert headgate.record(f"{service.function}/{service.serving.version}") == {}


def test_a_pushed_image_starts_a_rollout_by_its_digest_and_one_without_a_fitting_tag_does_not(
    headgate: Headgate, aws: Aws
) -> None:
    repository = f"triggered/{aws.prefix}"
    aws.ecr.create_repository(repositoryName=repository)
    for tag in ("nightly", "release-1"):
        aws.ecr.put_image(repositoryName=repository, imageManifest=json.dumps({"tag": tag}), imageTag=tag)
    rollout = f"{repository}/release-1"
    eventually(lambda: headgate.record(rollout))
    asked = headgate.record(rollout)["request"]["candidate"]["code"]["imageUri"]
    assert asked.startswith(f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{repository}@sha256:")
    # There is no such function, which the planner says, as for every request.
    assert headgate.ended(rollout)["status"] == "refused"
    assert headgate.record(f"{repository}/nightly") == {}


def test_a_schedule_that_runs_twice_for_the_same_time_starts_one_rollout(headgate: Headgate, aws: Aws) -> None:
    service = headgate.make_service(NIGHTLY)
    service.configure(RELEASE="tonight")
    rule = {"id": "1", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    due = {"time": "2026-09-01T09:00:00Z", "account": "000000000000", "region": "us-east-1"}
    for event_id in ("1", "2"):
        _, response = aws.invoke(f"{PREFIX}-trigger", {**rule, **due, "id": event_id})
        assert "FunctionError" not in response
    assert headgate.ended("schedule/2026-09-01T09:00:00Z")["status"] == "succeeded"
    assert service.versions == ["1", "2", "3"]
    # By this rule, which the tests do not wait for.
    rule_name = aws.cloudformation.describe_stack_resource(StackName="headgate", LogicalResourceId="ScheduleRule")[
        "StackResourceDetail"
    ]["PhysicalResourceId"].rpartition("/")[2]
    assert aws.events.describe_rule(Name=rule_name)["ScheduleExpression"] == "rate(1 day)"
    [target] = aws.events.list_targets_by_rule(Rule=rule_name)["Targets"]
    assert target["Arn"].endswith(f":{PREFIX}-trigger")


# The gaps


def push(aws: Aws, seconds: int = LONGEST_POLL) -> Any:
    """What a push of an image publishes within the time."""
    url = aws.listen(PUSHES)
    aws.ecr.create_repository(repositoryName=aws.prefix)
    aws.ecr.put_image(repositoryName=aws.prefix, imageManifest="{}", imageTag="one")
    return aws.receive(url, seconds)


def test_a_pushed_image_is_an_event(aws: Aws) -> None:
    detail = push(aws)["detail"]
    assert (detail["repository-name"], detail["image-tag"]) == (aws.prefix, "one")
    assert (detail["action-type"], detail["result"]) == ("PUSH", "SUCCESS")
    assert detail["image-digest"].startswith("sha256:")


def test_bare_a_pushed_image_is_no_event(bare: Aws) -> None:
    assert push(bare, 3) is None


def test_a_published_version_is_no_event_without_a_trail(aws: Aws) -> None:
    url = aws.listen(CALLS)
    aws.two_versions()
    assert aws.receive(url, seconds=1) is None


def test_bare_a_published_version_is_no_event_even_with_a_trail(bare: Aws) -> None:
    for _ in logging_trail(bare):
        url = bare.listen(CALLS)
        bare.two_versions()
        assert bare.receive(url, seconds=1) is None
