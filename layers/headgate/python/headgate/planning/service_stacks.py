"""The CloudFormation stacks that may deploy a service or set the weights of its rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.aws.owning_stack import LISTENER, RULE, SERVICE, owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudformation import CloudFormationClient

    from headgate.spec.routing import Routing


def warnings_about_stacks_of(client: CloudFormationClient, name: str, arn: str, routing: Routing) -> Iterator[str]:
    """Yield a warning for each stack that may undo a rollout of a service, with the fix. Every rule needs a call.

    Parameters
    ----------
    name, arn
        Name and ARN of the service.
    """
    if owner := owner_of(client, arn, SERVICE):
        yield (
            f"target.service: {name} is {owner.named}, and deploying that stack may set the task definition of its "
            "template again; give the template the promoted revision, for example by a parameter, before you "
            "deploy it"
        )
    # One deployment sets the weights of all rules of its stack, so one warning for each stack is enough.
    owned = ((rule, owner_of(client, rule, _kind_of_rule(rule))) for rule in routing.rules)
    stacks = {found.stack: (rule, found) for rule, found in owned if found}
    after = (
        "after a promotion swap the two weights in its template, because the target groups alternate"
        if routing.way == "task-sets"
        else "do not deploy it during the rollout"
    )
    for rule, found in stacks.values():
        yield (
            f"target.rules: {rule} is {found.named}, and deploying that stack may set the weights of its template "
            f"again; {after}"
        )


def _kind_of_rule(arn: str) -> str:
    """Return the type of a rule in a template, which may be a listener with its default actions."""
    return RULE if ":listener-rule/" in arn else LISTENER
