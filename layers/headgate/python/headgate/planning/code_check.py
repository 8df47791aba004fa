"""Check of the code in $LATEST before a rollout: whether a plain publish may publish it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied
from headgate.aws.lambda_functions import configuration_of, unsupported
from headgate.errors import RequestRefused
from headgate.spec.candidate import PublishedVersion, PublishLatest
from headgate.targets.latest_code import holds_rejected, refuse_rejected_code

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from headgate.aws.lambda_functions import FunctionConfiguration
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
            If the request would publish rejected code, or other code than it confirms, or if Headgate does not support
            the function.
        """
        rejected = self._table.rejected_code(alias.name)
        publish = candidate.publish if isinstance(candidate, PublishLatest) else None
        if rejected is None and (publish is None or publish.confirm is None):
            return []
        found = self._read(alias)
        if found is None:
            return []
        if not isinstance(candidate, PublishedVersion):
            _refuse_unsupported(found, "candidate", alias)
        serving = self._read(alias, alias.alias) if rejected else None
        if serving:
            _refuse_unsupported(serving, "target.alias", alias)
        latest, stable = found["CodeSha256"], serving.get("CodeSha256") if serving else None
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

    def _read(self, alias: LambdaAliasTarget, qualifier: str | None = None) -> FunctionConfiguration | None:
        """Return a configuration. None if there is no such function, or Headgate may not touch it: Prepare says so."""
        try:
            return configuration_of(self._client, alias.function, qualifier)
        except ClientError as error:
            if not is_denied(error) and code_of(error) != "ResourceNotFoundException":
                raise
            return None


def _refuse_unsupported(found: FunctionConfiguration, field: str, alias: LambdaAliasTarget) -> None:
    """Refuse what Prepare would refuse too, before the rollout begins."""
    if fault := unsupported(found):
        raise RequestRefused(f"{field}: version {found['Version']} of {alias.name} {fault}")
