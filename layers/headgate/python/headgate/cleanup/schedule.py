"""Cleans the versions of all functions of a pattern, by a schedule."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.observability import logger, record_count
from headgate.cleanup.cleaner import apply, survey
from headgate.cleanup.versions import FunctionVersions
from headgate.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.own_resources import OwnResources
    from headgate.cleanup.model import Cleanup
    from headgate.cleanup.policy import Policy
    from headgate.cleanup.versions import Account

DELETED_METRIC = "DeletedVersions"


class ScheduledCleaning:
    """Cleans function by function.

    Parameters
    ----------
    pattern
        Name pattern of the functions.
    own
        Headgate's own functions, which have no versions to clean and which its role cannot reach.
    """

    def __init__(self, account: Account, pattern: str, policy: Policy, own: OwnResources) -> None:
        self._account = account
        self._pattern = pattern
        self._policy = policy
        self._own = own

    def clean(self, may_go_on: Callable[[], bool], function: str) -> dict[str, int]:
        """Clean all functions, and return how many versions of each were deleted.

        Parameters
        ----------
        may_go_on
            Whether there is time for one more version.
        function
            Name of the function that does this, for the metric.

        Raises
        ------
        Transient
            If some functions could not be cleaned. The others were.
        """
        deleted: dict[str, int] = {}
        faults = []
        for name in self._names():
            if not may_go_on():
                logger.warning("the time was up before all functions were cleaned", next=name)
                break
            try:
                done = self._clean_one(name, may_go_on)
            except (ClientError, BotoCoreError) as error:
                faults.append(f"{name}: {error}")
                continue
            if removed := done.with_outcome("deleted"):
                deleted[name] = len(removed)
            failed = [f"version {each.revision}: {'; '.join(each.reasons)}" for each in done.with_outcome("failed")]
            if done.stopped and may_go_on():
                failed.append(done.stopped)
            if failed:
                faults.append(f"{name}: {'; '.join(failed)}")
        if deleted:
            record_count(DELETED_METRIC, sum(deleted.values()), function)
        if faults:
            raise Transient(f"functions that could not be cleaned: {'; '.join(faults)}")
        return deleted

    def _names(self) -> list[str]:
        pages = self._account.functions.get_paginator("list_functions").paginate()
        names = [each["FunctionName"] for page in pages for each in page["Functions"]]
        return [name for name in names if fnmatchcase(name, self._pattern) and not self._own.is_function(name)]

    def _clean_one(self, name: str, may_go_on: Callable[[], bool]) -> Cleanup:
        stock = FunctionVersions(self._account, name)
        done = apply(stock, survey(stock, self._policy), may_go_on=may_go_on)
        for outcome in ("deleted", "failed"):
            for each in done.with_outcome(outcome):
                logger.info(
                    "version deleted" if outcome == "deleted" else "version not deleted",
                    cleaned_function=name,
                    version=each.revision,
                    published=each.created_at,
                    bytes=each.bytes,
                    reasons=each.reasons,
                )
        return done
