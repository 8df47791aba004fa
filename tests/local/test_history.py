"""The history of what the deployed application has done: read from the table, by the queries that AWS has, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.history.store import History
from tests.local.deployed import BAD_HOOK, GOOD_HOOK, eventually, steps

if TYPE_CHECKING:
    from headgate.history.model import JobSummary
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def history(headgate: Headgate) -> History:
    machines = {"task": headgate.outputs["EcsTaskMachineArn"], "redrive": headgate.outputs["RedriveMachineArn"]}
    return History(headgate.dynamodb, headgate.outputs["TableName"], headgate.states, job_machines=machines)


def test_a_rollout_that_was_rolled_back_is_read_as_it_happened(
    headgate: Headgate, service: Service, history: History
) -> None:
    # GIVEN a rollout whose hook does not agree after its first step, and one that waits behind it
    good, bad = headgate.make_hook(GOOD_HOOK), headgate.make_hook(BAD_HOOK)
    hooks = {"beforeTraffic": [{"lambda": good}], "afterStep": [{"lambda": good}, {"lambda": bad}]}
    plan = {"strategy": steps((10, 300), (50, 60)), "guards": "none"}
    first = headgate.request(target=service.target, candidate={"version": "2"}, hooks=hooks, **plan)
    headgate.baking(first)
    second = headgate.request(target=service.target, candidate={"version": "2"}, strategy="AllAtOnce", guards="none")
    waiting = eventually(lambda: history.rollout(second), 10, lambda: "nobody waits")
    assert (waiting.status, waiting.line and (waiting.line.place, waiting.line.behind)) == ("waiting", (1, first))
    [live] = history.live([first])
    assert (live.status, live.weight, live.bake and live.bake.step) == ("running", 10, 0)
    # WHEN somebody ends its bake, and both have ended
    headgate.signal(first, "promote", by="kim", reason="seen enough")
    headgate.ended(first)
    headgate.ended(second)
    # THEN the view of the first one has all that happened
    view = history.rollout(first)
    assert view is not None
    assert (view.status, view.stable, view.candidate, view.serving, view.weight) == ("rolled-back", "1", "2", "1", 0)
    assert [(change.weight, change.why) for change in view.weights] == [(0, "start"), (10, "step"), (0, "rollback")]
    assert [(step.status, len(step.bakes)) for step in view.steps] == [("done", 1), ("skipped", 0)]
    asked = [(hook.stage, hook.step, hook.hooks, hook.outcome) for hook in view.hooks]
    assert asked == [("beforeTraffic", None, [good], "succeeded"), ("afterStep", 0, [good, bad], "failed")]
    assert view.hooks[1].reason == view.reason
    signals = [(signal.signal, signal.by, signal.reason, signal.step, signal.outcome) for signal in view.signals]
    assert signals == [("promote", "kim", "seen enough", 0, "handled")]
    assert view.events[-1].detail_type == "Rollout Rolled Back"
    # AND the lists have both, newest first
    key = str(view.target)
    of_target = history.rollouts(target=key, limit=2)
    assert [rollout.id for rollout in of_target.rollouts] == [second, first]
    listed = history.rollouts(states=["rolled-back", "succeeded"], since=str(view.created_at), limit=100).rollouts
    assert [rollout.to_wire() for rollout in listed if rollout.target == key] == [
        rollout.to_wire() for rollout in of_target.rollouts
    ]
    assert history.figures(str(view.created_at), "2100-01-01T00:00:00.000Z").failed >= 1


def test_a_redrive_that_an_event_requested_is_listed_with_its_end(headgate: Headgate, history: History) -> None:
    queue = {"from": {"queue": "nobody-has-this-queue"}}
    by_event, refused = headgate.new_id(), headgate.new_id()
    headgate.send("Redrive Requested", {"id": by_event, **queue})
    headgate.send("Redrive Requested", {"id": refused, **queue, "speed": 5})

    def listed() -> dict[str, JobSummary]:
        return {job.id: job for job in history.jobs("redrive", limit=50).jobs}

    jobs = eventually(
        lambda: (found := listed()) and {by_event, refused} <= found.keys() and found[by_event].ended_at and found,
        60,
        lambda: f"listed are {listed()}",
    )
    assert (jobs[by_event].status, jobs[by_event].subject) == ("refused", "nobody-has-this-queue")
    assert (jobs[refused].status, jobs[refused].execution) == ("refused", "")
    assert "speed: is not a known field" in jobs[refused].reason
    view = history.job("redrive", by_event)
    assert view is not None
    assert view.request["id"] == by_event
    assert view.result["outcome"] == "refused"
