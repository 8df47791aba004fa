"""One rule for every field of every incoming event: a whole number is accepted as text, text is no number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, Tag, TypeAdapter, ValidationError

from headgate.ecs_tasks.request import read_task
from headgate.errors import RequestRefused
from headgate.events import EVENTS
from headgate.ids import given_id, recorded_id
from headgate.redrive.request import read_redrive
from headgate.rollouts.signal_refusals import GivenSignal
from headgate.spec.request import read_request
from headgate.spec.signal_models import read_signal
from headgate.spec.undo import read_undo
from tests.builders import TARGET
from tools.schemas import INCOMING

if TYPE_CHECKING:
    from collections.abc import Iterator


def leaves(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[type, Any]]:
    """Each plain type in an annotation, with what is annotated on it. Not keys of objects, nor a shape among others."""
    if get_origin(annotation) is Annotated:
        yield from leaves(annotation.__origin__, (*annotation.__metadata__, *metadata))
    elif annotation in (str, int, float):
        if not any(isinstance(each, Tag) for each in metadata):
            yield annotation, Annotated[(annotation, *metadata)] if metadata else annotation
    elif get_origin(annotation) is dict:
        yield from leaves(get_args(annotation)[1])
    else:
        for each in get_args(annotation):
            if not isinstance(each, str):
                yield from leaves(each)


def models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for each in get_args(annotation) for model in models_in(each)}


def fields(wanted: tuple[type, ...]) -> list[Any]:
    """Every field of the incoming events that takes one of these types, at any depth."""
    found: list[Any] = []
    waiting: list[type[BaseModel]] = [EVENTS[kind] for kind in INCOMING]
    seen = set[type[BaseModel]]()
    while waiting:
        if (model := waiting.pop()) in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            waiting += models_in(field.annotation)
            found += [
                pytest.param(annotation, id=f"{model.__name__}.{name}")
                for kind, annotation in leaves(field.annotation, tuple(field.metadata))
                if kind in wanted
            ]
    return sorted(found, key=lambda each: str(each.id))


def kinds_of_faults(annotation: Any, value: object) -> set[str]:
    """The kinds of errors that pydantic finds in a value."""
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return {each["type"] for each in error.errors()}
    return set()


TEXTS = fields((str,))
NUMBERS = fields((int, float))
AS_ECS_SPELLS_THEM = {"Overrides.cpu", "Overrides.memory"}
"""RunTask has the size of a task as text, so that both spellings are unambiguous."""


def test_the_walk_finds_the_fields() -> None:
    assert {"RolloutRequest.id", "PublishedVersion.version", "Guards.alarms", "MetricQuery.dimensions"} <= {
        each.id for each in TEXTS
    }
    assert {"Step.weight", "RetryStrategy.attempts", "StopIfReturned.percent"} <= {each.id for each in NUMBERS}
    assert (len(TEXTS) > 40, len(NUMBERS) > 30) == (True, True)


@pytest.mark.parametrize("annotation", TEXTS)
def test_a_field_for_text_takes_a_whole_number_as_its_digits_and_nothing_else(annotation: Any) -> None:
    others: list[Any] = [True, 7.5, 7.0, None, [], {}]
    # It may still not be a valid name or ARN.
    assert kinds_of_faults(annotation, 7) == kinds_of_faults(annotation, "7")
    for other in others:
        assert kinds_of_faults(annotation, other) == {"string_type"}


@pytest.mark.parametrize("annotation", [each for each in NUMBERS if each.id not in AS_ECS_SPELLS_THEM])
def test_a_field_for_a_number_takes_no_text_and_no_truth(annotation: Any) -> None:
    for text in ("7", "7.0", "", True):
        assert kinds_of_faults(annotation, text) & {"int_type", "float_type"}, text


@pytest.mark.parametrize("annotation", [each for each in NUMBERS if each.id in AS_ECS_SPELLS_THEM])
def test_the_size_of_a_task_may_be_spelled_as_ecs_does(annotation: Any) -> None:
    assert TypeAdapter(annotation).validate_python("256") == 256


def test_an_id_may_be_a_number_in_every_event() -> None:
    assert read_request({"id": 7, "target": TARGET}, "x").id == "7"
    assert read_undo({"id": 7, "target": TARGET, "rolloutId": 6}, "x").rollout_id == "6"
    assert read_task({"id": 7, "taskDefinition": "migrate"}, "x").id == "7"
    assert read_redrive({"id": 7, "from": {"queue": "failed"}}, "x").id == "7"
    signal = read_signal({"rolloutId": 7, "signal": "abort", "id": 8})
    assert (signal.rollout_id, signal.id) == ("7", "8")


def test_an_id_that_is_a_number_is_the_same_id_before_the_request_is_read() -> None:
    given = GivenSignal.of({"id": "event", "detail": {"id": 8, "rolloutId": 7, "signal": "stop"}})
    assert (given.id, given.rollout_id) == ("8", "7")
    assert recorded_id(7, "arn:aws:states:eu-central-1:123456789012:execution:headgate-rollout:r-1") == "7"
    assert [given_id(each) for each in (7, "7", True, 7.0, -7, "", None)] == ["7", "7", None, None, None, None, None]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"candidate": {"version": 1.5}}, 'candidate.version: must be text; write "1.5" (given 1.5)'),
        ({"id": 7.5}, 'id: must be text; write "7.5" (given 7.5)'),
        (
            {"strategy": {"steps": [{"weight": "10", "bakeSeconds": 60}]}},
            'strategy.steps[0].weight: must be a number, without quotes (given "10")',
        ),
    ],
)
def test_the_fix_shows_how_to_write_it(request_: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_request({"target": TARGET} | request_, "x")
    assert str(refused.value) == told
