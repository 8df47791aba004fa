"""An upgrade from the previous release while its rollouts are in progress, on an embedded AWS of its own."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from emulator.application import ROOT, deploy_headgate, deploy_release
from emulator.server import EmbeddedAws
from headgate.rollouts.record import SCHEMA_VERSION
from tests.local.consumers import Consumer
from tests.local.deployed import GOOD_HOOK, Headgate, Service, eventually, steps
from tests.local.roles import make_sample_role

if TYPE_CHECKING:
    from collections.abc import Iterator

# One process runs them all: they are about the same rollouts, and none would find them in another process.
pytestmark = [pytest.mark.embedded, pytest.mark.xdist_group("upgrade")]

RELEASE = ROOT / "tests" / "fixtures" / "releases" / "0.1.0.tar.gz"
LAMBDA_ALIASES = ("promoted", "alarmed", "paused")
LONG = 3600
"""A bake in seconds that outlasts the upgrade: a signal ends it."""


class InFlight(NamedTuple):
    """Rollouts that 0.1.0 began and this version ends, by their ids."""

    headgate: Headgate
    services: dict[str, Service]
    consumer: Consumer
    alarm: str
    rollouts: dict[str, str]

    def record(self, name: str) -> dict[str, Any]:
        return self.headgate.record(self.rollouts[name])

    def ended(self, name: str) -> dict[str, Any]:
        return self.headgate.ended(self.rollouts[name])


@pytest.fixture(scope="module")
def upgraded(own_builds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InFlight]:
    """A deployment of 0.1.0, upgraded in the middle of rollouts."""
    sources = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(RELEASE) as archive:
        archive.extractall(sources, filter="data")
    with EmbeddedAws() as aws:
        make_sample_role(aws)
        outputs = deploy_release(aws, sources)
        # What 0.1.0 has no output for, nobody reads.
        former = Headgate(aws, outputs | {"JobDeadLettersUrl": outputs["RequestDeadLettersUrl"]})
        flight = begin(former)
        denied_before = aws.denials()
        headgate = Headgate(aws, deploy_headgate(aws))
        yield flight._replace(headgate=headgate)
        former.close()
        headgate.close()
        # The release itself lacked a permission, which made a check of its planner do nothing.
        denials = [use for use in aws.denials() if use not in denied_before]
        assert not denials, "a role needs what its policy does not allow:\n" + "\n".join(map(str, denials))


def begin(headgate: Headgate) -> InFlight:
    """Bring rollouts of the former release into every state in which an upgrade may find one."""
    services = {name: headgate.make_service() for name in (*LAMBDA_ALIASES, "ended")}
    consumer, alarm = Consumer(headgate, "sqs"), headgate.make_alarm()
    hook = {"lambda": headgate.make_hook(GOOD_HOOK)}

    def request(service: Service, **fields: Any) -> str:
        candidate = {"candidate": {"version": "2"}, "strategy": steps((20, LONG), (50, 1))}
        return headgate.request(target=service.target, **candidate | fields)

    rollouts = {
        # Its hooks and its second step come after the upgrade.
        "promoted": request(services["promoted"], hooks={"afterStep": [hook], "afterTraffic": [hook]}),
        "alarmed": request(services["alarmed"], guards={"alarms": [alarm]}),
        "paused": request(services["paused"]),
    }
    version = consumer.publish(broken=False)
    rollouts["consumer"] = headgate.request(
        target=consumer.target, candidate={"version": version}, strategy=steps((50, LONG))
    )
    for rollout_id in rollouts.values():
        headgate.baking(rollout_id)
    headgate.signal(rollouts["paused"], "pause")
    headgate.in_phase(rollouts["paused"], "paused")
    # Both wait in line for the one that is promoted: one by an event, one whose own execution has ended in line.
    at_once = {"target": services["promoted"].target, "strategy": "AllAtOnce"}
    third = {"candidate": {"version": services["promoted"].publish()}}
    rollouts["waiting"] = headgate.request(**at_once | third)
    eventually(lambda: headgate.record(rollouts["waiting"]), 30, lambda: "the request has not been taken in")
    rollouts["waiting by execution"] = headgate.start(at_once | {"candidate": {"version": "2"}})
    headgate.end_of(rollouts["waiting by execution"])
    # This one has ended before the upgrade.
    rollouts["ended"] = request(services["ended"], strategy="AllAtOnce")
    headgate.ended(rollouts["ended"])
    return InFlight(headgate, services, consumer, alarm, rollouts)


def test_rollouts_of_the_former_release_are_as_they_were(upgraded: InFlight) -> None:
    for name in (*LAMBDA_ALIASES, "consumer"):
        record = upgraded.record(name)
        assert (record["status"], "schemaVersion" in record) == ("running", False), name
    for name in LAMBDA_ALIASES:
        assert upgraded.services[name].serving[:2] == ("1", {"2": 0.2})
    assert upgraded.record("waiting")["status"] == "waiting"


def test_an_alarm_rolls_one_back(upgraded: InFlight) -> None:
    upgraded.headgate.set_alarm(upgraded.alarm, "ALARM")

    assert upgraded.ended("alarmed")["status"] == "rolled-back"
    assert upgraded.services["alarmed"].serving[:2] == ("1", {})


def test_a_paused_one_goes_on_and_is_promoted(upgraded: InFlight) -> None:
    paused = upgraded.rollouts["paused"]
    upgraded.headgate.signal(paused, "resume")
    upgraded.headgate.baking(paused)
    upgraded.headgate.signal(paused, "promote")

    assert upgraded.ended("paused")["status"] == "succeeded"
    assert upgraded.services["paused"].serving[:2] == ("2", {})


def test_an_abort_rolls_a_consumers_back_and_its_mapping_is_as_before(upgraded: InFlight) -> None:
    upgraded.headgate.signal(upgraded.rollouts["consumer"], "abort")

    assert upgraded.ended("consumer")["status"] == "rolled-back"
    assert upgraded.consumer.mapping() == upgraded.consumer.before
    assert upgraded.consumer.held() == 0


def test_one_is_promoted_step_by_step_and_those_in_line_follow_it(upgraded: InFlight) -> None:
    upgraded.headgate.signal(upgraded.rollouts["promoted"], "promote")

    assert upgraded.ended("promoted")["status"] == "succeeded"
    for name in ("waiting", "waiting by execution"):
        assert upgraded.ended(name)["status"] == "succeeded", name
    assert upgraded.services["promoted"].serving[:2] == ("2", {})


def test_new_requests_are_carried_out(upgraded: InFlight) -> None:
    # GIVEN a target whose last rollout began and ended with the former release
    service = upgraded.services["ended"]
    candidate = {"version": service.publish()}
    rollout_id = upgraded.headgate.request(target=service.target, candidate=candidate, strategy="AllAtOnce")
    record = upgraded.headgate.ended(rollout_id)

    assert (record["status"], record["schemaVersion"]) == ("succeeded", SCHEMA_VERSION)
    assert service.serving[:2] == ("3", {})
