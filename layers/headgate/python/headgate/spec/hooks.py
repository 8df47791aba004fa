"""The hooks of a rollout: functions, ECS tasks and state machines that are called at its stages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, Tag

from headgate.ids import must_match
from headgate.wire import Wire, has_field, one_of

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
"""A limit on the whole hook: the waits between IN_PROGRESS answers, or the end of a task or execution, included."""


class LambdaHook(Wire):
    """A Lambda function that is asked before or after traffic moves."""

    lambda_: Annotated[str, Field(alias="lambda", min_length=1, max_length=256)]
    """Name or ARN of the function."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook, waits between ``IN_PROGRESS`` answers included."""
    config: dict[str, Any] = {}
    """Data of your own; the hook gets it as ``config``."""


class _AsTaskRequested:
    """Lets the JSON Schema say what the detail of a Task Requested event may hold, but for its required id."""

    @staticmethod
    def __get_pydantic_json_schema__(_: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        from headgate.ecs_tasks.request import TaskRequest

        TaskRequest.model_rebuild()
        reference = handler(TaskRequest.__pydantic_core_schema__)
        resolved = handler.resolve_ref_schema(reference)
        resolved["required"] = [name for name in resolved["required"] if name != "id"]
        return reference


class EcsTaskHook(Wire):
    """An ECS task that is run to its end: the hook succeeds as the task does."""

    ecs_task: Annotated[dict[str, Any], _AsTaskRequested()]
    """Fields of a Task Requested event. The hook succeeds if the task does. ``id`` is ``rollout/stage/index`` by
    default."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. A task that still runs is then stopped."""


class StateMachineHook(Wire):
    """A Standard state machine of this account that is run to its end."""

    state_machine: Annotated[
        str,
        AfterValidator(
            must_match(_STATE_MACHINE, "must be a state machine's name, or its ARN without a version or alias")
        ),
    ]
    """Name or ARN of a Standard state machine of this account and Region."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. An execution that still runs is then stopped."""
    config: dict[str, Any] = {}
    """Data of your own; the execution gets it as ``config``."""


Hook = Annotated[
    Annotated[LambdaHook, Tag("<lambda>")]
    | Annotated[EcsTaskHook, Tag("<ecsTask>")]
    | Annotated[StateMachineHook, Tag("<stateMachine>")],
    one_of(
        {
            "<lambda>": has_field(LambdaHook, "lambda"),
            "<ecsTask>": has_field(EcsTaskHook, "ecsTask"),
            "<stateMachine>": has_field(StateMachineHook, "stateMachine"),
        },
        'name exactly one of {"lambda": "smoke"}, {"ecsTask": {"taskDefinition": "smoke"}} and '
        '{"stateMachine": "smoke"}',
        alone=True,
    ),
]

HookStage = Annotated[list[Hook], Field(max_length=50)]
"""Each hook travels in the plan, and has its share of the hooks machine's history of 25,000 events."""


class Hooks(Wire):
    """The hooks of each stage, asked in order."""

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

    def by_place(self) -> Iterator[tuple[str, int, LambdaHook | EcsTaskHook | StateMachineHook]]:
        """Every hook with its stage, as a request spells it, and its index there."""
        for name, field in type(self).model_fields.items():
            for index, hook in enumerate(getattr(self, name)):
                yield field.alias or name, index, hook
