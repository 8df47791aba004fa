"""The application and the deployment group that SAM makes of a DeploymentPreference.

On AWS, they are resources of AWS CodeDeploy, which then shifts an alias with an update policy of
`CodeDeployLambdaAliasUpdate`. MiniStack has no such service and refuses a template with them. Here they have names and
do nothing: an alias moves at once, and no hook is asked.

Seam: `cloudformation.provisioners._RESOURCE_HANDLERS`.
"""

from typing import Any

from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "codedeploy_resources"
_KINDS = {"AWS::CodeDeploy::Application": "ApplicationName", "AWS::CodeDeploy::DeploymentGroup": "DeploymentGroupName"}


def install() -> None:
    """Fill the gap."""
    table = getattr(provisioners, "_RESOURCE_HANDLERS", None)
    if not isinstance(table, dict):
        raise seams.SeamMissing(GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", "has no table")
    for kind, name in _KINDS.items():
        if kind in table:
            raise seams.SeamMissing(GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", f"has {kind}")
        table[kind] = {"create": _named(name), "delete": lambda _physical_id, _props: None}


def _named(name: str) -> Any:
    def create(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
        return str(props.get(name) or f"{stack_name}-{logical_id}"), {}

    return create
