"""Executions of former releases, which keep their definition while an upgrade changes the functions under them.

The definitions come from the archives of the releases, the functions are those of this checkout.
"""

from __future__ import annotations

import json
import tarfile
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import ROOT
from tests.fakes.ecs import GOOD, cause, container, detail
from tests.statemachines.engine import ServiceError
from tests.statemachines.rollouts import (
    CANDIDATE,
    DEFINITIONS,
    ECS_TASK,
    LONG,
    ROLLOUT,
    STABLE,
    Rollouts,
    assert_invariants,
    parts,
)
from tests.statemachines.test_rollout_machine import STAGES, WALKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

RELEASES = sorted((ROOT / "tests" / "fixtures" / "releases").glob("*.tar.gz"))
FIRST = ROOT / "tests" / "fixtures" / "releases" / "0.1.0.tar.gz"


@cache
def definitions_of(release: Path) -> dict[str, str]:
    """The definitions of the machines in an archive."""
    found = {}
    with tarfile.open(release) as archive:
        for machine in DEFINITIONS:
            name = machine.removeprefix("headgate-").replace("-", "_")
            content = archive.extractfile(f"statemachines/{name}.asl.json")
            assert content is not None
            found[machine] = content.read().decode()
    return found


def walks_of(release: Path) -> list[str]:
    """The walks to parts of today's rollout machine that the one of a release has as well."""
    return [part for part in WALKS if part in parts(ROLLOUT, definitions_of(release))]


@pytest.fixture
def app() -> Iterator[Rollouts]:
    """The machines of 0.1.0, with the functions of this checkout."""
    with Rollouts(definitions=definitions_of(FIRST)) as app:
        yield app
        assert_invariants(app)


@pytest.mark.parametrize(
    ("release", "part"),
    [
        pytest.param(release, part, id=f"{release.name.removesuffix('.tar.gz')} {part}")
        for release in RELEASES
        for part in walks_of(release)
    ],
)
def test_an_execution_of_a_former_release_ends_as_one_of_this_version(release: Path, part: str) -> None:
    walk = WALKS[part]
    with Rollouts(definitions=definitions_of(release)) as app:
        hooks = {"hooks": {stage: [app.hook(stage)] for stage in walk.hooks}} if walk.hooks else {}
        walk.arrange(app)
        execution = app.run(app.request(*walk.steps, **hooks, **walk.fields), name="by-hand")
        assert_invariants(app)
        assert execution.states()[-1] == walk.end


def test_most_of_the_machine_of_the_first_release_is_walked() -> None:
    assert len(walks_of(FIRST)) > 70


def test_a_request_for_a_busy_target_runs_in_its_turn_in_another_execution(app: Rollouts) -> None:
    # GIVEN an execution of 0.1.0 that bakes, and one that finds the target busy: it does not wait itself
    app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    second = app.run(app.request(id="second"), name="asks-second")
    assert second.output["outcome"] == "waiting"
    # WHEN the first one ends
    app.signal("abort", "first")
    # THEN the second one is carried out
    app.settle_down()
    assert app.record("second")["status"] == "succeeded"
    assert app.functions.routing == (CANDIDATE, {})


def test_a_request_for_a_busy_target_that_does_not_wait_is_refused(app: Rollouts) -> None:
    app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    second = app.run(app.request(id="second", onBusy="refuse"), name="asks-second")
    app.signal("abort", "first")

    assert second.error == "RequestRefused"
    assert app.record("second")["status"] == "refused"


def test_a_second_execution_of_a_rollout_is_a_duplicate(app: Rollouts) -> None:
    app.run(app.request(), name="another")
    again = app.run(app.request(), name="by-hand")

    assert again.output["outcome"] == "duplicate"
    assert app.record("checkout-42")["status"] == "succeeded"


def test_a_rollout_that_pauses_and_goes_on_is_promoted(app: Rollouts) -> None:
    app.after("Bake", lambda: app.signal("pause"))
    app.after("Pause", lambda: app.signal("resume"))
    app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))

    assert app.run(app.request((10, LONG), (50, 0))).states()[-1] == "Promoted"


def test_hooks_of_every_kind_and_stage_agree_to_a_promotion(app: Rollouts) -> None:
    load = app.machine_hook("load-test", {"Type": "Succeed"})
    hooks = {stage: [app.hook(stage), load, app.task_hook()] for stage in STAGES if stage != "onRollback"}
    execution = app.run(app.request((10, 1), hooks=hooks))

    assert execution.states()[-1] == "Promoted"
    assert len(app.engine.executions("load-test")) == len(app.engine.executions(ECS_TASK)) == len(hooks)


def test_a_task_that_is_tried_again_agrees(app: Rollouts) -> None:
    failed = ServiceError("States.TaskFailed", cause(detail(container(code=3))))
    hook = app.task_hook(failed, GOOD, retry={"attempts": 2})
    execution = app.run(app.request((10, 1), hooks={"beforeStep": [hook]}))

    assert execution.states()[-1] == "Promoted"
    [task] = app.engine.executions(ECS_TASK)
    assert len(task.output["tasks"][0]["attempts"]) == 2


def test_a_task_that_fails_rolls_back_and_says_why(app: Rollouts) -> None:
    failed = ServiceError("States.TaskFailed", cause(detail(container(code=3))))
    execution = app.run(app.request((10, 1), hooks={"beforeStep": [app.task_hook(failed)]}))

    assert execution.states()[-1] == "Rolled back"
    assert app.functions.routing == (STABLE, {})
    assert "container app exited with 3" in app.record()["reason"]


def calls_of(definition: str) -> dict[str, Any]:
    """What the states of a machine send to functions, and what they keep of the answers."""
    states = json.loads(definition)["States"].items()
    return {
        name: [state["Arguments"]["Payload"], state.get("Assign"), state.get("Output")]
        for name, state in states
        if state.get("Resource", "").endswith(":lambda:invoke")
    }


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_the_redrive_machine_calls_as_before(release: Path) -> None:
    # Where they differ, run the former one with the functions of this version, as above.
    with tarfile.open(release) as archive:
        content = archive.extractfile("statemachines/redrive.asl.json")
        assert content is not None
        former = calls_of(content.read().decode())
    assert former == calls_of((ROOT / "statemachines" / "redrive.asl.json").read_text("utf-8"))
    assert {"Plan", "Move", "Stop"} <= set(former)
