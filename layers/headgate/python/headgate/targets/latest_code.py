"""The code in $LATEST of a function: what a plain publish may publish, and how rejected code is taken out again.

$LATEST belongs to the whole function: all its aliases and consumers publish from it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.aws.lambda_functions import configuration_of
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import GetFunctionResponseTypeDef

    from headgate.aws.lambda_functions import FunctionConfiguration
    from headgate.rollouts.record import RejectedCode
    from headgate.spec.candidate import Publish
    from headgate.spec.target_state import CodeInLatest

GIVE_BACK_SECONDS = 300
"""How long giving back the stable version's code may take. An update of a function takes seconds to minutes."""

MAX_ZIP_BYTES = 50_000_000
"""Maximum size of a package that is uploaded through the Lambda API:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. Such an upload takes 240 MB of memory."""

DOWNLOAD_SECONDS = 20

_TRANSIENT_CODES = ("TooManyRequestsException", "ServiceException", "InternalFailure", "ServiceUnavailable")


class NotYet(Exception):  # noqa: N818 - not an error: the code is not given back yet
    """The next attempt may succeed."""

    def __init__(self, why: str, *, rejected: bool = True) -> None:
        super().__init__(why)
        self.rejected = rejected
        """Whether $LATEST still holds the rejected code."""


class Impossible(Exception):  # noqa: N818 - the rollout ends as it would without it
    """The stable version's code cannot be given back. The message completes "because ..."."""

    def __init__(self, why: str, code_sha256: str | None = None) -> None:
        super().__init__(why)
        self.code_sha256 = code_sha256
        """CodeSha256 that $LATEST has, if Lambda's response to the rollout's update was lost."""


def refuse_rejected_code(
    publish: Publish, function: str, latest: str, stable: str | None, rejected: RejectedCode | None
) -> None:
    """Refuse to publish code that is not confirmed, or that an earlier rollout rejected.

    Parameters
    ----------
    latest, stable
        CodeSha256 of $LATEST and of the stable version.
    rejected
        The code that an earlier rollout left in $LATEST.

    Raises
    ------
    RequestRefused
        If this code must not be published.
    """
    if publish.confirm is not None:
        if publish.confirm != latest:
            raise RequestRefused(
                f"candidate.publish.confirm: $LATEST of {function} has the CodeSha256 {latest}, not {publish.confirm}; "
                f'somebody has changed its code: check it, then give "confirm": "{latest}"'
            )
        return
    if rejected and holds_rejected(latest, stable, rejected):
        raise RequestRefused(
            f"candidate.publish: $LATEST of {function} holds the code that rollout {rejected.rollout_id} "
            f"rejected, with the CodeSha256 {latest}; update the function's code first, or give candidate.code; to "
            f'publish the rejected code nevertheless, give {{"publish": {{"confirm": "{latest}"}}}}'
        )


def holds_rejected(latest: str, stable: str | None, rejected: RejectedCode) -> bool:
    """Return whether $LATEST holds the rejected code, and the stable version does not serve with it meanwhile."""
    return latest == rejected.code_sha256 != stable


class LatestCode:
    """The code in $LATEST of one function.

    Parameters
    ----------
    client
        A Lambda client.
    function
        Name or ARN of the function.
    """

    def __init__(self, client: LambdaClient, function: str) -> None:
        self._client = client
        self._function = function

    def configuration(self) -> FunctionConfiguration:
        """Return the configuration of $LATEST."""
        return configuration_of(self._client, self._function)

    def give_back(self, put: CodeInLatest, stable: str) -> None:
        """Give $LATEST the code of the stable version, if it had it before and still holds the rejected code.

        Each call may be repeated: it returns once $LATEST has other code than the rejected code.

        Parameters
        ----------
        stable
            The stable version.

        Raises
        ------
        NotYet
            If it must be called again.
        Impossible
            If $LATEST keeps the rejected code.
        """
        known = self._client.exceptions
        try:
            latest = self._find()
            if latest and self._holds_rejected(latest, put):
                self._write_over(latest, put, stable)
        except known.ResourceConflictException as error:
            raise NotYet(f"$LATEST is being updated: {message_of(error)}") from None
        except known.PreconditionFailedException:
            raise NotYet("$LATEST was changed during this call") from None
        except ClientError as error:
            if code_of(error) in _TRANSIENT_CODES:
                raise NotYet(message_of(error)) from None
            fix = " (Headgate's parameters CodeObjects and CodeRepositories must allow it)" if is_denied(error) else ""
            raise Impossible(
                f"the code of stable version {stable} cannot be given back: {message_of(error)}{fix}"
            ) from None

    def _find(self) -> FunctionConfiguration | None:
        try:
            return self.configuration()
        except self._client.exceptions.ResourceNotFoundException:
            return None  # Without the function there is no $LATEST.

    @staticmethod
    def _holds_rejected(latest: FunctionConfiguration, put: CodeInLatest) -> bool:
        found = latest["CodeSha256"]
        if found == put.code_sha256:
            return True
        if put.code_sha256 is None and found != put.before:
            raise Impossible(
                "Lambda's response to its update was lost, so it may be somebody else's code by now", found
            )
        if latest.get("LastUpdateStatus") == "InProgress":
            raise NotYet("$LATEST is being updated", rejected=False)
        return False

    def _write_over(self, latest: FunctionConfiguration, put: CodeInLatest, stable: str) -> None:
        """Update $LATEST, unless somebody else changes it at the same time."""
        served = self._client.get_function(FunctionName=self._function, Qualifier=stable)
        was = served["Configuration"]["CodeSha256"]
        if was == put.code_sha256:
            return  # The candidate had the stable version's code, and another configuration.
        if was != put.before:
            raise Impossible(
                f"before the rollout $LATEST had other code than stable version {stable}, with the CodeSha256 "
                f"{put.before}"
            )
        self._client.update_function_code(
            FunctionName=self._function, RevisionId=latest["RevisionId"], **_source_of(served, stable)
        )
        raise NotYet("$LATEST is being updated with the stable version's code", rejected=False)


def _source_of(served: GetFunctionResponseTypeDef, stable: str) -> dict[str, Any]:
    """Return the parameters of UpdateFunctionCode for the code of a version."""
    configuration, code = served["Configuration"], served["Code"]
    source: dict[str, Any] = {"Architectures": held} if (held := configuration.get("Architectures")) else {}
    if configuration.get("PackageType") == "Image":
        return source | {"ImageUri": code.get("ResolvedImageUri") or code["ImageUri"]}
    if key := code.get("SourceKMSKeyArn"):
        source["SourceKMSKeyArn"] = key
    if own := code.get("ResolvedS3Object"):
        # The package stays in the owner's bucket.
        return source | own | {"S3ObjectStorageMode": "REFERENCE"}
    size = configuration.get("CodeSize", 0)
    if size > MAX_ZIP_BYTES:
        raise Impossible(
            f"the package of stable version {stable} has {size} bytes, and Lambda accepts uploads of at most "
            f"{MAX_ZIP_BYTES}"
        )
    if "Location" not in code:
        why = code.get("Error", {}).get("Message", "Lambda gives no link to it")
        raise Impossible(f"the code of stable version {stable} cannot be read: {why}")
    package = _download(code["Location"])
    if _sha256_of(package) != configuration["CodeSha256"]:
        raise NotYet(f"the download is not the package of stable version {stable}")
    return source | {"ZipFile": package}


def _download(link: str) -> bytes:
    """Return a package from Lambda's link, which is valid for ten minutes."""
    # Imported late: few rollouts need it, and it would slow down each cold start.
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(link, timeout=DOWNLOAD_SECONDS) as response:  # noqa: S310 - the link is Lambda's own
            package: bytes = response.read(MAX_ZIP_BYTES + 1)
    except (OSError, HTTPException) as error:
        # The message leaves out the link, which allows anybody to download the code.
        raise NotYet(f"the stable version's code could not be downloaded: {error}") from None
    return package


def _sha256_of(package: bytes) -> str:
    return base64.b64encode(hashlib.sha256(package).digest()).decode()
