"""A function writes logs with its role, and makes a log group only if its role may.

On AWS, log lines of a role without `logs:CreateLogStream` and `logs:PutLogEvents` on the group are lost, and a group
that does not exist is made only with `logs:CreateLogGroup`
(https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html). MiniStack writes them for any role and
makes the group, also after a stack was deleted: then the next creation of the stack finds it and fails.

Functions whose role does not exist write as in MiniStack.

Seam: `lambda_svc._emit_lambda_logs`.
"""

from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch_logs, iam, lambda_svc

from emulator.gaps import seams

GAP = "log_permissions"


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, iam_evaluator, "_gather_role_policies", "role_name, account_id")
    seams.wrap(
        GAP,
        lambda_svc,
        "_emit_lambda_logs",
        "func, request_id, log_text, error, duration_ms, log_source",
        _emit,
    )


def _emit(original: Callable[..., None], func: dict[str, Any], *given: Any, **named: Any) -> None:
    if _may_write(func.get("config") or func):
        original(func, *given, **named)


def _may_write(config: dict[str, Any]) -> bool:
    role = str(config.get("Role", "")).rpartition("/")[2]
    if iam._roles.get_scoped(get_account_id(), None, role) is None:
        return True
    settings = config.get("LoggingConfig") or {}
    group = settings.get("LogGroup") or f"/aws/lambda/{config.get('FunctionName')}"
    needed = ["logs:CreateLogStream", "logs:PutLogEvents"]
    if group not in cloudwatch_logs._log_groups:
        needed.append("logs:CreateLogGroup")
    policies = iam_evaluator._gather_role_policies(role, get_account_id())
    arn = f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}:log-stream:"
    return all(iam_evaluator.evaluate(_context(config, action, arn), policies).decision == "Allow" for action in needed)


def _context(config: dict[str, Any], action: str, arn: str) -> iam_evaluator.EvalContext:
    return iam_evaluator.EvalContext(
        principal_arn=str(config["Role"]),
        principal_type="AssumedRole",
        principal_account=get_account_id(),
        action=action,
        resource_arn=arn,
        region=get_region(),
    )
