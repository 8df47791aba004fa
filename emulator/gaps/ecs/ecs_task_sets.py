"""Services of the EXTERNAL deployment controller have task sets.

On AWS, such a service runs nothing itself. Its task sets do: each has a task definition, a load balancer's target group
and a share of the service's desired count, rounded up. One of them is PRIMARY, and what it was made of is the service's
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-external.html). MiniStack knows none of the
five actions on task sets, gives such a service a deployment, and refuses a template with AWS::ECS::TaskSet.

Seams: `ecs._ACTION_MAP`, `ecs._create_service`, `ecs._describe_services` and
`cloudformation.provisioners._RESOURCE_HANDLERS`. `scheduler` runs the tasks.
"""

import json
import secrets
from collections.abc import Callable
from typing import Any

from ministack.services import ecs
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams
from emulator.gaps.ecs import scheduler
from emulator.gaps.ecs.ecs_service_health import answer, error, refuse_target_groups, wrap_action

GAP = "ecs_task_sets"
Record = dict[str, Any]
EVERYTHING = {"value": 100.0, "unit": "PERCENT"}
MAX_TOKEN = 36
RESOURCE, PRIMARY_RESOURCE = "AWS::ECS::TaskSet", "AWS::ECS::PrimaryTaskSet"
_GIVEN = ("externalId", "networkConfiguration", "loadBalancers", "serviceRegistries")
_OF_SERVICE = (
    "taskDefinition",
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
)
"""What the service has of its primary task set."""


def install() -> None:
    """Fill the gap."""
    for action, replacement in (
        ("CreateTaskSet", _create),
        ("DescribeTaskSets", _describe),
        ("UpdateTaskSet", _update),
        ("UpdateServicePrimaryTaskSet", _make_primary),
        ("DeleteTaskSet", _delete),
    ):
        if action in ecs._ACTION_MAP:
            raise seams.SeamMissing(GAP, "ecs._ACTION_MAP", f"has {action}")
        ecs._ACTION_MAP[action] = _locked(replacement)
    seams.expect(GAP, ecs, "_launch_choice", "data, cluster")
    wrap_action(GAP, "CreateService", "_create_service", _create_service)
    wrap_action(GAP, "DescribeServices", "_describe_services", _describe_services)
    seams.expect(GAP, provisioners, "_pascal_to_camel", "obj")
    table = getattr(provisioners, "_RESOURCE_HANDLERS", None)
    if not isinstance(table, dict) or RESOURCE in table or PRIMARY_RESOURCE in table:
        raise seams.SeamMissing(
            GAP, "cloudformation.provisioners._RESOURCE_HANDLERS", f"is no table without {RESOURCE}"
        )
    table[RESOURCE] = {"create": _create_resource, "update": _update_resource, "delete": _delete_resource}
    # On AWS, nothing happens when it is deleted.
    forget: Callable[..., None] = lambda _physical_id, _props: None  # noqa: E731
    table[PRIMARY_RESOURCE] = {"create": _create_primary, "update": _update_primary, "delete": forget}


def _locked(action: Callable[[Record], Any]) -> Callable[[Record], Any]:
    def locked(data: Record) -> Any:
        with scheduler.lock:
            return action(data)

    return locked


def _service(data: Record) -> Any:
    """Return the service of a request, or the answer that refuses it."""
    if ecs._resolve_cluster_name(data.get("cluster") or "default") not in ecs._clusters:
        return error("ClusterNotFoundException", "Cluster not found.")
    found = scheduler.find(data)
    if found is None:
        return error("ServiceNotFoundException", "Service not found.")
    _, service = found
    if service["status"] != "ACTIVE":
        return error("ServiceNotActiveException", "Service was not ACTIVE.")
    if not scheduler.is_external(service):
        message = "Task sets are only supported for services with the EXTERNAL deployment controller."
        return error("InvalidParameterException", message)
    return service


def _with_task_set(name: str, data: Record) -> Any:
    """Return the service and the task set of a request, or the answer that refuses it."""
    service = _service(data)
    if not isinstance(service, dict):
        return service
    task_set = _find(service, data.get(name, ""))
    if task_set is None:
        return error("TaskSetNotFoundException", "The specified task set was not found.")
    return service, task_set


def _find(service: Record, reference: str) -> Record | None:
    for each in scheduler.workloads_of(service):
        if reference in (each["id"], each["taskSetArn"]):
            return each
    return None


def view(service: Record, task_set: Record) -> Record:
    """Return a task set as ECS describes it."""
    scheduler.count(service)
    wanted = scheduler.wanted_of(service, task_set)
    tasks = [each for each in scheduler.tasks_of(service) if each["_deployment_id"] == task_set["id"]]
    running = [each for each in tasks if each["lastStatus"] == "RUNNING"]
    steady = len(running) == wanted and not task_set["pendingCount"] and all(map(scheduler.is_healthy, running))
    task_set["computedDesiredCount"] = wanted
    shown: Record = ecs._sanitize(task_set)
    # In seconds: it is not among the times that MiniStack turns into a number itself.
    return {
        **shown,
        "stabilityStatus": "STEADY_STATE" if steady else "STABILIZING",
        "stabilityStatusAt": int(ecs._ts()),
    }


def _answer(service: Record, task_set: Record) -> Any:
    scheduler.wake()
    return ecs.json_response({"taskSet": view(service, task_set)})


def _scale(data: Record) -> Any:
    scale = {**EVERYTHING, **(data.get("scale") or {})}
    if not 0 <= scale["value"] <= 100 or scale["unit"] != "PERCENT":
        return error("InvalidParameterException", "scale.value must be from 0 to 100, and scale.unit PERCENT.")
    return {"value": float(scale["value"]), "unit": "PERCENT"}


def _create(data: Record) -> Any:
    service = _service(data)
    if not isinstance(service, dict):
        return service
    token = data.get("clientToken")
    if token and len(token) > MAX_TOKEN:
        return error("InvalidParameterException", f"clientToken must have {MAX_TOKEN} characters at most.")
    known = next((each for each in scheduler.workloads_of(service) if token and each["_token"] == token), None)
    if known:
        return _answer(service, known)
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition") or ""))
    if definition is None or definition["status"] != "ACTIVE":
        return error("ClientException", "TaskDefinition not found.")
    if len(data.get("loadBalancers") or []) > 1:
        return error("InvalidParameterException", "load balancers can have at most 1 items.")
    if refused := refuse_target_groups(data.get("loadBalancers")):
        return refused
    cluster = ecs._clusters[ecs._cluster_name_from_arn(service["clusterArn"])]
    launch_type, strategy, refused = ecs._launch_choice(data, cluster)
    scale = _scale(data)
    if refused or not isinstance(scale, dict):
        return refused or scale
    identity, now = f"ecs-svc/{10**18 + secrets.randbelow(9 * 10**18)}", ecs._iso()
    made = {
        "id": identity,
        "taskSetArn": f"{service['serviceArn'].replace(':service/', ':task-set/')}/{identity}",
        "serviceArn": service["serviceArn"],
        "clusterArn": service["clusterArn"],
        "status": "ACTIVE",
        "taskDefinition": definition["taskDefinitionArn"],
        "startedBy": None,
        "createdAt": now,
        "updatedAt": now,
        "runningCount": 0,
        "pendingCount": 0,
        "launchType": launch_type,
        "capacityProviderStrategy": strategy,
        "platformVersion": data.get("platformVersion") or ("LATEST" if launch_type == "FARGATE" else None),
        "scale": scale,
        **{name: data[name] for name in _GIVEN if name in data},
        "tags": data.get("tags") or [],
        "_token": token,
        "_targets": list(data.get("loadBalancers") or []),
    }
    scheduler.workloads_of(service).append(made)
    return _answer(service, made)


def _describe(data: Record) -> Any:
    service = _service(data)
    if not isinstance(service, dict):
        return service
    references = data.get("taskSets") or [each["id"] for each in scheduler.workloads_of(service)]
    found = {reference: _find(service, reference) for reference in references}
    shown = [view(service, each) for each in found.values() if each]
    if "TAGS" not in (data.get("include") or []):
        shown = [{name: value for name, value in each.items() if name != "tags"} for each in shown]
    missing = [{"arn": reference, "reason": "MISSING"} for reference, each in found.items() if each is None]
    return ecs.json_response({"taskSets": shown, "failures": missing})


def _update(data: Record) -> Any:
    found = _with_task_set("taskSet", data)
    scale = _scale(data)
    if not _is_found(found) or not isinstance(scale, dict):
        return scale if _is_found(found) else found
    service, task_set = found
    task_set.update(scale=scale, updatedAt=ecs._iso())
    return _answer(service, task_set)


def _make_primary(data: Record) -> Any:
    found = _with_task_set("primaryTaskSet", data)
    if not _is_found(found):
        return found
    service, task_set = found
    for each in scheduler.workloads_of(service):
        if each["status"] == "PRIMARY":
            each.update(status="ACTIVE", updatedAt=ecs._iso())
    task_set.update(status="PRIMARY", updatedAt=ecs._iso())
    service.update({name: task_set.get(name) for name in _OF_SERVICE})
    return _answer(service, task_set)


def _delete(data: Record) -> Any:
    found = _with_task_set("taskSet", data)
    if not _is_found(found):
        return found
    service, task_set = found
    if not data.get("force"):
        if task_set["status"] == "PRIMARY":
            return error("InvalidParameterException", "The PRIMARY task set cannot be deleted without force.")
        if task_set["scale"]["value"] > 0:
            message = "The task set cannot be deleted while it is scaled above 0."
            return error("InvalidParameterException", message)
    task_set.update(status="DRAINING", updatedAt=ecs._iso())
    return _answer(service, task_set)


def _is_found(found: Any) -> bool:
    return len(found) == 2


def _create_service(original: Callable[..., Any], data: Record) -> Any:
    with scheduler.lock:
        answered = original(data)
        found = scheduler.find({"cluster": data.get("cluster"), "service": data.get("serviceName")})
        if answered[0] >= 400 or not found or not scheduler.is_external(found[1]):
            return answered
        _, service = found
        if not service.get("_task_sets"):
            service.update(deployments=[], taskSets=[], taskDefinition=None)
        return answer(service)


def _describe_services(original: Callable[..., Any], data: Record) -> Any:
    with scheduler.lock:
        for service in ecs._services.values():
            if scheduler.is_external(service):
                service["taskSets"] = [view(service, each) for each in scheduler.workloads_of(service)]
        return original(data)


# --- CloudFormation --------------------------------------------------------------------------------------------------


def _call(action: str, request: Record) -> Record:
    status, _, body = ecs._ACTION_MAP[action](request)
    if status >= 400:
        raise ValueError(f"{action} failed: {body!r}")
    made: Record = json.loads(body)["taskSet"]
    return made


def _request(props: Record) -> Record:
    request: Record = provisioners._pascal_to_camel(props)
    if "scale" in request:
        request["scale"]["value"] = float(request["scale"]["value"])
    # A template's numbers may come as text, by way of its parameters.
    for each in request.get("loadBalancers", []):
        each["containerPort"] = int(each["containerPort"])
    return request


def _create_resource(_logical_id: str, props: Record, _stack_name: str) -> tuple[str, Record]:
    identity = _call("CreateTaskSet", _request(props))["id"]
    return identity, {"Id": identity}


def _update_resource(physical_id: str, old: Record, new: Record, stack_name: str) -> tuple[str, Record]:
    in_place = ("Scale", "Tags")
    if any(old.get(name) != new.get(name) for name in old.keys() | new.keys() if name not in in_place):
        # Another one takes its place, and the stack deletes this one in the end.
        return _create_resource("", new, stack_name)
    request = {name: value for name, value in _request(new).items() if name in ("cluster", "service", "scale")}
    _call("UpdateTaskSet", {"scale": EVERYTHING, **request, "taskSet": physical_id})
    return physical_id, {"Id": physical_id}


def _delete_resource(physical_id: str, props: Record) -> None:
    # The service may be gone, and its task sets with it.
    named = {"cluster": props["Cluster"], "service": props["Service"], "taskSet": physical_id, "force": True}
    ecs._ACTION_MAP["DeleteTaskSet"](named)


def _create_primary(logical_id: str, props: Record, _stack_name: str) -> tuple[str, Record]:
    named = {"cluster": props["Cluster"], "service": props["Service"], "primaryTaskSet": props["TaskSetId"]}
    _call("UpdateServicePrimaryTaskSet", named)
    return logical_id, {}


def _update_primary(physical_id: str, _old: Record, new: Record, stack_name: str) -> tuple[str, Record]:
    return _create_primary(physical_id, new, stack_name)
