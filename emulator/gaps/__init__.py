"""Gaps between the pinned MiniStack and AWS that matter to this application: one module per gap, by service.

Each module's docstring describes the behavior of AWS and of MiniStack, and the seam. Its `install()` fills the gap.
They are listed in the order in which they are installed: a later one wraps an earlier one.
"""

import importlib

ORDER = (
    "iam.request_authorization",
    "lambda_.function_errors",
    "lambda_.exec_wrappers",
    "lambda_.quiet_functions",
    "lambda_.shared_layers",
    "lambda_.running_invocations",
    "lambda_.reserved_concurrency",
    "lambda_.lambda_metrics",
    "cloudwatch.metrics_in_logs",
    "cloudwatch.metric_data",
    "lambda_.weighted_aliases",
    "lambda_.alias_validation",
    "lambda_.version_packages",
    "lambda_.provisioned_lists",
    "lambda_.log_permissions",
    "lambda_.async_invocations",
    "event_source_mappings.mapping_settings",
    "event_source_mappings.mapping_states",
    "event_source_mappings.mapping_metrics",
    "sqs.queue_metrics",
    "sqs.batch_traces",
    "sqs.queue_locks",
    "sqs.message_moves",
    "sqs.deleted_queues",
    "sns.emails",
    "event_source_mappings.queue_consumers",
    "event_source_mappings.stream_consumers",
    "autoscaling.scalable_targets",
    "cloudwatch.alarm_events",
    "cloudwatch.alarm_evaluation",
    "stepfunctions.state_variables",
    "stepfunctions.task_timeouts",
    "stepfunctions.task_tokens",
    "stepfunctions.task_errors",
    "stepfunctions.retry_delays",
    "stepfunctions.execution_endings",
    "stepfunctions.nested_executions",
    "cloudformation.stack_lookup",
    "cloudformation.table_settings",
    "cloudformation.custom_resources",
    "cloudformation.codedeploy_resources",
    "cloudformation.scalable_resources",
    "cloudformation.untouched_resources",
    "cloudformation.codedeploy_deployments",
    "elb.lookups",
    "elb.forward_actions",
    "elb.listeners",
    "elb.target_health",
    "elb.load_balancer_metrics",
    "events.bus_policies",
    "events.api_destinations",
    "events.api_calls",
    "events.image_pushes",
    "logs.query_definitions",
    "ecs.ecs_containers",
    "ecs.ecs_task_starts",
    "ecs.ecs_task_ends",
    "ecs.ecs_task_addresses",
    "ecs.ecs_task_surroundings",
    "ecs.ecs_service_processes",
    "ecs.ecs_service_health",
    "ecs.ecs_task_sets",
    "ecs.ecs_service_settings",
    "ecs.ecs_service_events",
    "stepfunctions.run_task_sync",
)


def install_all(without: frozenset[str] = frozenset()) -> None:
    """Fill all gaps except the named ones. Raises SeamMissing if MiniStack is not the expected version."""
    modules = {module.rpartition(".")[2]: module for module in ORDER}
    unknown = without - modules.keys()
    if unknown:
        raise ValueError(f"unknown gap: {', '.join(sorted(unknown))}; use one of {', '.join(modules)}")
    for gap, module in modules.items():
        if gap not in without:
            importlib.import_module(f"{__name__}.{module}").install()
