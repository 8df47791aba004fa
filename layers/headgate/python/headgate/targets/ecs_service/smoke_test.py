"""HTTP requests to the candidate of a service before it has users.

They go through a test rule of the load balancer, or straight to the candidate's healthy targets, or to a URL. Reasons
say which status came, and never what the answer holds.
"""

from __future__ import annotations

import re
import ssl
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError

from headgate.aws.outbound import SecureConnection, foreign_address
from headgate.errors import RequestRefused
from headgate.ids import must_match
from headgate.wire import Wire, explain

MAX_TARGETS = 5
"""Targets that are asked in one round. With the longest time for an answer it ends within the function's own time."""

_PATH = re.compile(r"/[\x21-\x7e]{0,2000}")
_URL = re.compile(r"https?://[\x21-\x7e]{1,2000}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")

Status = Annotated[int, Field(strict=True, ge=100, le=599)]


class Route(NamedTuple):
    """A way to the candidate."""

    secure: bool
    host: str
    """Name or address to connect to."""
    port: int
    path: str
    headers: dict[str, str]
    verified: bool = True
    """Whether the certificate is checked. Load balancers do not check those of targets, which may be self-signed."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"GET {'https' if self.secure else 'http'}://{host}:{self.port}{self.path.partition('?')[0]}"


class SmokeTest(Wire):
    """The ``config`` of the hook."""

    path: Annotated[str, AfterValidator(must_match(_PATH, "must begin with / and have no space"))] = "/"
    """Path, with a query if needed."""
    expect_status: Status | Annotated[list[Status], Field(min_length=1, max_length=20)] = 200
    """The status that the answer must have, or several of which it must have one."""
    attempts: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How often the requests are sent, two seconds apart, until all are answered as expected."""
    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=10, allow_inf_nan=False)] = 5
    """How long an answer may take."""
    headers: Annotated[dict[str, str], Field(max_length=20)] = {}
    """Headers of the requests. ``Host`` is also the name that a certificate must have."""
    url: Annotated[str, AfterValidator(must_match(_URL, "must begin with http:// or https://"))] | None = None
    """Where to send the request instead: scheme, host and port, as in https://candidate.example.com:8443."""

    @classmethod
    def of(cls, config: Any) -> SmokeTest:
        """Read a config. Raise RequestRefused if it is not valid."""
        try:
            test = cls.model_validate(config, by_alias=True, by_name=False)
        except ValidationError as error:
            raise RequestRefused(f"config: {explain(error, cls)}") from None
        for name, value in test.headers.items():
            if not (_HEADER.fullmatch(name) and _VALUE.fullmatch(value)):
                raise RequestRefused(f"config: headers.{name}: is not a valid header; give plain ASCII text")
        return test

    def route_given(self) -> list[Route]:
        """Return the route to ``url``; empty without one.

        Raises
        ------
        RequestRefused
            If it is not a URL without a path, or its host is this function itself.
        """
        if self.url is None:
            return []
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise RequestRefused(f"config: url: {error} (given {self.url})") from None
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username or not host:
            raise RequestRefused(
                f"config: url: must be a scheme, a host and a port; give the rest as path (given {self.url})"
            )
        secure = parts.scheme == "https"
        headers = {"Host": parts.netloc} | self.headers
        address = foreign_address(host, field="config: url", owner="candidate")
        return [Route(secure, address, port or (443 if secure else 80), self.path, headers)]


class CandidateRoutes:
    """Finds the ways to a candidate that has no users yet.

    Parameters
    ----------
    elb
        boto3's client of Elastic Load Balancing, version 2.
    """

    def __init__(self, elb: Any) -> None:
        self._elb = elb

    def of(self, service: dict[str, Any] | None, test: SmokeTest) -> list[Route]:
        """Return the route through the first test rule, or those to the healthy targets of the first group.

        Parameters
        ----------
        service
            What the hook is told of its service; None for another kind of target.

        Raises
        ------
        RequestRefused
            If there is no way. The message names the fix.
        """
        if service is None:
            raise RequestRefused("config: url: is missing; only for a target of kind ecs-service it is found")
        if service["testRules"]:
            return [self._through(service["testRules"][0], test)]
        return self._straight_to(service["candidateGroups"][0], test)

    def _through(self, rule_arn: str, test: SmokeTest) -> Route:
        """Return the route through a test rule, or the default actions of a test listener."""
        headers: dict[str, str] = {}
        listener_arn = rule_arn
        if ":listener-rule/" in rule_arn:
            listener_arn = rule_arn.rpartition("/")[0].replace(":listener-rule/", ":listener/")
            (rule,) = self._elb.describe_rules(RuleArns=[rule_arn])["Rules"]
            for condition in rule["Conditions"]:
                headers |= _met(condition, test.path, rule_arn)
        (listener,) = self._elb.describe_listeners(ListenerArns=[listener_arn])["Listeners"]
        (balancer,) = self._elb.describe_load_balancers(LoadBalancerArns=[listener["LoadBalancerArn"]])["LoadBalancers"]
        secure = listener["Protocol"] == "HTTPS"
        return Route(secure, balancer["DNSName"], listener["Port"], test.path, headers | test.headers)

    def _straight_to(self, group_arn: str, test: SmokeTest) -> list[Route]:
        (group,) = self._elb.describe_target_groups(TargetGroupArns=[group_arn])["TargetGroups"]
        name = group["TargetGroupName"]
        if group["TargetType"] != "ip":
            raise RequestRefused(
                f"config: url: is missing, and the targets of {name} are of type {group['TargetType']}, whose "
                "addresses the group does not know; give target.testRules, or a url that reaches the candidate"
            )
        told = self._elb.describe_target_health(TargetGroupArn=group_arn)["TargetHealthDescriptions"]
        healthy = [each["Target"] for each in told if each["TargetHealth"]["State"] == "healthy"]
        if not healthy:
            raise RequestRefused(f"the target group {name} of the candidate has no healthy target")
        secure = group["Protocol"] == "HTTPS"
        return [
            Route(secure, target["Id"], target.get("Port") or group["Port"], test.path, test.headers, verified=False)
            for target in healthy[:MAX_TARGETS]
        ]


def _met(condition: dict[str, Any], path: str, rule: str) -> dict[str, str]:
    """Return the headers by which a request meets a condition of a test rule.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
    """
    field, values = condition["Field"], condition.get("Values", [])
    match field:
        case "host-header":
            return {"Host": _example((condition.get("HostHeaderConfig") or {}).get("Values") or values)}
        case "http-header":
            header = condition["HttpHeaderConfig"]
            return {header["HttpHeaderName"]: _example(header["Values"])}
        case "path-pattern":
            patterns = (condition.get("PathPatternConfig") or {}).get("Values") or values
            if not any(fnmatchcase(path.partition("?")[0], pattern.replace("[", "[[]")) for pattern in patterns):
                raise RequestRefused(
                    f"config: path: {path} does not reach the test rule {rule}, which takes {' or '.join(patterns)}"
                )
            return {}
        case "http-request-method":
            if "GET" in (condition.get("HttpRequestMethodConfig") or {}).get("Values", []):
                return {}
        case "source-ip":
            return {}  # The load balancer says whether it takes this function's address.
    raise RequestRefused(
        f"config: url: is missing, and the test rule {rule} has a condition on {field} that a GET does not meet; "
        "give a url that reaches the candidate"
    )


def _example(patterns: list[str]) -> str:
    """Return a value that meets the first pattern of a condition."""
    return patterns[0].replace("*", "headgate").replace("?", "x")


def fault_of(route: Route, test: SmokeTest) -> str:
    """Send a request. Return why its answer is not the expected one; empty if it is. Redirects are not followed."""
    expected = [test.expect_status] if isinstance(test.expect_status, int) else test.expect_status
    connection = _connect(route, test.timeout_seconds)
    try:
        connection.request("GET", route.path, headers={"User-Agent": "headgate-http-smoke-tester"} | route.headers)
        status = connection.getresponse().status
    except TimeoutError:
        return f"{route} was not answered within {test.timeout_seconds:g} s; {_REACH}"
    except ssl.SSLCertVerificationError as error:
        return f"{route}: {error.verify_message}; give config.headers.Host the name in the certificate"
    except (OSError, HTTPException) as error:
        return f"{route} failed: {type(error).__name__}: {error}; {_REACH}"
    finally:
        connection.close()
    if status in expected:
        return ""
    return f"{route} was answered with {status}, expected {' or '.join(map(str, expected))}"


_REACH = (
    "check that security groups let Headgate's functions reach it, by its parameters SubnetIds and SecurityGroupIds"
)


def _connect(route: Route, seconds: float) -> HTTPConnection:
    if not route.secure:
        return HTTPConnection(route.host, route.port, timeout=seconds)
    named = next((value for name, value in route.headers.items() if name.lower() == "host"), route.host)
    name = urlsplit(f"//{named}").hostname or route.host
    return SecureConnection(route.host, route.port, timeout=seconds, name=name, verified=route.verified)
