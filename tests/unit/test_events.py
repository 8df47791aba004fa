"""The models of the events, their JSON Schemas, the files in events/ and what the outbox says are one."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from headgate.analysis.judge import Arm
from headgate.analysis.verdict import Findings, Verdict
from headgate.events import EVENTS
from headgate.rollouts.signal_events import ALARM_EVENTS, SERVICE_EVENTS
from headgate.rollouts.signal_refusals import GivenSignal, SignalRefusals
from tests.builders import (
    ROOT,
    announced,
    event,
    execution_of,
    items_at,
    ledger_of,
    pause,
    request_of,
    settle,
    signal_of,
    start,
)
from tools import schemas

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
FILES = {detail_type: detail_type.lower().replace(" ", "_") for detail_type in EVENTS}


def is_valid(detail_type: str, detail: Any) -> bool:
    validator = jsonschema.Draft202012Validator(schemas.schema_of(detail_type))
    return bool(validator.is_valid(detail))


@pytest.mark.parametrize(
    ("detail_type", "file"),
    [
        *FILES.items(),
        *(("Rollout Signal", f"rollout_signal_{word}") for word in ("abort", "pause", "resume", "stop_watch")),
        ("Task Requested", "task_requested_register"),
    ],
)
def test_every_kind_of_event_has_a_file_that_its_model_and_schema_accept(detail_type: str, file: str) -> None:
    example = event(file)
    assert set(example) == ENVELOPE
    assert example["detail-type"] == detail_type
    assert EVENTS[detail_type].model_validate(example["detail"]).to_wire() == example["detail"]
    assert is_valid(detail_type, example["detail"])


@pytest.mark.parametrize("detail_type", EVENTS)
def test_a_schema_refuses_a_field_that_its_model_does_not_know(detail_type: str) -> None:
    detail = event(FILES[detail_type])["detail"]
    assert not is_valid(detail_type, detail | {"colour": "green"})


@pytest.mark.parametrize("detail_type", ["Rollout Requested", "Undo Requested", "Task Requested", "Redrive Requested"])
def test_a_request_may_leave_out_its_id_because_the_events_own_serves(detail_type: str) -> None:
    detail = event(FILES[detail_type])["detail"]
    del detail["id"]
    assert is_valid(detail_type, detail)


def test_every_event_that_a_rule_waits_for_has_a_model() -> None:
    template = (ROOT / "template.yaml").read_text("utf-8")
    named = {name.strip() for names in re.findall(r"detail-type: \[([^]]+)\]", template) for name in names.split(",")}
    triggers = {"AWS API Call via CloudTrail", "ECR Image Action", "Object Created"}
    aws_own = {*ALARM_EVENTS, *SERVICE_EVENTS, *triggers, "Step Functions Execution Status Change"}
    assert aws_own <= named
    assert named - aws_own <= set(EVENTS)
    assert set(FILES) >= {"Rollout Paused", "Rollout Undone", "Undo Requested"}


def test_every_event_that_is_written_has_a_model() -> None:
    package = ROOT / "layers/headgate/python/headgate"
    paths = [path for folder in ("rollouts", "jobs") for path in sorted((package / folder).glob("*.py"))]
    sources = [path.read_text("utf-8") for path in paths]
    written = set(re.findall(r'"((?:Rollout|Step|Verdict|Signal|Task|Redrive) [A-Z][A-Za-z ]+)"', "".join(sources)))
    assert len(written) > 9
    assert {"Task Refused", "Redrive Refused"} < written
    assert written <= set(EVENTS)


@pytest.mark.parametrize("then", ["rollback", "promote"])
def test_what_the_outbox_says_of_a_pause_is_what_the_models_say(
    table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, then: str
) -> None:
    # GIVEN a rollout that has failed and waits for an operator
    plan = start(locks, onFailure={"pause": {"at": "zero", "limitSeconds": 60, "then": then}})
    pause(steps, plan, failed=True, reason="alarm errors fired")
    # WHEN one resumes it
    inbox.record_signal(plan.rollout_id, "s-1", signal_of("resume"))
    verdict = Verdict(outcome="continue", reason="resumed by kim", next="shift", step=0, bake=1)
    steps.close_pause(plan, 1, 1, Findings(step=0), verdict)
    # THEN both entries are valid, and the verdict has no evidence
    told = dict(announced(table, plan.rollout_id))
    assert set(told) == {"Rollout Started", "Rollout Paused", "Verdict Reached"}
    assert (told["Rollout Paused"]["limitSeconds"], told["Rollout Paused"]["then"]) == (60, then)
    assert not {"evidence", "weight", "bake"} & set(told["Verdict Reached"])
    for kind, detail in told.items():
        assert EVENTS[kind].model_validate(detail).to_wire() == detail
        assert is_valid(kind, detail)


@pytest.mark.parametrize(
    ("outcome", "detail_type"),
    [
        ("succeeded", "Rollout Undone"),
        ("rolled-back", "Rollout Rolled Back"),
        ("stopped", "Rollout Stopped"),
        ("refused", "Rollout Refused"),
    ],
)
def test_what_the_outbox_says_of_an_undo_is_what_the_models_say(
    table: Table, locks: Locks, outcome: Any, detail_type: str
) -> None:
    start(locks, "undo", undoOf="checkout-42")
    # What was prepared is on record also where it was refused.
    serving = {"serving": "6"} if outcome in ("succeeded", "rolled-back") else {}
    settle(locks, "undo", outcome, stable="7", candidate="6", **serving)
    detail = dict(announced(table, "undo"))[detail_type]
    assert detail["undoOf"] == "checkout-42"
    assert EVENTS[detail_type].model_validate(detail).to_wire() == detail
    assert is_valid(detail_type, detail)


def test_the_schemas_in_docs_are_what_the_models_say() -> None:
    assert schemas.stale() == []


def test_the_check_finds_a_stale_a_missing_and_a_left_over_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schemas, "SCHEMAS", tmp_path)
    schemas.write()
    assert schemas.main(["--check"]) == 0
    (tmp_path / "step-baked.json").write_text("{}", "utf-8")
    (tmp_path / "step-started.json").unlink()
    (tmp_path / "rollout-renamed.json").write_text("{}", "utf-8")
    (tmp_path / "headgate-list-stats.json").unlink()
    assert schemas.main(["--check"]) == 1
    told = capsys.readouterr().out
    assert all(
        name in told
        for name in ("step-baked.json", "step-started.json", "rollout-renamed.json", "headgate-list-stats.json")
    )
    assert schemas.main([]) == 0
    assert schemas.stale() == []


def test_what_the_outbox_says_over_a_whole_rollout_is_what_the_models_say(
    table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
) -> None:
    # GIVEN a rollout with two bakes of its first step, one of its second, and a signal
    guards = {"errors": {}, "latency": {"thresholdMs": 250}, "promoteEarly": {"worse": 0.5, "beta": 0.1}}
    plan, good_enough = start(locks, guards=guards), signal_of("promote-early", by="judge", reason="good")
    for step, number in ((0, 0), (0, 1), (1, 0)):
        steps.open_bake(plan, 1, step, number, token="t", attempt=f"{step}{number}")
        inbox.record_signal(plan.rollout_id, "s-1", signal_of("promote"))
        counts = {"errors": (Arm(100, 2), Arm(900, 1)), "latency": (Arm(90, 1), Arm(800, 9))}
        ledger = ledger_of(plan, *[{}] * step, counts)
        findings = Findings(step=step, ledger=ledger, firing=["too-slow"], signals=[good_enough])
        verdict = Verdict(outcome="continue", reason="so far so good", next="shift", step=1)
        steps.close_step(plan, 1, number, findings, verdict)
    # WHEN it ends
    settle(locks, serving="7", stable="6", candidate="7")
    # THEN each entry of its outbox is valid
    written = announced(table, plan.rollout_id)
    kinds = sorted(kind for kind, _ in written)
    assert kinds == sorted(
        ["Rollout Started", "Rollout Succeeded", *["Step Baked", "Step Started", "Verdict Reached"] * 3]
    )
    assert all(EVENTS[kind].model_validate(detail).to_wire() == detail for kind, detail in written)
    assert all(is_valid(kind, detail) for kind, detail in written)
    baked = [detail for kind, detail in written if kind == "Step Baked"]
    assert {detail["endedBy"] for detail in baked} == {"promote-early"}
    measures = [[compared["measure"] for compared in detail["evidence"]["measures"]] for detail in baked]
    assert measures == [["errors", "latency"]] * 3


@pytest.mark.parametrize(
    ("outcome", "detail_type"), [("rolled-back", "Rollout Rolled Back"), ("stopped", "Rollout Stopped")]
)
def test_what_the_outbox_says_of_a_bad_ending_is_what_the_models_say(
    table: Table, locks: Locks, outcome: Any, detail_type: str
) -> None:
    start(locks)
    settle(locks, outcome=outcome, stable="6", candidate="7", **({"serving": "6"} if outcome == "rolled-back" else {}))
    detail = dict(announced(table, "checkout-42"))[detail_type]
    assert EVENTS[detail_type].model_validate(detail).to_wire() == detail
    assert is_valid(detail_type, detail)


def test_what_the_outbox_says_of_each_refusal_is_what_the_models_say(table: Table, locks: Locks) -> None:
    start(locks, "holder")
    locks.refuse("unreadable", execution_of("unreadable"), "target: is missing; add it")
    locks.admit(request_of("impatient", onBusy="refuse"), execution_of("impatient"))
    settle(locks, "holder", "refused")
    for rollout_id in ("unreadable", "impatient", "holder"):
        detail = dict(announced(table, rollout_id))["Rollout Refused"]
        assert EVENTS["Rollout Refused"].model_validate(detail).to_wire() == detail
        assert is_valid("Rollout Refused", detail)


@pytest.mark.parametrize("detail", [None, {"rolloutId": "x y"}, event("rollout_signal")["detail"]])
def test_what_the_outbox_says_of_a_refused_signal_is_what_the_models_say(table: Table, detail: Any) -> None:
    given = GivenSignal.of(event("rollout_signal") | {"detail": detail})
    SignalRefusals(table).answer(given, "rolloutId: checkout-42 does not exist")
    ((kind, told),) = ((item["detailType"], item["detail"]) for item in items_at(table, given.pk) if "detail" in item)
    assert EVENTS[kind].model_validate(told).to_wire() == told
    assert is_valid(kind, told)


def imported_with(*modules: str) -> list[str]:
    """Every module that is there once these of Headgate's are imported."""
    imports = "; ".join(f"import headgate.{module}" for module in modules)
    environment = {"PYTHONPATH": str(ROOT / "layers" / "headgate" / "python")}
    code = f"import sys; {imports}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.split()


def test_no_function_imports_the_models_of_the_events() -> None:
    modules = (
        "analysis.alarms analysis.telemetry_counter analysis.evidence analysis.ledger_store analysis.cloudwatch_counts "
        "analysis.verdict rollouts.executions rollouts.signal_inbox rollouts.locks rollouts.signaller rollouts.steps "
        "rollouts.table spec.plan targets.lambda_alias hook telemetry"
    )
    assert "headgate.events" not in imported_with(*modules.split())
    assert not any("headgate.events" in path.read_text("utf-8") for path in ROOT.glob("functions/*/app.py"))


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("rollouts.steps", "rollouts.locks"),
        ("rollouts.locks", "rollouts.steps"),
        ("rollouts.locks", "rollouts.settlement"),
        ("rollouts.locks", "pydantic"),
        ("rollouts.settlement", "pydantic"),
        ("rollouts.steps", "pydantic"),
    ],
)
def test_no_function_pays_for_importing_what_another_records(module: str, other: str) -> None:
    assert not {other, f"headgate.{other}"} & set(imported_with(module))
