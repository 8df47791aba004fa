"""Checks of a request's hooks during planning, so that they do not fail in the middle of a rollout."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.aws.lambda_functions import configuration_of
from headgate.aws.patterns import function_name
from headgate.errors import RequestRefused
from headgate.planning.code_deploy_hooks import refusal_of, warnings_about
from headgate.spec.hooks import CodeDeployHook, EcsLifecycleHook, EcsTaskHook, LambdaHook, StateMachineHook
from headgate.spec.targets import EcsServiceTarget

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.aws.lambda_functions import FunctionConfiguration
    from headgate.aws.own_resources import OwnResources
    from headgate.aws.patterns import Patterns
    from headgate.aws.place import Place
    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.spec.hooks import AnyHook, Hooks
    from headgate.spec.request import RolloutRequest


_UNAVAILABLE_CODES = (
    "ResourceNotFoundException",
    "StateMachineDoesNotExist",
    "InvalidArn",
    # Invalid name of a function.
    "ValidationException",
    "InvalidParameterValueException",
)
"""Error codes for a hook that cannot be called, besides a denied access. Other errors may be temporary."""

_MAX_ID_CHARACTERS = 128

_UNKNOWN_YET = "?" * 128
"""Placeholder for a version that is not published yet."""

_UNKNOWN_DEFINITION = "?" * 266
"""Placeholder for a family and revision that are not registered yet, of the maximum length."""


_LATE_SMOKE_TESTS = {
    "afterTraffic": "tests the candidate when it has all users already",
    "onRollback": "tests the candidate when it has no users any more, and may be gone",
}
"""What the sample smoke tester does at stages for which it is not made."""

_SMOKE_TEST_FIX = "make it a hook of beforeTraffic, or give config.url what it should test"


class HookPosition(NamedTuple):
    """Position of a hook in a request: its stage, as the request spells it, and its index there, from 0."""

    stage: str
    place: int

    def __str__(self) -> str:
        return f"hooks.{self.stage}[{self.place}]"


class HookChecks:
    """Refuses hooks that do not exist, that Headgate may not call, or that could not run.

    Parameters
    ----------
    functions, machines, ecs
        boto3's clients of Lambda, Step Functions and ECS.
    tasks
        Limits of ECS tasks.
    own
        Headgate's own resources, which are no hooks.
    patterns
        What Headgate's parameters allow as hooks.
    """

    def __init__(
        self,
        functions: LambdaClient,
        machines: SFNClient,
        ecs: Any,
        *,
        place: Place,
        tasks: TaskLimits,
        own: OwnResources,
        patterns: Patterns,
    ) -> None:
        self._functions, self._machines, self._ecs = functions, machines, ecs
        self._place, self._tasks, self._own, self._patterns = place, tasks, own, patterns
        self._found: set[tuple[str, str]] = set()
        self.warnings: list[str] = []
        """About the hooks of the last request."""

    def settle(self, request: RolloutRequest) -> Hooks:
        """Check every hook. Return the hooks for the plan, with full ARNs and with the environment of tasks.

        Raises
        ------
        RequestRefused
            If a hook cannot be called. The message names the hook and the fix.
        """
        self._found.clear()
        self.warnings.clear()
        settled: dict[str, list[Any]] = {}
        fields = {field.alias or name: name for name, field in type(request.hooks).model_fields.items()}
        for stage, index, hook in request.hooks.by_place():
            settled.setdefault(fields[stage], []).append(self._settle_one(request, hook, HookPosition(stage, index)))
        return request.hooks.model_copy(update=settled)

    def _settle_one(self, request: RolloutRequest, hook: AnyHook, at: HookPosition) -> AnyHook:
        match hook:
            case LambdaHook():
                self._refuse_sample_of_another_kind(hook.lambda_, request, at)
                if self._own.is_sample_of_services(hook.lambda_):
                    self._check_smoke_test(hook, at)
                self._find_function(hook.lambda_, at, "lambda")
                return hook
            case CodeDeployHook():
                name = hook.code_deploy_hook
                if configuration := self._find_function(name, at, "codeDeployHook"):
                    if wrong := refusal_of(configuration, request):
                        raise RequestRefused(f"{at}.codeDeployHook: {name} {wrong}")
                    told = warnings_about(configuration)
                    self.warnings += [f"{at}.codeDeployHook: {name} {each}" for each in told]
                return hook
            case EcsLifecycleHook():
                if not isinstance(request.target, EcsServiceTarget):
                    raise RequestRefused(
                        f"{at}.ecsLifecycleHook: gets the event of a deployment of an ECS service, and the target is a "
                        f"{request.target.kind}; give the function as lambda, which gets Headgate's event"
                    )
                self._find_function(hook.ecs_lifecycle_hook, at, "ecsLifecycleHook")
                return hook
            case StateMachineHook():
                arn = self._arn_of(hook.state_machine, at)
                self._find_machine(arn, at)
                return hook.model_copy(update={"state_machine": arn})
            case EcsTaskHook():
                detail = _task_of_hook(hook.ecs_task, request, at)
                self._try_task(detail, request, at)
                return hook.model_copy(update={"ecs_task": detail})

    def _refuse_sample_of_another_kind(self, name: str, request: RolloutRequest, at: HookPosition) -> None:
        """Refuse the sample hooks for versions of functions for a service, and the one for services for others."""
        is_service = isinstance(request.target, EcsServiceTarget)
        prefix = self._own.prefix
        if is_service and self._own.is_sample_of_functions(name):
            raise RequestRefused(
                f"{at}.lambda: {name} invokes versions of a function, but the target is an ECS service; name "
                f"{prefix}-http-smoke-tester, or a function of yours"
            )
        if not is_service and self._own.is_sample_of_services(name):
            raise RequestRefused(
                f"{at}.lambda: {name} sends requests to an ECS service, but the target is a {request.target.kind}; "
                f"name {prefix}-smoke-tester, or a function of yours"
            )

    def _check_smoke_test(self, hook: LambdaHook, at: HookPosition) -> None:
        """Refuse a config that the smoke tester of services would refuse, and warn of stages at which it tests less."""
        # Imported only by the few rollouts with such a hook.
        from headgate.targets.ecs_service.smoke_test import SmokeTest

        try:
            test = SmokeTest.of(hook.config)
        except RequestRefused as refusal:
            raise RequestRefused(f"{at}.{refusal}") from None
        if test.url is None and (late := _LATE_SMOKE_TESTS.get(at.stage)):
            self.warnings.append(f"{at}.lambda: {hook.lambda_} {late}; {_SMOKE_TEST_FIX}")

    def _find_function(self, name: str, at: HookPosition, kind: str) -> FunctionConfiguration | None:
        """Return the configuration of a hook's function; None if it was found before as a hook of this kind."""
        if (kind, name) in self._found:
            return None
        field = f"{at}.{kind}"
        self._own.refuse_hook(name, field)
        if not self._own.is_sample_hook(name):
            self._patterns.require("HookFunctions", function_name(name), field)
        try:
            configuration = configuration_of(self._functions, name)
        except ClientError as error:
            raise _refusal(error, f"{field}: {name}") from None
        if configuration.get("State") == "Inactive" and at.stage != "beforeTraffic":
            self.warnings.append(
                f"{field}: {name} is inactive, because it was idle for weeks, and its first call may take three "
                "minutes longer, in which the candidate keeps its traffic; invoke it once before the rollout, or also "
                "as a hook of beforeTraffic"
            )
        self._found.add((kind, name))
        return configuration

    def _arn_of(self, machine: str, at: HookPosition) -> str:
        here = f"arn:{self._place.partition}:states:{self._place.region}:{self._place.account}:stateMachine:"
        if ":" not in machine:
            return here + machine
        if not machine.startswith(here):
            _, _, _, region, account, *_ = machine.split(":")
            raise RequestRefused(
                f"{at}.stateMachine: is in {account}, {region}; this Headgate serves {self._place.account}, "
                f"{self._place.region}"
            )
        return machine

    def _find_machine(self, arn: str, at: HookPosition) -> None:
        if ("stateMachine", arn) in self._found:
            return
        self._own.refuse_machine(arn, f"{at}.stateMachine")
        name = arn.rsplit(":", 1)[-1]
        self._patterns.require("HookMachines", name, f"{at}.stateMachine")
        try:
            # Without the definition, no permission for its KMS key is needed.
            machine = self._machines.describe_state_machine(stateMachineArn=arn, includedData="METADATA_ONLY")
        except ClientError as error:
            raise _refusal(error, f"{at}.stateMachine: {name}") from None
        if machine["type"] != "STANDARD":
            raise RequestRefused(
                f"{at}.stateMachine: {name} is an Express state machine, and Headgate cannot wait for its end; "
                "name a Standard one"
            )
        if machine.get("status", "ACTIVE") != "ACTIVE":
            raise RequestRefused(f"{at}.stateMachine: {name} is {machine['status']}; name one that is ACTIVE")
        self._found.add(("stateMachine", arn))

    def _try_task(self, detail: dict[str, Any], request: RolloutRequest, at: HookPosition) -> None:
        unknown = _UNKNOWN_DEFINITION if isinstance(request.target, EcsServiceTarget) else _UNKNOWN_YET
        later_environment = {
            "HEADGATE_ROLLOUT_ID": request.id,
            "HEADGATE_STAGE": at.stage,
            "HEADGATE_STABLE": unknown,
            "HEADGATE_CANDIDATE": unknown,
            "HEADGATE_STEP": "000",
        }
        try:
            self._plan_task({**detail, "environment": detail["environment"] | later_environment})
        except RequestRefused as error:
            raise RequestRefused(f"{at}.ecsTask: {error}") from None

    def _plan_task(self, detail: dict[str, Any]) -> None:
        # Imported only by the few rollouts with such a hook.
        from headgate.ecs_tasks.preflight import Preflight
        from headgate.ecs_tasks.registry import TaskRegistry
        from headgate.ecs_tasks.request import read_task

        # Checked only: the machine that runs the task registers its definition.
        partition, account, region = self._place
        Preflight(TaskRegistry(self._ecs), self._tasks).check(
            read_task(detail, default_id=detail["id"]), f"arn:{partition}:states:{region}:{account}:"
        )


def _refusal(error: ClientError, what: str) -> Exception:
    if not is_denied(error) and code_of(error) not in _UNAVAILABLE_CODES:
        return error  # The service did not say whether the hook exists: the machine tries again.
    return RequestRefused(f"{what} cannot be called: {message_of(error)}")


def _task_of_hook(detail: dict[str, Any], request: RolloutRequest, at: HookPosition) -> dict[str, Any]:
    """Return the task's request with an id, and with the environment that the machine cannot add."""
    environment = detail.get("environment", {}) | {"HEADGATE_TARGET": request.target.key}
    return {"id": task_id_of(request.id, at), **detail, "environment": environment}


def task_id_of(rollout_id: str, at: HookPosition) -> str:
    """Return the id of a hook's task, the same on each call. If it is too long, its end is replaced by a hash."""
    task_id = f"{rollout_id}/{at.stage}/{at.place}"
    if len(task_id) <= _MAX_ID_CHARACTERS:
        return task_id
    digest = hashlib.sha256(task_id.encode()).hexdigest()[:16]
    return f"{task_id[: _MAX_ID_CHARACTERS - len(digest) - 1]}-{digest}"
