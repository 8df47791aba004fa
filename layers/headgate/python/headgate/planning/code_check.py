"""Check of the code in $LATEST before a rollout: whether a plain publish may publish it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied
from headgate.aws.lambda_functions import configuration_of
from headgate.spec.candidate import PublishLatest
from headgate.targets.latest_code import holds_rejected, refuse_rejected_code

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from headgate.rollouts.table import Table
    from headgate.spec.candidate import Candidate
    from headgate.spec.targets import LambdaAliasTarget


class CodeCheck:
    """Compares $LATEST with what the request confirms, and with what an earlier rollout rejected.

    The driver checks it again when it publishes: the code may change before that.
    """

    def __init__(self, client: LambdaClient, table: Table) -> None:
        self._client = client
        self._table = table

    def warnings_about(self, candidate: Candidate, alias: LambdaAliasTarget) -> list[str]:
        """Return a warning if $LATEST holds rejected code and the request does not publish it.

        Raises
        ------
        RequestRefused
            If the request would publish rejected code, or other code than it confirms.
        """
        rejected = self._table.rejected_code(alias.name)
        publish = candidate.publish if isinstance(candidate, PublishLatest) else None
        if rejected is None and (publish is None or publish.confirm is None):
            return []
        latest = self._code_of(alias)
        if latest is None:
            return []
        stable = self._code_of(alias, alias.alias) if rejected else None
        if publish:
            refuse_rejected_code(publish, alias.name, latest, stable, rejected)
            return []
        if rejected is None or not holds_rejected(latest, stable, rejected):
            return []
        warning = (
            f"candidate: $LATEST of {alias.name} holds the code that rollout {rejected.rollout_id} rejected, "
            f"with the CodeSha256 {latest}; a plain publish of it is refused until the function's code is updated"
        )
        return [warning]

    def _code_of(self, alias: LambdaAliasTarget, qualifier: str | None = None) -> str | None:
        """Return a CodeSha256. None if there is no such function, or Headgate may not touch it: Prepare says so."""
        try:
            found = configuration_of(self._client, alias.function, qualifier)
        except ClientError as error:
            if not is_denied(error) and code_of(error) != "ResourceNotFoundException":
                raise
            return None
        return found.get("CodeSha256")
