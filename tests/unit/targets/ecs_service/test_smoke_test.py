"""HTTP requests to a candidate that has no users yet: where they go, and what their answers say."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import RequestRefused
from headgate.targets.ecs_service.smoke_test import MAX_TARGETS, CandidateRoutes, Route, SmokeTest, fault_of
from tests.builders import ACCOUNT, REGION, event
from tests.fakes.services import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.functions import Functions

ELB = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}"
BALANCER = f"{ELB}:loadbalancer/app/shop-web/50dc6c495c0c9188"
LISTENER = f"{ELB}:listener/app/shop-web/50dc6c495c0c9188/f2f7dc8efc522ab2"
RULE = f"{ELB}:listener-rule/app/shop-web/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"
GROUP = f"{ELB}:targetgroup/shop-green/9ab3c1d2e4f56071"
SERVICE = {"testRules": [], "candidateGroups": [GROUP]}


class Balancers(Service):
    """One load balancer with a test listener, a test rule and the candidate's group."""

    def __init__(self) -> None:
        self.conditions: list[dict[str, Any]] = []
        self.protocol = "HTTPS"
        self.kind = "ip"
        self.targets: list[tuple[str, str]] = [("10.0.1.5", "healthy")]

    def DescribeRules(self, RuleArns: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        assert RuleArns == [RULE]
        return {"Rules": [{"RuleArn": RULE, "Conditions": self.conditions}]}

    def DescribeListeners(self, ListenerArns: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        assert ListenerArns == [LISTENER]
        listener = {"ListenerArn": LISTENER, "LoadBalancerArn": BALANCER, "Port": 8443, "Protocol": self.protocol}
        return {"Listeners": [listener]}

    def DescribeLoadBalancers(self, LoadBalancerArns: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        assert LoadBalancerArns == [BALANCER]
        return {"LoadBalancers": [{"LoadBalancerArn": BALANCER, "DNSName": "shop-web-1.elb.amazonaws.com"}]}

    def DescribeTargetGroups(self, TargetGroupArns: list[str]) -> dict[str, Any]:  # noqa: N802, N803
        assert TargetGroupArns == [GROUP]
        group = {"TargetGroupName": "shop-green", "TargetType": self.kind, "Protocol": "HTTP", "Port": 80}
        return {"TargetGroups": [group]}

    def DescribeTargetHealth(self, TargetGroupArn: str) -> dict[str, Any]:  # noqa: N802, N803
        assert TargetGroupArn == GROUP
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": address, "Port": 8080}, "TargetHealth": {"State": state}}
                for address, state in self.targets
            ]
        }


@pytest.fixture
def balancers(deployed: Functions) -> Iterator[Balancers]:
    fake = Balancers()
    detach = fake.attach(deployed.client("elbv2"))
    yield fake
    detach()


@pytest.fixture
def routes(deployed: Functions, balancers: Balancers) -> CandidateRoutes:
    return CandidateRoutes(deployed.client("elbv2"))


class Candidate(ThreadingHTTPServer):
    """A service on this machine that answers with a status of its own, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.statuses = [200]
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.silent = threading.Event()
        self.stalls = False

    @property
    def route(self) -> Route:
        return Route(secure=False, host="127.0.0.1", port=self.server_port, path="/health?full=1", headers={})


class _Answers(BaseHTTPRequestHandler):
    server: Candidate

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"], self.headers["X-Test"]))
        if self.server.stalls:
            self.server.silent.wait(5)
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def candidate() -> Iterator[Candidate]:
    server = Candidate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(config: Any) -> str:
    with pytest.raises(RequestRefused) as refused:
        SmokeTest.of(config).route_given()
    return str(refused.value)


class TestTheConfig:
    def test_everything_has_a_default(self) -> None:
        test = SmokeTest.of({})
        assert (test.path, test.expect_status, test.attempts, test.timeout_seconds) == ("/", 200, 3, 5)
        assert test.route_given() == []

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"paths": ["/"]}, "config: paths: is not a known field; did you mean path?"),
            ({"path": "health"}, "config: path: must begin with / and have no space"),
            ({"path": "/a\r\nX: y"}, "config: path: must begin with / and have no space"),
            ({"expectStatus": "200"}, "config: expectStatus"),
            ({"attempts": 0}, "config: attempts: "),
            ({"timeoutSeconds": 60}, "config: timeoutSeconds: "),
            (
                {"headers": {"X-Test": "a\r\nHost: b"}},
                "config: headers.X-Test: is not a valid header; give plain ASCII",
            ),
            ({"headers": {"X Test": "a"}}, "config: headers.X Test: is not a valid header"),
            ("smoke", "config: "),
            ({"url": "ftp://shop.example.com"}, "config: url: must begin with http:// or https://"),
            ({"url": "https://shop.example.com/health"}, "config: url: must be a scheme, a host and a port"),
            ({"url": "https://shop.example.com:99999"}, "config: url: Port out of range"),
            ({"url": "http://me:secret@shop.example.com"}, "config: url: must be a scheme, a host and a port"),
            ({"url": "http://127.0.0.1:9001"}, "config: url: 127.0.0.1 is 127.0.0.1, which no candidate has; name "),
            ({"url": "http://localhost:9001"}, "config: url: localhost is "),
            ({"url": "http://[::1]:9001"}, "config: url: ::1 is ::1, which no candidate has"),
            ({"url": "http://[::ffff:127.0.0.1]:9001"}, "config: url: ::ffff:127.0.0.1 is "),
            ({"url": "http://169.254.169.254"}, "config: url: 169.254.169.254 is 169.254.169.254, which no candidate"),
            ({"url": "http://nobody.invalid"}, "config: url: nobody.invalid cannot be resolved: "),
        ],
    )
    def test_a_fault_names_field_and_fix(self, config: Any, reason: str) -> None:
        assert refusal(config).startswith(reason)

    @pytest.mark.parametrize(
        ("url", "route"),
        [
            ("http://10.0.1.9:8080", Route(False, "10.0.1.9", 8080, "/health", {"Host": "10.0.1.9:8080"})),
            ("https://10.0.1.9", Route(True, "10.0.1.9", 443, "/health", {"Host": "10.0.1.9"})),
        ],
    )
    def test_a_url_says_where_to_go(self, url: str, route: Route) -> None:
        assert SmokeTest.of({"url": url, "path": "/health"}).route_given() == [route]

    def test_a_header_for_the_host_wins_over_that_of_the_url(self) -> None:
        config = {"url": "https://10.0.1.9", "headers": {"Host": "shop.example.com"}}
        ((route),) = SmokeTest.of(config).route_given()
        assert route.headers == {"Host": "shop.example.com"}


class TestTheWayToTheCandidate:
    def test_it_goes_straight_to_the_healthy_targets(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.targets = [("10.0.1.5", "healthy"), ("10.0.1.6", "draining"), ("10.0.1.7", "healthy")]
        found = routes.of(SERVICE, SmokeTest.of({"path": "/health"}))
        assert list(map(str, found)) == ["GET http://10.0.1.5:8080/health", "GET http://10.0.1.7:8080/health"]

    def test_it_asks_a_few_targets_of_many(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.targets = [(f"10.0.1.{number}", "healthy") for number in range(50)]
        assert len(routes.of(SERVICE, SmokeTest.of({}))) == MAX_TARGETS

    def test_it_goes_through_the_first_test_rule(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.conditions = [
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Test", "Values": ["green-?"]}},
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*", "/health"]}},
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
        ]
        (route,) = routes.of(SERVICE | {"testRules": [RULE, "another"]}, SmokeTest.of({"path": "/health?full=1"}))
        assert str(route) == "GET https://shop-web-1.elb.amazonaws.com:8443/health"
        assert route.headers == {"Host": "headgate.example.com", "X-Test": "green-x"}

    def test_a_test_listener_needs_no_rule(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.protocol = "HTTP"
        config = {"headers": {"Host": "shop.example.com"}}
        (route,) = routes.of(SERVICE | {"testRules": [LISTENER]}, SmokeTest.of(config))
        assert route == Route(False, "shop-web-1.elb.amazonaws.com", 8443, "/", {"Host": "shop.example.com"})

    @pytest.mark.parametrize(
        ("condition", "reason"),
        [
            (
                {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/test/*"]}},
                f"config: path: / does not reach the test rule {RULE}, which takes /test/*",
            ),
            (
                {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["POST"]}},
                f"config: url: is missing, and the test rule {RULE} has a condition on http-request-method that a GET",
            ),
            (
                {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "test", "Value": "1"}]}},
                f"config: url: is missing, and the test rule {RULE} has a condition on query-string that a GET",
            ),
        ],
    )
    def test_a_test_rule_that_the_request_does_not_reach_is_told(
        self, routes: CandidateRoutes, balancers: Balancers, condition: dict[str, Any], reason: str
    ) -> None:
        balancers.conditions = [condition]
        with pytest.raises(RequestRefused) as refused:
            routes.of(SERVICE | {"testRules": [RULE]}, SmokeTest.of({}))
        assert str(refused.value).startswith(reason)

    def test_targets_without_an_address_need_a_url(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.kind = "instance"
        with pytest.raises(
            RequestRefused, match=r"^config: url: is missing, and the targets of shop-green are of type i"
        ):
            routes.of(SERVICE, SmokeTest.of({}))

    def test_without_a_healthy_target_there_is_no_way(self, routes: CandidateRoutes, balancers: Balancers) -> None:
        balancers.targets = [("10.0.1.5", "unhealthy")]
        with pytest.raises(
            RequestRefused, match=r"^the target group shop-green of the candidate has no healthy target$"
        ):
            routes.of(SERVICE, SmokeTest.of({}))

    def test_another_kind_of_target_needs_a_url(self, routes: CandidateRoutes) -> None:
        with pytest.raises(RequestRefused, match=r"^config: url: is missing; only for a target of kind ecs-service"):
            routes.of(None, SmokeTest.of({}))


class TestARequest:
    def test_it_has_the_path_and_the_headers(self, candidate: Candidate) -> None:
        route = candidate.route._replace(headers={"Host": "shop.example.com", "X-Test": "green"})
        assert fault_of(route, SmokeTest.of({})) == ""
        assert candidate.asked == [("/health?full=1", "shop.example.com", "green")]

    def test_another_status_is_told_and_no_query(self, candidate: Candidate) -> None:
        candidate.statuses = [503]
        assert fault_of(candidate.route, SmokeTest.of({"expectStatus": [200, 204]})) == (
            f"GET http://127.0.0.1:{candidate.server_port}/health was answered with 503, expected 200 or 204"
        )

    def test_a_redirect_is_an_answer_and_is_not_followed(self, candidate: Candidate) -> None:
        candidate.statuses = [302]
        assert fault_of(candidate.route, SmokeTest.of({"expectStatus": 302})) == ""
        assert len(candidate.asked) == 1

    def test_a_candidate_that_does_not_answer_in_time_is_told(self, candidate: Candidate) -> None:
        candidate.stalls = True
        told = fault_of(candidate.route, SmokeTest.of({"timeoutSeconds": 0.05}))
        assert "/health was not answered within 0.05 s; check that security groups let" in told

    def test_a_candidate_that_takes_no_connection_is_told(self, candidate: Candidate) -> None:
        closed = candidate.route._replace(port=1)
        assert fault_of(closed, SmokeTest.of({})).startswith("GET http://127.0.0.1:1/health failed: ConnectionRefused")

    def test_a_candidate_without_tls_is_told_where_tls_is_expected(self, candidate: Candidate) -> None:
        for verified in (True, False):
            told = fault_of(candidate.route._replace(secure=True, verified=verified), SmokeTest.of({}))
            assert told.startswith(f"GET https://127.0.0.1:{candidate.server_port}/health failed: SSLError: ")


class TestTheHook:
    @pytest.fixture(autouse=True)
    def _reached(self, balancers: Balancers, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        """The candidate's only target is on this machine."""
        told = {"Target": {"Id": "127.0.0.1", "Port": candidate.server_port}, "TargetHealth": {"State": "healthy"}}
        answer = {"TargetHealthDescriptions": [told]}
        monkeypatch.setattr(balancers, "DescribeTargetHealth", lambda TargetGroupArn: answer)  # noqa: ARG005, N803

    def test_it_succeeds_where_every_target_answers_as_expected(
        self, deployed: Functions, candidate: Candidate
    ) -> None:
        assert deployed.call("http_smoke_tester") == {
            "hookStatus": "SUCCEEDED",
            "hookDetails": {"requests": 1, "attempts": 1},
        }
        assert [path for path, *_ in candidate.asked] == ["/health"]

    def test_it_tries_again_and_then_gives_up(self, deployed: Functions, candidate: Candidate) -> None:
        candidate.statuses = [500]
        payload = event("http_smoke_tester")
        answers = [
            deployed.call("http_smoke_tester", payload | {"hookDetails": {"attempts": attempt}}) for attempt in range(3)
        ]
        again = {"hookStatus": "IN_PROGRESS", "callBackDelay": 2}
        assert answers[:2] == [again | {"hookDetails": {"attempts": attempt}} for attempt in (1, 2)]
        assert answers[2] == {
            "hookStatus": "FAILED",
            "hookDetails": {
                "reason": f"attempt 3 of 3: GET http://127.0.0.1:{candidate.server_port}/health was answered with 500, "
                "expected 200"
            },
        }

    def test_it_succeeds_at_a_later_attempt(self, deployed: Functions, candidate: Candidate) -> None:
        candidate.statuses = [500, 200]
        payload = event("http_smoke_tester")
        details = deployed.call("http_smoke_tester", payload)["hookDetails"]
        answer = deployed.call("http_smoke_tester", payload | {"hookDetails": details})
        assert answer == {"hookStatus": "SUCCEEDED", "hookDetails": {"requests": 1, "attempts": 2}}

    def test_a_faulty_config_fails_it_at_once(self, deployed: Functions, candidate: Candidate) -> None:
        answer = deployed.call("http_smoke_tester", event("http_smoke_tester") | {"config": {"path": "health"}})
        assert answer["hookStatus"] == "FAILED"
        assert answer["hookDetails"]["reason"].startswith("config: path: must begin with /")
        assert candidate.asked == []
