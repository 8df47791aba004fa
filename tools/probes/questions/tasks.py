"""ECS: tasks as Step Functions runs them, and the scaling of services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tools.probes.model import Answer, answer, probe
from tools.probes.questions.machines import REFUSED_DEFINITION, STATES

if TYPE_CHECKING:
    from tools.probes.lab import Lab

TASKS = "ecs-tasks.amazonaws.com"


DIMENSION = "ecs:service:DesiredCount"


@probe(
    "scalable-target-keeps-range",
    question="Does RegisterScalableTarget with SuspendedState alone keep the range, and resume what it leaves out?",
    call="application-autoscaling:RegisterScalableTarget",
    matters="The driver of services suspends scale-in for a rollout this way, sends back what else was suspended, and "
    "names no range (`targets/ecs_service/scaling.py`). If the range is needed, it has to be read and sent, too.",
    creates="a cluster, a task definition, a service without tasks, and a scalable target",
    assumed="yes",
    minutes=2,
    no_if_refused=("RegisterScalableTarget:ValidationException",),
)
def scalable_target_keeps_range(lab: Lab) -> Answer:
    """Register a scalable target with a range, then again with what is suspended alone, and read it."""
    ecs, scaling, cluster = lab.client("ecs"), lab.client("application-autoscaling"), lab.name("cluster")
    lab.own("cluster", cluster)
    ecs.create_cluster(clusterName=cluster, tags=lab.tag_list("key", "value"))
    registered = ecs.register_task_definition(
        family=lab.name("task"),
        networkMode="bridge",
        containerDefinitions=[{"name": "main", "image": "public.ecr.aws/docker/library/busybox:stable", "memory": 64}],
        tags=lab.tag_list("key", "value"),
    )
    definition = str(registered["taskDefinition"]["taskDefinitionArn"])
    lab.own("task-definition", definition)
    service = lab.name("service")
    ecs.create_service(cluster=cluster, serviceName=service, taskDefinition=definition, desiredCount=0)
    key = {"ServiceNamespace": "ecs", "ResourceId": f"service/{cluster}/{service}", "ScalableDimension": DIMENSION}
    scaling.register_scalable_target(
        **key, MinCapacity=0, MaxCapacity=4, SuspendedState={"ScheduledScalingSuspended": True}
    )
    scaling.register_scalable_target(**key, SuspendedState={"DynamicScalingInSuspended": True})
    [found] = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[key["ResourceId"]])[
        "ScalableTargets"
    ]
    suspended = found.get("SuspendedState") or {}
    keeps = (found["MinCapacity"], found["MaxCapacity"]) == (0, 4)
    resumes = not suspended.get("ScheduledScalingSuspended")
    return answer(yes=keeps and resumes, range=[found["MinCapacity"], found["MaxCapacity"]], suspended=suspended)


@probe(
    "role-of-run-task",
    question="Does ecs:runTask.sync take Overrides.TaskRoleArn?",
    call="stepfunctions:StartExecution",
    matters="A task's `overrides.taskRole` is passed this way (`ecs_tasks/run_task.py`). The documentation of the "
    "integration says that it does not support roles in Overrides, which may mean container overrides only.",
    creates="a cluster, a task definition, three roles, a machine, and a Fargate task of the smallest size",
    assumed="yes",
    minutes=6,
    cents=1,
    needs="subnet",
    no_if_refused=(REFUSED_DEFINITION,),
)
def role_of_run_task(lab: Lab) -> Answer:
    """Run a task whose role is overridden, and read the role from what the task's description says."""
    ecs, cluster = lab.client("ecs"), lab.name("cluster")
    lab.own("cluster", cluster)
    ecs.create_cluster(clusterName=cluster, tags=lab.tag_list("key", "value"))
    usual, other = lab.role("usual", TASKS), lab.role("other", TASKS)
    registered = ecs.register_task_definition(
        family=lab.name("task"),
        taskRoleArn=usual,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        # A public image, so that no execution role is needed.
        containerDefinitions=[
            {"name": "main", "image": "public.ecr.aws/docker/library/busybox:stable", "command": ["true"]}
        ],
        tags=lab.tag_list("key", "value"),
    )
    definition = str(registered["taskDefinition"]["taskDefinitionArn"])
    lab.own("task-definition", definition)
    rule = lab.account.arn("events", "rule/StepFunctionsGetEventsForECSTaskRule")
    role = lab.role(
        "role",
        STATES,
        {"Action": ["ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks"], "Resource": "*"},
        {"Action": "iam:PassRole", "Resource": [usual, other]},
        {"Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"], "Resource": rule},
    )
    network = {"Subnets": [lab.options["subnet"]], "AssignPublicIp": "ENABLED"}
    arguments = {
        "Cluster": cluster,
        "TaskDefinition": definition,
        "LaunchType": "FARGATE",
        "NetworkConfiguration": {"AwsvpcConfiguration": network},
        "Overrides": {"TaskRoleArn": other},
    }
    states = {
        "Run": {
            "Type": "Task",
            "Resource": f"arn:{lab.account.partition}:states:::ecs:runTask.sync",
            "Arguments": arguments,
            "TimeoutSeconds": 200,
            "End": True,
        }
    }
    ended = lab.run_permitted("machine", role, states, 240)
    given = _task_role(ended.get("output") or ended.get("cause") or "")
    return answer(yes=given == other, taskRole=given, **ended)


def _task_role(task: str) -> str | None:
    """Return the overridden role in a task's description."""
    try:
        said = json.loads(task)
    except ValueError:
        return None
    overrides = said.get("Overrides") if isinstance(said, dict) else None
    return str(overrides.get("TaskRoleArn")) if isinstance(overrides, dict) else None
