"""``headgate start``, ``plan``, ``pause``, ``resume``, ``promote``, ``abort`` and ``undo`` as processes."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from typing import TYPE_CHECKING

from tests.local.deployed import BAD_HOOK, GATED_HOOK, steps
from tests.local.patience import patient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

SHORT = json.dumps(steps((25, 1)))
LONG = json.dumps(steps((25, 600), (50, 600)))


def test_start_waits_for_a_promotion_and_undo_takes_it_back(
    command: Command, headgate: Headgate, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(f"target: {json.dumps(service.target)}\nguards: none\nstrategy: {SHORT}\n", "utf-8")
    # WHEN a rollout is started and waited for
    started = command("start", "--file", str(file), "--version", "2", "--wait")
    # THEN it is promoted, and says how it went on
    assert started.code == 0, started
    rollout_id, said = started.out.strip().split(" ", 1)
    assert said == "was promoted; version 2 serves"
    assert f"{rollout_id} bakes at 25 %, step 1 of 1" in started.err
    assert service.serving.version == "2"

    # WHEN the same one is started again, THEN nothing is started
    again = command("start", "--file", str(file), "--version", "2", "--id", rollout_id, "--wait")
    assert (again.code, "nothing is started again" in again.err) == (0, True)
    # and another one under its id is refused
    assert command("start", "--file", str(file), "--version", "1", "--id", rollout_id).code == 4

    # WHEN it is undone, THEN the earlier version serves, and a second undo has no effect
    undone = command("undo", rollout_id, "--wait", "--format", "json")
    assert (undone.code, undone.json["effect"], undone.json["serving"]) == (0, "done", "1"), undone
    assert service.serving.version == "1"
    assert headgate.record(rollout_id)["undoneBy"] == undone.json["rolloutId"]
    second = command("undo", f"{service.function}:{service.alias}")
    assert (second.code, "is already an undo" in second.err) == (1, True)
    # AND neither it nor the other request was sent, so that none is a dead letter
    assert not headgate.dead_letters.take()


def test_start_ends_with_the_code_of_a_rollback_and_of_a_refusal(
    command: Command, headgate: Headgate, service: Service
) -> None:
    where = f"{service.function}:{service.alias}"
    hook = headgate.make_hook(BAD_HOOK)
    failed = command("start", where, "--version", "2", "--no-guards", "--before-traffic", hook, "--wait")
    assert failed.code == 3, failed
    assert "was rolled back; version 1 serves again" in failed.out
    refused = command("start", where, "--version", "9", "--no-guards", "--wait")
    assert refused.code == 4, refused
    assert f"--version (candidate.version): {service.function} has no version 9" in refused.out


def test_plan_says_what_a_rollout_would_do_and_changes_nothing(
    command: Command, headgate: Headgate, service: Service
) -> None:
    where = f"{service.function}:{service.alias}"
    planned = command(
        "plan", where, "--version", "2", "--strategy", LONG, "--errors", "--id", "a-plan", "--format", "json"
    )
    assert planned.code == 0, planned
    plan = planned.json
    assert (plan["stable"], plan["candidate"], plan["bakeSeconds"]) == ("1", "2", 1200)
    assert [check["evidence"] for check in plan["checks"]] == ["telemetry"]
    refused = command("plan", where, "--version", "9", "--no-guards")
    assert (refused.code, refused.out.startswith("Refused: --version (candidate.version): ")) == (1, True)
    assert headgate.record("a-plan") == {}
    assert service.serving.weights == {}


def test_a_rollout_is_paused_resumed_promoted_and_aborted(
    command: Command, headgate: Headgate, service: Service
) -> None:
    where, rollout_id = f"{service.function}:{service.alias}", headgate.new_id()
    started = command("start", where, "--version", "2", "--no-guards", "--strategy", LONG, "--id", rollout_id)
    assert started.code == 0, started
    headgate.baking(rollout_id)
    waits = command("plan", where, "--publish", "--no-guards", "--format", "json").json
    assert (waits["behind"], waits["place"]) == (rollout_id, 1)

    paused = command("pause", where, "--reason", "checking the logs", "--by", "ada")
    assert paused.code == 0, paused
    assert paused.out.startswith(f"{rollout_id} is paused at 25 %")
    [signal_at] = [signal["at"] for signal in headgate.record(rollout_id)["signals"].values()]
    [paused_event] = headgate.events(rollout_id, "Rollout Paused")
    took = datetime.fromisoformat(paused_event["at"]) - datetime.fromisoformat(signal_at)
    assert took.total_seconds() < 10, "the pause has waited for the end of the bake"
    # A signal without effect is not sent, so that it does not become a dead letter.
    assert command("pause", rollout_id).code == 1
    # On a busy machine the command looks between the pause and the next bake.
    assert command("resume", rollout_id).out.startswith(f"{rollout_id} goes on: it ")
    assert command("promote", rollout_id).out == f"{rollout_id} goes on: it bakes at 50 %, step 2 of 2\n"
    aborted = command("abort", rollout_id, "--reason", "enough", "--wait", "--format", "json")
    assert (aborted.code, aborted.json["status"], aborted.json["serving"]) == (0, "rolled-back", "1"), aborted
    late = command("abort", rollout_id)
    assert (late.code, "only a running or waiting rollout accepts signals" in late.err) == (1, True)
    senders = {signal["signal"]: signal["by"] for signal in headgate.record(rollout_id)["signals"].values()}
    assert senders["pause"] == "ada"
    # By default it is who calls AWS.
    assert senders["abort"] not in ("", "an operator", "headgate command")


def test_an_interrupted_wait_leaves_the_rollout_and_an_abort_waits_for_the_hook(
    command: Command, headgate: Headgate, service: Service, tmp_path: Path
) -> None:
    where, rollout_id, gate = f"{service.function}:{service.alias}", headgate.new_id(), tmp_path / "gate"
    file = tmp_path / "request.json"
    hook = {"lambda": headgate.make_hook(GATED_HOOK), "config": {"gate": str(gate)}}
    file.write_text(json.dumps({"hooks": {"beforeTraffic": [hook]}, "guards": "none"}), "utf-8")
    with command.start("start", where, "--version", "2", "--file", str(file), "--id", rollout_id, "--wait") as process:
        headgate.until_entered(rollout_id, "Before traffic")
        # WHEN the wait is interrupted
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=patient(20))
    # THEN the command says that the rollout goes on
    assert (process.returncode, f"headgate abort {rollout_id}" in err) == (130, True), err

    # WHEN it is aborted while the hook is being asked, THEN the abort is on record
    aborted = command("abort", rollout_id)
    assert aborted.code == 0, aborted
    assert aborted.out.startswith(f"{rollout_id} has the abort on record; it asks the beforeTraffic hooks (hook-")
    gate.touch()
    assert headgate.ended(rollout_id)["status"] == "rolled-back"
