"""Scalable targets and scaling policies of CloudFormation templates.

On AWS, they are those of Application Auto Scaling
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-applicationautoscaling-scalabletarget.html).
MiniStack refuses a template with them. Here they are made as by its API: see `autoscaling.scalable_targets`.

Seam: `cloudformation.provisioners._RESOURCE_HANDLERS`.
"""

from typing import Any

from ministack.services.cloudformation import provisioners

from emulator.gaps import seams
from emulator.gaps.autoscaling import scalable_targets

GAP = "scalable_resources"
Record = dict[str, Any]
TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"
POLICY = "AWS::ApplicationAutoScaling::ScalingPolicy"
_KEY = ("ResourceId", "ScalableDimension", "ServiceNamespace")


def install() -> None:
    """Fill the gap."""
    table = getattr(provisioners, "_RESOURCE_HANDLERS", None)
    if not isinstance(table, dict) or TARGET in table or POLICY in table:
        raise seams.SeamMissing(GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", f"is no table without {TARGET}")
    table[TARGET] = {"create": _create_target, "update": _update_target, "delete": _delete_target}
    table[POLICY] = {"create": _create_policy, "update": _update_policy, "delete": _delete_policy}


def _named(identity: str) -> Record:
    return dict(zip(_KEY, identity.split("|"), strict=True))


def _create_target(_logical_id: str, props: Record, _stack_name: str) -> tuple[str, Record]:
    # Actions on a schedule would scale, which nothing here does.
    scalable_targets.register({name: value for name, value in props.items() if name != "ScheduledActions"})
    identity = "|".join(props[name] for name in _KEY)
    return identity, {"Id": identity}


def _update_target(physical_id: str, _old: Record, new: Record, stack_name: str) -> tuple[str, Record]:
    return _create_target(physical_id, new, stack_name)


def _delete_target(physical_id: str, _props: Record) -> None:
    # It may be gone by hand, or have never been made.
    try:
        scalable_targets.deregister(_named(physical_id))
    except (scalable_targets.Refused, ValueError):
        return


def _create_policy(_logical_id: str, props: Record, _stack_name: str) -> tuple[str, Record]:
    given = {name: value for name, value in props.items() if name != "ScalingTargetId"}
    asked = {**(_named(props["ScalingTargetId"]) if "ScalingTargetId" in props else {}), **given}
    arn = scalable_targets.put_policy(asked)["PolicyARN"]
    return arn, {"Arn": arn}


def _update_policy(physical_id: str, _old: Record, new: Record, stack_name: str) -> tuple[str, Record]:
    return _create_policy(physical_id, new, stack_name)


def _delete_policy(_physical_id: str, props: Record) -> None:
    named = _named(props["ScalingTargetId"]) if "ScalingTargetId" in props else {}
    try:
        scalable_targets.delete_policy({**named, **props})
    except scalable_targets.Refused:
        return
