"""Tokens and signatures: who gets them, and what they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from headgate.counting.prometheus_access import PrometheusAccess
from headgate.counting.prometheus_config import PrometheusConfig
from headgate.errors import RequestRefused
from tests.builders import event

if TYPE_CHECKING:
    from collections.abc import Mapping

URL = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-12345678"
ASKED = f"{URL}/api/v1/query_range?query=sum%28x%7Bversion%3D%227%22%7D%29&start=60&end=120&step=60"


class Secrets:
    """Secrets by name."""

    def __init__(self, **secrets: str) -> None:
        self._secrets = secrets

    def get(self, name: str, max_age: int) -> str:
        assert max_age == 300
        if name not in self._secrets:
            raise GetParameterError("An error occurred (ResourceNotFoundException)")
        return self._secrets[name]


def config(auth: Any, url: str = URL) -> PrometheusConfig:
    return PrometheusConfig.of(event("prometheus_counter")["config"] | {"url": url, "auth": auth})


def headers(auth: Any, url: str = URL, **secrets: str) -> Mapping[str, str]:
    access = PrometheusAccess(Secrets(**secrets), lambda: Credentials("AKIDEXAMPLE", "secret", "session"))
    return access.headers_for(config(auth, url))(ASKED)


def test_without_auth_nothing_is_sent() -> None:
    assert headers("none") == {}


@pytest.mark.parametrize("url", [URL, f"{URL}/"])
def test_a_token_is_sent_to_the_server_that_its_secret_names(url: str) -> None:
    main = json.dumps({"url": url, "token": "t0k3n"})
    assert headers({"bearerTokenSecret": "main"}, main=main) == {"Authorization": "Bearer t0k3n"}


@pytest.mark.parametrize(
    "url", ["https://mallory.example.com", f"{URL}9", "https://aps-workspaces.eu-central-1.amazonaws.com"]
)
def test_a_token_is_sent_to_no_other_server(url: str) -> None:
    main = json.dumps({"url": URL, "token": "t0k3n"})
    with pytest.raises(RequestRefused, match=r"bearerTokenSecret: main is for another url than http") as refused:
        headers({"bearerTokenSecret": "main"}, url, main=main)
    assert "t0k3n" not in str(refused.value)
    assert URL + " " not in str(refused.value)


@pytest.mark.parametrize(
    "secret",
    [
        "t0k3n",
        '"t0k3n"',
        "{}",
        json.dumps({"url": URL}),
        json.dumps({"url": URL, "token": 7}),
        json.dumps({"url": URL, "token": "t0k3n\r\nX-Other: 1"}),
        json.dumps({"url": 7, "token": "t0k3n"}),
    ],
)
def test_a_faulty_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(RequestRefused, match=r"^config: auth.bearerTokenSecret: main") as refused:
        headers({"bearerTokenSecret": "main"}, main=secret)
    assert "t0k3n" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_secret_that_cannot_be_read_is_named() -> None:
    with pytest.raises(RequestRefused, match=r"bearerTokenSecret: main cannot be read: .*ResourceNotFoundException"):
        headers({"bearerTokenSecret": "main"})


def test_a_signature_is_that_of_botocore_for_the_workspace() -> None:
    signed = headers({"sigv4": {"region": "eu-central-1"}})
    assert signed["X-Amz-Security-Token"] == "session"
    scope = f"AKIDEXAMPLE/{signed['X-Amz-Date'][:8]}/eu-central-1/aps/aws4_request"
    assert f"Credential={scope}, SignedHeaders=host;x-amz-date;x-amz-security-token, " in signed["Authorization"]
    again = AWSRequest(method="GET", url=ASKED, headers={"Host": "aps-workspaces.eu-central-1.amazonaws.com"})
    again.context["timestamp"] = signed["X-Amz-Date"]
    again.headers["X-Amz-Date"], again.headers["X-Amz-Security-Token"] = signed["X-Amz-Date"], "session"
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "session"), "aps", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert signed["Authorization"].endswith(f"Signature={signature}")
