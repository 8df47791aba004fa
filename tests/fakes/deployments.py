"""CloudFormation with custom resources of Headgate, and the machine that answers them, around the real core."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import itertools
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.aws.place import Place
from headgate.errors import RequestRefused
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.routing import GroupPair, Routing
from headgate.spec.targets import EcsServiceTarget, LambdaAliasTarget
from headgate.stacks.deeds import Deeds
from headgate.stacks.event import ROLLOUT_TYPE
from headgate.stacks.facts import FactReader
from headgate.stacks.intake import StackIntake
from headgate.stacks.origin import Origins
from headgate.stacks.planner import StackPlanner
from headgate.stacks.responder import StackResponder
from headgate.stacks.store import StackStore
from tests.builders import ACCOUNT, DRIVER, REGION, TABLE, execution_of, settle
from tests.fakes.services import FakeLambda, FakeStepFunctions, Refusal, sha256_of
from tests.fakes.services_and_balancers import Cloud
from tests.fakes.stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.locks import Locks

PLACE = Place("aws", ACCOUNT, REGION)
TOKEN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-stack-intake"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:checkout"
_ELB = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}"
ROUTING = Routing(
    way="green-service",
    pairs=[
        GroupPair(
            load_balancer=f"{_ELB}:loadbalancer/app/shop-web/50dc6c495c0c9188",
            stable=f"{_ELB}:targetgroup/shop-blue/6d0ecf831eec9f09",
            candidate=f"{_ELB}:targetgroup/shop-green/73e2d6bc24d8a067",
            container="app",
            port=8080,
            rules=[f"{_ELB}:listener-rule/app/shop-web/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"],
        )
    ],
)
"""Routing in the plans of services."""
BUCKET = "https://cloudformation-custom-resource-response.s3.amazonaws.com"


class DeployedFunction(FakeLambda):
    """A function whose code and configuration a stack deploys to $LATEST."""

    def __init__(self, name: str = "checkout") -> None:
        super().__init__(name)
        self.latest: dict[str, Any] = {"Role": "arn:aws:iam::123456789012:role/checkout", "Timeout": 3}
        self.state = "Active"
        """State of a version when it is published."""
        self.busy = 0
        """How many more calls of PublishVersion meet an update."""

    def deploy(self, code: str, **configuration: Any) -> None:
        """Give $LATEST code and configuration."""
        self.code = code
        self.latest |= configuration

    def _configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        if FunctionName != self.name:
            raise Refusal("ResourceNotFoundException", f"Function not found: {FunctionName}")
        if not Qualifier:
            volatile = {
                "LastModified": "later",
                "RevisionId": "r-0",
                "LastUpdateStatus": "Successful",
                "Version": "$LATEST",
            }
            return {**self.latest, **volatile, "FunctionName": self.name, "CodeSha256": sha256_of(self.code)}
        return super()._configuration(FunctionName, Qualifier)

    def PublishVersion(self, FunctionName: str, CodeSha256: str = "") -> dict[str, Any]:
        if self.busy:
            self.busy -= 1
            raise Refusal("ResourceConflictException", "The function is currently in the following state: Pending", 409)
        assert CodeSha256 in ("", sha256_of(self.code))
        last = self.versions.get(str(len(self.versions)))
        now = {**self.latest, "CodeSha256": sha256_of(self.code)}
        if last is None or any(last.get(name) != value for name, value in now.items()):
            code = self.code
            version = self.publish(
                **now, FunctionName=self.name, State=self.state, RevisionId="r-1", LastModified="now"
            )
            self.code = self._codes[version] = code
        return self.versions[str(len(self.versions))]

    def CreateAlias(self, FunctionName: str, Name: str, FunctionVersion: str) -> dict[str, Any]:
        self._require_version(FunctionVersion)
        if Name in self.aliases:
            raise Refusal("ResourceConflictException", f"Alias already exists: {ARN}:{Name}", 409)
        self.point(Name, FunctionVersion)
        return self.aliases[Name]

    def DeleteAlias(self, FunctionName: str, Name: str) -> None:
        self._refuse()
        if self.aliases.pop(Name, None) is None:
            raise Refusal("ResourceNotFoundException", f"Alias not found: {ARN}:{Name}", 404)


class FakeFormation(FakeStacks):
    """CloudFormation's answer to how stacks stand, and whose a resource is."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, str] = {}
        self.updated = 1000
        """When the latest update of any stack has begun."""
        self.aliases: dict[str, tuple[str, str, int]] = {}
        """Stack, status and the time of the status of each alias that is a resource, by ARN."""
        self.services: dict[str, tuple[str, str, int]] = {}
        """The same of each service that is a resource."""
        self.resources: dict[tuple[str, str], dict[str, Any]] = {}
        """What stacks show of their resources, by stack and logical id."""

    def show(self, stack_id: str, logical_id: str, kind: str, status: str, physical_id: str) -> None:
        """Show a resource in a status. A resource that is being created has no physical id."""
        shown = {"LogicalResourceId": logical_id, "ResourceType": kind, "ResourceStatus": status}
        shown |= {"PhysicalResourceId": physical_id} if physical_id else {}
        self.resources[stack_id, logical_id] = {**shown, "LastUpdatedTimestamp": 0}

    def DescribeStackResource(self, StackName: str, LogicalResourceId: str) -> dict[str, Any]:
        if (StackName, LogicalResourceId) not in self.resources:
            raise Refusal("ValidationError", f"Resource {LogicalResourceId} does not exist for stack {StackName}")
        return {"StackResourceDetail": self.resources[StackName, LogicalResourceId]}

    def ListStackResources(self, StackName: str, NextToken: str = "") -> dict[str, Any]:
        """The resources of a stack in two pages. A rollout resource has the physical id of its alias."""
        resources = [
            {
                "LogicalResourceId": logical,
                "ResourceType": kind,
                "PhysicalResourceId": arn,
                "ResourceStatus": status,
                "LastUpdatedTimestamp": datetime.fromtimestamp(at, UTC),
            }
            for moved, moved_kind in ((self.aliases, "AWS::Lambda::Alias"), (self.services, "AWS::ECS::Service"))
            for arn, (stack, moved_status, moved_at) in moved.items()
            if stack == StackName
            for logical, kind, status, at in (
                ("CheckoutRollout", ROLLOUT_TYPE, "UPDATE_IN_PROGRESS", self.updated + 9),
                ("CheckoutAliaslive", moved_kind, moved_status, moved_at),
            )
        ]
        if NextToken:
            return {"StackResourceSummaries": resources[1:]}
        return {"StackResourceSummaries": resources[:1], "NextToken": "more"}

    def DescribeStacks(self, StackName: str) -> dict[str, Any]:
        if StackName not in self.statuses:
            raise Refusal("ValidationError", f"Stack with id {StackName} does not exist")
        status = self.statuses[StackName]
        times = {"CreationTime": datetime.fromtimestamp(0, UTC)}
        if status.startswith("UPDATE"):
            times["LastUpdatedTime"] = datetime.fromtimestamp(self.updated, UTC)
        return {"Stacks": [{"StackName": StackName, "StackStatus": status, **times}]}


class Deployments:
    """Everything around a request of CloudFormation."""

    def __init__(
        self, locks: Locks, clients: dict[str, Any], function: DeployedFunction, formation: FakeFormation
    ) -> None:
        self.locks, self.table, self.function, self.formation = locks, locks._table, function, formation
        self.machines = FakeStepFunctions()
        self.detach = self.machines.attach(clients["stepfunctions"])
        self.store = StackStore(clients["dynamodb"], TABLE)
        self.cloud = Cloud()
        facts = FactReader(
            self.store, self.table, clients["lambda"], clients["cloudformation"], PLACE, ecs=lambda: self.cloud.ecs
        )
        self.planner = StackPlanner(self.store, facts, Deeds(self.store, clients["lambda"]))
        self.puts: list[tuple[str, dict[str, Any]]] = []
        """URL and body of each answer."""
        environment: Any = Settings()
        self.looks: list[float] = []
        """Pauses before the looks at stacks that were asked about requests."""
        origins = Origins(clients["cloudformation"], PLACE, self.looks.append)
        self.intake = StackIntake(self.store, clients["stepfunctions"], origins, environment, self.put)
        self.responder = StackResponder(self.store, self.put)
        self.later = 0.0
        """Seconds that have passed in waits and by hand."""
        self.outcome: Callable[[str], tuple[str, str] | None] = lambda _: ("succeeded", "every guard agreed")
        """How a rollout with this id ends, and why; None if it still runs."""
        self.hook_failure: dict[str, Any] | None = None
        self.plan_refusal = ""
        self.plan_warnings: list[str] = []
        self.task: dict[str, Any] = {
            "task": {
                "outcome": "succeeded",
                "taskDefinition": "arn:aws:ecs:task-definition/migrate:3",
                "tasks": [{"attempts": [{"taskArn": "arn:aws:ecs:task/1"}]}],
            }
        }
        self.steps: list[dict[str, Any]] = []
        """Every step that the machine has carried out."""
        self.put_fails: list[Exception | int] = []

    def put(self, url: str, body: bytes) -> int:
        if self.put_fails and (failure := self.put_fails.pop(0)):
            if isinstance(failure, Exception):
                raise failure
            return failure
        self.puts.append((url, json.loads(body)))
        return 200

    def did(self, what: str) -> list[dict[str, Any]]:
        """The steps of a kind that the machine has carried out."""
        return [step for step in self.steps if step["do"] == what]

    def stack(self, name: str = "shop", logical_id: str = "CheckoutRollout", **options: Any) -> Stack:
        return Stack(self, name, logical_id, **options)

    # The machine

    def carry_out(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do what the state machine does, and return what it tells."""
        json.dumps(step)
        self.steps.append(step)
        match step["do"]:
            case "plan":
                return self._plan(step["request"])
            case "roll-out":
                return self._roll_out(step["request"])
            case "ask":
                return {"failure": self.hook_failure} if self.hook_failure else {"answered": True}
            case "run-task":
                return self.task
            case "abort":
                settle(
                    self.locks, step["rolloutId"], "rolled-back", reason=f"aborted by cloudformation: {step['reason']}"
                )
            case "wait":
                self.later += step["seconds"]
        return {}

    def _plan(self, detail: dict[str, Any]) -> dict[str, Any]:
        refusal = self.plan_refusal
        try:
            request = read_request(detail, "unused")
        except RequestRefused as error:
            refusal = str(error)
        if not refusal and isinstance(request.target, EcsServiceTarget):
            refusal = self._nothing_new(request.target.name, detail["candidate"]["taskDefinition"])
        if refusal:
            return {"failure": {"Error": "RequestRefused", "Cause": json.dumps({"errorMessage": refusal})}}
        plan = _plan_of(request).model_copy(update={"warnings": self.plan_warnings})
        return {"plan": plan.to_wire(), "request": request.to_wire()}

    def _roll_out(self, detail: dict[str, Any]) -> dict[str, Any]:
        request = read_request(detail, "unused")
        plan = _plan_of(request)
        admission = self.locks.admit(request, execution_of(request.id))
        if admission.lock != "held":
            return {"failure": {"Error": "RequestRefused", "Cause": admission.reason}}
        self.locks.begin(plan, execution_of(request.id), admission.epoch)
        if ending := self.outcome(request.id):
            self.end(request.id, *ending)
        else:
            return {"failure": {"Error": "States.Timeout", "Cause": ""}}
        return {"ended": True}

    def end(self, rollout_id: str, outcome: str, reason: str) -> None:
        """End a rollout, and move the alias if it is promoted."""
        record = self.table.rollout(rollout_id)
        assert record is not None
        candidate = record.plan["candidate"]
        if "taskDefinition" in candidate:
            self._end_of_service(rollout_id, outcome, reason, record.plan)
            return
        version = candidate.get("version") or self.function.PublishVersion("checkout")["Version"]
        target = record.plan["target"]
        if outcome == "succeeded":
            self.function.point(target.get("alias", "live"), version)
        serving = version if outcome == "succeeded" else self.function.serves(target.get("alias", "live"))[0]
        settle(self.locks, rollout_id, outcome, reason=reason, candidate=version, serving=serving)

    def _nothing_new(self, service: str, revision: str) -> str:
        return (
            "" if self.serves(service) != revision else f"candidate.taskDefinition: {revision} is what {service} runs"
        )

    def _end_of_service(self, rollout_id: str, outcome: str, reason: str, plan: dict[str, Any]) -> None:
        target, candidate = plan["target"], plan["candidate"]["taskDefinition"]
        if outcome == "succeeded":
            self.deploy(target["service"], candidate)
        serving = self.serves(target["service"])
        settle(self.locks, rollout_id, outcome, reason=reason, candidate=candidate, serving=serving)

    def deploy(self, service: str, revision: str) -> None:
        """Let a service run a revision of its task definition."""
        self.cloud.ecs.update_service(cluster="prod", service=service, taskDefinition=revision)
        self.cloud.settle()

    def serves(self, service: str) -> str:
        """Return the revision that a service runs."""
        [found] = self.cloud.ecs.describe_services(cluster="prod", services=[service])["services"]
        return str(found["taskDefinition"].rpartition("/")[2])


def _plan_of(request: RolloutRequest) -> Plan:
    if isinstance(request.target, EcsServiceTarget):
        return make_plan(request, driver=DRIVER, firing=[], routing=ROUTING)
    live = LambdaAliasTarget(kind="lambda-alias", function="checkout", alias="live")
    alias = request.target if isinstance(request.target, LambdaAliasTarget) else live
    return make_plan(request, driver=DRIVER, firing=[], alias=alias)


class Settings:
    """The environment of the intake."""

    place = PLACE
    stack_machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-stack"


class Request:
    """One request of CloudFormation, and the execution that answers it."""

    def __init__(self, world: Deployments, event: dict[str, Any]) -> None:
        self.world, self.event = world, event
        self.state: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        self.step: dict[str, Any] = {}
        self.pk = f"STACK#{event['StackId']}#{event['LogicalResourceId']}"

    @property
    def id(self) -> str:
        return str(self.event["RequestId"])

    @property
    def rollout_id(self) -> str:
        stack = self.event["StackId"].split("/")[1]
        return f"{stack}/{self.event['LogicalResourceId']}/{self.id[:8]}"

    def send(self) -> Request:
        self.world.intake.take(self.event)
        return self

    def until(self, *stops: str) -> dict[str, Any]:
        """Run the execution until it is about to do one of these, or to answer. The step is not carried out."""
        for _ in range(2000):
            if not self.step:
                decision = self.world.planner.next(self.pk, self.id, self.state, self.told)
                assert json.loads(json.dumps(decision)) == decision
                self.state, self.step = decision["state"], decision["next"]
            if self.step["do"] in (*stops, "respond"):
                return self.step
            self.go_on()
        raise AssertionError("the execution does not end")

    def go_on(self) -> None:
        """Carry out the step at which the execution has stopped."""
        step, self.step = self.step, {}
        self.told = self.world.carry_out(step)

    def answer(self) -> dict[str, Any]:
        """Run to the end, and return what CloudFormation gets."""
        step = self.until()
        self.world.responder.respond(self.pk, self.id, step["answer"])
        _, body = self.world.puts[-1]
        assert (body["RequestId"], body["StackId"]) == (self.id, self.event["StackId"])
        return body


class Stack:
    """A stack with one custom resource, as CloudFormation takes it through its life.

    The tests say what happens to the rest of the stack: ``roll_back`` follows a failure of any resource.
    """

    numbers = itertools.count(1)

    def __init__(
        self, world: Deployments, name: str, logical_id: str, *, of: Stack | None = None, kind: str = ROLLOUT_TYPE
    ) -> None:
        self.world, self.name, self.logical_id, self.kind = world, name, logical_id, kind
        self.id: str = of.id if of else f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/{uuid.uuid4()}"
        self.physical_id = ""
        self.properties: dict[str, Any] = {}
        self.replaced: tuple[str, dict[str, Any]] | None = None
        """Physical id and properties of what an update has replaced."""
        self.before: dict[str, Any] = {}

    def status(self, status: str) -> None:
        self.world.formation.statuses[self.id] = status

    def shows(self, status: str) -> None:
        """What CloudFormation shows of the resource."""
        self.world.formation.show(self.id, self.logical_id, self.kind, status, self.physical_id)

    def request(self, kind: str, properties: dict[str, Any], **fields: Any) -> Request:
        """Return a request, and show what CloudFormation shows when it sends it."""
        cleans_up = kind == "Delete" and fields["PhysicalResourceId"] != self.physical_id
        self.shows("UPDATE_COMPLETE" if cleans_up else f"{kind.upper()}_IN_PROGRESS")
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id}{next(self.numbers)}"))
        return Request(
            self.world,
            {
                "RequestType": kind,
                "ServiceToken": TOKEN,
                "ResponseURL": f"{BUCKET}/{request_id}?X-Amz-Signature=s3cr3t",
                "StackId": self.id,
                "RequestId": request_id,
                "LogicalResourceId": self.logical_id,
                "ResourceType": self.kind,
                "ResourceProperties": {"ServiceToken": TOKEN, **properties},
                **fields,
            },
        )

    def begin_create(self, **properties: Any) -> Request:
        self.status("CREATE_IN_PROGRESS")
        self.properties = properties
        return self.request("Create", properties).send()

    def begin_update(self, status: str = "UPDATE_IN_PROGRESS", **properties: Any) -> Request:
        self.status(status)
        self.before, self.properties = self.properties, properties
        old = {"ServiceToken": TOKEN, **self.before}
        return self.request("Update", properties, PhysicalResourceId=self.physical_id, OldResourceProperties=old).send()

    def begin_roll_back(self) -> Request:
        """CloudFormation goes back to the properties before the update."""
        return self.begin_update("UPDATE_ROLLBACK_IN_PROGRESS", **self.before)

    def begin_delete(self, status: str = "DELETE_IN_PROGRESS") -> Request:
        self.status(status)
        return self.request("Delete", self.properties, PhysicalResourceId=self.physical_id).send()

    def settle(self, request: Request, then: str = "UPDATE_COMPLETE") -> dict[str, Any]:
        """Take the answer to a request as CloudFormation does."""
        answer, kind = request.answer(), request.event["RequestType"]
        if kind == "Create" or (kind == "Update" and answer["Status"] == "SUCCESS"):
            if self.physical_id not in ("", answer["PhysicalResourceId"]):
                self.replaced = (self.physical_id, self.before)
            self.physical_id = answer["PhysicalResourceId"]
        if kind != "Delete" or request.event["PhysicalResourceId"] == self.physical_id:
            self.shows(f"{kind.upper()}_COMPLETE")
        self.status(then)
        return answer

    def create(self, **properties: Any) -> dict[str, Any]:
        return self.settle(self.begin_create(**properties), "CREATE_COMPLETE")

    def update(self, **properties: Any) -> dict[str, Any]:
        return self.settle(self.begin_update(**properties))

    def roll_back(self) -> dict[str, Any]:
        return self.settle(self.begin_roll_back(), "UPDATE_ROLLBACK_COMPLETE")

    def delete(self, status: str = "DELETE_IN_PROGRESS") -> dict[str, Any]:
        return self.settle(self.begin_delete(status), "DELETE_COMPLETE")

    def clean_up(self, status: str = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS") -> dict[str, Any]:
        """Delete what an update has replaced."""
        assert self.replaced is not None
        physical_id, properties = self.replaced
        self.replaced = None
        self.status(status)
        request = self.request("Delete", properties, PhysicalResourceId=physical_id).send()
        return self.settle(request)
