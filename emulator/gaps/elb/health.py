"""Health of a target: how checks change its state, and a check itself. Knows nothing of MiniStack."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emulator.gaps.elb import http1

INITIAL_SECONDS = 1.0
"""How often a target in state initial is checked."""
DESCRIPTIONS = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.Timeout": "Request timed out",
}


class Check(NamedTuple):
    """How a target group checks its targets."""

    path: str = "/"
    port: str = "traffic-port"
    codes: str = "200"
    """As in a Matcher: ``200``, ``200,202`` or ``200-299``."""
    interval: float = 30.0
    timeout: float = 5.0
    healthy_after: int = 5
    """How many good checks in a row make an unhealthy target healthy."""
    unhealthy_after: int = 2
    """How many bad checks in a row make a target unhealthy."""

    @classmethod
    def of(cls, group: dict[str, Any]) -> "Check":
        """Return the check of a target group of the API."""
        return cls(
            path=str(group.get("HealthCheckPath") or "/"),
            port=str(group.get("HealthCheckPort") or "traffic-port"),
            codes=str((group.get("Matcher") or {}).get("HttpCode") or "200"),
            interval=float(group.get("HealthCheckIntervalSeconds") or 30),
            timeout=float(group.get("HealthCheckTimeoutSeconds") or 5),
            healthy_after=int(group.get("HealthyThresholdCount") or 5),
            unhealthy_after=int(group.get("UnhealthyThresholdCount") or 2),
        )


class Finding(NamedTuple):
    """What a check has found; no reason if the target is well."""

    reason: str = ""
    description: str = ""

    @property
    def good(self) -> bool:
        """Whether the target is well."""
        return not self.reason


@dataclass
class Health:
    """The state of a target, and what it comes from. Times are seconds of a monotonic clock."""

    registered: float
    state: str = "initial"
    reason: str = "Elb.RegistrationInProgress"
    description: str = DESCRIPTIONS["Elb.RegistrationInProgress"]
    due: float = 0.0
    """When it is checked next."""
    checking: bool = False
    """Whether a check is under way."""
    gone: float | None = None
    """When its deregistration ends; None for a target that is registered."""
    _good: int = field(default=0, repr=False)
    _bad: int = field(default=0, repr=False)

    def begin_check(self, check: Check, now: float) -> None:
        """Note that a check begins, and when the next one is due."""
        self.checking = True
        self.due = now + (min(INITIAL_SECONDS, check.interval) if self.state == "initial" else check.interval)

    def take(self, finding: Finding, check: Check, now: float) -> None:
        """Change the state by what a check has found.

        A new target is healthy after one good check. As it is checked more often than others, it is unhealthy only
        after the time that as many bad checks take on AWS.
        """
        self.checking = False
        if self.state == "draining":
            return
        self._good, self._bad = (self._good + 1, 0) if finding.good else (0, self._bad + 1)
        if finding.good:
            if self.state == "initial" or self._good >= check.healthy_after:
                self._become("healthy")
            return
        late = now - self.registered >= check.interval * (check.unhealthy_after - 1)
        if self.state == "unhealthy" or (self._bad >= check.unhealthy_after and (self.state != "initial" or late)):
            self._become("unhealthy", finding)

    def drain(self, until: float) -> None:
        """Take no more requests."""
        self.gone = until
        reason = "Target.DeregistrationInProgress"
        self._become("draining", Finding(reason, DESCRIPTIONS[reason]))

    def _become(self, state: str, finding: Finding = Finding()) -> None:  # noqa: B008 - it is immutable
        self.state, self.reason, self.description = state, finding.reason, finding.description


def taking(states: dict[Any, str]) -> list[Any]:
    """Return which of the registered targets take requests: the healthy ones.

    A load balancer fails open: with no healthy target, all that are registered take requests.
    """
    healthy = [target for target, state in states.items() if state == "healthy"]
    return healthy or [target for target, state in states.items() if state in ("initial", "unhealthy")]


def matches(status: int, codes: str) -> bool:
    """Return whether a status is one of the codes of a Matcher."""
    ranges = [part.strip().partition("-") for part in codes.split(",")]
    return any(int(low) <= status <= int(high or low) for low, _, high in ranges)


async def find(check: Check, address: str, port: int) -> Finding:
    """Check a target once."""
    where = port if check.port == "traffic-port" else int(check.port)
    head = f"GET {check.path} HTTP/1.1"
    headers = [("Host", f"{address}:{where}"), ("Connection", "close"), ("User-Agent", "ELB-HealthChecker/2.0")]
    writer = None
    try:
        async with asyncio.timeout(check.timeout):
            reader, writer = await asyncio.open_connection(address, where, limit=http1.HEAD_BYTES)
            writer.write(http1.write_head(head, headers))
            response = http1.parse_response(await http1.read_head(reader))
    except TimeoutError:
        return Finding("Target.Timeout", DESCRIPTIONS["Target.Timeout"])
    except (OSError, http1.MalformedError):
        return Finding("Target.FailedHealthChecks", DESCRIPTIONS["Target.FailedHealthChecks"])
    finally:
        if writer is not None:
            writer.close()
    if matches(response.status, check.codes):
        return Finding()
    return Finding("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{response.status}]")
