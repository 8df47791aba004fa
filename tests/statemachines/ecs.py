"""The ECS task machine beside others on the engine: its functions' real code, on an ECS in memory."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_ecs

from tests.fakes.ecs import GOOD, FakeEcs, FakeLogs

if TYPE_CHECKING:
    import contextlib

    from tests.statemachines.engine import Engine, Execution

HANGS: dict[str, Any] = {"hangs": True}
"""The answer of a task that runs on until it is stopped."""


class Ended:
    """Step Functions and EventBridge, for the task stopper after the end of an execution."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.announced: list[dict[str, Any]] = []

    def detail(self, execution: Execution) -> dict[str, Any]:
        """The detail of the event by which Step Functions says that an execution has ended."""
        return {
            "executionArn": execution.arn,
            "name": execution.name,
            "status": execution.status,
            "input": json.dumps(execution.input),
            "startDate": 1795251800000,
            "stopDate": 1795251900000,
        }

    def get_execution_history(
        self,
        *,
        executionArn: str,  # noqa: N803 - as AWS names it
        maxResults: int,  # noqa: N803
        reverseOrder: bool = False,  # noqa: N803
    ) -> dict[str, Any]:
        """Step Functions'; moto gives every history whole and from its beginning."""
        whole = self.engine.client("stepfunctions").get_execution_history(executionArn=executionArn)["events"]
        return {"events": (whole[::-1] if reverseOrder else whole)[:maxResults]}

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - as AWS names it
        """EventBridge's."""
        self.announced += [entry | {"Detail": json.loads(entry["Detail"])} for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


class Tasks:
    """What ``ecs:runTask.sync`` does in a test.

    Attributes
    ----------
    answers
        How each task ends: its detail, an error, or HANGS; the last one for ever.
    runs
        RunTask's parameters, in order.
    announced
        What the machine has told the bus.
    """

    def __init__(self) -> None:
        self.ecs, self.logs = FakeEcs(), FakeLogs("no such table")
        self.answers: list[dict[str, Any] | Exception] = [GOOD]
        self.runs: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []

    def serve(self, engine: Engine, opening: contextlib.ExitStack) -> None:
        """Serve the machine's integrations for as long as the stack is open."""
        # AWS takes these too, though its guide does not list them: https://github.com/aws/aws-cdk/pull/35465 and
        # https://github.com/CloudSnorkel/cdk-github-runners/pull/999. (moto: drops what the guide does not list.)
        known = state_task_service_ecs._SUPPORTED_API_PARAM_BINDINGS["runtask"]
        taken = {"runtask": known | {"Tags", "CapacityProviderStrategy"}}
        opening.enter_context(mock.patch.object(state_task_service_ecs, "_SUPPORTED_API_PARAM_BINDINGS", taken))
        engine.integration("arn:aws:states:::ecs:runTask.sync", self._run)
        engine.integration("arn:aws:states:::events:putEvents", self._put_events)

    def environment_of(self, run: int, container: str) -> dict[str, str]:
        """The environment that a run's container was given on top of its definition's."""
        given = self.runs[run]["Overrides"]["ContainerOverrides"]
        found = next(each for each in given if each["Name"] == container)
        return {each["Name"]: each["Value"] for each in found["Environment"]}

    def living(self) -> list[str]:
        """The tasks that nobody has stopped."""
        return [arn for arn, task in self.ecs.tasks.items() if task["desiredStatus"] != "STOPPED"]

    def _run(self, parameters: dict[str, Any]) -> Any:
        self.runs.append(parameters)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer != HANGS:
            return answer
        arn, deadline = self.ecs.leave_running(parameters), time.monotonic() + 3
        while self.ecs.tasks[arn]["desiredStatus"] != "STOPPED" and time.monotonic() < deadline:
            time.sleep(0.01)
        return GOOD

    def _put_events(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.announced += arguments["Entries"]
        return {"FailedEntryCount": 0}
