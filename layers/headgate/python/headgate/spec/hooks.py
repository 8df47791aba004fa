"""Hooks of a rollout: functions, hooks of CodeDeploy and ECS, ECS tasks and state machines that run at its stages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, Tag

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, Wire, has_field, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler


ONE_DAY = 24 * 3600

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
_STATE_MACHINE = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):states:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):stateMachine:)?"
    r"(?P<name>[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80})"
)

HookSeconds = Annotated[int, Field(strict=True, ge=1, le=ONE_DAY)]
"""Time limit of the whole hook, including waits between IN_PROGRESS answers, or the run of a task or execution."""


class LambdaHook(Wire):
    """A Lambda function as a hook."""

    lambda_: Annotated[str, Field(alias="lambda", min_length=1, max_length=256), NUMBER_AS_TEXT]
    """Name or ARN of the function."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook, including waits between ``IN_PROGRESS`` answers."""
    config: dict[str, Any] = {}
    """Your data, which the hook gets as ``config``."""


class CodeDeployHook(Wire):
    """A Lambda function as a hook that was written for CodeDeploy, or as SAM's ``PreTraffic`` or ``PostTraffic``."""

    code_deploy_hook: Annotated[str, Field(min_length=1, max_length=256), NUMBER_AS_TEXT]
    """Name or ARN of the function. It has the layer for CodeDeploy hooks, or returns a ``hookStatus``."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook."""


class EcsLifecycleHook(Wire):
    """A Lambda function as a hook that was written as a lifecycle hook of ECS deployments. Only for ECS services."""

    ecs_lifecycle_hook: Annotated[str, Field(min_length=1, max_length=256), NUMBER_AS_TEXT]
    """Name or ARN of the function."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook, including waits between ``IN_PROGRESS`` answers."""
    hook_details: dict[str, Any] = {}
    """Your data, as in the service's ``lifecycleHooks``. The function gets it as ``hookDetails`` with every call."""


class _AsTaskRequested:
    """Makes the JSON Schema refer to that of a Task Requested event, without its required id."""

    @staticmethod
    def __get_pydantic_json_schema__(_: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        from headgate.ecs_tasks.request import TaskRequest

        TaskRequest.model_rebuild()
        reference = handler(TaskRequest.__pydantic_core_schema__)
        resolved = handler.resolve_ref_schema(reference)
        resolved["required"] = [name for name in resolved["required"] if name != "id"]
        return reference


class EcsTaskHook(Wire):
    """An ECS task as a hook, which runs to completion."""

    ecs_task: Annotated[dict[str, Any], _AsTaskRequested()]
    """Fields of a Task Requested event. The hook succeeds if the task does. Default of ``id``: ``rollout/stage/index``.
    """
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. A task that still runs is stopped."""


class StateMachineHook(Wire):
    """A Standard state machine as a hook, which runs to completion."""

    state_machine: Annotated[
        str,
        AfterValidator(
            must_match(_STATE_MACHINE, "must be the name of a state machine, or its ARN without a version or alias")
        ),
        NUMBER_AS_TEXT,
    ]
    """Name or ARN of a Standard state machine of this account and Region."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. An execution that still runs is stopped."""
    config: dict[str, Any] = {}
    """Your data, which the execution gets as ``config``."""


Hook = Annotated[
    Annotated[LambdaHook, Tag("<lambda>")]
    | Annotated[CodeDeployHook, Tag("<codeDeployHook>")]
    | Annotated[EcsLifecycleHook, Tag("<ecsLifecycleHook>")]
    | Annotated[EcsTaskHook, Tag("<ecsTask>")]
    | Annotated[StateMachineHook, Tag("<stateMachine>")],
    one_of(
        {
            "<lambda>": has_field(LambdaHook, "lambda"),
            "<codeDeployHook>": has_field(CodeDeployHook, "codeDeployHook"),
            "<ecsLifecycleHook>": has_field(EcsLifecycleHook, "ecsLifecycleHook"),
            "<ecsTask>": has_field(EcsTaskHook, "ecsTask"),
            "<stateMachine>": has_field(StateMachineHook, "stateMachine"),
        },
        'name exactly one of {"lambda": "smoke"}, {"codeDeployHook": "smoke"}, {"ecsLifecycleHook": "smoke"}, '
        '{"ecsTask": {"taskDefinition": "smoke"}} and {"stateMachine": "smoke"}',
        alone=True,
    ),
]

AnyHook = LambdaHook | CodeDeployHook | EcsLifecycleHook | EcsTaskHook | StateMachineHook

HookStage = Annotated[list[Hook], Field(max_length=50)]
"""Limited because hooks are part of the plan and share the hooks machine's history of 25,000 events."""


class Hooks(Wire):
    """Hooks of each stage, in order."""

    before_traffic: HookStage = []
    """Run after the candidate is ready and before it gets traffic."""
    before_step: HookStage = []
    """Run before each shift of traffic."""
    after_step: HookStage = []
    """Run after each bake."""
    after_traffic: HookStage = []
    """Run after the promotion. If one fails, the rollout is rolled back."""
    on_rollback: HookStage = []
    """Run after a rollback."""

    def by_place(self) -> Iterator[tuple[str, int, AnyHook]]:
        """Yield every hook with its stage, as a request spells it, and its index there."""
        for name, field in type(self).model_fields.items():
            for index, hook in enumerate(getattr(self, name)):
                yield field.alias or name, index, hook
