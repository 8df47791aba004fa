"""Settings of a table that CloudFormation makes: when its items expire, whether it recovers, and its indexes' status.

On AWS, a table of CloudFormation has the settings of TimeToLiveSpecification and PointInTimeRecoverySpecification, and
DescribeTable tells the status of each index
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GlobalSecondaryIndexDescription.html). MiniStack
ignores both settings, and its indexes of such a table have no status.

Seam: the entry of `AWS::DynamoDB::Table` in `cloudformation.provisioners._RESOURCE_HANDLERS`, and the settings in
`dynamodb._ttl_settings` and `dynamodb._pitr_settings`.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import dynamodb
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "table_settings"
_KIND = "AWS::DynamoDB::Table"


def install() -> None:
    """Fill the gap."""
    for name in ("_ttl_settings", "_pitr_settings", "_tables"):
        if not hasattr(dynamodb, name):
            raise seams.SeamMissing(GAP, f"dynamodb.{name}", "has no settings")
    handlers = getattr(provisioners, "_RESOURCE_HANDLERS", {}).get(_KIND, {})
    for verb, name, parameters in (
        ("create", "_ddb_create", "logical_id, props, stack_name"),
        ("update", "_ddb_update", "physical_id, old_props, new_props, stack_name, logical_id"),
    ):
        if handlers.get(verb) is not getattr(provisioners, name, None):
            raise seams.SeamMissing(GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", f"has no {verb} of {_KIND}")
        seams.wrap(GAP, provisioners, name, parameters, _create if verb == "create" else _update)
        handlers[verb] = getattr(provisioners, name)


def _create(original: Callable[..., Any], logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
    made = original(logical_id, props, stack_name)
    _apply(made[0], props)
    return made


def _update(
    original: Callable[..., Any],
    physical_id: str,
    old_props: dict[str, Any],
    new_props: dict[str, Any],
    stack_name: str,
    logical_id: str | None = None,
) -> Any:
    made = original(physical_id, old_props, new_props, stack_name, logical_id)
    _apply(made[0], new_props)
    return made


def _apply(table: str, props: dict[str, Any]) -> None:
    expiry = props.get("TimeToLiveSpecification") or {}
    if expiry.get("AttributeName"):
        status = "ENABLED" if _is_true(expiry.get("Enabled")) else "DISABLED"
        dynamodb._ttl_settings[table] = {"TimeToLiveStatus": status, "AttributeName": expiry["AttributeName"]}
    recovery = props.get("PointInTimeRecoverySpecification") or {}
    dynamodb._pitr_settings[table] = _is_true(recovery.get("PointInTimeRecoveryEnabled"))
    made = dynamodb._tables[table]
    # Copies: the template's own objects must not change, because the next update is compared with them.
    made["GlobalSecondaryIndexes"] = [
        {**index, "IndexStatus": index.get("IndexStatus", "ACTIVE")} for index in made["GlobalSecondaryIndexes"] or []
    ]


def _is_true(value: Any) -> bool:
    """Return whether a property of a template is true: it may be a text."""
    return str(value).lower() == "true"
