"""A task request is read, checked against its task definition and worked out into RunTask's parameters, or refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from headgate.ecs_tasks.checks import FARGATE_SIZES
from headgate.ecs_tasks.logs import LogStream, log_link, stream_name
from headgate.ecs_tasks.request import TaskRequest, read_task
from headgate.ecs_tasks.run_task import TaskPlan, make_task_plan
from headgate.ecs_tasks.tags import EXECUTION_TAG, NUMBER_TAG
from headgate.errors import RequestRefused
from tests.builders import ACCOUNT, ROOT, event
from tests.fakes.ecs import DEFINITION, DEFINITION_ARN, EXECUTION, SUBNETS, TASK_ARN

RUN_TASK: Any = botocore.session.get_session().get_service_model("ecs").operation_model("RunTask").input_shape
ON_FARGATE = {"launchType": "FARGATE", "networkConfiguration": SUBNETS}
SPOT = [{"provider": "FARGATE_SPOT", "weight": 1}]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/jobs/migrate"


def read(**fields: Any) -> TaskRequest:
    return read_task({"taskDefinition": "migrate:3", **fields}, "migrate-42")


def plan(definition: dict[str, Any] | None = None, roles: str = "*", **fields: Any) -> TaskPlan:
    return make_task_plan(read(**ON_FARGATE | fields), DEFINITION | (definition or {}), EXECUTION, roles=roles)


def refusal(definition: dict[str, Any] | None = None, roles: str = "*", **fields: Any) -> str:
    with pytest.raises(RequestRefused) as refused:
        plan(definition, roles, **fields)
    return str(refused.value)


def as_boto3(value: Any) -> Any:
    """Parameters as Step Functions spells them, as boto3 spells them."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: as_boto3(each) for name, each in value.items()}
    return [as_boto3(each) for each in value] if isinstance(value, list) else value


def assert_ecs_takes(parameters: dict[str, Any]) -> None:
    given = as_boto3(parameters)
    report = ParamValidator().validate(given, RUN_TASK)
    assert not report.has_errors(), report.generate_report()
    _assert_members(given, RUN_TASK)


def _assert_members(value: Any, shape: Any) -> None:
    """Each value that may be one of a few only is one of them: botocore's validator does not look."""
    if shape.type_name == "structure":
        for name, each in value.items():
            _assert_members(each, shape.members[name])
    elif shape.type_name == "list":
        for each in value:
            _assert_members(each, shape.member)
    elif getattr(shape, "enum", None):
        assert value in shape.enum


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_only_the_task_definition_is_required() -> None:
    request = read()
    assert (request.id, request.cluster, request.count, request.timeout_seconds) == ("migrate-42", "default", 1, 3600)
    assert request.retry.attempts == 1


def test_a_request_survives_the_wire() -> None:
    detail = event("task_requested")["detail"]
    assert read_task(detail, "unused").to_wire() == detail


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no cluster's name": ({"cluster": "a b"}, 'cluster: must be the name or ARN of a cluster (given "a b")'),
    "no task definition": ({"taskDefinition": "a b"}, "taskDefinition: must be a family"),
    "an unknown field": ({"coutn": 1}, "coutn: is not a known field; did you mean count? (given 1)"),
    "an unknown field inside": (
        {"overrides": {"containers": {"app": {"comand": []}}}},
        "overrides.containers.app.comand: is not a known field; did you mean command?",
    ),
    "a field of RunTask's": (
        {"overrides": {"containerOverrides": []}},
        "overrides.containerOverrides: is not a known field; did you mean containers? (given [])",
    ),
    "a field like one that is elsewhere": (
        {"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
        'capacityProviderStrategy[0].capacityProvider: is not a known field; did you mean provider? (given "FARGATE")',
    ),
    "too many": ({"count": 11}, "count: must be at most 10 (given 11)"),
    "none": ({"count": 0}, "count: must be at least 1"),
    "another launch type": ({"launchType": "LAMBDA"}, "launchType: must be 'FARGATE', 'EC2' or 'EXTERNAL'"),
    "launch type and strategy": (
        {"launchType": "FARGATE", "capacityProviderStrategy": SPOT},
        "launchType: FARGATE cannot be used with capacityProviderStrategy; remove one",
    ),
    "placement on Fargate": (
        ON_FARGATE | {"placementStrategy": [{"type": "binpack", "field": "cpu"}]},
        "placementStrategy: binpack is not for Fargate, which places tasks itself; remove it, or run on EC2",
    ),
    "constraints on Fargate Spot": (
        {"capacityProviderStrategy": SPOT, "placementConstraints": [{"type": "distinctInstance"}]},
        "placementConstraints: distinctInstance is not for Fargate",
    ),
    "a platform version on EC2": (
        {"launchType": "EC2", "platformVersion": "1.4.0"},
        "platformVersion: 1.4.0 is only for Fargate",
    ),
    "awsvpc on EXTERNAL": (
        {"launchType": "EXTERNAL", "networkConfiguration": SUBNETS},
        "networkConfiguration: EXTERNAL",
    ),
    "no subnets": (
        {"networkConfiguration": {"subnets": []}},
        "networkConfiguration.subnets: must have at least 1",
    ),
    "too many subnets": (
        {"networkConfiguration": {"subnets": ["subnet-1"] * 17}},
        "networkConfiguration.subnets: must have at most 16",
    ),
    "two bases": (
        {"capacityProviderStrategy": [{"provider": "a", "base": 1}, {"provider": "b", "base": 1}]},
        "capacityProviderStrategy: only one provider may have a base",
    ),
    "no weight at all": (
        {"capacityProviderStrategy": [{"provider": "a", "weight": 0}]},
        "capacityProviderStrategy: every weight is 0",
    ),
    "weights that are left out": (
        {"capacityProviderStrategy": [{"provider": "FARGATE"}, {"provider": "FARGATE_SPOT"}]},
        "capacityProviderStrategy: every weight is 0, which is also the default",
    ),
    "a base without a weight": (
        {"capacityProviderStrategy": [{"provider": "a", "base": 1, "weight": 0}]},
        "capacityProviderStrategy: every weight is 0",
    ),
    "Fargate mixed with instances": (
        {"capacityProviderStrategy": [*SPOT, {"provider": "my-instances", "weight": 1}]},
        "capacityProviderStrategy: FARGATE_SPOT, my-instances mix Fargate and instances, which ECS does not allow; use",
    ),
    "Fargate in lower case": (
        {"capacityProviderStrategy": [{"provider": "fargate_spot", "weight": 1}]},
        'capacityProviderStrategy[0].provider: must be in upper case: FARGATE_SPOT (given "fargate_spot")',
    ),
    "a platform version on a provider's instances": (
        {"capacityProviderStrategy": [{"provider": "my-instances", "weight": 1}], "platformVersion": "LATEST"},
        "platformVersion: LATEST is only for Fargate",
    ),
    "rules without attempts": (
        {"retry": {"evaluateOnExit": [{"onExitCode": "1", "action": "EXIT"}]}},
        "retry: evaluateOnExit needs attempts, as in AWS Batch; add attempts, 2 to 10 (given",
    ),
    "no platform version": ({"platformVersion": "latest"}, "platformVersion: must be LATEST, or a version like 1.4.0"),
    "a tag with a tab": ({"tags": {"a": "b\tc"}}, "tags: a may hold letters"),
    "a size in words": ({"overrides": {"cpu": "1 vCPU"}}, 'overrides.cpu: must be a whole number (given "1 v'),
    "21 providers": (
        {"capacityProviderStrategy": [{"provider": f"p{n}"} for n in range(21)]},
        "capacityProviderStrategy: must have at most 20",
    ),
    "11 constraints": (
        {"placementConstraints": [{"type": "distinctInstance"}] * 11},
        "placementConstraints: must have at most 10",
    ),
    "6 placement strategies": (
        {"placementStrategy": [{"type": "random"}] * 6},
        "placementStrategy: must have at most 5",
    ),
    "binpack by nothing": ({"placementStrategy": [{"type": "binpack"}]}, "placementStrategy[0]: binpack needs a field"),
    "spread by something else": (
        {"placementStrategy": [{"type": "spread", "field": "az"}]},
        "placementStrategy[0]: spread needs a field: instanceId, or an attribute like attribute:ecs.availability-zone",
    ),
    "spread by nothing": ({"placementStrategy": [{"type": "spread"}]}, "placementStrategy[0]: spread needs a field"),
    "random by something": (
        {"placementStrategy": [{"type": "random", "field": "cpu"}]},
        "placementStrategy[0]: random has no field",
    ),
    "memberOf nothing": (
        {"placementConstraints": [{"type": "memberOf"}]},
        "placementConstraints[0]: memberOf needs an",
    ),
    "too many tags": ({"tags": {f"t{n}": "" for n in range(48)}}, "tags: must have at most 47"),
    "a tag of AWS's": ({"tags": {"AWS:x": "y"}}, "tags: AWS:x begins with a reserved prefix"),
    "a tag of Headgate's": ({"tags": {"headgate:number": "1"}}, "tags: headgate:number begins with a reserved prefix"),
    "a tag with other characters": ({"tags": {"a": "b;c"}}, "tags: a may hold letters"),
    "a group of ECS's": ({"group": "service:x"}, "group: service:x begins with a reserved prefix"),
    "propagation from a service": ({"propagateTags": "SERVICE"}, "propagateTags: must be 'TASK_DEFINITION' or"),
    "overrides that are too long": (
        {"overrides": {"containers": {"app": {"command": ["x" * 8192]}}}},
        "overrides: are 8246 characters long as JSON; ECS accepts 8192",
    ),
    "too little storage": (
        {"overrides": {"ephemeralStorageGiB": 20}},
        "overrides.ephemeralStorageGiB: must be at least 21",
    ),
    "a reservation above the limit": (
        {"overrides": {"containers": {"app": {"memory": 64, "memoryReservation": 128}}}},
        "overrides.containers.app: memoryReservation is above memory",
    ),
    "an environment file that is none": (
        {"overrides": {"containers": {"app": {"environmentFiles": ["s3://jobs/app.env"]}}}},
        "overrides.containers.app.environmentFiles[0]: must be the ARN of an S3 object whose name ends in .env (given",
    ),
    "11 environment files": (
        {"overrides": {"containers": {"app": {"environmentFiles": ["arn:aws:s3:::jobs/app.env"] * 11}}}},
        "overrides.containers.app.environmentFiles: must have at most 10",
    ),
    "another resource": (
        {"overrides": {"containers": {"app": {"resourceRequirements": [{"type": "TPU", "value": "1"}]}}}},
        "overrides.containers.app.resourceRequirements[0].type: must be 'GPU'",
    ),
    "no GPU at all": (
        {"overrides": {"containers": {"app": {"resourceRequirements": [{"type": "GPU", "value": 0}]}}}},
        "overrides.containers.app.resourceRequirements[0].value: ",
    ),
    "some Neuron devices": (
        {"overrides": {"containers": {"app": {"resourceRequirements": [{"type": "NeuronDevice", "value": "2"}]}}}},
        "overrides.containers.app.resourceRequirements[0]: must have the value ALL for Neuron devices",
    ),
    "GPUs on Fargate": (
        ON_FARGATE | {"overrides": {"containers": {"app": {"resourceRequirements": [{"type": "GPU", "value": 1}]}}}},
        "overrides.containers.app.resourceRequirements: Fargate has no GPUs or Neuron devices; remove it, or",
    ),
    "a role's name": ({"overrides": {"taskRole": "migrate"}}, "overrides.taskRole: must be the ARN of a role"),
    "too many attempts": ({"retry": {"attempts": 11}}, "retry.attempts: must be at most 10"),
    "six rules": (
        {"retry": {"attempts": 2, "evaluateOnExit": [{"onExitCode": "1", "action": "EXIT"}] * 6}},
        "retry.evaluateOnExit: must have at most 5",
    ),
    "a rule that asks nothing": (
        {"retry": {"evaluateOnExit": [{"action": "EXIT"}]}},
        "retry.evaluateOnExit[0]: needs onExitCode, onReason or onStatusReason",
    ),
    "an asterisk inside": (
        {"retry": {"evaluateOnExit": [{"onReason": "*memory", "action": "EXIT"}]}},
        "retry.evaluateOnExit[0].onReason: may have an asterisk only at the end",
    ),
    "an exit code in words": (
        {"retry": {"evaluateOnExit": [{"onExitCode": "one", "action": "EXIT"}]}},
        "retry.evaluateOnExit[0].onExitCode: must be digits",
    ),
    "another action": (
        {"retry": {"evaluateOnExit": [{"onExitCode": "1", "action": "WAIT"}]}},
        "retry.evaluateOnExit[0].action: must be 'RETRY' or 'EXIT'",
    ),
    "a fallback without a second attempt": (
        {"capacityProviderStrategy": SPOT, "fallback": "onDemand"},
        "fallback: onDemand needs a second attempt; set retry.attempts to at least 2",
    ),
    "a fallback from nothing": (
        ON_FARGATE | {"fallback": "onDemand", "retry": {"attempts": 2}},
        "fallback: onDemand needs FARGATE_SPOT",
    ),
    "a fallback from EC2 too": (
        {
            "capacityProviderStrategy": [*SPOT, {"provider": "my-instances"}],
            "fallback": "onDemand",
            "retry": {"attempts": 2},
        },
        "fallback: onDemand runs on Fargate",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_ecs_would_refuse_is_refused_with_field_value_and_fix(what: str) -> None:
    fields, told = REFUSED[what]
    with pytest.raises(RequestRefused) as refused:
        read(**fields)
    assert told in str(refused.value)


ACCEPTED: dict[str, dict[str, Any]] = {
    "a single provider without a weight": {"capacityProviderStrategy": [{"provider": "FARGATE_SPOT"}]},
    "a base and a weight of 0, and another provider": {
        "capacityProviderStrategy": [{"provider": "FARGATE", "base": 2}, {"provider": "FARGATE_SPOT", "weight": 1000}]
    },
    "a platform version for the cluster's own strategy": {"platformVersion": "1.4.0"},
    "sizes as ECS spells them": {"overrides": {"cpu": "512", "memory": "1024"}},
    "overrides of 8,192 characters, not all of them ASCII": {
        "overrides": {"containers": {"app": {"command": ["é" * 8138]}}}
    },
    "tags in other scripts": {"tags": {"équipe": "данные 数据"}},
    "all GPUs": {"overrides": {"containers": {"app": {"resourceRequirements": [{"type": "GPU", "value": "ALL"}]}}}},
    "all Neuron devices": {
        "overrides": {"containers": {"app": {"resourceRequirements": [{"type": "NeuronDevice", "value": "ALL"}]}}}
    },
    "no CPU units for a container": {"overrides": {"containers": {"app": {"cpu": 0}}}},
    "rules with one attempt": {"retry": {"attempts": 1, "evaluateOnExit": [{"onReason": "*", "action": "exit"}]}},
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_ecs_takes_is_not_refused(what: str) -> None:
    assert read(**ACCEPTED[what]).id == "migrate-42"


def test_what_is_no_object_or_too_long_is_refused() -> None:
    with pytest.raises(RequestRefused, match="must be a JSON object"):
        read_task(["migrate"], "x")
    with pytest.raises(RequestRefused, match="the limit is 49152"):
        read(group="x" * 50_000)


@pytest.mark.parametrize("action", ["retry", "Retry", "RETRY"])
def test_batchs_actions_are_not_case_sensitive_and_exit_codes_may_be_numbers(action: str) -> None:
    [rule] = read(retry={"attempts": 2, "evaluateOnExit": [{"onExitCode": 1, "action": action}]}).retry.evaluate_on_exit
    assert (rule.action, rule.on_exit_code) == ("RETRY", "1")


# --- Against the task definition -------------------------------------------------------------------------------------


def test_a_container_that_is_not_there_is_named_with_those_that_are() -> None:
    assert refusal(overrides={"containers": {"web": {"cpu": 64}}}) == (
        f"overrides.containers.web: {DEFINITION_ARN} has no such container; it has app, router"
    )


def test_awsvpc_needs_subnets_and_other_modes_take_none() -> None:
    assert refusal(networkConfiguration=None).startswith("networkConfiguration.subnets: is missing")
    on_bridge = {"networkMode": "bridge", "compatibilities": ["EC2"]}
    told = refusal(on_bridge, launchType="EC2")
    assert told.startswith("networkConfiguration: the task definition's network mode is bridge")
    assert plan(on_bridge, launchType="EC2", networkConfiguration=None).parameters["LaunchType"] == "EC2"


def test_a_network_mode_that_cannot_be_had_there_is_told_and_not_what_would_not_help() -> None:
    external = {"compatibilities": ["EC2", "EXTERNAL"]}
    assert refusal(external, launchType="EXTERNAL", networkConfiguration=None) == (
        "launchType: EXTERNAL instances do not support awsvpc, the network mode of the task definition; "
        "name a revision with another network mode"
    )
    assert refusal({"networkMode": "bridge", "compatibilities": ["EC2"]}).startswith("launchType: FARGATE is not among")


def test_a_public_address_is_refused_on_ec2() -> None:
    told = refusal(launchType="EC2", networkConfiguration=SUBNETS | {"assignPublicIp": True})
    assert told.startswith("networkConfiguration.assignPublicIp: a task on EC2")


@pytest.mark.parametrize(
    ("cpu", "memory", "told"),
    [
        (300, 512, "overrides.cpu: 300 is not a size of Fargate; use one of 256, 512, 1024, 2048, 4096, 8192, 16384"),
        (256, 4096, "overrides.memory: 4096 MiB is not valid with 256 CPU units, which need 512 to 2048 MiB; use 2048"),
        (
            1024,
            1024,
            "overrides.memory: 1024 MiB is not valid with 1024 CPU units, which need 2048 to 8192 MiB; use 2048",
        ),
        (8192, 18432, "overrides.memory: 18432 MiB is not valid with 8192 CPU units"),
        (16384, 36864, "overrides.memory: 36864 MiB is not valid with 16384 CPU units"),
    ],
)
def test_a_size_that_fargate_does_not_have_is_refused_with_one_that_it_has(cpu: int, memory: int, told: str) -> None:
    assert refusal(overrides={"cpu": cpu, "memory": memory}).startswith(told)


@given(st.sampled_from(sorted(FARGATE_SIZES)), st.integers(1, 130 * 1024))
def test_fargate_takes_exactly_the_sizes_of_its_table(cpu: int, memory: int) -> None:
    fits = memory in FARGATE_SIZES[cpu]
    if fits:
        assert plan(overrides={"cpu": cpu, "memory": memory}).parameters["Overrides"]["Cpu"] == str(cpu)
    else:
        assert "overrides.memory" in refusal(overrides={"cpu": cpu, "memory": memory})


def test_the_table_of_sizes_is_the_documented_one() -> None:
    ends = {cpu: (sizes[0] / 1024, sizes[-1] / 1024, len(sizes)) for cpu, sizes in FARGATE_SIZES.items()}
    assert ends == {
        256: (0.5, 2, 3),
        512: (1, 4, 4),
        1024: (2, 8, 7),
        2048: (4, 16, 13),
        4096: (8, 30, 23),
        8192: (16, 60, 12),
        16384: (32, 120, 12),
    }


def test_large_sizes_need_a_platform_version_that_has_them() -> None:
    large: dict[str, Any] = {"overrides": {"cpu": 8192, "memory": 16384}}
    assert refusal(platformVersion="1.3.0", **large).startswith(
        "platformVersion: 1.3.0 does not support tasks of 8192 CPU units"
    )
    assert plan(platformVersion="1.4.0", **large).parameters["PlatformVersion"] == "1.4.0"


def test_windows_on_fargate_has_fewer_sizes_and_no_spot() -> None:
    windows = {"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}
    told = refusal(windows)
    assert told == "overrides.cpu: 256 is not a Windows size of Fargate; use one of 1024, 2048, 4096"
    fits: dict[str, Any] = {"overrides": {"cpu": 1024, "memory": 2048}}
    assert plan(windows, platformVersion="1.0.0", **fits).parameters["PlatformVersion"] == "1.0.0"
    told = refusal(windows, launchType=None, capacityProviderStrategy=SPOT, **fits)
    assert told == "capacityProviderStrategy: FARGATE_SPOT does not support Windows; use only FARGATE"


@pytest.mark.parametrize(
    ("definition", "fields", "lacking"),
    [
        ({"runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}}, {}, "ARM64"),
        ({}, {"overrides": {"ephemeralStorageGiB": 21}}, "ephemeralStorageGiB"),
        ({"taskRoleArn": ROLE}, {"enableExecuteCommand": True}, "enableExecuteCommand"),
    ],
)
def test_what_an_old_platform_version_lacks_is_told(definition: Any, fields: Any, lacking: str) -> None:
    told = refusal(definition, platformVersion="1.3.0", **fields)
    assert told == f"platformVersion: 1.3.0 does not support {lacking}; use 1.4.0 or LATEST"
    assert plan(definition, platformVersion="1.4.0", **fields).count == 1


def test_on_instances_there_are_sizes_too_that_ecs_does_not_take_and_no_more_storage() -> None:
    for cpu in (64, 200_000):
        told = refusal(launchType="EC2", overrides={"cpu": cpu})
        assert told == f"overrides.cpu: {cpu} is not valid; ECS accepts 128 to 196608 CPU units"
    instances = [{"provider": "my-instances", "weight": 1}]
    told = refusal(launchType=None, capacityProviderStrategy=instances, overrides={"ephemeralStorageGiB": 30})
    assert told == "overrides.ephemeralStorageGiB: 30 is only for Fargate; remove it"


def test_a_size_is_no_matter_on_ec2_and_must_be_there_on_fargate() -> None:
    assert plan({"cpu": "300", "memory": "300"}, launchType="EC2").parameters["LaunchType"] == "EC2"
    assert refusal({"memory": None}).startswith("overrides.memory: is missing")


def test_a_container_cannot_have_more_memory_than_its_task() -> None:
    told = refusal(overrides={"containers": {"app": {"memory": 1024}}})
    assert told == "overrides.containers.app.memory: 1024 MiB is more than the task's 512; raise overrides.memory"


CONTAINERS = [
    {"name": "app", "cpu": 128, "memory": 384, "memoryReservation": 256},
    {"name": "router", "cpu": 64, "memory": 128, "essential": False},
]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            {"containers": {"app": {"cpu": 256}}},
            "overrides.cpu: the task has 256 CPU units, but its containers reserve 320; raise",
        ),
        (
            {"containers": {"app": {"memory": 512, "memoryReservation": 500}}},
            "overrides.memory: the task has 512 MiB, but its containers reserve 628; raise it",
        ),
        (
            {"containers": {"app": {"memoryReservation": 400}}},
            "overrides.containers.app: reserves 400 MiB but has a limit of 384; set both memory and memoryReservation",
        ),
    ],
)
def test_containers_that_do_not_fit_into_their_task_are_refused(overrides: dict[str, Any], told: str) -> None:
    assert refusal({"containerDefinitions": CONTAINERS}, overrides=overrides).startswith(told)


def test_a_task_that_is_made_too_small_for_its_containers_is_refused() -> None:
    definition = {"cpu": "1024", "memory": "2048", "containerDefinitions": [{"name": "app", "memory": 2048}]}
    told = refusal(definition, overrides={"cpu": 256, "memory": 512})
    assert told == "overrides.memory: 512 MiB is less than container app's 2048; raise it to at least that"
    fits = {"cpu": 256, "memory": 512, "containers": {"app": {"memory": 512}}}
    assert plan(definition, overrides=fits).parameters["Overrides"]["Memory"] == "512"


def test_containers_that_fill_their_task_are_not_refused() -> None:
    fits = {"containers": {"app": {"cpu": 192, "memory": 384, "memoryReservation": 384}}}
    assert plan({"containerDefinitions": CONTAINERS}, overrides=fits).count == 1
    # Nothing about sizes is overridden: what ECS has registered, it has looked at.
    assert plan({"containerDefinitions": [{"name": "app", "memory": 4096}]}).count == 1


def test_execute_command_needs_a_task_role() -> None:
    assert refusal(enableExecuteCommand=True) == (
        "enableExecuteCommand: needs a task role, and the task definition has none; set overrides.taskRole"
    )
    assert plan(enableExecuteCommand=True, overrides={"taskRole": ROLE}).parameters["EnableExecuteCommand"] is True


def test_the_definitions_own_constraints_count_too() -> None:
    own = {"placementConstraints": [{"type": "memberOf", "expression": "x == y"}] * 8}
    assert refusal(own, launchType="EC2", placementConstraints=[{"type": "distinctInstance"}] * 3) == (
        "placementConstraints: has 3, and the task definition 8; ECS accepts 10 in total, so give at most 2"
    )
    assert plan(own, launchType="EC2", placementConstraints=[{"type": "distinctInstance"}] * 2).count == 1


def test_tags_that_are_propagated_count_too() -> None:
    own = {"tags": [{"key": f"own{n}", "value": ""} for n in range(10)]}
    assert refusal(own, propagateTags="TASK_DEFINITION", tags={f"t{n}": "" for n in range(40)}) == (
        "tags: are 53 with those of the task definition and Headgate; ECS accepts 50; "
        "remove 3, or set propagateTags to NONE"
    )
    assert plan(own, propagateTags="TASK_DEFINITION", tags={f"own{n}": "" for n in range(40)}).count == 1
    assert plan(own, propagateTags="NONE", tags={f"t{n}": "" for n in range(47)}).count == 1


def test_a_revision_that_cannot_run_as_wanted_is_refused() -> None:
    assert refusal({"status": "INACTIVE"}).startswith("taskDefinition: migrate:3 is INACTIVE")
    assert refusal({"compatibilities": ["EC2"]}).startswith("launchType: FARGATE is not among")
    told = refusal({"compatibilities": ["EC2"]}, launchType=None, capacityProviderStrategy=SPOT)
    assert told.startswith("capacityProviderStrategy: FARGATE is not among")
    assert "ephemeralStorageGiB" in refusal(launchType="EC2", overrides={"ephemeralStorageGiB": 30})


@pytest.mark.parametrize(
    ("roles", "fits"), [("*", True), ("jobs/*", True), ("jobs/migrate-execution", True), ("", False), ("web/*", False)]
)
def test_a_role_that_may_not_be_passed_is_found_out_before_anything_runs(roles: str, *, fits: bool) -> None:
    if fits:
        assert plan(roles=roles).count == 1
    else:
        assert refusal(roles=roles).endswith("may not be passed; Headgate's parameter TaskRoles must cover it")


@pytest.mark.parametrize("field", ["taskRole", "executionRole"])
def test_a_role_instead_of_the_definitions_must_be_allowed_and_this_accounts(field: str) -> None:
    def role(account: str, path: str) -> dict[str, Any]:
        return {field: f"arn:aws:iam::{account}:role/{path}"}

    made = plan(roles="jobs/*", overrides=role(ACCOUNT, "jobs/other"))
    spelled = {"taskRole": "TaskRoleArn", "executionRole": "ExecutionRoleArn"}[field]
    assert made.parameters["Overrides"] == {spelled: f"arn:aws:iam::{ACCOUNT}:role/jobs/other"}
    assert refusal(roles="jobs/*", overrides=role(ACCOUNT, "admin")) == (
        f"overrides.{field}: arn:aws:iam::{ACCOUNT}:role/admin may not be passed; "
        "Headgate's parameter TaskRoles must cover it"
    )
    assert refusal(roles="*", overrides=role("210987654321", "jobs/other")) == (
        f"overrides.{field}: arn:aws:iam::210987654321:role/jobs/other is in another account; use a role of {ACCOUNT}"
    )


def test_all_faults_are_told_at_once() -> None:
    told = refusal(networkConfiguration=None, overrides={"cpu": 300, "containers": {"web": {}}})
    assert [fault.split(":")[0] for fault in told.split("; ") if ": " in fault] == [
        "overrides.containers.web",
        "networkConfiguration.subnets",
        "overrides.cpu",
    ]


# --- RunTask's parameters --------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "cluster": "jobs",
    "platformVersion": "LATEST",
    "overrides": {
        "cpu": 512,
        "memory": 1024,
        "ephemeralStorageGiB": 50,
        "taskRole": f"arn:aws:iam::{ACCOUNT}:role/jobs/other",
        "executionRole": f"arn:aws:iam::{ACCOUNT}:role/jobs/other",
        "containers": {
            "app": {
                "command": ["a"],
                "environment": {"A": "1"},
                "environmentFiles": ["arn:aws:s3:::jobs/app.env"],
                "cpu": 64,
                "memory": 256,
                "memoryReservation": 128,
            }
        },
    },
    "group": "nightly",
    "tags": {"team": "shop"},
    "propagateTags": "TASK_DEFINITION",
    "enableExecuteCommand": True,
}


def test_every_parameter_is_as_the_api_spells_it() -> None:
    on_ec2: dict[str, Any] = {
        "networkConfiguration": SUBNETS,
        "overrides": {"containers": {"app": {"resourceRequirements": [{"type": "GPU", "value": 2}]}}},
        "placementStrategy": [{"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "random"}],
        "placementConstraints": [{"type": "distinctInstance"}, {"type": "memberOf", "expression": "x == y"}],
    }
    strategy = [{"provider": "FARGATE_SPOT", "weight": 3, "base": 1}, {"provider": "FARGATE", "weight": 0}]
    plans = [
        plan(**EVERYTHING),
        plan(**EVERYTHING | {"launchType": None, "capacityProviderStrategy": strategy}),
        plan(launchType="EC2", **on_ec2),
    ]
    for each in plans:
        assert_ecs_takes(each.parameters)
    named = set().union(*(as_boto3(each.parameters) for each in plans))
    left_out = {"count", "clientToken", "startedBy", "referenceId", "enableECSManagedTags", "volumeConfigurations"}
    assert named == set(RUN_TASK.members) - left_out
    overrides = [as_boto3(each.parameters["Overrides"]) for each in plans]
    task, per_container = RUN_TASK.members["overrides"], RUN_TASK.members["overrides"].members["containerOverrides"]
    assert set().union(*overrides) == set(task.members) - {"inferenceAcceleratorOverrides"}
    given = [override for each in overrides for override in each["containerOverrides"]]
    assert set().union(*given) == set(per_container.member.members)
    assert {"type": "GPU", "value": "2"} in given[-1]["resourceRequirements"]


@given(
    count=st.integers(1, 10),
    command=st.lists(st.text(max_size=20), max_size=5),
    environment=st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=5),
    tags=st.dictionaries(st.from_regex(r"[a-zA-Z0-9]{1,20}", fullmatch=True), st.just("x"), max_size=47),
    spot=st.booleans(),
)
def test_whatever_is_accepted_ecs_takes_too(
    count: int, command: Any, environment: Any, tags: Any, *, spot: bool
) -> None:
    launch: dict[str, Any] = {"launchType": None, "capacityProviderStrategy": SPOT} if spot else {}
    containers = {"app": {"command": command, "environment": environment}}
    made = plan(count=count, tags=tags, overrides={"containers": containers}, **launch)
    assert_ecs_takes(made.parameters)
    assert len(made.parameters["Tags"]) + 1 <= 50
    assert made.numbers == list(range(1, count + 1))
    assert TaskPlan.model_validate(json.loads(json.dumps(made.to_wire()))) == made


def test_placement_is_spelled_as_ecs_does() -> None:
    fields = ["instanceId", "host", "attribute:rack"]
    wanted = [{"type": "binpack", "field": "MEMORY"}, *({"type": "spread", "field": field} for field in fields)]
    made = plan(launchType="EC2", placementStrategy=wanted)
    assert [each["Field"] for each in made.parameters["PlacementStrategy"]] == ["memory", *fields]


def test_a_single_provider_is_given_the_weight_that_was_left_out() -> None:
    """ECS takes it for 0, and then has no provider to run the task on."""
    made = plan(launchType=None, capacityProviderStrategy=[{"provider": "FARGATE_SPOT"}])
    assert made.parameters["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}]


@pytest.mark.parametrize(
    ("strategy", "count", "dealt"),
    [
        ([("FARGATE", 2, 0), ("FARGATE_SPOT", None, 1)], 5, {"FARGATE": 2, "FARGATE_SPOT": 3}),
        ([("FARGATE", 1, 1), ("FARGATE_SPOT", None, 4)], 6, {"FARGATE": 2, "FARGATE_SPOT": 4}),
        ([("FARGATE", None, 1), ("FARGATE_SPOT", None, 4)], 10, {"FARGATE": 2, "FARGATE_SPOT": 8}),
        ([("FARGATE", 20, 1), ("FARGATE_SPOT", None, 4)], 10, {"FARGATE": 10}),
        ([("a", None, 1), ("b", None, 1), ("c", None, 0)], 4, {"a": 2, "b": 2}),
        ([("FARGATE", 1, 1), ("FARGATE_SPOT", None, 4)], 1, {}),
        ([("FARGATE_SPOT", None, 1)], 10, {}),
    ],
)
def test_a_count_is_dealt_out_over_the_providers_by_base_and_weight(
    strategy: list[Any], count: int, dealt: dict[str, int]
) -> None:
    items = [{"provider": name, "base": base, "weight": weight} for name, base, weight in strategy]
    made = plan(launchType=None, capacityProviderStrategy=items, count=count)
    assert Counter(made.providers or []) == dealt
    assert len(made.parameters["CapacityProviderStrategy"]) == len(items)


def test_the_fallback_is_the_same_task_on_fargate() -> None:
    retry = {"attempts": 2}
    made = plan(launchType=None, capacityProviderStrategy=SPOT, fallback="onDemand", retry=retry)
    assert made.fallback is not None
    assert_ecs_takes(made.fallback)
    rest = {name: value for name, value in made.parameters.items() if name != "CapacityProviderStrategy"}
    assert made.fallback == rest | {"LaunchType": "FARGATE"}
    assert plan().fallback is None


def test_the_plan_pins_the_revision_and_knows_what_decides() -> None:
    made = plan(taskDefinition="migrate")
    assert made.parameters["TaskDefinition"] == made.task_definition == DEFINITION_ARN
    assert made.essential == ["app"]
    assert {"Key": EXECUTION_TAG, "Value": EXECUTION} in made.parameters["Tags"]


def test_the_machine_adds_the_tag_of_the_number() -> None:
    machine = json.loads((ROOT / "statemachines" / "ecs_task.asl.json").read_text("utf-8"))
    run = machine["States"]["Tasks"]["ItemProcessor"]["States"]["Run"]
    assert f"'Key': '{NUMBER_TAG}'" in run["Arguments"]


def test_logs_are_found_where_their_stream_can_be_known() -> None:
    log = LogStream(container="app", group="/ecs/migrate", region="eu-central-1", prefix="ecs")
    assert plan().logs == [log]
    assert stream_name(log, TASK_ARN) == f"ecs/app/{TASK_ARN.rsplit('/', 1)[-1]}"
    assert log_link(log, TASK_ARN).endswith(
        f"/log-group/$252Fecs$252Fmigrate/log-events/ecs$252Fapp$252F{TASK_ARN[-32:]}"
    )
    assert log_link(log, TASK_ARN).startswith(
        "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-ce"
    )
    elsewhere = log.model_copy(update={"region": ""})
    for task_arn, link in (
        (
            "arn:aws-eusc:ecs:eusc-de-east-1:123456789012:task/jobs/1",
            "https://eusc-de-east-1.console.amazonaws-eusc.eu/cloudwatch/",
        ),
        ("arn:aws-cn:ecs:cn-north-1:123456789012:task/jobs/1", "https://cn-north-1.console.amazonaws.cn/cloudwatch/"),
        ("arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/jobs/1", "https://us-gov-west-1.console.amazonaws-us-gov"),
    ):
        assert log_link(elsewhere, task_arn).startswith(link)
    without = [{"name": "app", "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/x"}}}]
    assert plan({"containerDefinitions": without}).logs == []


def test_an_arn_tells_its_account() -> None:
    assert read(taskDefinition=DEFINITION_ARN).account == ACCOUNT
    assert read().account is None


def test_the_environment_of_the_task_reaches_every_container_and_a_containers_own_counts_more() -> None:
    own = {"containers": {"app": {"command": ["smoke"], "environment": {"B": "own"}}}}
    parameters = plan(environment={"A": "1", "B": "2"}, overrides=own).parameters
    assert parameters["Overrides"]["ContainerOverrides"] == [
        {
            "Name": "app",
            "Command": ["smoke"],
            "Environment": [{"Name": "A", "Value": "1"}, {"Name": "B", "Value": "own"}],
        },
        {"Name": "router", "Environment": [{"Name": "A", "Value": "1"}, {"Name": "B", "Value": "2"}]},
    ]
    assert_ecs_takes(parameters)


def test_the_environment_of_the_task_counts_once_for_each_container() -> None:
    assert plan(environment={"A": "x" * 4000}).parameters["Overrides"]
    told = refusal(environment={"A": "x" * 4100})
    assert told.startswith("overrides: are 8")
    assert told.endswith("put long values into S3 (environment counts once for each container)")
