"""Settings of services: kept, told back, and refused where they do not go together.

On AWS, a service has what CreateService and UpdateService were given. A CreateService with the clientToken of an
earlier one answers with its service, and a change of the network, the load balancers or the platform version starts a
deployment. Under the EXTERNAL and CODE_DEPLOY controllers, UpdateService may change only a few settings
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html and API_UpdateService.html).

MiniStack drops placement, Service Connect, Availability Zone rebalancing and the token. It refuses nothing under
EXTERNAL, and starts no deployment.

On AWS, a stack waits until its service is stable, for three hours at most, and fails with a deployment that the
circuit breaker ends. It waits for the tasks of a service that it deletes
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ecs-service.html).
MiniStack's waits for nothing, and drops the deployment controller and more.

A change of the deployment controller is refused here.

Seams: `ecs._create_service`, `ecs._update_service` and `ecs._describe_services` with their entries in the table of
actions, AWS::ECS::Service in `cloudformation.provisioners._RESOURCE_HANDLERS`, and
`cloudformation.stacks._runs_on_worker_thread`.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from ministack.services import ecs
from ministack.services.cloudformation import provisioners, stacks

from emulator.gaps import seams
from emulator.gaps.ecs import scheduler
from emulator.gaps.ecs.ecs_service_health import answer, error, wrap_action

GAP = "ecs_service_settings"
Record = dict[str, Any]
KIND = "AWS::ECS::Service"
MAX_TOKEN = 36
WAIT_SECONDS = 3 * 3600.0
WAIT_POLL_SECONDS = 0.1
DEFAULTS = {
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "strategy": "ROLLING",
}
KEPT = ("placementConstraints", "placementStrategy", "availabilityZoneRebalancing")
"""Told back as given."""
OF_DEPLOYMENTS = ("serviceConnectConfiguration", "volumeConfigurations")
"""Told back in the deployment that they came with."""
UPDATED = ("healthCheckGracePeriodSeconds", "enableECSManagedTags", "propagateTags", "serviceRegistries")
"""Of these, MiniStack changes only the first."""
STARTS_DEPLOYMENT = (
    "loadBalancers",
    "networkConfiguration",
    "platformVersion",
    "serviceConnectConfiguration",
    "serviceRegistries",
    "volumeConfigurations",
)
_ALWAYS = {"cluster", "service", "desiredCount", "healthCheckGracePeriodSeconds"}
_ALWAYS |= {"placementConstraints", "placementStrategy", "enableECSManagedTags", "propagateTags"}
CHANGEABLE = {"EXTERNAL": _ALWAYS, "CODE_DEPLOY": _ALWAYS | {"deploymentConfiguration", "availabilityZoneRebalancing"}}
"""What UpdateService may change under a controller."""

_REPLACED_BY_CLOUDFORMATION = ("Cluster", "DeploymentController", "LaunchType", "Role", "SchedulingStrategy")


def install() -> None:
    """Fill the gap."""
    wrap_action(GAP, "CreateService", "_create_service", _create)
    wrap_action(GAP, "UpdateService", "_update_service", _update)
    wrap_action(GAP, "DescribeServices", "_describe_services", _describe)
    seams.expect(GAP, provisioners, "_pascal_to_camel", "obj")
    seams.expect(GAP, provisioners, "_ecs_service_create", "logical_id, props, stack_name")
    seams.expect(GAP, provisioners, "_ecs_service_update", "physical_id, old_props, new_props, stack_name")
    table = getattr(provisioners, "_RESOURCE_HANDLERS", {})
    if not {"create", "update", "delete"} <= table.get(KIND, {}).keys():
        raise seams.SeamMissing(GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", f"has no {KIND}")
    table[KIND] |= {"create": _create_resource, "update": _update_resource, "delete": _delete_resource}
    # Tasks that start ask for their metadata, which the event loop answers: a stack must not wait there.
    seams.wrap(
        GAP, stacks, "_runs_on_worker_thread", "resource_type", lambda original, kind: kind == KIND or original(kind)
    )


def _create(original: Callable[..., Any], data: Record) -> Any:
    token = data.get("clientToken")
    if token and len(token) > MAX_TOKEN:
        return error("InvalidParameterException", f"clientToken must have {MAX_TOKEN} characters at most.")
    named = {"cluster": data.get("cluster"), "service": data.get("serviceName")}
    with scheduler.lock:
        existing = scheduler.find(named)
        if existing and existing[1]["status"] == "ACTIVE":
            if token and existing[1].get("_request") == data:
                return answer(existing[1])
            return error("InvalidParameterException", "Creation of service was not idempotent.")
        refused = _refuse_new(data)
        if refused:
            return refused
        asked = dict(data)
        if _is_on_fargate(data) and not data.get("platformVersion"):
            data = {**data, "platformVersion": "LATEST"}
        answered = original(data)
        found = scheduler.find(named)
        if answered[0] >= 400 or found is None:
            return answered
        _, service = found
        service["_request"] = asked
        service["deploymentConfiguration"] = DEFAULTS | (data.get("deploymentConfiguration") or {})
        _keep(service, data)
        return answer(service)


def _is_on_fargate(data: Record) -> bool:
    providers = [each.get("capacityProvider", "") for each in data.get("capacityProviderStrategy") or []]
    return data.get("launchType") == "FARGATE" or any(each.startswith("FARGATE") for each in providers)


def _refuse_new(data: Record) -> Any:
    controller = (data.get("deploymentController") or {}).get("type", "ECS")
    if controller not in ("ECS", *CHANGEABLE):
        return error(
            "InvalidParameterException", f"deploymentController.type {controller} is not ECS, CODE_DEPLOY or EXTERNAL."
        )
    if controller == "EXTERNAL":
        return None
    if not data.get("taskDefinition"):
        return error("InvalidParameterException", "TaskDefinition cannot be blank.")
    definition = ecs._task_defs.get(ecs._resolve_td_key(data["taskDefinition"]))
    if definition is None or definition["status"] != "ACTIVE":
        return error("ClientException", "TaskDefinition is inactive or does not exist.")
    containers = {each["name"]: each for each in definition["containerDefinitions"]}
    for each in data.get("loadBalancers") or []:
        name, port = each.get("containerName"), each.get("containerPort")
        if name not in containers:
            return error("InvalidParameterException", f"The container {name} does not exist in the task definition.")
        if str(port) not in [str(mapping["containerPort"]) for mapping in containers[name].get("portMappings", [])]:
            message = f"The container {name} did not have a container port {port} defined."
            return error("InvalidParameterException", message)
    return None


def _update(original: Callable[..., Any], data: Record) -> Any:
    with scheduler.lock:
        found = scheduler.find(data)
        if found is None or found[1]["status"] != "ACTIVE":
            return original(data)
        _, service = found
        controller = (service.get("deploymentController") or {}).get("type", "ECS")
        if data.get("deploymentController") and data["deploymentController"].get("type", "ECS") != controller:
            return error(
                "InvalidParameterException", "The deployment controller cannot be changed here. Create a service."
            )
        refused = sorted(data.keys() - CHANGEABLE.get(controller, data.keys()))
        if refused:
            message = f"Cannot update {', '.join(refused)} on services with the {controller} deployment controller."
            return error("InvalidParameterException", message)
        before = {name: service.get(name, service.get(f"_{name}")) for name in STARTS_DEPLOYMENT}
        if any(name in data and (data[name] or None) != (before[name] or None) for name in before):
            data = {**data, "forceNewDeployment": True}
        if "deploymentConfiguration" in data:
            known = service.get("deploymentConfiguration") or {}
            data = {**data, "deploymentConfiguration": {**known, **data["deploymentConfiguration"]}}
        answered = original(data)
        if answered[0] >= 400:
            return answered
        service.update({name: data[name] for name in UPDATED if name in data})
        _keep(service, data)
        if "capacityProviderStrategy" in data:
            for each in service["deployments"][:1]:
                each.update({name: service[name] for name in ("capacityProviderStrategy", "launchType")})
        return answer(service)


def _keep(service: Record, data: Record) -> None:
    service.update({name: data[name] for name in KEPT if name in data})
    service.update({f"_{name}": data[name] for name in OF_DEPLOYMENTS if name in data})
    for each in service.get("deployments", [])[:1]:
        each.update({name: service[f"_{name}"] for name in OF_DEPLOYMENTS if f"_{name}" in service})


def _describe(original: Callable[..., Any], data: Record) -> Any:
    answered = original(data)
    if answered[0] >= 400 or "TAGS" in (data.get("include") or []):
        return answered
    status, headers, body = answered
    content = json.loads(body)
    for service in content["services"]:
        service.pop("tags", None)
    return status, headers, json.dumps(content).encode()


def _create_resource(logical_id: str, props: Record, stack_name: str) -> tuple[str, Record]:
    request = _request(props) | {
        "serviceName": props.get("ServiceName") or f"{stack_name}-{logical_id}",
        "cluster": props.get("Cluster") or "default",
    }
    request.setdefault("desiredCount", 0 if _is_external(props) else 1)
    answered = ecs._create_service(request)
    if answered[0] >= 400:
        raise ValueError(f"{KIND} create failed: {answered[2]!r}")
    service = json.loads(answered[2])["service"]
    try:
        _await_stable(service["serviceArn"])
    except ValueError:
        # The rollback of the stack knows nothing of a service whose creation has failed.
        _delete_resource(service["serviceArn"], props)
        raise
    return service["serviceArn"], {"ServiceArn": service["serviceArn"], "Name": service["serviceName"]}


def _update_resource(physical_id: str, old: Record, new: Record, _stack_name: str) -> tuple[str, Record]:
    changed = {name: new.get(name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    changed = {name: value for name, value in changed.items() if name not in (*_REPLACED_BY_CLOUDFORMATION, "Tags")}
    name = physical_id.rpartition("/")[2]
    request = _request({name: value for name, value in changed.items() if value is not None})
    if "DeploymentConfiguration" in changed and changed["DeploymentConfiguration"] is None:
        request["deploymentConfiguration"] = dict(DEFAULTS)
    answered = ecs._update_service({**request, "cluster": new.get("Cluster") or "default", "service": name})
    if answered[0] >= 400:
        raise ValueError(f"{KIND} update failed: {answered[2]!r}")
    if "Tags" in new:
        ecs._tags[physical_id] = provisioners._pascal_to_camel(new["Tags"])
    _await_stable(physical_id)
    return physical_id, {"ServiceArn": physical_id, "Name": name}


def _delete_resource(physical_id: str, _props: Record) -> None:
    asked = _named(physical_id)
    ecs._delete_service({**asked, "force": True})
    while not scheduler.is_stopped():
        found = scheduler.find(asked)
        if found is None or found[1]["status"] == "INACTIVE":
            return
        time.sleep(WAIT_POLL_SECONDS)


def _await_stable(arn: str) -> None:
    """Wait until the deployment that is under way has ended. Raises ValueError if it has failed."""
    asked, deadline = _named(arn), time.monotonic() + WAIT_SECONDS
    found = scheduler.find(asked)
    primary = found and ecs._primary_deployment(found[1])
    while primary and primary["rolloutState"] == "IN_PROGRESS":
        found = scheduler.find(asked)
        if scheduler.is_stopped() or found is None or found[1]["status"] != "ACTIVE":
            raise ValueError(f"{KIND} {arn} was deleted")
        if time.monotonic() > deadline:
            raise ValueError(f"{KIND} {arn} did not stabilize.")
        time.sleep(WAIT_POLL_SECONDS)
    if primary and primary["rolloutState"] == "FAILED":
        raise ValueError("Error occurred during operation 'ECS Deployment Circuit Breaker was triggered'.")


def _named(arn: str) -> Record:
    cluster, _, name = arn.partition(":service/")[2].partition("/")
    return {"cluster": cluster, "service": name}


def _request(props: Record) -> Record:
    """Return the properties of a template as the parameters of a request."""
    request: Record = provisioners._pascal_to_camel(
        {name: value for name, value in props.items() if name != "ServiceName"}
    )
    for name in ("desiredCount", "healthCheckGracePeriodSeconds"):
        if name in request:
            request[name] = int(request[name])
    # A template's numbers may come as text, by way of its parameters.
    for each in request.get("loadBalancers", []):
        each["containerPort"] = int(each["containerPort"])
    return request


def _is_external(props: Record) -> bool:
    return bool((props.get("DeploymentController") or {}).get("Type") == "EXTERNAL")
