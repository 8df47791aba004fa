"""A definition that comes with a request: what is wrong with it is named, and the same one has the same digest."""

from __future__ import annotations

import copy
import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from headgate.ecs_tasks.definition import ANSWERED, as_described, digest_of, refuse_faulty_definition
from headgate.ecs_tasks.request import read_task
from headgate.errors import RequestRefused
from tests.builders import event
from tests.fakes.ecs import NEW_DEFINITION

SHAPE: Any = (
    botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
)
[APP] = NEW_DEFINITION["containerDefinitions"]


def refusal(families: str = "*", **fields: Any) -> str:
    with pytest.raises(RequestRefused) as refused:
        refuse_faulty_definition(NEW_DEFINITION | fields, SHAPE, families)
    return str(refused.value)


def with_app(**fields: Any) -> dict[str, Any]:
    return {"containerDefinitions": [APP | fields]}


# --- What is wrong with it -------------------------------------------------------------------------------------------


def test_what_ecs_takes_is_taken() -> None:
    refuse_faulty_definition(NEW_DEFINITION, SHAPE, "migrate")
    refuse_faulty_definition({"family": "x", "containerDefinitions": [{"name": "a", "image": "b"}]}, SHAPE, "?")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": (
        {"netwrkMode": "awsvpc"},
        'netwrkMode: is not a known field; did you mean networkMode? (given "',
    ),
    "a field like no other": ({"zzz": 1}, "zzz: is not a known field; remove it (given 1)"),
    "an unknown field inside": (
        with_app(imge="x"),
        'containerDefinitions[0].imge: is not a known field; did you mean image? (given "x")',
    ),
    "a number for text": ({"cpu": 256}, 'cpu: must be text; write "256" (given 256)'),
    "text for a number": (with_app(cpu="64"), 'containerDefinitions[0].cpu: must be a whole number (given "64")'),
    "a truth for a number": (with_app(cpu=True), "containerDefinitions[0].cpu: must be a whole number (given true)"),
    "a number for a truth": (
        with_app(essential=1),
        "containerDefinitions[0].essential: must be true or false (given 1)",
    ),
    "an object for a list": ({"volumes": {}}, "volumes: must be a list (given {})"),
    "a list for an object": ({"runtimePlatform": []}, "runtimePlatform: must be an object (given [])"),
    "nothing": ({"taskRoleArn": None}, "taskRoleArn: must be text (given null)"),
    "a label that is no text": (
        with_app(dockerLabels={"a": 1}),
        'containerDefinitions[0].dockerLabels.a: must be text; write "1"',
    ),
    "another word": (
        {"networkMode": "vpc"},
        'networkMode: must be one of bridge, host, awsvpc, none (given "vpc")',
    ),
    "a missing field inside": (
        with_app(logConfiguration={"options": {}}),
        "containerDefinitions[0].logConfiguration.logDriver: is missing; add it",
    ),
    "no containers": ({"containerDefinitions": []}, "containerDefinitions: is empty; add a container"),
    "no image": ({"containerDefinitions": [{"name": "app"}]}, "containerDefinitions[0].image: is missing; add it"),
    "two of a name": (
        {"containerDefinitions": [APP, APP]},
        "containerDefinitions[1].name: app is used twice; rename one container",
    ),
    "11 containers": (
        {"containerDefinitions": [APP | {"name": f"app{n}"} for n in range(11)]},
        "containerDefinitions: has 11, and ECS accepts 10; remove some",
    ),
    "no container's name": (with_app(name="a b"), "containerDefinitions[0].name: must be 1 to 255 letters, digits, hy"),
    "too little storage": ({"ephemeralStorage": {"sizeInGiB": 20}}, "ephemeralStorage.sizeInGiB: must be 21 to 200"),
    "nothing essential": (with_app(essential=False), "containerDefinitions: none is essential; at least one must be"),
    "no family's name": ({"family": "my jobs"}, "family: must be 1 to 255 letters"),
    "a role's name": ({"taskRoleArn": "migrate"}, 'taskRoleArn: must be the ARN of a role (given "migrate")'),
    "no size": ({"cpu": "half"}, 'cpu: must be like "256" (CPU units) or "0.25 vCPU" (given "half")'),
    "no amount of memory": ({"memory": "512 MB"}, 'memory: must be like "512" (MiB) or "0.5 GB" (given "512 MB")'),
    "a tag of Headgate's": (
        {"tags": [{"key": "Headgate:definition", "value": "x"}]},
        "tags[0].key: Headgate:definition begins with a reserved prefix (aws: or headgate:); rename it",
    ),
    "a tag without a name": ({"tags": [{"value": "x"}]}, "tags[0].key: is missing; add it"),
    "too many tags": (
        {"tags": [{"key": f"t{n}", "value": ""} for n in range(50)]},
        "tags: has 50; ECS accepts 50, and Headgate adds one",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_ecs_would_refuse_is_refused_with_field_value_and_fix(what: str) -> None:
    fields, told = REFUSED[what]
    assert f"taskDefinition.register.{told}" in refusal(**fields)


TASK_DEFINITION: Any = botocore.session.get_session().get_service_model("ecs").shape_for("TaskDefinition")


def test_the_fields_that_ecs_only_answers_are_those_of_its_model() -> None:
    assert set(TASK_DEFINITION.members) - set(SHAPE.members) == ANSWERED


@pytest.mark.parametrize("field", sorted(ANSWERED))
def test_a_field_that_ecs_only_answers_is_told_as_such_and_suggests_nothing(field: str) -> None:
    assert refusal(**{field: "x"}) == (
        f"taskDefinition.register: has {field}, which ECS answers and does not take; remove it"
    )


def test_a_definition_pasted_from_ecs_is_told_all_that_is_too_much_in_one_sentence() -> None:
    described: dict[str, Any] = {
        "taskDefinitionArn": "arn",
        "revision": 3,
        "status": "ACTIVE",
        "requiresAttributes": [],
    }
    assert refusal(**described, cpu=256) == (
        "taskDefinition.register: has taskDefinitionArn, revision, status, requiresAttributes, which ECS answers and "
        'does not take; remove them; taskDefinition.register.cpu: must be text; write "256" (given 256)'
    )


def test_a_whole_answer_of_ecs_is_told_how_to_become_a_definition() -> None:
    with pytest.raises(RequestRefused) as refused:
        refuse_faulty_definition({"taskDefinition": NEW_DEFINITION | {"revision": 3}, "tags": []}, SHAPE, "*")
    assert str(refused.value) == (
        "taskDefinition.register: is a whole answer of DescribeTaskDefinition; give the content of its taskDefinition "
        f"alone, without {', '.join(sorted(ANSWERED))}, and put its tags in it"
    )


def test_what_is_required_is_named_where_it_is_missing() -> None:
    with pytest.raises(RequestRefused) as refused:
        refuse_faulty_definition({"cpu": "256"}, SHAPE, "*")
    assert str(refused.value) == (
        "taskDefinition.register.family: is missing; add it; "
        "taskDefinition.register.containerDefinitions: is missing; add it"
    )


def test_faults_are_told_together_and_not_without_end() -> None:
    told = refusal(networkMode="vpc", cpu=256)
    assert told.count("taskDefinition.register.") == 2
    assert refusal(requiresCompatibilities=["VM"] * 12).endswith("; and 2 more")


@pytest.mark.parametrize(("families", "fits"), [("*", True), ("migr*", True), ("migrate", True), ("web-*", False)])
def test_a_family_must_be_one_that_the_stack_allows(families: str, *, fits: bool) -> None:
    if fits:
        refuse_faulty_definition(NEW_DEFINITION, SHAPE, families)
    else:
        assert refusal(families).endswith("Headgate's parameter TaskDefinitions must cover it")


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5), st.just([]), st.just({}))


@given(st.dictionaries(st.sampled_from([*SHAPE.members, "other"]), SCALARS, max_size=4), SCALARS)
def test_whatever_is_accepted_botocore_takes_too(fields: dict[str, Any], image: Any) -> None:
    definition = NEW_DEFINITION | with_app(image=image) | fields
    try:
        refuse_faulty_definition(definition, SHAPE, "*")
    except RequestRefused:
        return
    report = ParamValidator().validate(definition, SHAPE)
    assert not report.has_errors(), report.generate_report()


@given(st.dictionaries(st.sampled_from([*SHAPE.members]), SCALARS, max_size=2))
def test_what_botocore_refuses_is_refused(fields: dict[str, Any]) -> None:
    definition = NEW_DEFINITION | fields
    if ParamValidator().validate(definition, SHAPE).has_errors():
        assert refusal(**fields).startswith("taskDefinition.register")


# --- The request around it -------------------------------------------------------------------------------------------


def test_a_request_carries_it_as_it_is() -> None:
    detail = event("task_requested_register")["detail"]
    request = read_task(detail, "unused")
    assert request.new_definition is not None
    assert request.new_definition == detail["taskDefinition"]["register"]
    assert request.to_wire() == detail
    refuse_faulty_definition(request.new_definition, SHAPE, "*")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (7, 'taskDefinition: give a family, family:revision, an ARN or {"register": {...}} (given 7)'),
        ({}, "taskDefinition.register: is missing; add it"),
        ({"register": "migrate"}, "taskDefinition.register: must be an object"),
        ({"register": {}}, "taskDefinition.register: must have at least 1 item"),
        (
            NEW_DEFINITION,
            'taskDefinition: give a family, family:revision, an ARN or {"register": {...}} (given {"family"',
        ),
        (
            {"taskDefinition": NEW_DEFINITION, "tags": []},
            'taskDefinition: give a family, family:revision, an ARN or {"register": {...}} (given {"taskDefinition"',
        ),
        ({"registr": {}}, "taskDefinition.registr: is not a known field; did you mean register?"),
    ],
)
def test_what_is_neither_a_name_nor_a_definition_is_refused(given: Any, told: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_task({"taskDefinition": given}, "x")
    assert told in str(refused.value)


# --- When it is the same ---------------------------------------------------------------------------------------------


def shuffled(value: Any) -> Any:
    """The same value with the fields of each object in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(each) for each in value] if isinstance(value, list) else value


SAME: dict[str, dict[str, Any]] = {
    "it is": {},
    "the order of environment variables": with_app(environment=APP["environment"][::-1]),
    "the default of essential": with_app(essential=True),
    "an empty list": with_app(command=[]) | {"placementConstraints": []},
    "an empty object": {"volumes": [{"name": "scratch", "host": {}}]},
    "the unit of the CPU": {"cpu": ".25 vCPU"},
    "the unit of the memory": {"memory": "0.5GB"},
}

OTHER: dict[str, dict[str, Any]] = {
    "the family": {"family": "migrate2"},
    "the image": with_app(image="migrate:5"),
    "a value": with_app(environment=[{"name": "STAGE", "value": "test"}, APP["environment"][1]]),
    "the order of a command": with_app(command=["b", "a"]),
    "essential": {"containerDefinitions": [APP, APP | {"name": "side", "essential": False}]},
    "a role": {"taskRoleArn": NEW_DEFINITION["executionRoleArn"]},
    "the memory": {"memory": "1 GB"},
    "a tag": {"tags": [{"key": "team", "value": "search"}]},
}


@pytest.mark.parametrize("what", SAME)
def test_what_ecs_does_not_tell_apart_has_the_same_digest(what: str) -> None:
    assert digest_of(shuffled(NEW_DEFINITION | SAME[what])) == digest_of(NEW_DEFINITION)


def test_what_differs_has_another_digest() -> None:
    definitions = [NEW_DEFINITION, NEW_DEFINITION | with_app(command=["a", "b"])]
    definitions += [NEW_DEFINITION | fields for fields in OTHER.values()]
    digests = {digest_of(each) for each in definitions}
    assert len(digests) == len(definitions)
    assert all(len(each) == 64 for each in digests)


JSON = st.recursive(
    st.text(max_size=3) | st.integers(0, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["volumes", "proxyConfiguration", "environment", "x"]), JSON, max_size=3))
def test_a_digest_depends_on_what_is_said_and_not_how(fields: dict[str, Any]) -> None:
    definition = NEW_DEFINITION | fields
    before = copy.deepcopy(definition)
    digest = digest_of(definition)
    assert digest_of(shuffled(definition)) == digest_of(json.loads(json.dumps(definition))) == digest
    assert digest_of(as_described(definition)) == digest  # What was made plain stays as it is.
    assert definition == before


@pytest.mark.parametrize(
    ("given", "told"),
    [("256", "256"), ("0256", "256"), ("1 vCPU", "1024"), ("1vcpu", "1024"), (".25 vCPU", "256"), ("0.5 VCPU", "512")],
)
def test_units_become_those_that_ecs_keeps(given: str, told: str) -> None:
    assert as_described(NEW_DEFINITION | {"cpu": given})["cpu"] == told


@pytest.mark.parametrize(("given", "told"), [("512", "512"), ("1GB", "1024"), ("0.5 GB", "512"), ("30 gb", "30720")])
def test_memory_becomes_mebibytes(given: str, told: str) -> None:
    assert as_described(NEW_DEFINITION | {"memory": given})["memory"] == told
