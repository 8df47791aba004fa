"""Headgate deployed on an embedded AWS, and services to roll out on it."""

from __future__ import annotations

import io
import itertools
import json
import time
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from benchmarks.report import say
from emulator.application import deploy_headgate, parameters
from emulator.roles import make_role
from emulator.server import EmbeddedAws
from headgate.aws.arns import execution_arn, execution_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SERVICE = "def handler(event, context): return {'version': context.function_version}"
STABLE, CANDIDATE = "1", "2"


class Usage(NamedTuple):
    """What a function has used since the embedded AWS started."""

    invocations: float
    milliseconds: float


class World:
    """An embedded AWS of its own with Headgate on it, as long as it is entered."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._made: str | None = None
        self.aws = EmbeddedAws()

    def __enter__(self) -> Self:
        """Start and deploy."""
        begun = time.monotonic()
        self.aws.start()
        try:
            self.outputs = deploy_headgate(self.aws)
        except BaseException:
            self.aws.stop()
            raise
        self.functions, self.machines = self.aws.client("lambda"), self.aws.client("stepfunctions")
        self.bus, self.metrics = self.aws.client("events"), self.aws.client("cloudwatch")
        self.table = self.aws.client("dynamodb")
        say(f"Headgate is built and deployed on the embedded AWS ({time.monotonic() - begun:.0f} s).")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop the embedded AWS; stopping twice is fine."""
        self.aws.stop()

    def headgate_functions(self) -> dict[str, str]:
        """Headgate's functions: the logical id of each, and its name."""
        found = self.aws.client("cloudformation").describe_stack_resources(StackName="headgate")["StackResources"]
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in found
            if resource["ResourceType"] == "AWS::Lambda::Function"
        }

    def set_on_every_function(self, **variables: str) -> None:
        """Add to the environment of Headgate's functions; each then starts anew."""
        names = self.headgate_functions().values()
        for name in names:
            known = self.functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            self.functions.update_function_configuration(
                FunctionName=name, Environment={"Variables": known | variables}
            )
        for name in names:
            self.functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def new_target(self) -> dict[str, Any]:
        """An alias that nobody has used, on a function with two versions."""
        function, alias = self._service(), f"shard-{next(self._numbers)}"
        self.functions.create_alias(FunctionName=function, Name=alias, FunctionVersion=STABLE)
        return {"kind": "lambda-alias", "function": function, "alias": alias}

    def new_alarm(self) -> str:
        """An alarm that is OK until somebody sets its state."""
        name = f"alarm-{uuid.uuid4().hex[:8]}"
        self.metrics.put_metric_alarm(
            AlarmName=name,
            Namespace="bench",
            MetricName=name,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )
        self.metrics.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="the benchmark begins")
        return name

    def request(self, target: dict[str, Any], steps: list[tuple[float, int]], alarms: list[str]) -> str:
        """Ask for a rollout by an event, as a user would; answers the execution that carries it out."""
        rollout_id = f"bench-{uuid.uuid4().hex[:12]}"
        detail = {
            "id": rollout_id,
            "target": target,
            "candidate": {"version": CANDIDATE},
            "strategy": {"steps": [{"weight": weight, "bakeSeconds": bake} for weight, bake in steps]},
            "guards": {"alarms": alarms},
        }
        entry = {"Source": "bench", "DetailType": "Rollout Requested", "Detail": json.dumps(detail)}
        self.bus.put_events(Entries=[entry | {"EventBusName": self.outputs["BusName"]}])
        return execution_arn(self.outputs["RolloutMachineArn"], execution_name(rollout_id))

    def ended(self, execution: str, status: str, seconds: float = 90) -> None:
        """Wait until an execution has ended as it must."""
        until(lambda: self._status(execution) not in ("", "RUNNING"), seconds, f"{execution} does not end")
        found = self._status(execution)
        if found != status:
            raise RuntimeError(f"{execution} ended as {found}, expected {status}")

    def history(self, execution: str) -> list[dict[str, Any]]:
        """The events of an execution."""
        pages = self.machines.get_paginator("get_execution_history").paginate(executionArn=execution)
        return [event for page in pages for event in page["events"]]

    def entered(self, execution: str) -> list[str]:
        """The states that an execution has entered; Step Functions charges a transition for each."""
        return [
            event["stateEnteredEventDetails"]["name"]
            for event in self.history(execution)
            if event["type"].endswith("StateEntered")
        ]

    def alias(self, target: dict[str, Any]) -> tuple[str, dict[str, float]]:
        """The version that an alias serves, and the weights of others."""
        alias = self.functions.get_alias(FunctionName=target["function"], Name=target["alias"])
        return alias["FunctionVersion"], alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    def usage(self) -> dict[str, Usage]:
        """What each function of Headgate has used so far."""
        return {
            logical: Usage(self._sum("Invocations", name), self._sum("Duration", name))
            for logical, name in self.headgate_functions().items()
        }

    def _sum(self, metric: str, function: str) -> float:
        now = datetime.now(UTC)
        found = self.metrics.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": "FunctionName", "Value": function}],
            StartTime=now - timedelta(hours=3),
            EndTime=now + timedelta(minutes=5),
            Period=3600,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    def _status(self, execution: str) -> str:
        try:
            return str(self.machines.describe_execution(executionArn=execution)["status"])
        except self.machines.exceptions.ExecutionDoesNotExist:
            return ""

    def _service(self) -> str:
        if self._made is None:
            self._made = "bench-service"
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as package:
                package.writestr("app.py", SERVICE)
            self.functions.create_function(
                FunctionName=self._made,
                Runtime=parameters()["Runtime"],
                Handler="app.handler",
                Role=make_role(self.aws, self._made),
                Code={"ZipFile": archive.getvalue()},
            )
            for release in (STABLE, CANDIDATE):
                self.functions.get_waiter("function_updated_v2").wait(
                    FunctionName=self._made, WaiterConfig={"Delay": 1}
                )
                self.functions.update_function_configuration(
                    FunctionName=self._made, Environment={"Variables": {"RELEASE": release}}
                )
                self.functions.get_waiter("function_updated_v2").wait(
                    FunctionName=self._made, WaiterConfig={"Delay": 1}
                )
                self.functions.publish_version(FunctionName=self._made)
        return self._made


def until(look: Callable[[], Any], seconds: float, otherwise: str, pause: float = 0.02) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} (waited {seconds:g} s)")
        time.sleep(pause)
