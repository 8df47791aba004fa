"""Load balancers of the embedded AWS for tests, and targets of their own."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.clients import Aws

Groups = dict[str, int]
"""Weights of target groups by ARN."""


class Target(http.server.ThreadingHTTPServer):
    """A service that answers with its name; slowly for the path `/slow`."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.status = 200
        """What requests and health checks get."""
        self.asked = threading.Event()
        """Set once a slow request has come, which then waits for `may_answer`."""
        self.may_answer = threading.Event()

    @property
    def registration(self) -> dict[str, Any]:
        """The target as RegisterTargets takes it."""
        return {"Id": "127.0.0.1", "Port": self.server_port}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Target

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.asked.set()
            self.server.may_answer.wait(10)
        body = self.server.name.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def targets(*names: str) -> Iterator[list[Target]]:
    """Targets of these names, as long as the context is entered."""
    servers = [Target(name) for name in names]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield servers
    for server in servers:
        server.may_answer.set()
        server.shutdown()
        server.server_close()


class Balancer:
    """A load balancer with one listener, whose default action answers 404."""

    def __init__(self, aws: Aws, port: int = 8080, **listener: Any) -> None:
        """Make it."""
        self.aws, self.elb, self.port = aws, aws.elbv2, port
        made = self.elb.create_load_balancer(Name=aws.prefix, Subnets=["subnet-1", "subnet-2"])["LoadBalancers"][0]
        self.arn, self.address = made["LoadBalancerArn"], made["DNSName"]
        nothing = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
        settings = {"Protocol": "HTTP", "Port": port, "DefaultActions": nothing, **listener}
        self.listener = self.elb.create_listener(LoadBalancerArn=self.arn, **settings)["Listeners"][0]["ListenerArn"]

    def group(self, name: str, *registered: Target) -> str:
        """Make a target group with these targets; returns its ARN."""
        made = self.elb.create_target_group(
            Name=f"{self.aws.prefix}-{name}",
            Protocol="HTTP",
            Port=80,
            VpcId="vpc-1",
            TargetType="ip",
            HealthCheckIntervalSeconds=5,
        )
        arn = str(made["TargetGroups"][0]["TargetGroupArn"])
        if registered:
            self.elb.register_targets(TargetGroupArn=arn, Targets=[target.registration for target in registered])
        return arn

    def rule(self, weights: Groups, priority: int = 10, path: str = "/*", **config: Any) -> dict[str, Any]:
        """Make a rule that forwards by weights."""
        return dict(
            self.elb.create_rule(
                ListenerArn=self.listener,
                Priority=priority,
                Conditions=[{"Field": "path-pattern", "Values": [path]}],
                Actions=[forward(weights, **config)],
            )["Rules"][0]
        )

    def health(self, group: str) -> list[str]:
        """The states of a group's targets."""
        told = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [str(each["TargetHealth"]["State"]) for each in told]

    def get(self, path: str = "/", seconds: float = 5, **headers: str) -> tuple[int, str]:
        """Send a request to the listener; returns the status and the body."""
        request = urllib.request.Request(f"http://{self.address}:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, metric: str, statistic: str = "Sum", group: str = "") -> list[float]:
        """The values of a metric in the last minutes: of a target group, or of the load balancer alone."""
        dimensions = {"TargetGroup": _dimension(group)} if group else {}
        dimensions["LoadBalancer"] = _dimension(self.arn)
        named = {
            "Namespace": "AWS/ApplicationELB",
            "MetricName": metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        }
        query = {"Id": "m", "MetricStat": {"Metric": named, "Period": 60, "Stat": statistic}}
        now = time.time()
        found = self.aws.cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=now - 300, EndTime=now + 60)
        return [float(value) for value in found["MetricDataResults"][0]["Values"]]


def forward(weights: Groups, **config: Any) -> dict[str, Any]:
    """A forward action with these weights."""
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups, **config}}


def _dimension(arn: str) -> str:
    return arn.split(":", 5)[5].removeprefix("loadbalancer/")
