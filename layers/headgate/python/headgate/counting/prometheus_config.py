"""The ``config`` of a guard whose counts come from Prometheus."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Tag, ValidationError, model_validator

from headgate.errors import RequestRefused
from headgate.ids import must_match
from headgate.wire import Wire, explain, has_field, is_text, one_of

OF_REVISION = "$revision"

_URL = re.compile(r"https?://[\x21-\x7e]{1,500}")
_SECRET = re.compile(r"[A-Za-z0-9/_+=.@:-]{1,512}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")


def _is_a_server(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.fragment or parts.username is not None or (parts.port == 0):
        raise ValueError("must be a scheme, a host and, if needed, a port and a path")
    return url.rstrip("/")


def _asks_for_a_revision(query: str) -> str:
    if OF_REVISION not in query:
        raise ValueError(f"is the same for both revisions; put {OF_REVISION} into a matcher of a label")
    return query


Query = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_asks_for_a_revision)]


class BearerToken(Wire):
    """A bearer token."""

    bearer_token_secret: Annotated[str, AfterValidator(must_match(_SECRET, "must be the name of a secret"))]
    """Name of a secret in Secrets Manager, a JSON object with ``url`` and ``token``. The token is sent to this ``url``
    alone, so it must be that of the config."""


class SigningPlace(Wire):
    """Where a signature counts."""

    region: Annotated[str, AfterValidator(must_match(_REGION, "must be a Region, such as eu-central-1"))]
    """The Region of the workspace."""
    service: Literal["aps"] = "aps"
    """The service: Amazon Managed Service for Prometheus."""


class Signature(Wire):
    """A signature of version 4, with the role of the function."""

    sigv4: SigningPlace
    """Region and service."""


Auth = Annotated[
    Annotated[Literal["none"], Tag("<none>")]
    | Annotated[BearerToken, Tag("<bearer>")]
    | Annotated[Signature, Tag("<sigv4>")],
    one_of(
        {
            "<none>": is_text,
            "<bearer>": has_field(BearerToken, "bearerTokenSecret"),
            "<sigv4>": has_field(Signature, "sigv4"),
        },
        'must be "none", {"bearerTokenSecret": "..."} or {"sigv4": {"region": "..."}}',
        alone=True,
    ),
]


class PrometheusConfig(Wire):
    """The ``config`` of ``headgate-prometheus-counter``."""

    url: Annotated[
        str,
        AfterValidator(must_match(_URL, "must begin with https:// or http:// and have no space")),
        AfterValidator(_is_a_server),
    ]
    """The server, up to what stands before ``/api/v1``."""
    requests: Query
    """PromQL of the requests in the minute before the time of the query. ``$revision`` stands for each revision."""
    failures: Query
    """PromQL of the failures among them. The same rule applies."""
    auth: Auth = "none"
    """What the server asks for. A token and a signature are sent by https alone."""

    @model_validator(mode="after")
    def _secret_only_in_secret(self) -> PrometheusConfig:
        if self.auth != "none" and not self.url.startswith("https://"):
            raise ValueError("url must begin with https://, because auth would be read by anybody on the way")
        return self

    @classmethod
    def of(cls, config: Any) -> PrometheusConfig:
        """Read a config. Raise RequestRefused if it is not valid."""
        try:
            return cls.model_validate(config, by_alias=True, by_name=False)
        except ValidationError as error:
            raise RequestRefused(f"config: {explain(error, cls)}") from None
