"""A stack whose clients are given: what a command asks of AWS, and what AWS answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate_cli.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "123456789012"
MACHINES = {
    kind: f"arn:aws:states:eu-central-1:{ACCOUNT}:stateMachine:headgate-{name}"
    for kind, name in (
        ("RolloutMachineArn", "rollout"),
        ("EcsTaskMachineArn", "ecs-task"),
        ("RedriveMachineArn", "redrive"),
    )
}


def refusal(code: str, operation: str = "Call", status: int = 400) -> ClientError:
    """An answer of AWS that is an error."""
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


class FakeClient:
    """Answers each operation by a function of its parameters, and keeps the calls."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self._answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation not in self._answers:
            raise AttributeError(operation)

        def call(**parameters: Any) -> Any:
            self.calls.append((operation, parameters))
            return self._answers[operation](**parameters)

        return call


class FakeStack(Stack):
    """A stack of these clients, by service."""

    def __init__(self, **clients: FakeClient) -> None:
        super().__init__("headgate", None, "eu-central-1")
        self.fakes = clients
        self.__dict__["outputs"] = {"BusName": "headgate", "TableName": "headgate-table", **MACHINES}

    def client(self, service: str, *, region: str | None = None) -> Any:  # noqa: ARG002
        return self.fakes[service]
