"""What a Prometheus server asks for before it answers: nothing, a bearer token, or a signature of AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from headgate.counting.prometheus_config import BearerToken, Signature
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.counting.prometheus_config import PrometheusConfig

SECRET_SECONDS = 300
"""How long a token is kept, and so how soon a rotated one is used."""


class PrometheusAccess:
    """Makes the headers of requests.

    Parameters
    ----------
    secrets
        Powertools' provider of secrets.
    credentials
        Returns the credentials of the function's role.
    """

    def __init__(self, secrets: Any, credentials: Callable[[], Any]) -> None:
        self._secrets, self._credentials = secrets, credentials

    def headers_for(self, config: PrometheusConfig) -> Callable[[str], Mapping[str, str]]:
        """Return what makes the headers of a request for a URL of the server.

        Raises
        ------
        RequestRefused
            If there is no such secret, or it is not for this server.
        """
        auth = config.auth
        if isinstance(auth, BearerToken):
            bearer = {"Authorization": f"Bearer {self._token(auth.bearer_token_secret, config.url)}"}
            return lambda _: bearer
        if isinstance(auth, Signature):
            signer = SigV4Auth(self._credentials(), auth.sigv4.service, auth.sigv4.region)
            return lambda url: _signed(signer, url)
        return lambda _: {}

    def _token(self, name: str, url: str) -> str:
        """Return the token of a secret.

        The secret names its server: whoever may request a rollout names the URL, and would get the token sent.
        """
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

        field = f"config: auth.bearerTokenSecret: {name}"
        try:
            secret = json.loads(self._secrets.get(name, max_age=SECRET_SECONDS))
            server, token = secret["url"].rstrip("/"), secret["token"]
        except GetParameterError as error:
            raise RequestRefused(f"{field} cannot be read: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            # The message of the error may hold a part of the secret.
            raise RequestRefused(f'{field} must be a JSON object, {{"url": "https://...", "token": "..."}}') from None
        if server != url:
            raise RequestRefused(f"{field} is for another url than {url}; give the same in both")
        return _as_header(token, field)


def _as_header(token: object, field: str) -> str:
    if not (isinstance(token, str) and token.isascii() and token.isprintable() and token):
        raise RequestRefused(f"{field}: token must be plain text in one line")
    return token


def _signed(signer: SigV4Auth, url: str) -> dict[str, str]:
    """Return the headers of a signature: https://docs.aws.amazon.com/prometheus/latest/userguide/AMP-APIReference.html."""
    request = AWSRequest(method="GET", url=url)
    signer.add_auth(request)
    return dict(request.headers.items())
