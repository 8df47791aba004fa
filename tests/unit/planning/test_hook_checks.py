"""The hooks of a request are held against what there is, and made ready for the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from headgate.aws.patterns import Patterns
from headgate.aws.place import Place
from headgate.ecs_tasks.limits import TaskLimits
from headgate.ecs_tasks.preflight import Preflight
from headgate.ecs_tasks.request import MAX_OVERRIDES
from headgate.errors import RequestRefused
from headgate.planning.hook_checks import HookChecks
from headgate.spec.request import read_request
from tests.builders import ACCOUNT, EVERYTHING, OWN, REGION, TARGET, TARGET_KEY, event
from tests.fakes.ecs import DEFINITION, DEFINITION_ARN, SUBNETS, FakeEcs
from tests.fakes.services import FakeLambda, Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD_TEST = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:load-test"
TASK: dict[str, Any] = {"cluster": "jobs", "taskDefinition": "migrate:3", "networkConfiguration": SUBNETS}
STAGES = ("beforeTraffic", "beforeStep", "afterStep", "afterTraffic", "onRollback")


class FakeMachines(Service):
    """State machines by their ARN."""

    def __init__(self) -> None:
        self.machines: dict[str, dict[str, Any]] = {LOAD_TEST: {"type": "STANDARD", "status": "ACTIVE"}}
        self.refusal: Refusal | None = None
        self.asked: list[str] = []

    def DescribeStateMachine(self, stateMachineArn: str, includedData: str) -> dict[str, Any]:  # noqa: N802, N803
        self.asked.append(stateMachineArn)
        assert includedData == "METADATA_ONLY"
        if self.refusal:
            raise self.refusal
        if stateMachineArn not in self.machines:
            raise Refusal("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{stateMachineArn}'")
        return self.machines[stateMachineArn]


class World:
    """Lambda, Step Functions and ECS, with one thing of each that may be a hook."""

    def __init__(self) -> None:
        self.functions, self.machines, self.ecs = FakeLambda(), FakeMachines(), FakeEcs()
        self.functions.others = {"smoke": dict}
        functions = boto3.client("lambda", region_name=REGION)
        machines = boto3.client("stepfunctions", region_name=REGION)
        self.detach = [self.functions.attach(functions), self.machines.attach(machines)]
        place = Place("aws", ACCOUNT, REGION)
        limits = TaskLimits(ACCOUNT, "jobs/*", "migr*", may_register=False)
        self.patterns = dict(EVERYTHING.by_parameter)
        self.checks = HookChecks(
            functions, machines, self.ecs, place=place, tasks=limits, own=OWN, patterns=Patterns(self.patterns)
        )

    def settle(self, rollout_id: str = "checkout-42", /, **hooks: Any) -> dict[str, Any]:
        request = read_request({"id": rollout_id, "target": TARGET, "hooks": hooks}, "unused")
        return self.checks.settle(request).to_wire()

    def refusal(self, **hooks: Any) -> str:
        with pytest.raises(RequestRefused) as refused:
            self.settle(**hooks)
        return str(refused.value)


@pytest.fixture(scope="module")
def world(_nobodys_account: None) -> Iterator[World]:
    made = World()
    yield made
    for detach in made.detach:
        detach()


@pytest.fixture(autouse=True)
def anew(world: World) -> None:
    """Each test finds what there was at first."""
    world.machines.machines = {LOAD_TEST: {"type": "STANDARD", "status": "ACTIVE"}}
    world.machines.refusal = None
    world.machines.asked.clear()
    world.ecs.definition = DEFINITION


def test_a_function_is_left_as_it_is(world: World) -> None:
    hook = {"lambda": "smoke", "timeoutSeconds": 60, "config": {"cases": []}}
    assert world.settle(beforeTraffic=[hook])["beforeTraffic"] == [hook]


def test_a_function_that_is_not_there_is_refused(world: World) -> None:
    assert world.refusal(beforeTraffic=[{"lambda": "nobody"}]) == (
        "hooks.beforeTraffic[0].lambda: nobody cannot be called: Function not found: nobody"
    )


def test_functions_and_state_machines_of_headgate_are_refused(world: World) -> None:
    for name in ("headgate-publisher", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-publisher"):
        assert world.refusal(beforeTraffic=[{"lambda": name}]).startswith(
            f"hooks.beforeTraffic[0].lambda: {name} is one of Headgate's own functions"
        )
    assert "is one of Headgate's own state machines" in world.refusal(afterStep=[{"stateMachine": "headgate-redrive"}])


@pytest.mark.parametrize("code", ["ValidationException", "InvalidParameterValueException"])
def test_what_is_no_functions_name_is_refused_at_once(world: World, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def refuse(FunctionName: str) -> None:  # noqa: N803 - as Lambda spells it
        raise Refusal(code, f"Value '{FunctionName}' failed to satisfy constraint")

    monkeypatch.setattr(world.functions, "GetFunction", refuse)
    assert world.refusal(afterTraffic=[{"ecsTask": TASK}, {"lambda": "no name!"}]) == (
        "hooks.afterTraffic[1].lambda: no name! cannot be called: Value 'no name!' failed to satisfy constraint"
    )


@pytest.mark.parametrize("name", ["load-test", LOAD_TEST])
def test_a_state_machine_is_planned_by_its_arn(world: World, name: str) -> None:
    hook = {"stateMachine": name, "timeoutSeconds": 600, "config": {"users": 40}}
    settled = world.settle(beforeStep=[hook], afterTraffic=[hook])
    assert settled["beforeStep"] == settled["afterTraffic"] == [hook | {"stateMachine": LOAD_TEST}]
    assert world.machines.asked == [LOAD_TEST]  # Once, however often it is named.


@pytest.mark.parametrize(
    ("machine", "found", "told"),
    [
        ("nothing", None, "nothing cannot be called: State Machine Does Not Exist: "),
        (
            "load-test",
            {"type": "EXPRESS", "status": "ACTIVE"},
            "load-test is an Express state machine, and Headgate cannot wait for its end",
        ),
        ("load-test", {"type": "STANDARD", "status": "DELETING"}, "load-test is DELETING; name one that is ACTIVE"),
        (
            LOAD_TEST.replace(ACCOUNT, "210987654321"),
            None,
            f"is in 210987654321, {REGION}; this Headgate serves {ACCOUNT}, {REGION}",
        ),
        (LOAD_TEST.replace(REGION, "us-west-1"), None, f"is in {ACCOUNT}, us-west-1; this Headgate serves {ACCOUNT}"),
    ],
)
def test_a_state_machine_that_cannot_be_run_to_its_end_is_refused(
    world: World, machine: str, found: Any, told: str
) -> None:
    if found:
        world.machines.machines[LOAD_TEST] = found
    given = [{"lambda": "smoke"}, {"stateMachine": machine}]
    assert world.refusal(afterStep=given).startswith(f"hooks.afterStep[1].stateMachine: {told}")


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDeniedException", RequestRefused), ("ThrottlingException", ClientError)]
)
def test_whoever_does_not_say_whether_there_is_one_is_asked_again(
    world: World, code: str, error: type[Exception]
) -> None:
    world.machines.refusal = Refusal(code)
    with pytest.raises(error):
        world.settle(afterStep=[{"stateMachine": "load-test"}])


@pytest.mark.parametrize("stage", STAGES)
def test_a_task_gets_an_id_of_its_own_and_is_told_the_target(world: World, stage: str) -> None:
    hook = {"ecsTask": TASK, "timeoutSeconds": 900}
    first, second = world.settle(**{stage: [hook, hook]})[stage]
    assert first == {
        "ecsTask": {**TASK, "id": f"checkout-42/{stage}/0", "environment": {"HEADGATE_TARGET": TARGET_KEY}},
        "timeoutSeconds": 900,
    }
    assert second["ecsTask"]["id"] == f"checkout-42/{stage}/1"


def test_what_a_request_says_of_its_task_is_kept(world: World) -> None:
    task = {**TASK, "id": "smoke-1", "environment": {"USERS": "40", "HEADGATE_TARGET": "elsewhere"}}
    [hook] = world.settle(beforeTraffic=[{"ecsTask": task}])["beforeTraffic"]
    assert hook["ecsTask"]["id"] == "smoke-1"
    assert hook["ecsTask"]["environment"] == {"USERS": "40", "HEADGATE_TARGET": TARGET_KEY}


def test_the_ids_of_long_rollouts_fit_and_differ(world: World) -> None:
    ids = []
    for rollout_id in ("x" * 128, "x" * 127 + "y"):
        hooks = world.settle(rollout_id, onRollback=[{"ecsTask": TASK}, {"ecsTask": TASK}])["onRollback"]
        assert hooks == world.settle(rollout_id, onRollback=[{"ecsTask": TASK}, {"ecsTask": TASK}])["onRollback"]
        ids += [hook["ecsTask"]["id"] for hook in hooks]
    assert len(set(ids)) == 4
    assert max(map(len, ids)) == 128


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such definition": ({"taskDefinition": "migrated"}, {}, "taskDefinition: migrated: Unable to describe"),
    "a definition that no parameter covers": (
        {"taskDefinition": "smoke"},
        {},
        "taskDefinition: smoke may not be run; Headgate's parameter TaskDefinitions must cover it",
    ),
    "somebody elses": (
        {"taskDefinition": DEFINITION_ARN.replace(ACCOUNT, "210987654321")},
        {},
        f"taskDefinition: is in 210987654321; this Headgate serves {ACCOUNT}",
    ),
    "an unknown container": (
        {"overrides": {"containers": {"web": {"cpu": 64}}}},
        {},
        f"overrides.containers.web: {DEFINITION_ARN} has no such container; it has app, router",
    ),
    "no subnets": ({"networkConfiguration": None}, {}, "networkConfiguration.subnets: is missing"),
    "no size of Fargate's": (
        {"launchType": "FARGATE", "overrides": {"cpu": 300}},
        {},
        "overrides.cpu: 300 is not a size of Fargate",
    ),
    "a revision that is gone": ({}, {"status": "INACTIVE"}, "taskDefinition: migrate:3 is INACTIVE"),
    "a role that may not be passed": (
        {},
        {"taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/admin"},
        f"taskDefinition: its taskRoleArn arn:aws:iam::{ACCOUNT}:role/admin may not be passed",
    ),
}


@pytest.mark.parametrize("partition", ["aws", "aws-cn"])
def test_a_task_is_checked_as_one_of_an_execution_of_this_partition(
    world: World, monkeypatch: pytest.MonkeyPatch, partition: str
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(Preflight, "check", lambda _, __, execution: checked.append(execution))
    monkeypatch.setattr(world.checks, "_place", Place(partition, ACCOUNT, REGION))
    world.settle(beforeTraffic=[{"ecsTask": TASK}])
    assert checked == [f"arn:{partition}:states:{REGION}:{ACCOUNT}:"]


@pytest.mark.parametrize("what", REFUSED)
def test_a_task_that_could_not_run_is_refused_before_anything_starts(world: World, what: str) -> None:
    fields, definition, told = REFUSED[what]
    world.ecs.definition = DEFINITION | definition
    hooks = [{"lambda": "smoke"}, {"ecsTask": TASK | fields}]
    assert world.refusal(afterTraffic=hooks).startswith(f"hooks.afterTraffic[1].ecsTask: {told}")


def test_what_its_containers_will_be_told_of_the_rollout_must_fit_too(world: World) -> None:
    def hook(characters: int) -> dict[str, Any]:
        return {"ecsTask": TASK | {"environment": {"LONG": "x" * characters}}}

    # GIVEN a value that fits twice, once for each container, and nothing beside it
    most = MAX_OVERRIDES // 2 - 100
    assert world.refusal(beforeTraffic=[hook(most)]).startswith("hooks.beforeTraffic[0].ecsTask: overrides: are ")
    # THEN there is room where some is left for the rest
    assert world.settle(beforeTraffic=[hook(most - 800)])


def test_the_hooks_in_events_can_all_be_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    detail = event("rollout_requested_hooks")["detail"]
    hooks = detail["hooks"]
    hook_functions = ("smoke", "headgate-smoke-tester", "headgate-version-checker", "CodeDeployHook_check")
    world.functions.others = dict.fromkeys(hook_functions, dict)
    world.ecs.definition = DEFINITION | {"taskDefinitionArn": DEFINITION_ARN.replace("migrate", "smoke")}
    monkeypatch.setattr(world.checks, "_tasks", world.checks._tasks._replace(families="*"))
    settled = world.settle(detail["id"], **hooks)
    assert settled["beforeTraffic"][0]["ecsTask"]["id"] == "checkout-43/beforeTraffic/0"
    assert settled["afterStep"][0]["stateMachine"] == LOAD_TEST
    assert settled["afterTraffic"] == hooks["afterTraffic"]


def test_a_hook_that_no_parameter_covers_is_refused_by_its_name_whatever_else_the_planner_may_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(world.patterns, "HookFunctions", "")
    assert world.refusal(afterStep=[{"lambda": "smoke"}]) == (
        "hooks.afterStep[0].lambda: smoke is not covered by Headgate's parameter HookFunctions, which is empty; name "
        "another one, or deploy Headgate with a pattern that covers it"
    )
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:smoke:live"
    assert "smoke is not covered by Headgate's parameter HookFunctions" in world.refusal(afterStep=[{"lambda": arn}])
    # The sample hooks are not subject to it.
    monkeypatch.setattr(world.functions, "others", {"headgate-smoke-tester": dict})
    world.settle(beforeTraffic=[{"lambda": "headgate-smoke-tester"}])
    monkeypatch.setitem(world.patterns, "HookMachines", "shop-*")
    told = world.refusal(afterStep=[{"stateMachine": LOAD_TEST}])
    assert 'is not covered by Headgate\'s parameter HookMachines, which is "shop-*"' in told


def test_a_hook_that_sleeps_is_warned_of_if_it_would_first_be_called_while_the_candidate_has_traffic(
    world: World,
) -> None:
    world.functions.inactive = {"smoke"}
    world.settle(afterStep=[{"lambda": "smoke"}])
    (told,) = world.checks.warnings
    assert told.startswith("hooks.afterStep[0].lambda: smoke is inactive, because it was idle for weeks")
    # A call before traffic wakes it.
    world.settle(beforeTraffic=[{"lambda": "smoke"}], afterStep=[{"lambda": "smoke"}])
    assert world.checks.warnings == []


# Hooks of CodeDeploy

WITH_WRAPPER = {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/headgate-codedeploy-hook"}}
READY: dict[str, Any] = {
    "Runtime": "python3.13",
    "Environment": WITH_WRAPPER,
    "Layers": [{"Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:CodeDeployHookLayer:1"}],
}
NODE_IMAGE = {"PackageType": "Image", "Environment": WITH_WRAPPER}


def with_variables(**variables: str) -> dict[str, Any]:
    return READY | {"Environment": {"Variables": WITH_WRAPPER["Variables"] | variables}}


def warnings_of(
    world: World, monkeypatch: pytest.MonkeyPatch, configuration: dict[str, Any], **fields: Any
) -> list[str]:
    """The warnings about a function with this configuration, as the only hook."""
    monkeypatch.setattr(world.functions, "GetFunction", lambda **_: {"Configuration": configuration})
    hooks = {"beforeTraffic": [{"codeDeployHook": "smoke"}]}
    world.checks.settle(read_request({"target": TARGET, "hooks": hooks, **fields}, "checkout-42"))
    return world.checks.warnings


def test_a_hook_of_codedeploy_is_looked_up_like_a_function(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = {"codeDeployHook": "smoke", "timeoutSeconds": 60}
    assert world.settle(beforeTraffic=[hook])["beforeTraffic"] == [hook]
    assert world.refusal(afterTraffic=[{"codeDeployHook": "nobody"}]) == (
        "hooks.afterTraffic[0].codeDeployHook: nobody cannot be called: Function not found: nobody"
    )
    assert world.refusal(afterTraffic=[{"codeDeployHook": "headgate-judge"}]).startswith(
        "hooks.afterTraffic[0].codeDeployHook: headgate-judge is one of Headgate's own functions"
    )
    monkeypatch.setitem(world.patterns, "HookFunctions", "CodeDeployHook_*")
    assert 'HookFunctions, which is "CodeDeployHook_*"' in world.refusal(afterTraffic=[{"codeDeployHook": "smoke"}])


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ({"Runtime": "python3.13"}, "lacks the environment variable AWS_LAMBDA_EXEC_WRAPPER="),
        (
            READY | {"Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/other"}}},
            "has AWS_LAMBDA_EXEC_WRAPPER=/opt/other, so Headgate gets what it reports to CodeDeploy only if",
        ),
        (READY | {"Layers": []}, "but no layer, so it cannot start"),
        (READY | {"Runtime": "java21"}, "has the runtime java21, and the layer for CodeDeploy hooks serves Python"),
    ],
)
def test_a_hook_of_codedeploy_that_cannot_answer_is_warned_of(
    world: World, monkeypatch: pytest.MonkeyPatch, configuration: dict[str, Any], told: str
) -> None:
    (warning,) = warnings_of(world, monkeypatch, configuration)
    assert warning.startswith("hooks.beforeTraffic[0].codeDeployHook: smoke ")
    assert told in warning


@pytest.mark.parametrize(
    "configuration",
    [
        READY,
        READY | {"Runtime": "nodejs24.x"},
        NODE_IMAGE,
        {"Environment": {"Error": {"ErrorCode": "AccessDeniedException"}}},
        with_variables(NewVersion="checkout:8", Other="cart:1", Table="checkout"),
    ],
)
def test_a_hook_of_codedeploy_that_is_set_up_is_not_warned_of(
    world: World, monkeypatch: pytest.MonkeyPatch, configuration: dict[str, Any]
) -> None:
    assert warnings_of(world, monkeypatch, configuration, candidate={"version": "8"}) == []


@pytest.mark.parametrize("value", ["checkout:1", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:checkout:1"])
@pytest.mark.parametrize("candidate", [{"version": "8"}, {"publish": {}}])
def test_a_hook_of_codedeploy_that_would_test_another_version_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, value: str, candidate: dict[str, Any]
) -> None:
    with pytest.raises(RequestRefused) as refused:
        warnings_of(world, monkeypatch, with_variables(NewVersion=value), candidate=candidate)
    assert str(refused.value) == (
        "hooks.beforeTraffic[0].codeDeployHook: smoke has version 1 of checkout in its environment variable "
        "NewVersion, which is not the candidate, so it would test the wrong version; remove the variable, and let the "
        "function invoke the version in headgate.candidate of its event"
    )


def test_a_function_that_is_a_hook_of_both_kinds_is_checked_as_both(world: World) -> None:
    world.settle(beforeTraffic=[{"lambda": "smoke"}, {"codeDeployHook": "smoke"}], afterTraffic=[{"lambda": "smoke"}])
    assert len([each for each in world.checks.warnings if "lacks the environment variable" in each]) == 1


SERVICE: dict[str, Any] = {"kind": "ecs-service", "cluster": "prod", "service": "shop"}


@pytest.mark.parametrize("name", ["smoke-tester", "version-checker"])
def test_a_sample_hook_for_functions_is_refused_for_a_service(world: World, name: str) -> None:
    hooks = {"beforeTraffic": [{"lambda": f"headgate-{name}"}]}
    asked = {"target": SERVICE, "candidate": {"taskDefinition": "shop:7"}, "hooks": hooks}
    with pytest.raises(RequestRefused) as refused:
        world.checks.settle(read_request(asked, "e-1"))
    assert str(refused.value) == (
        f"hooks.beforeTraffic[0].lambda: headgate-{name} invokes versions of a function, but the target is an ECS "
        "service; name headgate-http-smoke-tester, or a function of yours"
    )


def test_the_sample_hook_for_services_is_refused_for_the_others(world: World) -> None:
    assert world.refusal(beforeTraffic=[{"lambda": "headgate-http-smoke-tester"}]) == (
        "hooks.beforeTraffic[0].lambda: headgate-http-smoke-tester sends requests to an ECS service, but the target is "
        "a lambda-alias; name headgate-smoke-tester, or a function of yours"
    )


def settled_for_a_service(world: World, stage: str, **config: Any) -> list[str]:
    world.functions.others |= {"headgate-http-smoke-tester": dict}
    hooks = {stage: [{"lambda": "headgate-http-smoke-tester", "config": config}]}
    asked = {"target": SERVICE, "candidate": {"taskDefinition": "shop:7"}, "hooks": hooks}
    world.checks.settle(read_request(asked, "e-1"))
    return list(world.checks.warnings)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"paths": "/health"}, "paths: is not a known field"),
        ({"path": "health"}, "path: must begin with /"),
        ({"expectStatus": "200"}, "expectStatus"),
        ({"headers": {"X y": "1"}}, "headers.X y: is not a valid header"),
    ],
)
def test_a_config_that_the_smoke_tester_of_services_would_refuse_is_refused_in_the_plan(
    world: World, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        settled_for_a_service(world, "beforeTraffic", **config)
    assert str(refused.value).startswith(f"hooks.beforeTraffic[0].config: {field}")


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("beforeTraffic", ""),
        ("beforeStep", ""),
        ("afterStep", ""),
        (
            "afterTraffic",
            "tests the candidate when it has all users already; make it a hook of beforeTraffic, or ",
        ),
        ("onRollback", "tests the candidate when it has no users any more, and may be gone; make it a hook of before"),
    ],
)
def test_the_plan_warns_of_a_smoke_test_that_comes_too_late(world: World, stage: str, told: str) -> None:
    warnings = settled_for_a_service(world, stage, path="/health")
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)
    # What a URL reaches is for its owner to say.
    assert settled_for_a_service(world, stage, url="https://shop.example.com") == []


def test_a_task_gets_names_of_task_definitions_that_are_longer_than_versions(world: World) -> None:
    def hooks_with(length: int) -> dict[str, Any]:
        return {"beforeTraffic": [{"ecsTask": TASK | {"environment": {"LONG": "x" * length}}}]}

    def fits(length: int) -> bool:
        asked = {"target": SERVICE, "candidate": {"taskDefinition": "shop:7"}, "hooks": hooks_with(length)}
        try:
            return bool(world.checks.settle(read_request(asked, "e-1")))
        except RequestRefused:
            return False

    # The shortest that is too long only because of the two names of a service.
    longest = next(length for length in range(2000, MAX_OVERRIDES, 100) if not fits(length))
    assert fits(longest - 100)
    assert world.settle(**hooks_with(longest))


def test_a_lifecycle_hook_of_a_service_is_looked_up_and_left_as_it_is(world: World) -> None:
    hook = {"ecsLifecycleHook": "smoke", "timeoutSeconds": 60, "hookDetails": {"suite": "a"}}
    given = {"target": SERVICE, "candidate": {"taskDefinition": "shop:8"}, "hooks": {"beforeTraffic": [hook]}}
    request = read_request({"id": "shop-42", **given}, "unused")
    assert world.checks.settle(request).to_wire()["beforeTraffic"] == [hook]


def test_a_lifecycle_hook_of_ecs_is_refused_for_another_kind_of_target(world: World) -> None:
    assert world.refusal(beforeTraffic=[{"ecsLifecycleHook": "smoke"}]) == (
        "hooks.beforeTraffic[0].ecsLifecycleHook: gets the event of a deployment of an ECS service, and the target is "
        "a lambda-alias; give the function as lambda, which gets Headgate's event"
    )


def test_a_lifecycle_hook_that_is_not_there_or_not_allowed_is_refused_by_its_field(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal() -> str:
        hooks = {"beforeTraffic": [{"ecsLifecycleHook": "nobody"}]}
        given = {"target": SERVICE, "candidate": {"taskDefinition": "shop:8"}, "hooks": hooks}
        with pytest.raises(RequestRefused) as refused:
            world.checks.settle(read_request({"id": "shop-42", **given}, "unused"))
        return str(refused.value)

    assert refusal().startswith("hooks.beforeTraffic[0].ecsLifecycleHook: nobody cannot be called: ")
    monkeypatch.setitem(world.patterns, "HookFunctions", "gate-*")
    assert "nobody is not covered by Headgate's parameter HookFunctions" in refusal()
