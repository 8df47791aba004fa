"""Warnings about the CloudFormation stack that a target belongs to. Deploying it may undo a rollout.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_GetTemplate.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.aws.arns import alias_arn
from headgate.aws.observability import logger
from headgate.aws.owning_stack import leaves_alone, owner_of
from headgate.planning.service_stacks import warnings_about_stacks_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

    from headgate.aws.owning_stack import StackOwner
    from headgate.aws.place import Place
    from headgate.spec.routing import Routing
    from headgate.spec.targets import LambdaAliasTarget


class StackOwners:
    """Finds the stack that a resource belongs to."""

    def __init__(self, client: CloudFormationClient, place: Place) -> None:
        self._client = client
        self._place = place

    def warnings_about(self, target: LambdaAliasTarget) -> list[str]:
        """Return warnings about a stack that may move the alias. They never stop the rollout."""
        here = self._place
        arn = alias_arn(here.partition, here.region, here.account, target.name, target.alias)
        try:
            owner = owner_of(self._client, arn)
        except Exception as error:  # noqa: BLE001 - the rollout continues without the warning
            logger.warning("the stack of the alias could not be looked up", alias=arn, reason=str(error))
            return []
        if owner is None or self._leaves_alone(owner, target.alias):
            return []
        warning = owner.warning_about(f"{target.name}:{target.alias}")
        logger.warning(warning)
        return [warning]

    def warnings_about_service(self, name: str, arn: str, routing: Routing) -> list[str]:
        """Return warnings about stacks that may deploy the service or set the weights of its rules.

        They never stop the rollout. Every rule needs a call, so after one that failed there are no others.

        Parameters
        ----------
        arn
            ARN of the service.
        """
        try:
            warnings = list(warnings_about_stacks_of(self._client, name, arn, routing))
        except Exception as error:  # noqa: BLE001 - the rollout continues without the warnings
            logger.warning("the stacks of the service could not be looked up", service=arn, reason=str(error))
            return []
        for warning in warnings:
            logger.warning(warning)
        return warnings

    def _leaves_alone(self, owner: StackOwner, alias: str) -> bool:
        """Return whether the template certainly does not move the alias."""
        try:
            return leaves_alone(self._client, owner, alias)
        except Exception as error:  # noqa: BLE001 - the warning says only what may happen
            logger.warning("the template of the stack could not be read", stack=owner.stack, reason=str(error))
            return False
