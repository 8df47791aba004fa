"""The models of the events, their JSON Schemas, the files in events/ and what the store writes are one."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from headgate.announcements import EVENTS
from headgate.judge import Arm
from headgate.verdict import Findings, Verdict
from local import schemas
from tests.unit.builders import ROOT, announced, event, execution_of, pause, request_of, settle, signal_of, start

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.store import Store

ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
FILES = {detail_type: detail_type.lower().replace(" ", "_") for detail_type in EVENTS}


def is_valid(detail_type: str, detail: Any) -> bool:
    validator = jsonschema.Draft202012Validator(schemas.schema_of(detail_type))
    return validator.is_valid(detail)


@pytest.mark.parametrize(
    ("detail_type", "file"),
    [*FILES.items(), *(("Rollout Signal", f"rollout_signal_{word}") for word in ("abort", "pause", "resume"))],
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


@pytest.mark.parametrize("detail_type", ["Rollout Requested", "Undo Requested"])
def test_a_request_may_leave_out_its_id_because_the_events_own_serves(detail_type: str) -> None:
    detail = event(FILES[detail_type])["detail"]
    del detail["id"]
    assert is_valid(detail_type, detail)


def test_every_event_that_a_rule_waits_for_has_a_model() -> None:
    template = (ROOT / "template.yaml").read_text("utf-8")
    named = {name.strip() for names in re.findall(r"detail-type: \[([^]]+)\]", template) for name in names.split(",")}
    aws_own = {"CloudWatch Alarm State Change", "Step Functions Execution Status Change"}
    assert named - aws_own <= set(EVENTS)
    assert set(FILES) >= {"Rollout Paused", "Rollout Undone", "Undo Requested"}


def test_every_event_that_the_store_writes_has_a_model() -> None:
    source = (ROOT / "layers/headgate/python/headgate/store.py").read_text("utf-8")
    written = set(re.findall(r'"((?:Rollout|Step|Verdict) [A-Z][A-Za-z ]+)"', source))
    assert len(written) > 8
    assert written <= set(EVENTS)


@pytest.mark.parametrize("then", ["rollback", "promote"])
def test_what_the_store_writes_of_a_pause_is_what_the_models_say(store: Store, then: str) -> None:
    # GIVEN a rollout that has failed and waits for an operator
    plan = start(store, onFailure={"pause": {"at": "zero", "limitSeconds": 60, "then": then}})
    pause(store, plan, failed=True, reason="alarm errors fired")
    # WHEN one resumes it
    store.record_signal(plan.rollout_id, "s-1", signal_of("resume"))
    verdict = Verdict(outcome="continue", reason="resumed by kim", next="shift", step=0, bake=1)
    store.close_pause(plan, 1, 1, Findings(step=0), verdict)
    # THEN both entries are valid, and the verdict has no evidence
    told = dict(announced(store, plan.rollout_id))
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
def test_what_the_store_writes_of_an_undo_is_what_the_models_say(store: Store, outcome: Any, detail_type: str) -> None:
    start(store, "undo", undoOf="checkout-42")
    # What was prepared is on record also where it was refused.
    serving = {"serving": "6"} if outcome in ("succeeded", "rolled-back") else {}
    settle(store, "undo", outcome, stable="7", candidate="6", **serving)
    detail = dict(announced(store, "undo"))[detail_type]
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
    assert schemas.main(["--check"]) == 1
    told = capsys.readouterr().out
    assert all(name in told for name in ("step-baked.json", "step-started.json", "rollout-renamed.json"))
    assert schemas.main([]) == 0
    assert schemas.stale() == []


def test_what_the_store_writes_over_a_whole_rollout_is_what_the_models_say(store: Store) -> None:
    # GIVEN a rollout with two bakes of its first step, one of its second, and a signal
    plan = start(store)
    for step, number in ((0, 0), (0, 1), (1, 0)):
        store.open_bake(plan, 1, step, number, token="t", attempt=f"{step}{number}")
        store.record_signal(plan.rollout_id, "s-1", signal_of("promote"))
        findings = Findings(step=step, candidate=Arm(100, 2), stable=Arm(900, 1), firing=["too-slow"])
        verdict = Verdict(outcome="continue", reason="so far so good", next="shift", step=1)
        store.close_step(plan, 1, number, findings, verdict)
    # WHEN it ends
    settle(store, serving="7", stable="6", candidate="7")
    # THEN each entry of its outbox is valid
    written = announced(store, plan.rollout_id)
    kinds = sorted(kind for kind, _ in written)
    assert kinds == sorted(
        ["Rollout Started", "Rollout Succeeded", *["Step Baked", "Step Started", "Verdict Reached"] * 3]
    )
    assert all(EVENTS[kind].model_validate(detail).to_wire() == detail for kind, detail in written)
    assert all(is_valid(kind, detail) for kind, detail in written)


@pytest.mark.parametrize(
    ("outcome", "detail_type"), [("rolled-back", "Rollout Rolled Back"), ("stopped", "Rollout Stopped")]
)
def test_what_the_store_writes_of_a_bad_ending_is_what_the_models_say(
    store: Store, outcome: Any, detail_type: str
) -> None:
    start(store)
    settle(store, outcome=outcome, stable="6", candidate="7", **({"serving": "6"} if outcome == "rolled-back" else {}))
    detail = dict(announced(store, "checkout-42"))[detail_type]
    assert EVENTS[detail_type].model_validate(detail).to_wire() == detail
    assert is_valid(detail_type, detail)


def test_what_the_store_writes_of_each_refusal_is_what_the_models_say(store: Store) -> None:
    start(store, "holder")
    store.refuse("unreadable", execution_of("unreadable"), "target: is missing; add it")
    store.admit(request_of("impatient", onBusy="refuse"), execution_of("impatient"))
    settle(store, "holder", "refused")
    for rollout_id in ("unreadable", "impatient", "holder"):
        detail = dict(announced(store, rollout_id))["Rollout Refused"]
        assert EVENTS["Rollout Refused"].model_validate(detail).to_wire() == detail
        assert is_valid("Rollout Refused", detail)


def test_no_function_pays_for_importing_the_announcements() -> None:
    modules = "alarms, evidence, executions, hook, plan, signals, store, telemetry, verdict, drivers.lambda_alias"
    imports = "; ".join(f"import headgate.{name.strip()}" for name in modules.split(","))
    code = f"import sys; {imports}; print('headgate.announcements' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "layers" / "headgate" / "python")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
    assert not any("announcements" in path.read_text("utf-8") for path in ROOT.glob("functions/*/app.py"))
