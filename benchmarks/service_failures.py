"""Failed requests from a bad release of an ECS service to its rollback: Headgate, ECS's circuit breaker, an alarm."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import Section, say, table
from benchmarks.world import until
from demo.ecs_service import wait_until_it_serves
from demo.traffic import WebTraffic
from emulator.application import deploy_catalog

if TYPE_CHECKING:
    from benchmarks.world import World
    from demo.traffic import Request
    from emulator.application import Outputs

RPS = 50
ERROR_RATE = 0.3
STEP_PERCENT = 10
ALARM_ABOVE = 10
"""Failed requests in a minute."""
MINUTE = 60
WATCHED_SECONDS = 70
"""So long a rolling deployment fails before it is taken back: a minute, and what a late alarm needs."""
LIMIT_SECONDS = 240
SETTLE_SECONDS = 3


class Failures(NamedTuple):
    """What clients saw of one bad release."""

    failed: float
    seconds: float
    """From the first failed request to the last one."""


class Rolling(NamedTuple):
    """A rolling deployment of ECS with its circuit breaker, which is taken back by another one."""

    failed_at: list[float]
    """Seconds of all failed requests after the first one."""
    taken_back_at: float
    """When the earlier revision was deployed again."""
    state: str
    """State of the deployment then."""
    failed_tasks: int
    """Tasks that the circuit breaker has counted."""

    @property
    def before(self) -> list[float]:
        return [at for at in self.failed_at if at <= self.taken_back_at]

    @property
    def way_back(self) -> Failures:
        """What the way back costs."""
        after = [at - self.taken_back_at for at in self.failed_at if at > self.taken_back_at]
        return Failures(len(after), after[-1] if after else 0.0)


def measure(world: World, quick: bool) -> Section:
    """The same bad release under the same traffic, once by each way in turn."""
    runs = 1 if quick else 2
    by_headgate, by_ecs = [], []
    for run in range(runs):
        by_headgate.append(_by_headgate(world, run))
        by_ecs.append(_by_ecs(world, run))
        one = by_ecs[-1]
        say(
            f"  {run + 1} of {runs}: Headgate {by_headgate[-1].failed} failed in {by_headgate[-1].seconds:.1f} s; ECS "
            f"{len(one.before)} in {one.taken_back_at:.1f} s, {one.state}, and {one.way_back.failed} on the way back"
        )
    seen = [f"the circuit breaker has counted {one.failed_tasks} tasks" for one in by_ecs if one.failed_tasks]
    return Section("\n\n".join(_paragraphs(by_headgate, by_ecs)), seen)


def until_alarm(failed_at: list[float], minute_ends: float) -> float:
    """Return when a minute has ended in which too many requests failed.

    Parameters
    ----------
    failed_at
        Seconds of all failed requests after the first one.
    minute_ends
        Seconds from the first failed request to the end of its minute.
    """
    end = minute_ends
    while sum(end - MINUTE < at <= end for at in failed_at) <= ALARM_ABOVE:
        end += MINUTE
        if end > failed_at[-1] + MINUTE:
            raise ValueError(f"fewer than {ALARM_ABOVE} requests failed in each minute")
    return end


def with_alarm(failed_at: list[float], way_back: Failures) -> Failures:
    """Return what a release costs until it is taken back by an alarm, for a minute that ends at any moment alike."""
    ends = [until_alarm(failed_at, second + 0.5) for second in range(MINUTE)]
    failed = [sum(at <= end for at in failed_at) + way_back.failed for end in ends]
    return Failures(statistics.mean(failed), statistics.mean(ends) + way_back.seconds)


def _by_headgate(world: World, run: int) -> Failures:
    name, catalog = _deployed(world, f"guarded-{run}-{uuid.uuid4().hex[:4]}")
    rollout_id = f"{name}-bad"
    detail = {
        "id": rollout_id,
        "target": {"kind": "ecs-service", "cluster": name, "service": name},
        "candidate": {"revise": {"environment": {"app": {"ERROR_RATE": str(ERROR_RATE)}}}},
        "strategy": {"steps": [{"weight": STEP_PERCENT, "bakeSeconds": 600}]},
        "guards": {"errors": {"tolerate": 0}},
    }
    with WebTraffic(catalog["Url"], RPS) as traffic:
        entry = {"Source": "bench", "DetailType": "Rollout Requested", "Detail": json.dumps(detail)}
        world.bus.put_events(Entries=[entry | {"EventBusName": world.outputs["BusName"]}])
        key = {"pk": {"S": f"ROLLOUT#{rollout_id}"}, "sk": {"S": "ROLLOUT"}}

        def ended() -> bool:
            item = world.table.get_item(TableName=world.outputs["TableName"], Key=key, ConsistentRead=True)
            return "endedAt" in item.get("Item", {})

        until(ended, LIMIT_SECONDS, f"{rollout_id} has not ended")
        time.sleep(SETTLE_SECONDS)
        requests = traffic.since(0)
    _delete(world, name)
    return failures_of(requests)


def _by_ecs(world: World, run: int) -> Rolling:
    name, catalog = _deployed(world, f"rolling-{run}-{uuid.uuid4().hex[:4]}")
    ecs = world.aws.client("ecs")
    with WebTraffic(catalog["Url"], RPS) as traffic:
        ecs.update_service(cluster=name, service=name, taskDefinition=_bad_revision(ecs, name))
        until(lambda: failures_of(traffic.since(0)).failed, LIMIT_SECONDS, "no request has failed")
        time.sleep(WATCHED_SECONDS)
        service = ecs.describe_services(cluster=name, services=[name])["services"][0]
        taken_back = time.monotonic()
        ecs.update_service(cluster=name, service=name, taskDefinition=catalog["FirstRevision"])
        until(lambda: _is_deployed(ecs, name), LIMIT_SECONDS, f"{name} is not back")
        time.sleep(SETTLE_SECONDS)
        failed = sorted(request.at for request in traffic.since(0) if not request.ok)
    _delete(world, name)
    deployment = service["deployments"][0]
    return Rolling(
        [at - failed[0] for at in failed],
        taken_back - failed[0],
        deployment["rolloutState"],
        deployment["failedTasks"],
    )


def failures_of(requests: list[Request]) -> Failures:
    """Count the failed requests, and the seconds between the first and the last of them."""
    failed = sorted(request.at for request in requests if not request.ok)
    return Failures(len(failed), failed[-1] - failed[0] if failed else 0.0)


def _deployed(world: World, name: str) -> tuple[str, Outputs]:
    catalog = deploy_catalog(world.aws, world.outputs, "green-service", stack=name)
    wait_until_it_serves(world.aws, catalog)
    return name, catalog


def _delete(world: World, name: str) -> None:
    world.aws.client("ecs").delete_service(cluster=name, service=name, force=True)


def _bad_revision(ecs: Any, family: str) -> str:
    found = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    [container] = found["containerDefinitions"]
    container["environment"] = [*container["environment"], {"name": "ERROR_RATE", "value": str(ERROR_RATE)}]
    copied = ("family", "taskRoleArn", "executionRoleArn", "networkMode", "requiresCompatibilities", "cpu", "memory")
    registered = ecs.register_task_definition(
        containerDefinitions=[container], **{name: found[name] for name in copied if name in found}
    )
    return str(registered["taskDefinition"]["taskDefinitionArn"])


def _is_deployed(ecs: Any, name: str) -> bool:
    deployments = ecs.describe_services(cluster=name, services=[name])["services"][0]["deployments"]
    return [each["rolloutState"] for each in deployments] == ["COMPLETED"]


def _paragraphs(by_headgate: list[Failures], by_ecs: list[Rolling]) -> list[str]:
    counted = sum(one.failed_tasks for one in by_ecs)
    states = " and ".join(sorted({one.state for one in by_ecs}))
    told = (
        f"A release that fails on {ERROR_RATE:.0%} of its requests and answers its health checks, at {RPS} requests a "
        f"second through the load balancer of the embedded AWS, {len(by_headgate)} times each, every time in a stack "
        f"of its own. Headgate: a step of {STEP_PERCENT} %, judged by telemetry. ECS: a rolling deployment of the same "
        "service with its circuit breaker, which counts tasks that do not start or fail their health checks: it "
        f"counted {counted}, and after {WATCHED_SECONDS} s the deployment was {states}. It was then taken back by "
        "another deployment."
    )
    computed = (
        f"The alarm is computed from these requests: more than {ALARM_ABOVE} HTTPCode_Target_5XX_Count in a minute, "
        "which a load balancer reports when the minute is over. The first failure comes at any moment of its minute "
        "alike, and ECS begins to take the release back at once; the way back is the measured one. For the step, each "
        f"{100 // STEP_PERCENT}th failure counts, and the way back takes no time. What CloudWatch and the polls of ECS "
        "need on top is not in it."
    )
    nothing = Failures(0, 0.0)
    kinds = [
        (f"Headgate, step of {STEP_PERCENT} %", by_headgate),
        (
            f"a step of {STEP_PERCENT} % with the alarm (computed)",
            [with_alarm(one.before[:: 100 // STEP_PERCENT], nothing) for one in by_ecs],
        ),
        ("rolling with the alarm (computed)", [with_alarm(one.before, one.way_back) for one in by_ecs]),
        (
            f"rolling with the circuit breaker, which never ends it: the first {MINUTE} s",
            [Failures(sum(at <= MINUTE for at in one.failed_at), MINUTE) for one in by_ecs],
        ),
    ]
    return [
        "## Failed requests of a bad release of an ECS service",
        told,
        computed,
        table(
            ["", "failed requests, mean", "most", "seconds from the first to the last, mean", "most"],
            [[title, *_row(measured)] for title, measured in kinds],
        ),
    ]


def _row(measured: list[Failures]) -> list[str]:
    failed, seconds = [one.failed for one in measured], [one.seconds for one in measured]
    return [
        f"{statistics.mean(failed):.0f}",
        f"{max(failed):.0f}",
        f"{statistics.mean(seconds):.1f} s",
        f"{max(seconds):.1f} s",
    ]
