"""What everybody reads of a driver's state: one model, whose names the machine and the record use."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from headgate.spec.position import PROMOTED, Position, Weight, number_of, position_of
from headgate.spec.target_state import StateOnRecord, TargetState
from headgate.targets.ecs_service.state import ServiceState
from headgate.targets.event_source.state import SourceState
from headgate.targets.lambda_alias import AliasState
from tests.builders import ROOT, event

ON_THE_WIRE = {field.alias or name for name, field in TargetState.model_fields.items()}


def test_the_machine_reads_of_a_state_only_what_every_state_may_have() -> None:
    machine = (ROOT / "statemachines" / "rollout.asl.json").read_text("utf-8")
    read = set(re.findall(r"\$state\.(\w+)", machine))
    assert {"stable", "candidate", "toRelease", "mustRelease"} <= read <= ON_THE_WIRE


def test_what_is_read_without_pydantic_has_the_names_of_the_model() -> None:
    assert StateOnRecord.__annotations__.keys() == ON_THE_WIRE


@pytest.mark.parametrize("state_of", [AliasState, SourceState, ServiceState])
def test_every_state_names_the_common_fields_alike(state_of: type[TargetState]) -> None:
    fields = {field.alias or name for name, field in state_of.model_fields.items()}
    assert fields > ON_THE_WIRE


@pytest.mark.parametrize(("number", "position"), [(-1, PROMOTED), (-1.0, PROMOTED), (0, Weight(0)), (100, Weight(100))])
def test_a_position_is_a_number_on_record_and_only_there(number: float, position: Position) -> None:
    assert (position_of(number), number_of(position)) == (position, number)
    state: dict[str, Any] = {"stable": "6", "candidate": "7", "revisionId": "r-1", "weight": number}
    assert AliasState.model_validate(state).position == position
    assert json.loads(json.dumps(AliasState.model_validate(state).to_wire())) == state | {
        "provisioned": 0,
        "shiftedAt": 0,
        "toRelease": False,
    }


def test_a_position_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be a number"):
        AliasState.model_validate({"stable": "6", "candidate": "7", "revisionId": "r-1", "weight": "10 %"})


@pytest.mark.parametrize(
    ("name", "state_of"), [("lambda_alias_driver", AliasState), ("event_source_driver", SourceState)]
)
def test_a_state_that_was_written_before_is_read_and_written_as_it_was(name: str, state_of: type[TargetState]) -> None:
    state = event(name)["state"] or WRITTEN_BEFORE
    written = state_of.model_validate(state).to_wire()
    if holding := written.get("holding"):
        # A field of its own since then.
        assert holding.pop("plannedAt") == 0
    assert written == state


WRITTEN_BEFORE: dict[str, Any] = {
    "stable": "6",
    "candidate": "7",
    "alias": {
        "stable": "6",
        "candidate": "7",
        "revisionId": "r-1",
        "provisioned": 0,
        "weight": -1.0,
        "shiftedAt": 0,
        "toRelease": False,
    },
    "mode": "ramp",
    "kind": "sqs",
    "source": "arn:aws:sqs:eu-central-1:123456789012:orders",
    "function": "arn:aws:lambda:eu-central-1:123456789012:function:checkout:live",
    "original": {"batchSize": 10, "maximumConcurrency": 20},
    "timeoutSeconds": 3,
    "visibilitySeconds": 18,
    "backlog": 0,
    "holding": {
        "name": "headgate-held-1",
        "arn": "arn:aws:sqs:eu-central-1:123456789012:headgate-held-1",
        "replaces": "{}",
        "receives": 0,
        "held": 0,
        "placedAt": 1,
        "restoredAt": 0,
        "changed": "",
    },
    "blocks": False,
    "parked": False,
    "weight": -1.0,
    "shiftedAt": 1,
    "redriven": {"returned": 1, "redelivered": 0, "forwarded": 0, "kept": 0, "expired": 0},
    "toRelease": True,
    "mustRelease": True,
}
