"""The triggers of the deployed application: for functions, repositories and buckets of their own tests alone."""

from __future__ import annotations

import json
from typing import Any

AT_ONCE = {"strategy": "AllAtOnce", "guards": "none"}
NIGHTLY = "triggered-nightly"


def live(function: str) -> dict[str, str]:
    """The alias ``live`` of a function as a target."""
    return {"kind": "lambda-alias", "function": function, "alias": "live"}


def parameter(*templates: dict[str, Any]) -> str:
    """Templates as ``sam`` takes them for a parameter: quoted once more."""
    return json.dumps(json.dumps(templates[0] if len(templates) == 1 else list(templates)))


TRIGGERS = {
    "CodeRepositories": "triggered/*",
    "PublishedVersionRequest": parameter(
        {
            "when": {"function": "triggered-*"},
            "id": "<function>/<version>",
            "target": live("<function>"),
            "candidate": {"version": "<version>"},
            **AT_ONCE,
        },
        {"when": {"function": "misfilled-*"}, "target": live("<function>"), "candidate": {"version": "<versoin>"}},
    ),
    "PushedImageRequest": parameter(
        {
            "when": {"tag": "release-*"},
            "id": "<repository>/<tag>",
            "target": live("triggered-image"),
            "candidate": {"code": {"imageUri": "<image>"}},
        }
    ),
    "CreatedObjectRequest": parameter(
        {
            "when": {"bucket": "triggered-*", "key": "*.zip"},
            "id": "<bucket>/<key>",
            "target": live("<bucket>"),
            "candidate": {"code": {"s3Bucket": "<bucket>", "s3Key": "<key>"}},
            **AT_ONCE,
        }
    ),
    "ScheduledRequest": parameter({"target": live(NIGHTLY), "candidate": {"publish": {}}, **AT_ONCE}),
}
"""Parameters of the stack."""
