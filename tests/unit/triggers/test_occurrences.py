"""What events of AWS say to triggers, and which of them start nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headgate.aws.patterns import Patterns
from headgate.aws.place import Place
from headgate.spec.request import RolloutRequest
from headgate.triggers.occurrences import PLACEHOLDERS, Occurrence, Skipped, Surroundings, occurrence_of
from tests.builders import ACCOUNT, PUBLISHING_ROLES, REGION, event

HERE = Surroundings(
    Place("aws", ACCOUNT, REGION),
    "amazonaws.com",
    PUBLISHING_ROLES,
    Patterns({"CodeObjects": "code/shop/*", "CodeRepositories": "shop/*"}),
)
PUBLISHED, UPDATED = "trigger", "lambda_update_function_code"
IMAGE, OBJECT, SCHEDULE = "ecr_image_action", "s3_object_created", "scheduled_event"
COMMON = {"time": "2026-09-01T08:59:30Z", "account": ACCOUNT, "region": REGION}


def taken(given: dict[str, Any], here: Surroundings = HERE) -> Occurrence:
    return occurrence_of(given, here)


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    """A sample event with another value, or without one for None."""
    found = copy.deepcopy(event(name))
    *folders, last = path.split("/")
    inner = found
    for folder in folders:
        inner = inner[folder]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return dict(found)


@pytest.mark.parametrize("name", [PUBLISHED, UPDATED])
def test_a_published_version_has_its_function_by_name_however_the_call_names_it(name: str) -> None:
    found = taken(event(name))
    assert found.values == {"function": "checkout", "version": "7", **COMMON}
    assert (found.trigger, found.id) == ("published-version", f"published-version/{event(name)['detail']['eventID']}")


def test_an_image_is_named_by_its_digest_because_its_tag_may_move() -> None:
    found = taken(event(IMAGE))
    digest = event(IMAGE)["detail"]["image-digest"]
    assert found.values == {
        "repository": "shop/checkout",
        "tag": "release-42",
        "digest": digest,
        "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/shop/checkout@{digest}",
        **COMMON,
    }


def test_the_key_of_an_object_is_taken_as_it_is() -> None:
    # Decoding would make a space of the plus sign.
    found = taken(event(OBJECT))
    assert found.values == {
        "bucket": "code",
        "key": "shop/check out+42.zip",
        "objectVersion": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        **COMMON,
    }


def test_an_object_in_a_bucket_without_versions_has_no_version() -> None:
    assert "objectVersion" not in taken(changed(OBJECT, "detail/object/version-id", None)).values


def test_a_schedule_that_runs_twice_for_the_same_time_has_one_id() -> None:
    again = event(SCHEDULE) | {"id": "another"}
    assert taken(event(SCHEDULE)).id == taken(again).id == "schedule/2026-09-01T09:00:00Z"


@pytest.mark.parametrize("name", [PUBLISHED, UPDATED, IMAGE, OBJECT, SCHEDULE])
def test_what_happened_once_has_one_id_though_aws_tells_of_it_twice(name: str) -> None:
    assert taken(event(name)).id == taken(event(name) | {"id": "another"}).id


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        (PUBLISHED, "detail/eventID", "another"),
        (IMAGE, "detail/image-digest", f"sha256:{'0' * 64}"),
        (IMAGE, "detail/image-tag", "release-43"),
        (IMAGE, "detail/repository-name", "shop/cart"),
        (IMAGE, "time", "2026-09-01T09:59:30Z"),  # The tag has come back to this image.
        (OBJECT, "detail/object/version-id", "another"),
        (OBJECT, "detail/object/sequencer", "another"),
        (OBJECT, "detail/object/key", "shop/other.zip"),
        (SCHEDULE, "time", "2026-09-01T10:00:00Z"),
    ],
)
def test_what_happened_another_time_has_another_id(name: str, path: str, value: str) -> None:
    assert taken(event(name)).id != taken(changed(name, path, value)).id


@pytest.mark.parametrize("name", [PUBLISHED, UPDATED, IMAGE, OBJECT, SCHEDULE])
def test_the_id_is_one_that_a_request_may_have(name: str) -> None:
    found = taken(event(name))
    target = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
    request = {"id": f"{found.id}/10", "target": target, "candidate": {"publish": {}}}
    assert RolloutRequest.model_validate(request).id == f"{found.id}/10"


def test_versions_are_ordered_as_numbers_and_other_events_by_their_time() -> None:
    lower, higher = (taken(changed(PUBLISHED, "detail/responseElements/version", each)).order for each in ("9", "10"))
    assert lower < higher
    assert taken(event(IMAGE)).order == taken(event(OBJECT)).order == COMMON["time"]
    assert taken(event(SCHEDULE)).order == ""


@pytest.mark.parametrize("name", [PUBLISHED, UPDATED, IMAGE, OBJECT, SCHEDULE])
def test_every_value_is_a_placeholder_of_its_trigger(name: str) -> None:
    found = taken(event(name))
    assert set(found.values) == set(PLACEHOLDERS[found.trigger])
    assert all(isinstance(value, str) and value for value in found.values.values())


@pytest.mark.parametrize("name", [PUBLISHED, UPDATED])
@pytest.mark.parametrize("role", PUBLISHING_ROLES)
def test_a_version_that_a_rollout_publishes_starts_nothing(name: str, role: str) -> None:
    with pytest.raises(Skipped, match="a rollout published this version"):
        taken(changed(name, "detail/userIdentity/sessionContext/sessionIssuer/arn", role))


@pytest.mark.parametrize(
    "caller",
    [
        {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ada", "userName": "ada"},
        {"type": "Root", "arn": f"arn:aws:iam::{ACCOUNT}:root"},
        {"type": "AWSService", "invokedBy": "cloudformation.amazonaws.com"},
        # A name alone is not the role.
        {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"arn": PUBLISHING_ROLES[0] + "-2"}}},
    ],
)
def test_a_version_that_anybody_else_publishes_counts(caller: dict[str, Any]) -> None:
    assert taken(changed(PUBLISHED, "detail/userIdentity", caller)).values["version"] == "7"


@pytest.mark.parametrize(
    ("name", "path", "value", "why"),
    [
        (PUBLISHED, "detail/errorCode", "ResourceConflictException", "failed"),
        (PUBLISHED, "detail/eventName", "UpdateAlias20150331", "publishes no version"),
        (PUBLISHED, "detail/responseElements", {}, "published no version"),
        (PUBLISHED, "detail/responseElements", None, "published no version"),
        (PUBLISHED, "account", "999999999999", "another account or Region"),
        (PUBLISHED, "region", "us-east-1", "another account or Region"),
        (UPDATED, "detail/responseElements/version", "$LATEST", "published no version"),
        (UPDATED, "detail/requestParameters/dryRun", True, "published no version"),
        (IMAGE, "detail/result", "FAILURE", "no image was pushed"),
        (IMAGE, "detail/action-type", "DELETE", "no image was pushed"),
        (IMAGE, "detail/image-tag", None, "no tag"),
        (IMAGE, "detail/image-tag", "", "no tag"),
        (IMAGE, "detail/repository-name", "other/checkout", "CodeRepositories"),
        (IMAGE, "account", "999999999999", "another account or Region"),
        (OBJECT, "detail/bucket/name", "uploads", "CodeObjects"),
        (OBJECT, "detail/object/key", "other/a.zip", "CodeObjects"),
        (OBJECT, "detail/object/key", "shop/folder/", "folder"),
        (OBJECT, "region", "us-east-1", "another Region"),
        (OBJECT, "detail-type", "Object Deleted", "no trigger"),
        (IMAGE, "source", "tests", "no trigger"),
    ],
)
def test_an_event_that_is_none_of_these_starts_nothing(name: str, path: str, value: Any, why: str) -> None:
    with pytest.raises(Skipped, match=why):
        taken(changed(name, path, value))


def test_an_object_in_a_bucket_of_another_account_counts_if_the_parameter_covers_it() -> None:
    # Names of buckets mean the same everywhere.
    assert taken(changed(OBJECT, "account", "999999999999")).values["bucket"] == "code"
