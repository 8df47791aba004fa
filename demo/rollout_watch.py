"""Follows one rollout from outside, as a user could: the bus, the target and its traffic."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from demo.traffic import tally
from headgate.aws.arns import execution_arn, execution_name
from headgate.errors import RequestRefused
from headgate.history.store import History
from headgate.spec.plan import planned_steps
from headgate.spec.request import read_request
from headgate.spec.strategy import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.traffic import Request, Traffic
    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

ENDED = {
    "Rollout Succeeded": "succeeded",
    "Rollout Rolled Back": "rolled-back",
    "Rollout Refused": "refused",
    "Rollout Stopped": "stopped",
}
ANNOUNCED_WITHIN_SECONDS = 2
"""How long a change of the weights waits for the event that announces it."""
PATIENCE_SECONDS = 120
"""Time beyond its bakes after which a rollout has failed."""


class Standing(NamedTuple):
    """Distribution of a target's traffic."""

    version: str
    weights: dict[str, float]
    """Share of each other version; empty if ``version`` has all traffic."""
    share: str = ""
    """The same in words, if the weights are not enough."""


class Watched(Protocol):
    """A target, as seen from outside."""

    what: str
    """Plural noun for its traffic."""
    called: str
    """Noun for what its traffic is split between: version or revision."""

    def standing(self) -> Standing:
        """Return the current distribution of traffic."""

    def since(self, begun: float) -> list[Request]:
        """Return the requests since a time, by time.monotonic."""


class WatchedAlias:
    """An alias with live traffic."""

    what = "requests"
    called = "version"

    def __init__(self, aws: EmbeddedAws, function: str, alias: str, traffic: Traffic) -> None:
        self._functions, self._traffic = aws.client("lambda"), traffic
        self._target = {"FunctionName": function, "Name": alias}

    def standing(self) -> Standing:
        alias = self._functions.get_alias(**self._target)
        return Standing(alias["FunctionVersion"], alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}))

    def since(self, begun: float) -> list[Request]:
        return self._traffic.since(begun)


@dataclass
class Rollout:
    """Result of one rollout, as seen from outside."""

    rollout_id: str
    expected: str
    stable: str
    outcome: str = ""
    reason: str = ""
    seconds: float = 0
    candidate: str = ""
    alias_serves: str = ""
    alias_weights: dict[str, float] = field(default_factory=dict)
    back_on_stable: float | None = None
    """Time when the alias was back on the stable version, by time.monotonic."""
    requests: list[Request] = field(default_factory=list)
    bakes_ended_by: list[str] = field(default_factory=list)
    transitions: int = 0
    redriven: dict[str, int] | None = None
    """For a consumer: the failed messages and where they went, from the rollout's last event."""

    @property
    def failure_to_rollback(self) -> float | None:
        """Seconds from the first failed candidate request until the alias was back on the stable version."""
        failed = [request.at for request in self.requests if not request.ok and request.version == self.candidate]
        return max(0.0, self.back_on_stable - failed[0]) if failed and self.back_on_stable else None

    @property
    def wrong(self) -> list[str]:
        """Differences from the expected result."""
        must_serve = self.candidate if self.expected == "succeeded" else self.stable
        faults = []
        if self.outcome != self.expected:
            faults.append(f"the outcome is {self.outcome}, expected {self.expected}")
        if self.alias_serves != must_serve or self.alias_weights:
            faults.append(
                f"the alias serves {self.alias_serves} {self.alias_weights or ''}, expected {must_serve} alone"
            )
        return faults

    @property
    def ended_right(self) -> bool:
        return not self.wrong

    def to_summary(self) -> dict[str, Any]:
        return {
            "rolloutId": self.rollout_id,
            "outcome": self.outcome,
            "expected": self.expected,
            "reason": self.reason,
            "seconds": round(self.seconds, 2),
            "stable": self.stable,
            "candidate": self.candidate,
            "aliasServes": self.alias_serves,
            "requests": {v: {"requests": n, "errors": e} for v, (n, e) in tally(self.requests).items()},
            "failedRequests": sum(not request.ok for request in self.requests),
            "secondsFromFirstFailureToRollback": (
                None if self.failure_to_rollback is None else round(self.failure_to_rollback, 2)
            ),
            "bakesEndedBy": self.bakes_ended_by,
            "stateTransitions": self.transitions,
            "ok": self.ended_right,
            "wrong": self.wrong,
        }


def release(aws: EmbeddedAws, function: str, error_rate: float) -> None:
    """Put a new release into $LATEST. Only its configuration changes."""
    client = aws.client("lambda")
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    variables |= {"RELEASE": str(int(variables["RELEASE"]) + 1), "ERROR_RATE": str(error_rate)}
    client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
    client.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})


def with_strategy(event: dict[str, Any], strategy: str | None) -> dict[str, Any]:
    """Return an event with the given strategy, the name of a preset or JSON.

    Raises
    ------
    RequestRefused
        If Headgate would refuse the event, or no step bakes, so that a bad release could not be detected.
    """
    if strategy:
        event["detail"]["strategy"] = json.loads(strategy) if strategy.startswith("{") else strategy
    steps = steps_of(read_request(event["detail"], "demo").strategy)
    if not any(step.bake_seconds for step in steps):
        raise RequestRefused(f"strategy: {strategy} never bakes, so the bad release could not be detected; use another")
    return event


def follow(aws: EmbeddedAws, headgate: Outputs, event: dict[str, Any], watched: Watched, expected: str) -> Rollout:
    """Send the event, show what happens until the rollout ends, and return its result."""
    request = read_request(event["detail"], "demo")
    bus = Announcements(aws, headgate["BusName"], request.id)
    rollout = Rollout(request.id, expected, stable=watched.standing().version)
    begun = time.monotonic()
    _send(aws, headgate["BusName"], event)
    limit = sum(step.bake_seconds for step in planned_steps(request)) + PATIENCE_SECONDS
    waits = Waits(History(aws.client("dynamodb"), headgate["TableName"]), request.id)
    show(rollout, watched, bus, begun, limit, until=lambda: bool(rollout.outcome), news=waits.new)
    take_stock(aws, headgate, rollout, watched, begun)
    bus.close()
    return rollout


def take_stock(aws: EmbeddedAws, headgate: Outputs, rollout: Rollout, watched: Watched, begun: float) -> None:
    """Record the target and its traffic after the end of a rollout."""
    rollout.seconds = time.monotonic() - begun
    time.sleep(1)  # Wait for the answers to requests that were in flight when the target moved.
    standing = watched.standing()
    rollout.alias_serves, rollout.alias_weights = standing.version, standing.weights
    rollout.requests = watched.since(begun)
    execution = execution_arn(headgate["RolloutMachineArn"], execution_name(rollout.rollout_id))
    rollout.transitions = _transitions(aws, execution) if rollout.rollout_id else 0


def _send(aws: EmbeddedAws, bus: str, event: dict[str, Any]) -> None:
    entry = {
        "EventBusName": bus,
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
    }
    aws.client("events").put_events(Entries=[entry])


def show(
    rollout: Rollout,
    watched: Watched,
    bus: Announcements,
    begun: float,
    limit: float,
    *,
    until: Callable[[], bool],
    news: Callable[[], list[str]] = list,
) -> None:
    """Show what happens until something holds, and record the rollout's result.

    Parameters
    ----------
    news
        Returns what else there is to show.
    """
    telling = Telling(rollout, watched, begun)
    while not until():
        if time.monotonic() - begun > limit:
            raise TimeoutError(f"rollout {rollout.rollout_id} has not ended after {limit} s")
        standing = watched.standing()
        now = time.monotonic()
        for line in [*news(), *telling.of(now, standing, bus.new())]:
            print(f"  {now - begun:5.1f} s  {line}", flush=True)
        time.sleep(0.05)


class Telling:
    """Tells what happens in a rollout, causes before effects.

    A change of the weights is seen before the event that announces it arrives, so it is printed after that event.
    """

    def __init__(self, rollout: Rollout, watched: Watched, begun: float) -> None:
        self._rollout, self._watched, self._begun = rollout, watched, begun
        self._before = watched.standing()
        self._moved: float | None = None
        """When the weights changed, while that is not told."""
        self._said, self._shown = begun, ""

    def of(self, now: float, standing: Standing, announced: list[dict[str, Any]]) -> list[str]:
        """Return the lines for what is new, and record the rollout's result."""
        before, self._before = self._before, standing
        if before.weights and not standing.weights and standing.version == self._rollout.stable:
            self._rollout.back_on_stable = now
        if before.weights != standing.weights:
            self._moved = now
        lines, announces = [], False
        for each in announced:
            _take_note(self._rollout, each)
            lines.append(_sentence(each))
            announces |= _announces_weights(each)
        if self._moved is None:
            return lines + self._counts(now, standing)
        if not announces and now - self._moved < ANNOUNCED_WITHIN_SECONDS:
            return lines
        self._moved = None
        if standing.weights:
            return lines + self._counts(now, standing)
        return [*lines, f"  {standing.share}"] if standing.share else lines

    def _counts(self, now: float, standing: Standing) -> list[str]:
        """Return the requests of each version once a second, if they have changed."""
        if not standing.weights or now - self._said < 1:
            return []
        counts = _counts(self._watched.since(self._begun), standing, self._watched)
        shown, self._said, self._shown = self._shown, now, counts
        return [f"  {counts}"] if counts != shown else []


class Waits:
    """What the driver of a rollout waits for, as it is on record."""

    def __init__(self, history: History, rollout_id: str) -> None:
        self._history, self._rollout_id = history, rollout_id
        self._next, self._said = 0.0, ""

    def new(self) -> list[str]:
        """Return a line if it has changed. Reads the record twice a second at most."""
        if (now := time.monotonic()) < self._next:
            return []
        self._next = now + 0.5
        waits = [view.waits_for.reason for view in self._history.live([self._rollout_id]) if view.waits_for]
        before, self._said = self._said, "".join(waits)
        return [f"  waiting: {self._said}"] if self._said and self._said != before else []


def _take_note(rollout: Rollout, announced: dict[str, Any]) -> None:
    detail = announced["detail"]
    rollout.rollout_id = rollout.rollout_id or detail["rolloutId"]
    if announced["detail-type"] == "Step Baked":
        rollout.bakes_ended_by.append(detail["endedBy"])
    if announced["detail-type"] in ENDED:
        rollout.outcome = ENDED[announced["detail-type"]]
        rollout.reason = detail["reason"]
        rollout.candidate = detail.get("candidate", "")
        rollout.redriven = detail.get("redriven")


def _sentence(announced: dict[str, Any]) -> str:
    detail, kind = announced["detail"], announced["detail-type"]
    match kind:
        case "Rollout Started":
            steps = len(detail["steps"])
            return f"{kind}: {detail['target']}, {steps} step{'' if steps == 1 else 's'}"
        case "Step Started":
            kept = detail["weight"] == 100 and detail["target"].startswith("ecs-service/")
            return f"{kind}: {detail['weight']:g} % to the candidate{', the stable revision is kept' if kept else ''}"
        case "Step Baked":
            return f"{kind}: ended by {detail['endedBy']}"
        case "Verdict Reached":
            return f"{kind}: {detail['verdict']}: {detail['reason']}"
    return f"{kind}: {detail['reason']}"


def _announces_weights(announced: dict[str, Any]) -> bool:
    """Return whether the weights have changed, or are about to, by what this event says."""
    kind, verdict = announced["detail-type"], announced["detail"].get("verdict")
    return kind in {"Step Started", *ENDED} or (kind == "Verdict Reached" and verdict != "continue")


def _counts(requests: list[Request], standing: Standing, watched: Watched) -> str:
    called, what = watched.called, watched.what
    weights = ", ".join(f"{weight * 100:g} % to {called} {version}" for version, weight in standing.weights.items())
    counts = "   ".join(f"{called} {v}: {n} {what}, {e} errors" for v, (n, e) in tally(requests).items())
    return f"{standing.share or weights}   {counts}"


def _transitions(aws: EmbeddedAws, execution: str) -> int:
    pages = aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
    return sum(event["type"].endswith("StateEntered") for page in pages for event in page["events"])


class Announcements:
    """Events of one rollout, received from the bus with a rule and a queue.

    Parameters
    ----------
    rollout_id
        Events of all rollouts if it is empty.
    """

    def __init__(self, aws: EmbeddedAws, bus: str, rollout_id: str = "") -> None:
        self._queues, self._events, self._bus = aws.client("sqs"), aws.client("events"), bus
        self._name = f"watch-{rollout_id or uuid.uuid4().hex[:8]}"
        self._url = self._queues.create_queue(QueueName=self._name)["QueueUrl"]
        arn = self._queues.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        wanted = [rollout_id] if rollout_id else [{"exists": True}]
        pattern = {"source": ["headgate"], "detail": {"rolloutId": wanted}}
        self._events.put_rule(Name=self._name, EventBusName=bus, EventPattern=json.dumps(pattern))
        self._events.put_targets(Rule=self._name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
        self._seen: set[str] = set()

    def new(self) -> list[dict[str, Any]]:
        """Return new events in order. Delivery is at least once, so duplicates are dropped by id."""
        fresh = []
        for message in self._queues.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", []):
            self._queues.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            announced = json.loads(message["Body"])
            if announced["detail"]["id"] not in self._seen:
                self._seen.add(announced["detail"]["id"])
                fresh.append(announced)
        return sorted(fresh, key=lambda announced: announced["detail"]["at"])

    def close(self) -> None:
        self._events.remove_targets(Rule=self._name, EventBusName=self._bus, Ids=["queue"])
        self._events.delete_rule(Name=self._name, EventBusName=self._bus)
        self._queues.delete_queue(QueueUrl=self._url)
