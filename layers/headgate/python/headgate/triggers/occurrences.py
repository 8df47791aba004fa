"""What an event of AWS says: a version was published, an image pushed, an object created, or a schedule is due.

An event starts nothing if it is not one of these, or if a rollout caused it itself.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.aws.patterns import function_name
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from headgate.aws.patterns import Patterns
    from headgate.aws.place import Place

TriggerName = Literal["published-version", "pushed-image", "created-object", "schedule"]

_ALWAYS = ("time", "account", "region")
PLACEHOLDERS: dict[TriggerName, tuple[str, ...]] = {
    "published-version": ("function", "version", *_ALWAYS),
    "pushed-image": ("repository", "tag", "digest", "image", *_ALWAYS),
    "created-object": ("bucket", "key", "objectVersion", *_ALWAYS),
    "schedule": _ALWAYS,
}
"""Placeholders of each trigger's template."""

PARAMETERS: dict[TriggerName, str] = {
    "published-version": "PublishedVersionRequest",
    "pushed-image": "PushedImageRequest",
    "created-object": "CreatedObjectRequest",
    "schedule": "ScheduledRequest",
}
"""Headgate's parameter with each trigger's template."""


_DIGITS = 20
"""Digits to which a version is filled up, so that texts sort as numbers do."""


class Skipped(Exception):  # noqa: N818 - not an error: most events are nobody's request
    """The event starts nothing, and nobody has to know. The message says why, for the log."""


class Occurrence(NamedTuple):
    """Something that a trigger is for."""

    trigger: TriggerName
    id: str
    """Default id of its request. What happened once always has the same one, however often AWS tells of it."""
    values: Mapping[str, str]
    """Value of each placeholder. One that this event has no value for is missing."""
    order: str = ""
    """Place of this event among those of its trigger: later ones sort after it. Empty if all are alike."""
    series: str = ""
    """What the order is about; empty if it is about all events of the trigger."""


class Surroundings(NamedTuple):
    """What an event is compared with."""

    place: Place
    url_suffix: str
    """Domain of AWS in this partition."""
    publishers: Collection[str]
    """ARNs of the roles with which rollouts publish versions."""
    patterns: Patterns
    """The parameters CodeObjects and CodeRepositories."""


def occurrence_of(event: Mapping[str, Any], here: Surroundings) -> Occurrence:
    """Return what an event of EventBridge says.

    Raises
    ------
    Skipped
        If it starts nothing.
    """
    match event.get("source"), event.get("detail-type"):
        case "aws.lambda", "AWS API Call via CloudTrail":
            return _published_version(event, here)
        case "aws.ecr", "ECR Image Action":
            return _pushed_image(event, here)
        case "aws.s3", "Object Created":
            return _created_object(event, here)
        case "aws.events", "Scheduled Event":
            # A rule may run twice for the same time, so the time decides and not the event:
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html
            return Occurrence("schedule", f"schedule/{event['time']}", _common(event))
    raise Skipped("no trigger is for events of this kind")


def _digest(*parts: str) -> str:
    """Return a part of an id that stands for texts, which may be long and have characters that no id has."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _common(event: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(event[name]) for name in _ALWAYS}


def _published_version(event: Mapping[str, Any], here: Surroundings) -> Occurrence:
    """Read the call of PublishVersion, or of UpdateFunctionCode with Publish.

    CloudTrail names them PublishVersion20150331 and UpdateFunctionCode20150331v2. A call that failed has an errorCode
    and no responseElements:
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    """
    call = event["detail"]
    if call.get("errorCode"):
        raise Skipped("the call failed")
    if not str(call.get("eventName")).startswith(("PublishVersion", "UpdateFunctionCode")):
        raise Skipped("the call publishes no version")
    _require_here(event, here)
    answer = call.get("responseElements") or {}
    version, function = str(answer.get("version")), str(answer.get("functionArn"))
    if (call.get("requestParameters") or {}).get("dryRun") or not version.isdecimal():
        raise Skipped("the call published no version")
    if _is_rollout(call.get("userIdentity") or {}, here):
        raise Skipped("a rollout published this version")
    # The request may name the function in many ways; the response has its ARN.
    name = function_name(function)
    return Occurrence(
        "published-version",
        # CloudTrail may deliver a call more than once, in events of EventBridge with ids of their own.
        f"published-version/{call['eventID']}",
        {"function": name, "version": version, **_common(event)},
        # Lambda never uses a number again, not even for a new function of the same name.
        order=version.zfill(_DIGITS),
        series=name,
    )


def _is_rollout(caller: Mapping[str, Any], here: Surroundings) -> bool:
    """Return whether the caller is one of the roles with which rollouts publish.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html
    """
    issuer = (caller.get("sessionContext") or {}).get("sessionIssuer") or {}
    return issuer.get("arn") in here.publishers


def _pushed_image(event: Mapping[str, Any], here: Surroundings) -> Occurrence:
    """Read the push of an image: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html."""
    image = event["detail"]
    if (image.get("action-type"), image.get("result")) != ("PUSH", "SUCCESS"):
        raise Skipped("no image was pushed")
    if not image.get("image-tag"):
        # Such as each platform's image of a list of images.
        raise Skipped("the image has no tag")
    _require_here(event, here)
    repository, digest = image["repository-name"], image["image-digest"]
    _require_covered(here, "CodeRepositories", repository)
    registry = f"{here.place.account}.dkr.ecr.{here.place.region}.{here.url_suffix}"
    values = {
        "repository": repository,
        "tag": image["image-tag"],
        "digest": digest,
        # By its digest, because the tag may have moved when the rollout begins.
        "image": f"{registry}/{repository}@{digest}",
        **_common(event),
    }
    # A tag may come back to an image that it had before. That is another push, at another time.
    push = _digest(repository, image["image-tag"], digest, values["time"])
    return Occurrence("pushed-image", f"pushed-image/{push}", values, order=values["time"])


def _created_object(event: Mapping[str, Any], here: Surroundings) -> Occurrence:
    """Read the creation of an object. Its key is not URL-encoded, other than in S3's own notifications.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    bucket, found = event["detail"]["bucket"]["name"], event["detail"]["object"]
    key = found["key"]
    if key.endswith("/"):
        raise Skipped("the object is a folder of the console")
    # A bucket's name means the same in every account, and Lambda takes code from buckets of other accounts. Of its own
    # Region alone: https://docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html
    if event["region"] != here.place.region:
        raise Skipped("the event is from another Region")
    _require_covered(here, "CodeObjects", f"{bucket}/{key}")
    version = {"objectVersion": found["version-id"]} if found.get("version-id") else {}
    values = {"bucket": bucket, "key": key, **version, **_common(event)}
    # Each creation of an object has a sequencer of its own.
    creation = _digest(bucket, key, found.get("version-id") or "", found.get("sequencer") or values["time"])
    return Occurrence("created-object", f"created-object/{creation}", values, order=values["time"])


def _require_here(event: Mapping[str, Any], here: Surroundings) -> None:
    """Skip an event that another account or Region forwards: names there mean other functions and repositories."""
    if (event["account"], event["region"]) != (here.place.account, here.place.region):
        raise Skipped("the event is from another account or Region")


def _require_covered(here: Surroundings, parameter: str, name: str) -> None:
    try:
        here.patterns.require(parameter, name, "event")
    except RequestRefused as refusal:
        raise Skipped(str(refusal)) from None
