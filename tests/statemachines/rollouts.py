"""Whole rollouts in the test's own process: both state machines and the functions' real code, on the engine and moto.

    with Rollouts() as app:
        app.after("Bake", lambda: app.signal("abort"))
        execution = app.run(app.request())
    assert execution.error == "RolledBack"

Faults are what a test adds at the moment before or after a state's function has its effect: an error, a hang, a signal,
somebody else who moves the alias. `assert_invariants` holds every end of a rollout against the design's invariants.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import io
import json
import os
import threading
import time
import uuid
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast
from unittest import mock

from botocore.exceptions import ClientError
from moto.cloudwatch.models import CloudWatchBackend
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from headgate.analysis.telemetry_notes import TelemetryNotes
from headgate.aws import clients
from headgate.aws.arns import execution_name
from headgate.aws.dynamodb import from_item, to_item
from headgate.aws.observability import logger
from headgate.aws.place import Place
from headgate.aws.sqs_queues import Queues
from headgate.ecs_tasks.aftermath import Aftermath
from headgate.ecs_tasks.limits import TaskLimits
from headgate.ecs_tasks.preflight import Preflight
from headgate.ecs_tasks.registry import TaskRegistry
from headgate.ecs_tasks.runs import TaskRuns
from headgate.planning.code_check import CodeCheck
from headgate.planning.hook_checks import HookChecks
from headgate.rollouts import recovery
from headgate.rollouts.locks import Locks
from headgate.rollouts.record import ANNOUNCED_AS
from headgate.rollouts.table import Table, now_iso
from headgate.spec.request import RolloutRequest
from headgate.targets.event_source.lookup import ConsumerLookup
from headgate.targets.event_source.rollout_dlq import RolloutQueues
from tests.builders import EVERYTHING, OWN, stored_lock, stored_rollout
from tests.fakes.consumers import PREFIX, ConsumerSqs, SqsService
from tests.fakes.ecs import GOOD, SUBNETS
from tests.fakes.memory_table import ModelledTable
from tests.fakes.services import FakeMapping, Refusal, link_to, sha256_of
from tests.fakes.services_and_balancers import Cloud, Shop
from tests.fakes.sqs import EPOCH, Clock, arn
from tests.statemachines.ecs import Ended, Tasks
from tests.statemachines.ecs_services import Before, assert_no_rule_overwritten, assert_services
from tests.statemachines.engine import ACCOUNT, REGION, Engine, Execution, LambdaServiceError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

ROOT = Path(__file__).parents[2]
TABLE = "headgate"
ROLLOUT, HOOKS, ECS_TASK = "headgate-rollout", "headgate-hooks", "headgate-ecs-task"
DEFINITIONS = {
    ROLLOUT: (ROOT / "statemachines/rollout.asl.json").read_text(),
    HOOKS: (ROOT / "statemachines/hooks.asl.json").read_text(),
    ECS_TASK: (ROOT / "statemachines/ecs_task.asl.json").read_text(),
}
STACK = "headgate-stack"
"""Has tests of its own: to the rollout machine, it is one of those who start it."""
STATES_OF: dict[str, Any] = {
    name: json.loads(definition)["States"]
    for name, definition in {**DEFINITIONS, STACK: (ROOT / "statemachines/stack.asl.json").read_text()}.items()
}
NESTED = "arn:aws:states:::states:startExecution.sync:2"
STABLE, CANDIDATE = "6", "7"
STOP = "arn:aws:states:::aws-sdk:sfn:stopExecution"
LOOK_UP = "arn:aws:states:::aws-sdk:sfn:describeExecution"
PUT_ITEM = "arn:aws:states:::dynamodb:putItem"
ALREADY_STARTED = "StepFunctions.ExecutionAlreadyExistsException"
OUTSIDE = "somebody else"
ALARM = "checkout-errors"
TARGET_KEY = "lambda-alias/checkout/live"
UNDONE = "Rollout Undone"
"""How the end of an undo that succeeded is announced."""
LONG = 3600
"""A bake in seconds that no test sits out: it ends by a signal, or the test fails."""
TIMEOUT = 3
"""Of the function that is rolled out, in seconds."""
SETTLE_SECONDS = 2
TIME_SCALE = 0.05
"""A function has three seconds for what takes it 50 ms: a busy machine stalls a process for one at times."""
NO_TIME, SOME_TIME = 0.005, 0.015
"""Scales while a state is entered that is meant to time out: at once, or when its function has had its effect."""

_STATE_OF_ACTION = {
    "prepare": "Prepare",
    "promote": "Promote",
    "release": "Release",
    "restore": "Release",
    "rollback": "Roll back",
}
_STATE_OF_FUNCTION = {
    "planner": "Plan",
    "acquirer": "Acquire",
    "baker": "Bake",
    "judge": "Judge",
    "pauser": "Pause",
    "settler": "Settle",
}
_DRIVERS = ("lambda_alias_driver", "event_source_driver", "ecs_service_driver")
_TASK_FUNCTIONS = {"TaskPlanner": "task_planner", "TaskClassifier": "task_classifier", "TaskStopper": "task_stopper"}
_SAMPLE_HOOKS = ("smoke_tester", "version_checker")
_FUNCTIONS = (
    *_STATE_OF_FUNCTION,
    *_TASK_FUNCTIONS.values(),
    *_SAMPLE_HOOKS,
    *_DRIVERS,
    "intake",
    "signaller",
    "counter",
    "publisher",
    "warden",
)


def arn_of(function: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-{function}"


def machine_arn(name: str) -> str:
    return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"


_ENVIRONMENT = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "ACCOUNT": ACCOUNT,
    "PARTITION": "aws",
    "TASK_DEFINITIONS": "*",
    "REGISTER_TASK_DEFINITIONS": "false",
    "TASK_CLUSTERS": "*",
    "TABLE": TABLE,
    "RETENTION_DAYS": "90",
    "TELEMETRY": "true",
    "TASK_ROLES": "jobs/*",
    "DRIVERS": json.dumps(
        {
            "lambda-alias": arn_of("lambda_alias_driver"),
            "event-source": arn_of("event_source_driver"),
            "ecs-service": arn_of("ecs_service_driver"),
        }
    ),
    "HOLDING_PREFIX": PREFIX,
    "PREFIX": OWN.prefix,
    "OWN_QUEUES": json.dumps(OWN.queues),
    "TARGET_STREAMS": "*",
    "PATTERNS": json.dumps(EVERYTHING.by_parameter),
    "SETTLE_SECONDS": "60",
    "WEIGHT_SETTLE_SECONDS": "15",
    "ROLLOUT_MACHINE": machine_arn(ROLLOUT),
    "BUS": "headgate",
    "DEAD_LETTERS": "dead-letters",
    "SIGNAL_DEAD_LETTERS": "signal-dead-letters",
    "UNDELIVERED": "undelivered",
}

_CONTEXT = SimpleNamespace(
    function_name="headgate",
    memory_limit_in_mb=512,
    invoked_function_arn=arn_of("any"),
    aws_request_id="request",
    get_remaining_time_in_millis=lambda: 30_000,
)


class Client:
    """A client as a function's code has it: all but reads passes ``write``, where a test may step in."""

    _READS = ("get_", "batch_get_", "describe_", "list_", "query", "scan")

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value) or name.startswith(self._READS):
            return value
        return lambda **given: self.write(name, lambda: value(**given))

    def write(self, operation: str, call: Callable[[], Any]) -> Any:  # noqa: ARG002 - for those who replace it
        return call()


def _load_functions(client: Callable[[str], Any]) -> dict[str, Any]:
    """The functions' modules, imported as Lambda does: by path, with the template's environment."""
    modules = {}
    impatient = clients.impatient_client

    def impatient_client(service: str) -> Any:
        return Client(client(service)) if service in _OF_CLOUD else impatient(service)

    with (
        mock.patch.object(clients, "client", lambda service, *_, **__: Client(client(service))),
        mock.patch.object(clients, "impatient_client", impatient_client),
    ):
        for name in _FUNCTIONS:
            spec = importlib.util.spec_from_file_location(f"functions_{name}", ROOT / "functions" / name / "app.py")
            if spec is None or spec.loader is None:
                raise ImportError(name)
            modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[name])
        # It is made at its first use, with clients of its own.
        assert modules["planner"].app.service_planning
    return modules


_moto_get_metric_data = CloudWatchBackend.get_metric_data


def _get_metric_data(self: Any, queries: Any, start_time: datetime, end_time: datetime, **rest: Any) -> Any:
    # CloudWatch refuses a range that is empty to the second, as from the minute's start to now in its first second. On
    # AWS the retry comes in the next one; here it comes in the same.
    return _moto_get_metric_data(self, queries, start_time, end_time + timedelta(seconds=1), **rest)


_modules: dict[str, Any] = {}
_items = ModelledTable()
"""The table, emptied for each application. The functions are loaded once, and keep their clients."""
_validate = functools.cache(StepFunctionsParserBackend._validate_definition)


# --- Lambda's control plane ------------------------------------------------------------------------------------------


class Write(NamedTuple):
    """One change of the alias: by which rollout, or by "somebody else", and what it routes to since."""

    by: str
    version: str
    weights: dict[str, float]


class Functions:
    """The part of Lambda that the driver calls: one function, its versions and one alias with a RevisionId.

    moto's own has no weights and no PreconditionFailedException. The exceptions are botocore's.
    """

    def __init__(self, exceptions: Any) -> None:
        self.exceptions = exceptions
        self.versions = {STABLE: _version(STABLE), CANDIDATE: _version(CANDIDATE)}
        self.version, self.weights = STABLE, dict[str, float]()
        self.writes: list[Write] = []
        self.seen: dict[str, int] = {}
        """How many writes there were when a rollout read the alias first."""
        self.hooks: set[str] = set()
        self.provisioned: dict[str, int] = {}
        """Provisioned concurrency by version; it is ready as soon as it is asked for."""
        self.pending = 0
        """How often the candidate's configuration still says Pending."""
        self.code = self.published_code = f"code of {CANDIDATE}"
        """What $LATEST holds, and what the newest version was published with."""
        self.published_as: dict[str, str] = {}
        """What differs in the configuration of a version that is published from now on."""
        self.codes = {version: f"code of {version}" for version in self.versions}
        self.mapping: FakeMapping | None = None
        """The event source mapping whose consumer is rolled out, if one is."""
        self.served: dict[str, Callable[[Any], Any]] = {}
        """Headgate's own functions by their ARN, for those who invoke them."""
        self.invoked: list[tuple[str, str, Any]] = []
        """How the function was invoked: the qualifier, the version behind it, and what it was given."""
        self.caller = threading.local()
        self._lock = threading.Lock()

    @property
    def routing(self) -> tuple[str, dict[str, float]]:
        return self.version, self.weights

    def get_alias(self, **_: str) -> dict[str, Any]:
        with self._lock:
            return self._alias()

    def update_alias(self, **given: Any) -> dict[str, Any]:
        with self._lock:
            if given["RevisionId"] != str(len(self.writes)):
                raise self._error("PreconditionFailedException", "UpdateAlias", "The RevisionId provided is not latest")
            weights = given["RoutingConfig"]["AdditionalVersionWeights"]
            if missing := {given["FunctionVersion"], *weights} - set(self.versions):
                message = f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:checkout:{missing.pop()}"
                raise self._error("ResourceNotFoundException", "UpdateAlias", message)
            self._write(Write(self.caller.rollout_id, given["FunctionVersion"], weights))
            return self._alias()

    def _configuration(self, **given: str) -> dict[str, Any]:
        with self._lock:
            version = given.get("Qualifier")
            if version is None and given["FunctionName"] in self.hooks:
                return {"FunctionName": given["FunctionName"]}
            if version is None and given["FunctionName"] == self.name:
                return {"Version": "$LATEST", "CodeSha256": sha256_of(self.code), "RevisionId": f"of {self.code}"}
            version = self.version if version == "live" else version
            if version not in self.versions:
                raise self._error("ResourceNotFoundException", "GetFunction", "Function not found")
            state: dict[str, Any] = {"CodeSha256": sha256_of(self.codes.get(version, ""))}
            if version == CANDIDATE and self.pending > 0:
                self.pending -= 1
                state["State"] = "Pending"
            return self.versions[version] | state

    def get_function(self, **given: str) -> dict[str, Any]:
        configuration = self._configuration(**given)
        code = self.codes.get(given.get("Qualifier", ""), "")
        return {"Configuration": configuration, "Code": {"Location": link_to(code)}}

    def get_provisioned_concurrency_config(self, **given: str) -> dict[str, Any]:
        with self._lock:
            if given["Qualifier"] not in self.provisioned:
                code = "ProvisionedConcurrencyConfigNotFoundException"
                raise self._error(code, "GetProvisionedConcurrencyConfig", "No Provisioned Concurrency Config found")
            held = self.provisioned[given["Qualifier"]]
            return {"RequestedProvisionedConcurrentExecutions": held, "Status": "READY"}

    def put_provisioned_concurrency_config(self, **given: Any) -> None:
        with self._lock:
            self.provisioned[given["Qualifier"]] = given["ProvisionedConcurrentExecutions"]

    def delete_provisioned_concurrency_config(self, **given: str) -> None:
        with self._lock:
            self.provisioned.pop(given["Qualifier"], None)

    def get_event_source_mapping(self, **_: str) -> dict[str, Any]:
        with self._lock:
            return self._mapping("GetEventSourceMapping").told()

    def update_event_source_mapping(self, **given: Any) -> dict[str, Any]:
        with self._lock:
            mapping = self._mapping("UpdateEventSourceMapping")
            try:
                return mapping.update(**{name: value for name, value in given.items() if name != "UUID"})
            except Refusal as refusal:
                raise self._error(refusal.code, "UpdateEventSourceMapping", str(refusal)) from None

    def _mapping(self, operation: str) -> FakeMapping:
        if self.mapping is None:
            raise self._error("ResourceNotFoundException", operation, "The resource you requested does not exist.")
        return self.mapping

    @property
    def name(self) -> str:
        """The function's, for its mapping."""
        return "checkout"

    @property
    def aliases(self) -> dict[str, dict[str, Any]]:
        """The alias, for its mapping."""
        return {"live": {"FunctionVersion": self.version}}

    def publish_version(self, **_: str) -> dict[str, Any]:
        """Lambda answers with the newest version while $LATEST has not changed since."""
        with self._lock:
            newest = max(self.versions, key=int)
            if self.code != self.published_code:
                newest, self.published_code = str(int(newest) + 1), self.code
                self.versions[newest], self.codes[newest] = _version(newest) | self.published_as, self.code
            return self.versions[newest] | {"CodeSha256": sha256_of(self.codes[newest])}

    def update_function_code(self, **given: Any) -> dict[str, Any]:
        with self._lock:
            if given["RevisionId"] != f"of {self.code}":
                raise self._error("PreconditionFailedException", "UpdateFunctionCode", "The RevisionId is not latest")
            zipped: bytes = given.get("ZipFile", b"")
            self.code = zipped.decode() or f"{given['S3Bucket']}/{given['S3Key']}"
        return self.publish_version() if given.get("Publish") else {}

    def invoke(self, **given: Any) -> dict[str, Any]:
        if given["FunctionName"] == self.name:
            return self._serve(**given)
        try:
            answer = self.served[given["FunctionName"]](json.loads(given["Payload"]))
        except Exception as failure:  # noqa: BLE001 - whatever it is, Lambda tells it to the caller
            name = failure.error if isinstance(failure, ServiceError) else type(failure).__name__
            told = json.dumps({"errorType": name, "errorMessage": str(failure)})
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(told.encode())}
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}

    def _serve(self, *, Qualifier: str, Payload: bytes, **_: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """What the function answers: its version; behind the alias it is the one that the alias names."""
        version = self.version if Qualifier == "live" else Qualifier
        self.invoked.append((Qualifier, version, json.loads(Payload)))
        return {"ExecutedVersion": version, "Payload": io.BytesIO(json.dumps({"version": version}).encode())}

    def change_outside(self, version: str, weights: dict[str, float] | None = None) -> None:
        """Somebody else moves the alias."""
        with self._lock:
            self._write(Write(OUTSIDE, version, weights or {}))

    def _write(self, write: Write) -> None:
        self.version, self.weights = write.version, write.weights
        self.writes.append(write)
        if self.mapping:
            self.mapping.note()

    def _alias(self) -> dict[str, Any]:
        routing = {"RoutingConfig": {"AdditionalVersionWeights": dict(self.weights)}} if self.weights else {}
        return {"FunctionVersion": self.version, "RevisionId": str(len(self.writes)), **routing}

    def _error(self, code: str, operation: str, message: str) -> Exception:
        error: Exception = getattr(self.exceptions, code)({"Error": {"Code": code, "Message": message}}, operation)
        return error


def _version(version: str) -> dict[str, Any]:
    return {"Version": version, "Role": f"arn:aws:iam::{ACCOUNT}:role/checkout", "State": "Active", "Timeout": TIMEOUT}


class Outlets:
    """The queues and the bus that functions send to; they keep what they get."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def send_message(self, **given: Any) -> None:
        self.messages.append(given)

    def put_events(self, **given: Any) -> dict[str, Any]:
        self.events.extend(given["Entries"])
        return {"Entries": [{"EventId": str(uuid.uuid4())} for _ in given["Entries"]]}


class _OfCloud:
    """A client of the cloud that the application at hand has: the functions keep theirs over all tests."""

    current: Cloud

    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self.current, self._service), name)


_OF_CLOUD = {"ecs": _OfCloud("ecs"), "elbv2": _OfCloud("elb"), "application-autoscaling": _OfCloud("scaling")}


class _Clock(Clock):
    """Seconds as the machine's tests scale them: a second passes in as many as ``scale`` says."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self._began, self._scale = time.monotonic(), scale

    def __call__(self) -> float:
        return self.now + (time.monotonic() - self._began) / self._scale

    def time(self) -> float:
        return EPOCH + self()


# --- Faults ----------------------------------------------------------------------------------------------------------


def error(name: str, message: str = "made to fail") -> Exception:
    """An exception that Step Functions calls ``name``: the function's own, or with a dot in it, AWS Lambda's."""
    return LambdaServiceError(name, message) if "." in name else type(name, (Exception,), {})(message)


class Fault(NamedTuple):
    state: str
    when: str
    action: Callable[[], object]
    calls: range


# --- The application -------------------------------------------------------------------------------------------------


class Rollouts:
    """Headgate in one process.

    Attributes
    ----------
    functions
        Lambda's control plane, with the alias that is rolled out.
    outlets
        What went to queues and to the bus.
    tasks
        ECS, and how the tasks on it end.
    running
        The function that this thread runs now.
    cloud
        ECS services, their load balancers and scalable targets.
    shops
        The services among them, by the keys of the targets, as they were when the test began.
    routed
        How many changes of rules there were when a rollout looked at its service first.
    calls
        How often the function of each state was called, failed calls included.
    asked
        The events that hooks received, in order, each with the hook's name.
    answers
        What a hook answers, by its name: a list of answers, one per call; an exception is raised.

    Parameters
    ----------
    definitions
        The definitions of the three machines by their names; by default, those of this checkout.
    """

    def __init__(self, *, time_scale: float = TIME_SCALE, definitions: Mapping[str, str] = DEFINITIONS) -> None:
        self._definitions = definitions
        self.engine = Engine(time_scale=time_scale)
        self.outlets = Outlets()
        self.tasks, self.ended_tasks = Tasks(), Ended(self.engine)
        self.cloud, self.shops = Cloud(), dict[str, Before]()
        self.routed: dict[str, int] = {}
        self.running = threading.local()
        self.calls: Counter[str] = Counter()
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, list[Any]] = {}
        self.payloads: dict[str, list[Any]] = {}
        self._faults: list[Fault] = []
        self._function_of: dict[str, str] = {}
        self._time_scale = time_scale
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._answered: Counter[str] = Counter()
        self._progress = threading.Condition()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            self._enter(opening)
            self._open = opening.pop_all()
        return self

    def _enter(self, opening: contextlib.ExitStack) -> None:
        opening.enter_context(self.engine)
        # Reading a definition takes moto half as long as executing it; one that was valid once stays so.
        opening.enter_context(mock.patch.object(StepFunctionsParserBackend, "_validate_definition", _validate))
        opening.enter_context(mock.patch.object(CloudWatchBackend, "get_metric_data", _get_metric_data))
        opening.callback(logger.setLevel, logger.log_level)
        logger.setLevel("CRITICAL")
        opening.enter_context(mock.patch.dict(os.environ, _ENVIRONMENT))
        if not _modules:
            own = {"dynamodb": _items, **_OF_CLOUD}
            _modules.update(_load_functions(lambda name: own[name] if name in own else self.engine.client(name)))
        _OfCloud.current = self.cloud
        self.functions = Functions(self.engine.client("lambda").exceptions)
        self.functions.served = self.engine.functions
        for name in ("lambda_alias_driver", *_SAMPLE_HOOKS):
            opening.enter_context(mock.patch.object(_modules[name], "functions", Client(self.functions)))
        supervision = _modules["warden"].supervision
        rescuer = recovery.Recovery(supervision.table, supervision.settler, Client(self.functions))
        opening.enter_context(mock.patch.object(supervision, "recovery", rescuer))
        # A sweep asks once: tests sweep as often as they need.
        opening.enter_context(mock.patch.object(recovery, "RECOVERY_SECONDS", 0))
        for part, outlet in (
            (_modules["intake"].intake, "queues"),
            (_modules["counter"].undelivered, "client"),
            (_modules["publisher"].outbox, "events"),
        ):
            opening.enter_context(mock.patch.object(part, outlet, Client(self.outlets)))
        # What the counter has noted, it remembers.
        opening.enter_context(
            mock.patch.object(_modules["counter"], "notes", TelemetryNotes(cast("Any", _items), TABLE))
        )
        letters = _modules["signaller"].signals.letters
        opening.enter_context(mock.patch.object(letters, "queues", return_value=Client(self.outlets)))
        limits = TaskLimits(ACCOUNT, _ENVIRONMENT["TASK_ROLES"], "*", may_register=False)
        checks = HookChecks(
            cast("Any", self.functions),
            self.engine.client("stepfunctions"),
            self.tasks.ecs,
            place=Place("aws", ACCOUNT, REGION),
            tasks=limits,
            own=OWN,
            patterns=EVERYTHING,
        )
        opening.enter_context(mock.patch.object(_modules["planner"].planner, "hook_checks", checks))
        _items.items = {}
        self.table = Table(cast("Any", _items), TABLE)
        self._make_alarm()
        self._make_consumer(opening)
        for name in (*_STATE_OF_FUNCTION, *_DRIVERS):
            self.engine.function(arn_of(name), self._served(name))
        self._add_task_machine(opening, limits)
        known = {"Partition": "aws", "EcsTaskMachine": machine_arn(ECS_TASK), "Table": TABLE, "RetentionDays": "90"}
        self.engine.add_machine(HOOKS, self._definitions[HOOKS], known)
        self.engine.integration(PUT_ITEM, self._put_item)
        arns = {name.capitalize(): arn_of(name) for name in _STATE_OF_FUNCTION}
        self.engine.add_machine(
            ROLLOUT, self._definitions[ROLLOUT], {"Partition": "aws", "HooksMachine": machine_arn(HOOKS), **arns}
        )

    def _add_task_machine(self, opening: contextlib.ExitStack, limits: TaskLimits) -> None:
        self.tasks.serve(self.engine, opening)
        preflight = Preflight(TaskRegistry(self.tasks.ecs), limits)
        opening.enter_context(mock.patch.object(_modules["task_planner"], "preflight", preflight))
        for name in _TASK_FUNCTIONS.values():
            if name != "task_planner":
                runs = TaskRuns(self.tasks.ecs, self.tasks.logs)
                opening.enter_context(mock.patch.object(_modules[name], "runs", runs))
                if name == "task_stopper":
                    aftermath = Aftermath(runs, self.ended_tasks, self.ended_tasks, bus="headgate")
                    opening.enter_context(mock.patch.object(_modules[name], "aftermath", return_value=aftermath))
            self.engine.function(arn_of(name), functools.partial(self._deliver, name))
        arns = {name: arn_of(function) for name, function in _TASK_FUNCTIONS.items()}
        substitutions = {"Partition": "aws", "Bus": "headgate", **arns}
        self.engine.add_machine(ECS_TASK, self._definitions[ECS_TASK], substitutions)
        self.engine.integration(STOP, self._stop_execution)
        self.engine.integration(LOOK_UP, self._describe_execution)

    def _put_item(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return dict(_items.put_item(**arguments))

    def _stop_execution(self, arguments: dict[str, Any]) -> dict[str, Any]:
        execution = Execution(self.engine, arguments["ExecutionArn"])
        try:
            execution.stop(arguments["Error"], arguments["Cause"])
        except ClientError as error:
            raise ServiceError(f"Sfn.{error.response['Error']['Code']}Exception") from error
        return {"StopDate": now_iso()}

    def _describe_execution(self, arguments: dict[str, Any]) -> dict[str, Any]:
        execution = Execution(self.engine, arguments["ExecutionArn"])
        told = {"Status": execution.status, "Error": execution.error, "Cause": execution.cause}
        if execution.status == "SUCCEEDED":
            told["Output"] = json.dumps(execution.output)
        return {name: value for name, value in told.items() if value is not None}

    def _make_consumer(self, opening: contextlib.ExitStack) -> None:
        """What the driver of consumers works with; time passes for it as it does for the machine."""
        self.clock = _Clock(self._time_scale)
        self.sqs = ConsumerSqs(self.clock)
        client = self.engine.client("sqs")
        opening.callback(SqsService(self.sqs).attach(client))
        queues = Queues(client, sleep=lambda _: None)
        module = _modules["event_source_driver"]
        services = module.services._replace(
            functions=Client(self.functions),
            queues=queues,
            holdings=RolloutQueues(client, queues, module.streams),
            settle_seconds=SETTLE_SECONDS,
            now=self.clock.time,
        )
        opening.enter_context(mock.patch.object(module, "services", services))
        module = _modules["ecs_service_driver"]
        opening.enter_context(mock.patch.object(module, "services", module.services._replace(weight_settle_seconds=0)))
        consumers = ConsumerLookup(cast("Any", Client(self.functions)))
        opening.enter_context(mock.patch.object(_modules["planner"].planner, "consumers", consumers))
        code = CodeCheck(cast("Any", Client(self.functions)), self.table)
        opening.enter_context(mock.patch.object(_modules["planner"].planner, "code", code))

    def consume(self, queue: str = "orders") -> FakeMapping:
        """Let the function consume a queue, whose dead letters go to the team's own."""
        team = "orders-dead" + (".fifo" if queue.endswith(".fifo") else "")
        self.sqs.queue(team)
        self.sqs.queue(queue, team, visibility=6 * TIMEOUT)
        function: Any = self.functions
        concurrency = {"ScalingConfig": {"MaximumConcurrency": 20}}
        mapping = FakeMapping(function, self.clock.time, arn(queue), "live", {"BatchSize": 10, **concurrency})
        self.functions.mapping = mapping
        return mapping

    def shop(self, way: str = "green-service", **fields: Any) -> Shop:
        """A service behind a load balancer, for its rollouts: see ``Cloud.shop``."""
        shop = self.cloud.shop(way, **fields)
        self.shops[f"ecs-service/{shop.cluster}/{shop.service}"] = Before.of(self.cloud, shop, way)
        return shop

    def delete_rule(self, shop: Shop, rule: str) -> None:
        """Somebody else deletes a rule of a service; nothing happens if it is gone already."""
        if rule in shop.rules:
            shop.rules.remove(rule)
            self.cloud.delete_rule(rule)
            self.shops[f"ecs-service/{shop.cluster}/{shop.service}"].actions.pop(rule)

    def request_for(self, shop: Shop, *steps: tuple[float, int], **fields: Any) -> dict[str, Any]:
        """A request for a service's next revision. Unless ``fields`` say so, the old one is not kept."""
        target = {**shop.target, "testRules": shop.test_rules, "keepSeconds": 0, **fields.pop("target", {})}
        candidate = {"candidate": {"taskDefinition": f"{shop.service}:7"}}
        return self.request(*steps, target=target, **candidate | fields)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._open.__exit__(kind, error, trace)

    def _make_alarm(self) -> None:
        self.engine.client("cloudwatch").put_metric_alarm(
            AlarmName=ALARM, ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1
        )

    # What a test asks for

    def request(self, *steps: tuple[float, int], **fields: Any) -> dict[str, Any]:
        """A request for version 7 of the alias; ``steps`` are (weight, bake in seconds), by default one of 10 %.

        Nothing guards it unless ``fields`` say so.
        """
        planned = [{"weight": weight, "bakeSeconds": bake} for weight, bake in steps or [(10, 1)]]
        return {
            "id": "checkout-42",
            "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
            "candidate": {"version": CANDIDATE},
            "strategy": {"steps": planned},
            "guards": "none",
        } | fields

    def start(self, request: Any, name: str | None = None) -> Execution:
        """StartExecution, with the execution's usual name unless another is given."""
        return self.engine.start(ROLLOUT, request, name or execution_name(request["id"]))

    def run(self, request: Any, name: str | None = None) -> Execution:
        """A rollout from its start to its end."""
        execution = self.start(request, name)
        execution.wait()
        return execution

    def signal(self, kind: str, rollout_id: str = "checkout-42", *, event_id: str | None = None, **fields: Any) -> None:
        """An operator's signal, as the bus delivers it."""
        detail = {"rolloutId": rollout_id, "signal": kind, "by": "ann", **fields}
        event = {
            "id": event_id or str(uuid.uuid4()),
            "time": now_iso(),
            "detail-type": "Rollout Signal",
            "detail": detail,
        }
        self._deliver("signaller", event)

    def alarm(self, state: str) -> None:
        """Set the alarm's state, OK at first; nobody is told."""
        client = self.engine.client("cloudwatch")
        client.set_alarm_state(AlarmName=ALARM, StateValue=state, StateReason="for the test")

    def tell_alarm(self) -> None:
        """The event by which CloudWatch says that the alarm fires."""
        state = {"value": "ALARM", "reason": "threshold crossed", "timestamp": now_iso()}
        detail = {"alarmName": ALARM, "state": state}
        kind = "CloudWatch Alarm State Change"
        event = {"id": str(uuid.uuid4()), "time": now_iso(), "detail-type": kind, "detail": detail}
        self._deliver("signaller", event)

    def telemetry(
        self, revision: str, *, ok: int = 0, failed: int = 0, shard: str = "shardId-0", observed: bool = False
    ) -> None:
        """Outcomes of requests that a revision served just now, as one record of the stream.

        Parameters
        ----------
        observed
            Whether ``Telemetry.observe`` reports them, so that each is an invocation.
        """
        at = int(time.time() * 1000) + 1
        outcomes = [[at, False, 5.0]] * failed + [[at, True, 5.0]] * ok
        mark = {"observed": True} if observed else {}
        body = json.dumps({"target": TARGET_KEY, "revision": revision, **mark, "outcomes": outcomes}).encode()
        kinesis = {
            "data": base64.b64encode(body).decode(),
            "partitionKey": revision,
            "sequenceNumber": str(time.monotonic_ns()),
            "approximateArrivalTimestamp": time.time(),
        }
        stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/telemetry"
        self._deliver("counter", {"Records": [{"eventSourceARN": stream, "eventID": f"{shard}:1", "kinesis": kinesis}]})

    def lambda_counts(self, revision: str, invocations: int) -> None:
        """Lambda's own count of a revision's invocations in the current minute, as CloudWatch knows it from now on."""
        alias = {"FunctionName": "checkout", "Resource": "checkout:live"}
        data = [
            {
                "MetricName": "Invocations",
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Value": invocations,
            }
            for dimensions in (alias, alias | {"ExecutedVersion": revision})
        ]
        self.engine.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=data)

    def hook(self, name: str, *answers: Any, seconds: int = 60, **config: Any) -> dict[str, Any]:
        """A hook's entry in a request; it gives these answers, the last one for ever, and succeeds by default."""
        self.functions.hooks.add(name)
        self.answers[name] = list(answers or [{"hookStatus": "SUCCEEDED"}])
        self.engine.function(name, lambda event: self._answer(name, event))
        return {"lambda": name, "timeoutSeconds": seconds, "config": config}

    def sample_hook(self, function: str, **config: Any) -> dict[str, Any]:
        """The entry in a request of one of the sample hooks, which does what its code says."""

        def serve(event: Any) -> Any:
            self.asked.append({"hook": function, **event})
            return self._deliver(function, event)

        self.functions.hooks.add(function)
        self.engine.function(function, serve)
        return {"lambda": function, "timeoutSeconds": 60, "config": config}

    def task_hook(self, *answers: dict[str, Any] | Exception, seconds: int = 60, **fields: Any) -> dict[str, Any]:
        """The entry in a request of a task that ends like this, the last one for ever; it succeeds by default."""
        self.tasks.answers = list(answers or [GOOD])
        task = {"cluster": "jobs", "taskDefinition": "migrate:3", "networkConfiguration": SUBNETS, **fields}
        return {"ecsTask": task, "timeoutSeconds": seconds}

    def machine_hook(self, name: str, *states: dict[str, Any], seconds: int = 60, **config: Any) -> dict[str, Any]:
        """The entry in a request of a state machine of these states, one after the other."""
        named = {f"State {number}": {**state} for number, state in enumerate(states)}
        for number, state in enumerate(states[:-1]):
            named[f"State {number}"] = {**state, "Next": f"State {number + 1}"}
        definition = {"QueryLanguage": "JSONata", "StartAt": "State 0", "States": named}
        arn = self.engine.add_machine(name, json.dumps(definition))
        return {"stateMachine": arn, "timeoutSeconds": seconds, "config": config}

    def tell_stopper(self, execution: Execution) -> None:
        """The event by which Step Functions says that an execution of the ECS task machine has ended."""
        self._deliver("task_stopper", {"source": "aws.states", "detail": self.ended_tasks.detail(execution)})

    def wait_for(self, state: str, calls: int = 1) -> None:
        """Wait until a state's function has had its effect that many times."""
        with self._progress:
            if not self._progress.wait_for(lambda: self._answered[state] >= calls, 20):
                raise TimeoutError(f"{state} was called {self.calls[state]} times, not {calls}")

    def admit(self, request: dict[str, Any], execution: str) -> None:
        """What intake does with a request before it starts its execution."""
        Locks(self.table).admit(RolloutRequest.model_validate(request), execution)

    def steal_lock(self) -> None:
        """The lock as another rollout would hold it after this one was given up."""
        lock = stored_lock(self.table, TARGET_KEY)
        self._put({**lock, "owner": "thief", "epoch": lock["epoch"] + 1, "version": lock["version"] + 1})

    # Faults

    def before(self, state: str, action: Callable[[], object] | Exception, *, calls: range = range(1, 2)) -> None:
        """Act when the function of a state is called, before its effect; an exception is raised instead of the effect.

        Parameters
        ----------
        calls
            Which calls of this state's function, counted from 1; the first by default.
        """
        self._faults.append(Fault(state, "before", _raising(action), calls))

    def after(self, state: str, action: Callable[[], object] | Exception, *, calls: range = range(1, 2)) -> None:
        """As ``before``, but once the effect is there: an exception is a response that was lost."""
        self._faults.append(Fault(state, "after", _raising(action), calls))

    def always(self, state: str, failure: Exception) -> None:
        """Fail every call, before any effect."""
        self.before(state, failure, calls=range(1, 1000))

    def time_out(self, state: str, *, after: str | None, effect: bool = False) -> None:
        """Let a state's function take longer than the state's timeout.

        Parameters
        ----------
        after
            The state whose function is called before it, None for the first: from there on, time is short.
        effect
            Whether the function has its effect first.
        """
        (self.after if effect else self.before)(state, self._hang)
        self.hurry(after, SOME_TIME if effect else NO_TIME)

    @contextlib.contextmanager
    def on(self, function: str, name: str, then: Callable[[], object]) -> Iterator[None]:
        """Act each time that a function has called what its module knows by a name: a moment between reads and writes.

        Parameters
        ----------
        name
            Of an object and its method.
        """
        owner, _, method = name.partition(".")
        called_upon = getattr(_modules[function], owner)
        original = getattr(called_upon, method)

        def called(*arguments: Any) -> Any:
            answer = original(*arguments)
            then()
            return answer

        with mock.patch.object(called_upon, method, called):
            yield

    def run_aside(self, state: str, until: str) -> None:
        """Give a state's call up for lost, and let it have its effect right after that of another state."""
        self.before(state, error("Broken"))
        self.after(until, lambda: self._ignore_failure(state))

    def _ignore_failure(self, state: str) -> None:
        with contextlib.suppress(Exception):
            self.again(state)

    def again(self, state: str) -> None:
        """Carry out the last call of a state's function once more, beside the machine."""
        self._deliver(self._function_of[state], self.payloads[state][-1])

    @contextlib.contextmanager
    def unchecked_code(self) -> Iterator[None]:
        """The planner finds nothing wrong with $LATEST, as when what is wrong comes after it."""
        with mock.patch.object(_modules["planner"].planner.code, "warnings_about", return_value=[]):
            yield

    def nested_failure(self, failure: Exception | None) -> None:
        """Let the next start of the hooks machine fail with this, or hang if it is None."""

        def serve(_: Any) -> Any:
            self.engine.integrations.pop(NESTED, None)
            if failure is not None:
                raise failure
            self._hang()

        self.engine.integration(NESTED, serve)

    def lost_start(self) -> list[dict[str, Any]]:
        """Let the next child execution run to its end although the response of its start is lost.

        Returns the arguments of each start.
        """
        starts: list[dict[str, Any]] = []

        def serve(arguments: dict[str, Any]) -> Any:
            starts.append(arguments)
            if len(starts) == 1:
                # What the child starts itself is not lost.
                self.engine.integrations.pop(NESTED)
                self.engine.start(arguments["StateMachineArn"], arguments["Input"], arguments["Name"]).wait()
                self.engine.integration(NESTED, serve)
                raise ServiceError("StepFunctions.SdkClientException", "the connection was reset")
            self.engine.integrations.pop(NESTED)
            raise ServiceError(ALREADY_STARTED, f"Execution Already Exists: '{arguments['Name']}'")

        self.engine.integration(NESTED, serve)
        return starts

    def hurry(self, after: str | None, scale: float = NO_TIME) -> None:
        """Shorten time from the moment on at which a state's function has answered, until `take_time` or a hang."""

        def hurry() -> None:
            self.engine.time_scale = scale

        if after is None:
            hurry()
        else:
            self.after(after, hurry)

    def take_time(self) -> None:
        """End what `hurry` began."""
        self.engine.time_scale = self._time_scale

    def _hang(self) -> None:
        self.take_time()
        self._closing.wait(20)

    # What a test looks at

    def settle_down(self) -> list[Execution]:
        """Wait until every execution has ended, those that others start included."""
        seen: list[Execution] = []
        while len(seen) < len(executions := self.executions()):
            seen = executions
            for execution in executions:
                execution.wait()
        return seen

    def record(self, rollout_id: str = "checkout-42") -> dict[str, Any]:
        return stored_rollout(self.table, rollout_id) or {}

    def announced(self, rollout_id: str = "checkout-42") -> list[str]:
        """The detail types in the outbox, in the order of their time."""
        return [event["detailType"] for event in self.events(rollout_id)]

    def events(self, rollout_id: str = "checkout-42") -> list[dict[str, Any]]:
        return _events(self.items(), rollout_id)

    def items(self) -> list[dict[str, Any]]:
        """The whole table."""
        return list(map(from_item, _items.all()))

    def executions(self) -> list[Execution]:
        return self.engine.executions(ROLLOUT)

    # Inside

    def _put(self, item: dict[str, Any]) -> None:
        _items.put_item(TableName=TABLE, Item=to_item(item))

    def _deliver(self, function: str, event: dict[str, Any]) -> Any:
        caller, self.running.function = getattr(self.running, "function", None), function
        try:
            return _modules[function].handler(event, _CONTEXT)
        finally:
            self.running.function = caller

    def _answer(self, name: str, event: dict[str, Any]) -> Any:
        self.asked.append({"hook": name, **event})
        answers = self.answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _served(self, function: str) -> Callable[[Any], Any]:
        def serve(event: Any) -> Any:
            state = _state_of(function, event)
            with self._lock:
                self.calls[state] += 1
                number = self.calls[state]
                self.payloads.setdefault(state, []).append(event)
                self._function_of[state] = function
                faults = [fault for fault in self._faults if fault.state == state and number in fault.calls]
            self.functions.caller.rollout_id = self.cloud.caller.name = event.get("plan", {}).get("rolloutId")
            if state == "Prepare":
                self.functions.seen[event["plan"]["rolloutId"]] = len(self.functions.writes)
                self.routed.setdefault(event["plan"]["rolloutId"], len(self.cloud.writes))
            for fault in faults:
                if fault.when == "before":
                    fault.action()
            answer = self._deliver(function, event)
            try:
                for fault in faults:
                    if fault.when == "after":
                        fault.action()
            finally:
                with self._progress:
                    self._answered[state] += 1
                    self._progress.notify_all()
            return answer

        return serve


def _raising(action: Callable[[], object] | Exception) -> Callable[[], object]:
    if not isinstance(action, Exception):
        return action
    failure = action

    def fail() -> None:
        raise failure

    return fail


def _state_of(function: str, event: Any) -> str:
    """Which state a call came from."""
    if function == "judge" and event["pause"]:
        return "Judge pause"
    if function == "acquirer" and "token" in event:
        return "Wait for its turn"
    if function in _STATE_OF_FUNCTION:
        return _STATE_OF_FUNCTION[function]
    if event["action"] != "shift":
        return _STATE_OF_ACTION[event["action"]]
    if event["weight"] == 0:
        return "Shift to zero"
    step = next(step for step in event["plan"]["steps"] if step["weight"] == event["weight"])
    return "Shift" if step["bakeSeconds"] else "Shift in passing"


# --- What a history tells --------------------------------------------------------------------------------------------


def parts(machine: str, definitions: Mapping[str, str] = DEFINITIONS) -> set[str]:
    """Everything in a definition that an execution can come by: its states, rules and catchers."""
    states = json.loads(definitions[machine])["States"]
    found = set(states)
    for name, state in states.items():
        found |= {rule_label(name, rule["Next"]) for rule in state.get("Choices", [])}
        found |= {rule_label(name, state["Default"])} if "Default" in state else set()
        found |= {catch_label(name, catch) for catch in state.get("Catch", []) if not _is_repeated(catch, state)}
    return found


def _is_repeated(catch: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether a catcher does what the one of States.ALL does, for the errors that are not among them."""
    return "States.Runtime" in catch["ErrorEquals"] and {**catch, "ErrorEquals": ["States.ALL"]} in state["Catch"]


def rule_label(state: str, following: str) -> str:
    """A rule is known by where it leads: no Choice of the definitions has two rules to the same state."""
    return f"{state} -> {following}"


def catch_label(state: str, catch: dict[str, Any]) -> str:
    return f"{state} !{' '.join(catch['ErrorEquals'])} -> {catch['Next']}"


def passed(machine: str, execution: Execution) -> set[str]:
    """Which of the definition's parts an execution came by, from its history."""
    states = STATES_OF[machine]
    found: set[str] = set()
    for name, failure, following in _visits(execution):
        state = states[name]
        found.add(name)
        if state["Type"] == "Choice" and following:
            found.add(rule_label(name, following))
        if failure and following:
            caught = next(c for c in state["Catch"] if {failure, "States.ALL"} & set(c["ErrorEquals"]))
            if caught["Next"] != following:
                raise AssertionError(f"{name} failed with {failure} and went on to {following}, not {caught['Next']}")
            found.add(catch_label(name, caught))
    return found


def _visits(execution: Execution) -> Iterator[tuple[str, str | None, str | None]]:
    """Each state that was entered, the error that it ended with, and the state after it."""
    name: str | None = None
    failure: str | None = None
    for event in execution.history():
        kind = event["type"].value
        if "stateEnteredEventDetails" in event:
            entered = event["stateEnteredEventDetails"]["name"]
            if name:
                yield name, failure, entered
            name, failure = entered, None
        elif kind == "TaskTimedOut":
            failure = "States.Timeout"
        elif kind in {"TaskFailed", "EvaluationFailed"}:
            failure = next(value["error"] for key, value in event.items() if key.endswith("EventDetails"))
        elif kind in {"TaskStarted", "TaskSubmitted"}:
            failure = None
    if name:
        yield name, failure, None


def _events(items: list[dict[str, Any]], rollout_id: str) -> list[dict[str, Any]]:
    """A rollout's outbox, in the order of time."""
    events = [i for i in items if i["pk"] == f"ROLLOUT#{rollout_id}" and i["sk"].startswith("EVENT#")]
    return sorted(events, key=lambda event: (event["detail"]["at"], event["sk"] == "EVENT#ended"))


# --- The invariants --------------------------------------------------------------------------------------------------


def assert_invariants(app: Rollouts) -> None:
    """Hold what is left once every execution has ended against the design's invariants 1, 2, 4 and 5.

    A rollout whose execution ended Superseded or Unsettled has not ended: the warden ends it. Of that one only what an
    execution without the lock may not do is asserted.
    """
    executions = app.settle_down()
    items = app.items()
    records = {item["pk"].removeprefix("ROLLOUT#"): item for item in items if item["sk"] == "ROLLOUT"}
    left = {e.arn for e in executions if e.error in {"LockLost", "Unsettled"}}
    ended = {i: record for i, record in records.items() if record["execution"] not in left}
    for rollout_id, record in ended.items():
        _assert_ended_once(rollout_id, record, _events(items, rollout_id))
    if len(ended) == len(records):
        services = {i: record for i, record in ended.items() if record.get("targetKey", "").startswith("ecs-service/")}
        _assert_target(app, {i: record for i, record in ended.items() if i not in services})
        assert_services(app.cloud, app.shops, services)
        _assert_nothing_held(items)
        _assert_no_rejected_code(app, ended)
    _assert_nobody_overwritten(app)
    assert_no_rule_overwritten(app.cloud, app.routed)
    _assert_started_once_and_in_order(executions, records)


def _assert_ended_once(rollout_id: str, record: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Invariant 2: one terminal record, and one terminal event with the id that it always has."""
    assert record["status"] in ANNOUNCED_AS, record
    assert "endedAt" in record
    assert all(event["detail"]["id"] == f"{rollout_id}/{event['sk'].removeprefix('EVENT#')}" for event in events)
    undo = record["status"] == "succeeded" and "undoOf" in json.loads(record["request"])
    terminal = [event for event in events if event["detailType"] in {*ANNOUNCED_AS.values(), UNDONE}]
    assert [event["detailType"] for event in terminal] == [UNDONE if undo else ANNOUNCED_AS[record["status"]]]
    assert terminal[0]["detail"]["id"] == f"{rollout_id}/ended"
    if record["status"] != "succeeded":
        assert record["reason"]


def _assert_target(app: Rollouts, records: dict[str, dict[str, Any]]) -> None:
    """Invariant 1: all traffic on one revision, the one that the record says; or as somebody else left it."""
    writes = app.functions.writes
    refused = {i for i, record in records.items() if record["status"] == "refused"}
    positions = [(STABLE, dict[str, float]()), *((write.version, write.weights) for write in writes)]
    # A rollback of what never moved writes what is there already.
    moves = {write.by for write, (before, after) in zip(writes, pairwise(positions), strict=True) if before != after}
    assert not refused & moves, "a refused rollout moved the target"
    # A rollout that was aborted before it had looked at the target does not know what that serves.
    unseen = {i for i, record in records.items() if "stable" not in record}
    assert not unseen & moves
    known = [record for i, record in records.items() if i not in refused | unseen]
    moved = sorted(known, key=lambda record: record["endedAt"])
    if not moved:
        return
    last, (version, weights) = moved[-1], app.functions.routing
    match last["status"]:
        case "succeeded":
            assert (version, weights, last["serving"]) == (last["candidate"], {}, last["candidate"])
        case "rolled-back":
            assert (version, weights, last["serving"]) == (last["stable"], {}, last["stable"])
        case "stopped" if writes and writes[-1].by == OUTSIDE:
            assert f"version {version}" in last["reason"]
    assert last["status"] != "stopped" or "serving" not in last


def _assert_nothing_held(items: list[dict[str, Any]]) -> None:
    """Invariant 2: the lock is free, and nobody waits for it or for an alarm."""
    assert not [item for item in items if item["sk"] == "LOCK" and (item.get("owner") or item.get("waiting"))]
    assert not [item for item in items if item["sk"] == "THROUGH"]
    assert not [item for item in items if item["sk"].startswith("WAIT#") or item["pk"].startswith("ALARM#")]


def _assert_no_rejected_code(app: Rollouts, records: dict[str, dict[str, Any]]) -> None:
    """Code of a rollout that was not promoted is not in $LATEST, or its record says so and publishing it is refused."""
    for record in records.values():
        code = json.loads(record.get("plan", "{}")).get("candidate", {}).get("code")
        if record["status"] != "succeeded" and code and app.functions.code == f"{code['s3Bucket']}/{code['s3Key']}":
            rejected = app.table.rejected_code("checkout")
            assert rejected, record
            assert rejected.code_sha256 == sha256_of(app.functions.code)
            assert rejected.code_sha256 in record["reason"]


def _assert_nobody_overwritten(app: Rollouts) -> None:
    """Invariant 5: from its first look at the alias on, a rollout overwrites nobody else's change."""
    writes = app.functions.writes
    for number, write in enumerate(writes):
        if write.by != OUTSIDE:
            between = writes[app.functions.seen[write.by] : number]
            assert OUTSIDE not in {other.by for other in between}, f"{write} overwrote what was changed from outside"


def _assert_started_once_and_in_order(executions: list[Execution], records: dict[str, dict[str, Any]]) -> None:
    """Invariant 4: one execution per rollout had an effect, and those in line began in the order of their arrival."""
    carried = Counter(json.dumps(e.input.get("id")) for e in executions if "Prepare" in e.states())
    assert all(count == 1 for count in carried.values()), carried
    lined_up = sorted((r for r in records.values() if "arrival" in r), key=lambda record: record["arrival"])
    begun = [record["startedAt"] for record in lined_up if "startedAt" in record]
    assert begun == sorted(begun)
