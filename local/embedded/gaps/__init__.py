"""Where the pinned MiniStack differs from AWS and this application would notice: one module per gap.

Each module's docstring says what AWS does, what MiniStack does and which seam is wrapped; its `install()` fills the
gap. They are listed in the order in which they are installed, so that a later one wraps an earlier one.
"""

import importlib

ORDER = (
    "function_errors",
    "quiet_functions",
    "reserved_concurrency",
    "lambda_metrics",
    "metrics_in_logs",
    "metric_data",
    "weighted_aliases",
    "alias_validation",
    "async_invocations",
    "mapping_settings",
    "mapping_states",
    "mapping_metrics",
    "queue_metrics",
    "batch_traces",
    "queue_locks",
    "message_moves",
    "deleted_queues",
    "queue_consumers",
    "stream_consumers",
    "alarm_events",
    "alarm_evaluation",
    "state_variables",
    "task_timeouts",
    "task_tokens",
    "task_errors",
    "retry_delays",
    "execution_endings",
    "nested_executions",
    "stack_lookup",
    "ecs_containers",
    "ecs_task_starts",
    "ecs_task_ends",
    "run_task_sync",
)


def install_all(without: frozenset[str] = frozenset()) -> None:
    """Fill every gap but those named; raises SeamMissing where MiniStack is not the one this was written for."""
    unknown = without - set(ORDER)
    if unknown:
        raise ValueError(f"no such gap: {', '.join(sorted(unknown))}; there are: {', '.join(ORDER)}")
    for gap in ORDER:
        if gap not in without:
            importlib.import_module(f"{__name__}.{gap}").install()
