"""AWS as botocore's models describe it: boto3 checks every parameter, and each answer has the shape of the operation.

The answers are made up from the models, unless a test gives one. Nothing leaves the process.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from botocore.model import OperationModel, Shape

ACCOUNT = "123456789012"
_PAGES = ("nexttoken", "paginationtoken", "marker", "nextmarker", "istruncated")
_DEEPEST = 6

MADE_UP = "text"
"""Beginning of each text in an answer that is no ARN."""


class ModelledAws:
    """Answers every call of every client.

    Parameters
    ----------
    answers
        By operation: members of the answer (None: left out), or a function that returns them.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.calls: list[str] = []
        """Each call as ``service:Operation``, in order."""
        self.bodies: list[Any] = []
        """What each call sends, in the same order; bytes where the service takes JSON."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Answer in place of the network. The parameters have been checked and written by then."""

        def make_request(_: Endpoint, operation: OperationModel, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            self.bodies.append(request.get("body"))
            return SimpleNamespace(status_code=200, headers={}), self._answer(operation)

        patch.setattr(Endpoint, "make_request", make_request)

    def _answer(self, operation: OperationModel) -> dict[str, Any]:
        self.calls.append(f"{operation.service_model.service_name}:{operation.name}")
        made = _made(operation.output_shape, 0) if operation.output_shape else {}
        given: dict[str, Any] | Callable[[], dict[str, Any]] = self._answers.get(operation.name, {})
        # A null is left out, as boto3 does.
        merged = made | (given() if callable(given) else given)
        answer = {key: value for key, value in merged.items() if value is not None}
        answer["ResponseMetadata"] = {"HTTPStatusCode": 200, "RetryAttempts": 0}
        return answer


def body(data: bytes) -> Any:
    """Return a payload as a client gives it."""
    return io.BytesIO(data)


def _made(shape: Shape, depth: int, name: str = "") -> Any:
    kind: Any = shape
    match shape.type_name:
        case "structure" if depth < _DEEPEST:
            members = {key: each for key, each in kind.members.items() if key.lower() not in _PAGES}
            return {key: _made(each, depth + 1, key) for key, each in members.items()}
        case "structure" | "map":
            return {}
        case "list":
            return [_made(kind.member, depth + 1, name)] if depth < _DEEPEST else []
        case "string" if getattr(kind, "enum", None):
            return kind.enum[0]
        case "string":
            made = f"arn:aws:any:eu-west-1:{ACCOUNT}:{name}" if name.lower().endswith("arn") else MADE_UP
            return made.ljust(shape.metadata.get("min", 0), "-")
        case "timestamp":
            return datetime(2026, 1, 1, tzinfo=UTC)
        case "boolean":
            return True
        case "blob":
            return b""
        case _:
            return 1
