"""The candidate of a rollout: a published version, $LATEST, new code, or a task definition."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, Tag, model_validator

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, Text, Wire, has_field, one_of


class PublishedVersion(Wire):
    """An existing version."""

    version: Annotated[
        str,
        AfterValidator(
            must_match(re.compile(r"[0-9]+"), 'must be a version number; to roll out $LATEST, give {"publish": {}}')
        ),
        NUMBER_AS_TEXT,
    ]
    """Number of an existing version. To roll out ``$LATEST``, give ``publish`` instead."""


class Publish(Wire):
    """How ``$LATEST`` is published."""

    confirm: (
        Annotated[
            str,
            AfterValidator(
                must_match(
                    # Lambda shows the digest of an image in hexadecimal digits.
                    re.compile(r"[A-Za-z0-9+/]{43}=|[0-9a-f]{64}"),
                    "must be the CodeSha256 of $LATEST as Lambda shows it, in base64 (44 characters), as in aws lambda "
                    "get-function-configuration --query CodeSha256; for an image, its digest without sha256:",
                )
            ),
            NUMBER_AS_TEXT,
        ]
        | None
    ) = None
    """CodeSha256 that ``$LATEST`` must have. If it has another one when the candidate is prepared, the request is
    refused. Required to publish code that an earlier rollout rejected and that is still in ``$LATEST``."""


class PublishLatest(Wire):
    """Publish the code and configuration of $LATEST."""

    publish: Publish
    """Publish the code and configuration of ``$LATEST``, also if only the configuration changed."""


class ZipCode(Wire):
    """A deployment package in S3."""

    s3_bucket: Annotated[str, Field(min_length=3), NUMBER_AS_TEXT]
    """Bucket of the deployment package. ``CodeObjects`` must cover bucket and key."""
    s3_key: Annotated[str, Field(min_length=1), NUMBER_AS_TEXT]
    """Key of the deployment package."""
    s3_object_version: Text | None = None
    """Version of the object in a versioned bucket."""


class ImageCode(Wire):
    """A container image in Amazon ECR."""

    image_uri: Annotated[str, Field(min_length=1), NUMBER_AS_TEXT]
    """URI of a container image in Amazon ECR. ``CodeRepositories`` must cover the repository."""


class NewCode(Wire):
    """Put new code into $LATEST first, then publish it."""

    code: Annotated[
        Annotated[ZipCode, Tag("<zip>")] | Annotated[ImageCode, Tag("<image>")],
        one_of({"<image>": has_field(ImageCode, "imageUri", "image_uri"), "<zip>": lambda _: True}),
    ]
    """Put this code into ``$LATEST`` first, then publish it."""


# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html
_TASK_DEFINITION = re.compile(
    r"(arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:task-definition/)?[a-zA-Z0-9_-]{1,255}:[0-9]{1,10}"
)
_CONTAINER = re.compile(r"[a-zA-Z0-9_-]{1,255}")
ContainerName = Annotated[str, AfterValidator(must_match(_CONTAINER, "must be the name of a container"))]


class TaskDefinitionRevision(Wire):
    """An existing revision of a task definition."""

    task_definition: Annotated[
        str,
        AfterValidator(
            must_match(
                _TASK_DEFINITION,
                "must be family:revision, as in shop:7, or the ARN of a task definition; a family alone could change "
                "during the rollout",
            )
        ),
        NUMBER_AS_TEXT,
    ]
    """Family and revision of a registered task definition, as in ``shop:7``, or its ARN."""

    @property
    def revision(self) -> str:
        """Family and revision, without the rest of an ARN."""
        return self.task_definition.rpartition("/")[2]


class Revision(Wire):
    """Changes to the task definition that the service runs."""

    images: dict[ContainerName, Annotated[str, Field(min_length=1, max_length=1000), NUMBER_AS_TEXT]] = {}
    """Image URI by the name of the container."""
    environment: dict[ContainerName, dict[str, Text]] = {}
    """Environment variables by the name of the container. Others stay as they are."""
    cpu: Annotated[str, Field(min_length=1), NUMBER_AS_TEXT] | None = None
    """CPU units of the task, as in ``512``."""
    memory: Annotated[str, Field(min_length=1), NUMBER_AS_TEXT] | None = None
    """Memory of the task in MiB, as in ``1024``."""

    @model_validator(mode="after")
    def _changes_something(self) -> Revision:
        if not (self.images or self.environment or self.cpu or self.memory):
            raise ValueError('change something, as in {"images": {"app": "IMAGE_URI"}}')
        return self


class ReviseTaskDefinition(Wire):
    """Register a changed copy of the task definition that the service runs."""

    revise: Revision
    """Changes to the task definition that the service runs. The copy is registered once for the same content.
    Headgate's parameters ``RegisterTaskDefinitions`` and ``TaskRoles`` must allow it."""


Candidate = Annotated[
    Annotated[PublishedVersion, Tag("<version>")]
    | Annotated[PublishLatest, Tag("<publish>")]
    | Annotated[NewCode, Tag("<code>")]
    | Annotated[TaskDefinitionRevision, Tag("<taskDefinition>")]
    | Annotated[ReviseTaskDefinition, Tag("<revise>")],
    one_of(
        {
            "<version>": has_field(PublishedVersion, "version"),
            "<publish>": has_field(PublishLatest, "publish"),
            "<code>": has_field(NewCode, "code"),
            "<taskDefinition>": has_field(TaskDefinitionRevision, "taskDefinition", "task_definition"),
            "<revise>": has_field(ReviseTaskDefinition, "revise"),
        },
        'give {"version": "7"}, {"publish": {}} or {"code": {...}}; for an ECS service, {"taskDefinition": '
        '"shop:7"} or {"revise": {...}}',
    ),
]
