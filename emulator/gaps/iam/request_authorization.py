"""The permissions that a request of a role needs.

AWS authorizes each request by the actions, resources and condition keys of the Service Authorization Reference.
MiniStack has a mapping of its own: `GET .../aliases/live` counts as lambda:ListAliases, batches of SQS count as actions
that do not exist, the condition keys lambda:FunctionArn, ecs:cluster, dynamodb:LeadingKeys and dynamodb:Attributes are
unknown, and a request without a mapping is allowed. `needed_permissions` replaces that mapping; it knows
dynamodb:Attributes of PutItem alone. A request that it does not know is denied. The account's root user, as which tests
and demos set things up, is allowed everything, as in MiniStack. What a state machine calls by itself is not authorized.

What a role has used for the first time and each denial is written to a file, one JSON object per line.

Seams: `iam_actions.extract_iam_action`, which sees every request first, `iam_evaluator.enforce`, which is then called
for whatever MiniStack believes that the request needs, and `iam_actions.access_denied_response`.
"""

import contextvars
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id
from ministack.core.router import extract_access_key_id
from ministack.services import dynamodb, dynamodb_streams, ecs, kinesis, lambda_svc

from emulator.gaps import seams
from emulator.gaps.iam.needed_permissions import Arns, Permission, UnmappedRequestError, needed, read_request

GAP = "request_authorization"
_REQUEST = "service, method, path, headers, body, query_params"
_CHECK = "access_key_id, iam_action, service, region, resource_arn, service_context"
_RESPONSE = (
    "service, action, principal_arn, request_id, error_code, message, headers, resource_arn, explicit_deny, "
    "resource_policy_arn"
)


@dataclass
class _Pending:
    """A request of a role, and what was decided about it once that is known."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, Any]
    decided: bool = False
    denial: Any = None
    denied: Permission | None = None


@dataclass
class _Uses:
    """The file of permissions that roles have used or lacked."""

    path: Path | None = None
    seen: set[tuple[str, str]] = field(default_factory=set)

    def write(self, role: str, permission: Permission, *, allowed: bool) -> None:
        """Add a line, unless it says nothing new."""
        if allowed and (role, permission.action) in self.seen:
            return
        if allowed:
            self.seen.add((role, permission.action))
        else:
            print(
                f"AccessDenied: {role} needs {permission.action} on {permission.resource} {permission.keys}", flush=True
            )
        if self.path:
            use = {"role": role, "action": permission.action, "resource": permission.resource, "allowed": allowed}
            with self.path.open("a") as file:
                file.write(json.dumps(use) + "\n")


_pending: contextvars.ContextVar[_Pending | None] = contextvars.ContextVar("headgate_pending", default=None)
_uses = _Uses()


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, iam_evaluator, "is_root_access_key", "access_key_id")
    seams.expect(GAP, ecs, "_resolve_td_key", "ref")
    seams.expect(GAP, iam_evaluator, "resolve_credential", "access_key_id, account_id, session_token")
    seams.wrap(GAP, iam_actions, "extract_iam_action", _REQUEST, _see)
    seams.wrap(GAP, iam_evaluator, "enforce", _CHECK, _enforce)
    seams.wrap(GAP, iam_actions, "access_denied_response", _RESPONSE, _answer)


def record_to(path: Path) -> None:
    """Write what roles use and lack to this file."""
    _uses.path = path


class _MiniStackAccount:
    """What exists in MiniStack."""

    def function_of_mapping(self, uuid: str) -> str | None:
        """Return the ARN of the function of an event source mapping."""
        return (lambda_svc._esms.get(uuid) or {}).get("FunctionArn")

    def stream_of_iterator(self, iterator: str) -> str | None:
        """Return the ARN of the stream of a shard iterator."""
        state = kinesis._shard_iterators.get(iterator)
        if state:
            return str(state["stream_arn"])
        return (dynamodb_streams._decode_iterator(iterator) or {}).get("arn")

    def partition_key(self, table: str) -> str | None:
        """Return the name of a table's partition key."""
        return (dynamodb._tables.get(table) or {}).get("pk_name")

    def tags_of_task(self, arn: str) -> dict[str, str]:
        """Return the tags of an ECS task."""
        task = ecs._tasks.get(arn) or {}
        return {tag["key"]: tag["value"] for tag in task.get("tags") or []}

    def roles_of_definition(self, name: str) -> list[str]:
        """Return the ARNs of the roles of a task definition."""
        definition = ecs._task_defs.get(ecs._resolve_td_key(name)) or {}
        return [definition[role] for role in ("taskRoleArn", "executionRoleArn") if definition.get(role)]


def _see(
    original: Callable[..., Any],
    service: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    query_params: Mapping[str, Any],
) -> str | None:
    action: str | None = original(service, method, path, headers, body, query_params)
    key = extract_access_key_id(headers, query_params)
    if not key or iam_evaluator.is_root_access_key(key):
        return action
    _pending.set(_Pending(method, path, headers, body, query_params))
    # MiniStack allows a request for which it knows no action.
    return action or f"{service}:Unknown"


def _enforce(
    original: Callable[..., Any],
    access_key_id: str,
    iam_action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: Mapping[str, Any] | None = None,
) -> Any:
    if not access_key_id or iam_evaluator.is_root_access_key(access_key_id):
        return original(access_key_id, iam_action, service, region, resource_arn, service_context)
    # None for a bucket that is addressed by its host name. MiniStack maps S3's requests itself.
    pending = _pending.get() or _Pending("", "", {}, b"", {})
    if pending.decided:
        return pending.denial
    pending.decided = True
    try:
        permissions = (
            needed(_request(pending), Arns(region, get_account_id()), _MiniStackAccount())
            if pending.method
            else [Permission(iam_action, resource_arn, {})]
        )
    except (UnmappedRequestError, KeyError, ValueError, TypeError) as error:
        _deny(pending, access_key_id, Permission(iam_action, f"an unmapped request: {error}", {}))
        return pending.denial
    for permission in permissions:
        action, resource, keys = permission
        context = {**(service_context or {}), **keys}
        denial = original(access_key_id, action, action.partition(":")[0], region, resource, context)
        if isinstance(denial, iam_evaluator.AuthError):
            pending.denial = denial
            return denial
        if denial:
            _deny(pending, access_key_id, permission, denial)
            return denial
        _uses.write(_role(access_key_id), permission, allowed=True)
    return None


def _request(pending: _Pending) -> Any:
    return read_request(pending.method, pending.path, pending.headers, pending.body, pending.query)


def _deny(pending: _Pending, access_key_id: str, permission: Permission, denial: Any = None) -> None:
    role = _role(access_key_id)
    _uses.write(role, permission, allowed=False)
    pending.denied = permission
    pending.denial = denial or iam_evaluator.EvalResult("ImplicitDeny", role)


def _role(access_key_id: str) -> str:
    """Return the name of the caller's role, or its ARN if it is none."""
    credential = iam_evaluator.resolve_credential(access_key_id)
    arn = str(getattr(credential, "principal_arn", access_key_id))
    return arn.split("/")[1] if ":assumed-role/" in arn else arn


def _answer(
    original: Callable[..., Any], service: str, action: str, principal_arn: str, request_id: str, **options: Any
) -> Any:
    pending = _pending.get()
    if pending and pending.denied and not options.get("error_code"):
        action, resource, _ = pending.denied
        explicit = bool(options.get("explicit_deny"))
        options["message"] = iam_actions.identity_denial_message(action, principal_arn, resource, explicit)
    return original(service, action, principal_arn, request_id, **options)
