"""Each image that is pushed is an event on the default bus.

ECR publishes "ECR Image Action" with the action PUSH when an image was pushed, without a tag if it was pushed by its
digest (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html). MiniStack publishes nothing.

Filled for PutImage, and not for a push by Docker's own protocol.

Seam: `ecr._put_image`.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.services import ecr, eventbridge

from emulator.gaps import seams

GAP = "image_pushes"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecr, "_put_image", "data", _push)
    seams.expect(GAP, eventbridge, "_put_events", "data, allow_aws_source")


def _push(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    response = original(data)
    status, _, body = response
    if status < 300:
        _publish(data, json.loads(body)["image"])
    return response


def _publish(data: dict[str, Any], image: dict[str, Any]) -> None:
    detail = {
        "result": "SUCCESS",
        "repository-name": image["repositoryName"],
        "image-digest": image["imageId"]["imageDigest"],
        "action-type": "PUSH",
        **({"image-tag": data["imageTag"]} if data.get("imageTag") else {}),
        "manifest-media-type": image["imageManifestMediaType"],
    }
    entry = {"Source": "aws.ecr", "DetailType": "ECR Image Action", "Detail": json.dumps(detail)}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
