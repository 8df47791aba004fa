"""A task in the middle of a deployment: the sample with a migration, deployed as a stack.

The embedded AWS runs no containers here, so the task runs until it is stopped. How a task that succeeds is told is in
tests/statemachines/test_stack_machine.py, with the real machine of ECS tasks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from emulator.application import ROOT, parameters
from tests.local.deployed import eventually
from tests.local.ecs_jobs import CLUSTER, NETWORK

if TYPE_CHECKING:
    from tests.local.deployed import Headgate


def test_a_migration_that_fails_stops_the_deployment_before_anything_is_rolled_out(headgate: Headgate) -> None:
    # GIVEN a stack whose migration runs
    formation, ecs = headgate.aws.client("cloudformation"), headgate.aws.client("ecs")
    ecs.create_cluster(clusterName=CLUSTER)
    given = {**parameters(), "Release": "1", "Image": "migrate", "Cluster": CLUSTER, "Subnets": NETWORK["subnets"][0]}
    name = headgate.new_id()
    stack = formation.create_stack(
        StackName=name,
        TemplateBody=(ROOT / "examples" / "migration.yaml").read_text("utf-8"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )["StackId"]

    def events() -> list[str]:
        return [
            f"{each['LogicalResourceId']} {each['ResourceStatus']} {each.get('ResourceStatusReason', '')}"
            for each in formation.describe_stack_events(StackName=stack)["StackEvents"]
        ]

    def running() -> list[str]:
        found: list[str] = ecs.list_tasks(cluster=CLUSTER, family="ledger-migrate")["taskArns"]
        return found

    [task] = eventually(running, 40, lambda: "\n".join(events()))
    [container] = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"][0]["overrides"]["containerOverrides"]
    assert container["environment"] == [{"name": "RELEASE", "value": "1"}]
    # WHEN it fails
    ecs.stop_task(cluster=CLUSTER, task=task, reason="the database is locked")
    # THEN the stack fails with its reason and goes back, and the rollout has never begun
    eventually(lambda: any("ROLLBACK_COMPLETE" in each for each in events()), 60, lambda: "\n".join(events()))
    [failed] = [each for each in events() if each.startswith("Migration CREATE_FAILED")]
    assert "the task did not succeed (stopped): the database is locked" in failed
    assert not [each for each in events() if each.startswith("LedgerRollout")]
    # AND the command shows the task under the id in the reason
    task_id = failed.rpartition("headgate task show ")[2].partition(")")[0]
    machine = headgate.outputs["EcsTaskMachineArn"]
    [execution] = [
        each
        for each in headgate.states.list_executions(stateMachineArn=machine)["executions"]
        if task_id
        == json.loads(headgate.states.describe_execution(executionArn=each["executionArn"])["input"]).get("id")
    ]
    assert execution["status"] == "FAILED"
    formation.delete_stack(StackName=stack)
