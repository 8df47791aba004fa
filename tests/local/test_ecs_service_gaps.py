"""ECS services: every gap between MiniStack and AWS is filled in the embedded AWS, and still there in MiniStack.

When a test of the second kind fails, MiniStack has closed the gap: remove the module which fills it. What needs an
engine is in tests/docker/test_ecs_gaps.py.
"""

import json
from typing import Any

import botocore.exceptions
import pytest

from emulator.roles import make_role
from tests.local.clients import Aws, error_code, eventually
from tests.local.ecs_services import NETWORK, PORT, Shop, address_of, ask

pytestmark = pytest.mark.embedded

# --- ecs_service_processes ---------------------------------------------------------------------------------------


def test_a_services_tasks_run_and_know_themselves(aws: Aws) -> None:
    # GIVEN a service whose tasks have a role
    shop = Shop(aws)
    definition = shop.define("7", role=make_role(aws.server, f"{aws.prefix}-task"))
    shop.create(definition, count=1)
    # WHEN its task runs
    assert eventually(shop.is_stable), shop.service()
    [task] = shop.tasks()
    url = f"http://{address_of(task)}:{PORT}"
    # THEN it answers at its own address, with its role
    about = eventually(lambda: ask(url))
    assert (about["release"], about["key"][:4]) == ("7", "ASIA")
    # AND finds itself in its metadata
    found = ask(f"{url}/task")
    assert found["ServiceName"] == "shop"
    assert found["TaskARN"] == task["taskArn"]
    assert f"{found['Family']}:{found['Revision']}" == definition.rpartition("/")[2]
    # AND its output is logged
    events = eventually(lambda: aws.logs.filter_log_events(logGroupName=f"/ecs/{aws.prefix}")["events"])
    assert [each["message"] for each in events] == ["listening as 7"]


def test_a_container_without_a_command_cannot_be_pulled(aws: Aws) -> None:
    shop = Shop(aws)
    aws.ecs.register_task_definition(family=aws.prefix, containerDefinitions=[{"name": "app", "image": "shop"}])
    shop.create(aws.prefix, count=1)
    [task] = eventually(lambda: [each for each in shop.tasks("STOPPED") if each["lastStatus"] == "STOPPED"])[:1]
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError: shop: ")
    assert shop.delete() == "INACTIVE"


def test_bare_a_services_tasks_run_without_an_address(bare: Aws) -> None:
    shop = Shop(bare)
    shop.create(shop.define())
    assert [(each["lastStatus"], address_of(each)) for each in shop.tasks()] == [("RUNNING", "")] * 2


# --- ecs_service_health ------------------------------------------------------------------------------------------


def test_a_deployment_waits_for_targets_that_are_healthy(aws: Aws) -> None:
    # GIVEN a service of which each answer is an error
    shop = Shop(aws)
    shop.behind_load_balancer()
    unused = shop.elb.create_target_group(Name=f"{shop.name}-u", Protocol="HTTP", Port=PORT, VpcId="vpc-1")
    arn = unused["TargetGroups"][0]["TargetGroupArn"]
    nowhere = [{"targetGroupArn": arn, "containerName": "app", "containerPort": PORT}]
    with pytest.raises(shop.ecs.exceptions.InvalidParameterException, match="an associated load balancer"):
        shop.create(shop.define(), loadBalancers=nowhere)
    shop.create(shop.define(STATUS="500"), count=1)
    # WHEN its health checks have failed
    seen = eventually(lambda: [each for each in shop.tasks("STOPPED") if each["lastStatus"] == "STOPPED"], 25)
    # THEN the task was stopped and replaced
    assert seen[0]["stopCode"] == "ServiceSchedulerInitiated"
    assert seen[0]["stoppedReason"] == f"Task failed ELB health checks in (target-group {shop.groups[0]})"
    assert shop.service()["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    assert len(eventually(shop.tasks)) == 1


def test_bare_a_deployment_does_not_ask_its_target_group(bare: Aws) -> None:
    shop = Shop(bare)
    shop.behind_load_balancer()
    shop.create(shop.define(STATUS="500"))
    assert shop.is_stable()


# --- ecs_service_settings ----------------------------------------------------------------------------------------

SPREAD = [{"type": "spread", "field": "attribute:ecs.availability-zone"}]
CONNECT = {"enabled": True, "namespace": "shop"}


def settings(shop: Shop) -> dict[str, Any]:
    """What a service has of what it was given, and what it may not be given."""
    definition = shop.define()
    given = {"placementStrategy": SPREAD, "serviceConnectConfiguration": CONNECT, "clientToken": "once"}
    shop.create(definition, count=0, **given)
    service = shop.service()
    other = {"cluster": shop.name, "serviceName": "other", "desiredCount": 0}
    shop.ecs.create_service(**other, deploymentController={"type": "EXTERNAL"})
    return {
        "placement": service.get("placementStrategy"),
        "connect": service["deployments"][0].get("serviceConnectConfiguration"),
        "again": error_code(shop.create, definition=definition, count=0, **given),
        "another": error_code(shop.create, definition=definition, count=1, **given),
        "external": error_code(shop.ecs.update_service, cluster=shop.name, service="other", taskDefinition=definition),
        "deployments": len(shop.update(networkConfiguration=_network("subnet-9"))["deployments"]),
    }


def _network(subnet: str) -> dict[str, Any]:
    return {"awsvpcConfiguration": {**NETWORK["awsvpcConfiguration"], "subnets": [subnet]}}


def test_a_service_keeps_its_settings_and_refuses_others(aws: Aws) -> None:
    assert settings(Shop(aws)) == {
        "placement": SPREAD,
        "connect": CONNECT,
        "again": None,
        "another": "InvalidParameterException",
        "external": "InvalidParameterException",
        "deployments": 2,
    }


def test_bare_a_service_drops_settings_and_refuses_no_others(bare: Aws) -> None:
    assert settings(Shop(bare)) == {
        "placement": None,
        "connect": None,
        "again": "ClientException",
        "another": "ClientException",
        "external": None,
        "deployments": 1,
    }


SERVICE_TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {}},
        "Service": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "DeploymentController": {"Type": "EXTERNAL"},
                "HealthCheckGracePeriodSeconds": 30,
            },
        },
    },
    "Outputs": {"Cluster": {"Value": {"Ref": "Cluster"}}, "Service": {"Value": {"Ref": "Service"}}},
}
TASK_SET_TEMPLATE: dict[str, Any] = {
    **SERVICE_TEMPLATE,
    "Resources": {
        **SERVICE_TEMPLATE["Resources"],
        "Definition": {
            "Type": "AWS::ECS::TaskDefinition",
            "Properties": {
                "NetworkMode": "awsvpc",
                "ContainerDefinitions": [{"Name": "app", "Image": "shop", "Command": ["sleep", "600"]}],
            },
        },
        "TaskSet": {
            "Type": "AWS::ECS::TaskSet",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "Service": {"Ref": "Service"},
                "TaskDefinition": {"Ref": "Definition"},
                "LaunchType": "FARGATE",
                "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": ["subnet-0a1b2c3d"]}},
                "Scale": {"Unit": "PERCENT", "Value": "50"},
            },
        },
        "Primary": {
            "Type": "AWS::ECS::PrimaryTaskSet",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "Service": {"Ref": "Service"},
                "TaskSetId": {"Fn::GetAtt": ["TaskSet", "Id"]},
            },
        },
    },
}
TARGET_TEMPLATE: dict[str, Any] = {
    **SERVICE_TEMPLATE,
    "Resources": {
        **SERVICE_TEMPLATE["Resources"],
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "Properties": {
                "ServiceNamespace": "ecs",
                "ScalableDimension": "ecs:service:DesiredCount",
                "ResourceId": {"Fn::Sub": "service/${Cluster}/${Service.Name}"},
                "MinCapacity": 2,
                "MaxCapacity": 4,
            },
        },
    },
}


def deploy(aws: Aws, template: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The status of a new stack, and its service."""
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps(template))
    ended = eventually(lambda: None if "IN_PROGRESS" in _stack(aws)["StackStatus"] else _stack(aws))
    outputs = {each["OutputKey"]: each["OutputValue"] for each in ended.get("Outputs", [])}
    if not outputs:
        return ended["StackStatus"], {}
    [service] = aws.ecs.describe_services(cluster=outputs["Cluster"], services=[outputs["Service"]])["services"]
    return ended["StackStatus"], service


def _stack(aws: Aws) -> dict[str, Any]:
    return dict(aws.cloudformation.describe_stacks(StackName=aws.prefix)["Stacks"][0])


def test_a_stack_fails_with_its_services_deployment_and_leaves_no_service(aws: Aws) -> None:
    breaker = {"Enable": True, "Rollback": True}
    container = {"Name": "app", "Image": "shop", "Command": ["false"]}
    service = {
        "Cluster": {"Ref": "Cluster"},
        "ServiceName": "shop",
        "TaskDefinition": {"Ref": "Definition"},
        "DeploymentConfiguration": {"DeploymentCircuitBreaker": breaker},
    }
    resources = {
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": aws.prefix}},
        "Definition": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [container]}},
        "Service": {"Type": "AWS::ECS::Service", "Properties": service},
    }
    status, _ = deploy(aws, {"Resources": resources})
    assert status == "ROLLBACK_COMPLETE"
    events = aws.cloudformation.describe_stack_events(StackName=aws.prefix)["StackEvents"]
    assert [each["LogicalResourceId"] for each in events if "Circuit Breaker" in each.get("ResourceStatusReason", "")]
    tasks = aws.ecs.list_tasks(cluster=aws.prefix, desiredStatus="RUNNING")["taskArns"]
    assert tasks == []


def test_a_stack_that_waits_for_its_service_keeps_nobody_from_calling_aws(aws: Aws) -> None:
    # GIVEN a stack whose service is never stable, and has no circuit breaker
    container = {"Name": "app", "Image": "shop", "Command": ["false"]}
    service = {"Cluster": {"Ref": "Cluster"}, "ServiceName": "shop", "TaskDefinition": {"Ref": "Definition"}}
    resources = {
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": aws.prefix}},
        "Definition": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [container]}},
        "Service": {"Type": "AWS::ECS::Service", "Properties": service},
    }
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps({"Resources": resources}))
    # WHEN somebody looks at the service meanwhile
    eventually(lambda: aws.ecs.list_services(cluster=aws.prefix)["serviceArns"])
    # THEN the stack still waits
    assert _stack(aws)["StackStatus"] == "CREATE_IN_PROGRESS"
    # AND it ends with its service
    aws.ecs.delete_service(cluster=aws.prefix, service="shop", force=True)
    assert eventually(lambda: _stack(aws)["StackStatus"] == "ROLLBACK_COMPLETE", 20), _stack(aws)


def test_bare_a_template_loses_the_deployment_controller(bare: Aws) -> None:
    status, service = deploy(bare, SERVICE_TEMPLATE)
    assert (status, service["deploymentController"]) == ("CREATE_COMPLETE", {"type": "ECS"})
    assert service["healthCheckGracePeriodSeconds"] == 0


# --- scalable_targets and scalable_resources ---------------------------------------------------------------------


def test_a_template_has_an_external_service_with_a_scalable_target(aws: Aws) -> None:
    # GIVEN a template of both
    status, service = deploy(aws, TARGET_TEMPLATE)
    assert status == "CREATE_COMPLETE"
    assert service["deploymentController"] == {"type": "EXTERNAL"}
    assert service["healthCheckGracePeriodSeconds"] == 30
    # THEN the service's count was moved into the target's range
    assert service["desiredCount"] == 2
    # AND the range stays when scaling is suspended
    scaling = aws.server.client("application-autoscaling")
    resource = service["serviceArn"].partition(":service/")[2]
    named = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}
    suspended = {"DynamicScalingInSuspended": True}
    scaling.register_scalable_target(**named, ResourceId=f"service/{resource}", SuspendedState=suspended)
    [target] = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[f"service/{resource}"])[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 4)
    assert target["SuspendedState"] == {
        "DynamicScalingInSuspended": True,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": False,
    }
    # AND it goes with the stack
    aws.cloudformation.delete_stack(StackName=aws.prefix)
    asked = {"ServiceNamespace": "ecs", "ResourceIds": [f"service/{resource}"]}
    assert eventually(lambda: not scaling.describe_scalable_targets(**asked)["ScalableTargets"])


def test_bare_a_template_with_a_scalable_target_is_refused(bare: Aws) -> None:
    assert error_code(deploy, aws=bare, template=TARGET_TEMPLATE) == "ValidationError"


# --- ecs_task_sets -----------------------------------------------------------------------------------------------


def test_a_template_has_a_service_with_a_primary_task_set(aws: Aws) -> None:
    status, service = deploy(aws, TASK_SET_TEMPLATE)
    assert status == "CREATE_COMPLETE"
    assert [(each["status"], each["scale"]["value"]) for each in service["taskSets"]] == [("PRIMARY", 50)]
    assert service["taskDefinition"] == service["taskSets"][0]["taskDefinition"]
    aws.cloudformation.delete_stack(StackName=aws.prefix)
    named = {"cluster": service["clusterArn"], "services": [service["serviceArn"]]}
    assert eventually(lambda: error_code(aws.ecs.describe_services, **named) == "ClusterNotFoundException")


def test_bare_there_are_no_task_sets(bare: Aws) -> None:
    shop = Shop(bare)
    shop.ecs.create_service(cluster=shop.name, serviceName="shop", deploymentController={"type": "EXTERNAL"})
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAction"):
        shop.task_sets()
    assert len(shop.service()["deployments"]) == 1


# --- ecs_service_events ------------------------------------------------------------------------------------------


def test_bare_a_deployment_tells_the_bus_nothing(bare: Aws) -> None:
    shop = Shop(bare)
    queue = bare.listen({"source": ["aws.ecs"]})
    shop.create(shop.define())
    assert bare.receive(queue, 1) is None
