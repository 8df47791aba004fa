"""Failures of commands: one line that says what to do, and exit code 2."""

from __future__ import annotations

import click


class Failure(click.ClickException):
    """A command cannot do what it was asked. The message is a sentence that names the fix."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(error: click.ClickException) -> str:
    """Return the line for an error. Wrong usage names the help of its command."""
    from headgate_cli.output import printable

    said = printable(" ".join(error.format_message().split()))
    context = getattr(error, "ctx", None)
    if context is None:
        return f"Error: {said}"
    return f"Error: {said.rstrip('.')} ({context.command_path} --help)"


def explained(error: Exception) -> str | None:
    """Return what a failure of AWS means and what to do about it; None for an error of Headgate's own."""
    if not type(error).__module__.startswith(("botocore", "boto3", "s3transfer", "urllib3")):
        return None
    name, said = type(error).__name__, " ".join(str(error).split())
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        answer = response.get("Error", {})
        return _explained_answer(str(answer.get("Code", "")), said, " ".join(str(answer.get("Message", "")).split()))
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return f"there are no credentials for AWS ({said}); run aws configure or aws sso login, or give --profile"
    if name in ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "LoginRefreshRequired"):
        return f"the session of the profile has ended ({said}); run aws sso login or aws login"
    if name == "ProfileNotFound":
        return f"{said}; aws configure list-profiles lists the profiles"
    if name == "NoRegionError":
        return "there is no Region; give --region, or set AWS_REGION or the profile's region"
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError"):
        return f"AWS cannot be reached ({said}); check the network, --region and AWS_ENDPOINT_URL, and try again"
    return f"the call to AWS failed ({said}); check --profile, --region and AWS_ENDPOINT_URL"


THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ProvisionedThroughputExceededException",
)
"""Codes of AWS for too many calls."""


def _explained_answer(code: str, said: str, message: str) -> str:
    if code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"):
        return f"the profile may not do this: {said}; ask for the permission, or give another --profile"
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
        return f"AWS does not accept the credentials: {said}; renew them, or give another --profile"
    if code in THROTTLED:
        return f"AWS throttles calls: {said}; wait a moment and try again"
    missing = "NotFound" in code or "DoesNotExist" in code
    # ECS has no code of its own for a definition that does not exist.
    if missing or (code == "ClientException" and "Unable to describe task definition" in message):
        return f"AWS does not find it: {message.rstrip('.') or said}; check the name, --region and --profile"
    return f"AWS answered: {said}; check what the call names, --region and --profile"
