"""JSONata in Parallel and Succeed states, and variables of one branch.

On AWS, a JSONata Parallel state has Arguments, Output and Assign, a Succeed state has Output, and the branches of a
Parallel state (as the items of a Map) assign variables, and see context, of their own. MiniStack reads only the
JSONPath fields of both states, and the branches of a Parallel state share one context: two tasks that wait for a
callback at the same time see each other's token.

Seams: `stepfunctions._run_parallel_branches`, `stepfunctions._run_sub_machine`, `stepfunctions._apply_output_path`.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import stepfunctions

from emulator.gaps import seams

GAP = "state_variables"
State = dict[str, Any]


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_run_parallel_branches", "state_def, raw_input, execution, ctx", _parallel)
    seams.wrap(GAP, stepfunctions, "_run_sub_machine", "states, start_at, input_data, execution, ctx", _branch)
    seams.wrap(GAP, stepfunctions, "_apply_output_path", "state_def, data, ctx", _output)


def _is_jsonata(state_def: State, ctx: State | None) -> bool:
    return bool(stepfunctions._state_query_language(state_def, ctx) == "JSONata")


def _parallel(original: Callable[..., Any], state_def: State, raw_input: Any, execution: State, ctx: State) -> Any:
    if not _is_jsonata(state_def, ctx):
        return original(state_def, raw_input, execution, ctx)
    branch_input = stepfunctions._apply_jsonata_arguments(state_def, raw_input, ctx)
    results, following = original(state_def, branch_input, execution, ctx)
    output = stepfunctions._apply_jsonata_output(state_def, raw_input, ctx, result=results, default=results)
    stepfunctions._apply_state_assign(state_def, raw_input, ctx, result=results)
    return output, following


def _branch(
    original: Callable[..., Any],
    states: State,
    start_at: str,
    input_data: Any,
    execution: State,
    ctx: State,
) -> Any:
    own = {**ctx, "variables": dict(ctx.get("variables") or {})}
    return original(states, start_at, input_data, execution, own)


def _output(original: Callable[..., Any], state_def: State, data: Any, ctx: State | None = None) -> Any:
    if state_def.get("Type") == "Succeed" and _is_jsonata(state_def, ctx):
        return stepfunctions._apply_jsonata_output(state_def, data, ctx, default=data)
    return original(state_def, data, ctx)
