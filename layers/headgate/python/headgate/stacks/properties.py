"""The properties of Custom::HeadgateRollout and Custom::HeadgateTask as requests of a rollout and of an ECS task.

CloudFormation sends every number and boolean as text:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requesttypes-create.html
Text becomes a number where the field takes a number, and stays text everywhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from headgate.aws.arns import alias_arn, service_arn
from headgate.errors import RequestRefused
from headgate.spec.hooks import Hooks
from headgate.spec.request import RolloutRequest, read_request
from headgate.wire import did_you_mean, shown_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.aws.place import Place
    from headgate.stacks.event import StackEvent
    from headgate.wire import Wire

ROLLOUT_PROPERTIES = (
    "ServiceToken",
    "ServiceTimeout",
    "Alias",
    "Mapping",
    "Mode",
    "Service",
    "Rules",
    "TestRules",
    "Scale",
    "KeepSeconds",
    "Sticky",
    "Version",
    "TaskDefinition",
    "Release",
    "Strategy",
    "Alarms",
    "Guards",
    "OnFailure",
    "AfterPromotion",
    "Hooks",
    "ReadySeconds",
    "OnDelete",
)

TASK_PROPERTIES = ("ServiceToken", "ServiceTimeout", "Task", "Release")

DEFAULT_READY_SECONDS = 600
"""A deployment has an hour in all, so the candidate gets less time than in a request."""

MAX_SERVICE_SECONDS = 3600
"""How long CloudFormation waits for the answer at most, and by default:
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cloudformation-customresource.html"""

_ALIAS = re.compile(
    r"(?:arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:)?"
    r"(?P<function>[a-zA-Z0-9-_]{1,64}):(?P<alias>(?![0-9]+$)[a-zA-Z0-9-_]{1,128})"
)
_VERSION = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:(?P<function>[a-zA-Z0-9-_]{1,64}):)?(?P<version>[0-9]+)"
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_SERVICE = re.compile(
    r"(?:arn:(?P<partition>aws[a-z-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):service/)?"
    r"(?P<cluster>[a-zA-Z0-9_-]{1,255})/(?P<service>[a-zA-Z0-9_-]{1,255})"
)

_OF_SERVICE = {
    "Rules": "rules",
    "TestRules": "testRules",
    "Scale": "scale",
    "KeepSeconds": "keepSeconds",
    "Sticky": "sticky",
}
"""Properties that set up a service, and the fields of a request's target that they are."""

_AS_IN_A_REQUEST = (("strategy", "Strategy"), ("onFailure", "OnFailure"), ("afterPromotion", "AfterPromotion"))
"""Fields of a request, and the properties that have the same content."""

_SAYS_ALIAS = "must be function:alias, as in checkout:live, or the ARN of an alias, as !Ref Checkout.Alias gives it"

_CODEDEPLOY_HOOKS = {"PreTraffic": "beforeTraffic", "PostTraffic": "afterTraffic"}
"""Hooks of SAM's DeploymentPreference, and the stages that they mean."""

_FIELD_OF = (
    ("target.function", "Alias"),
    ("target.alias", "Alias"),
    ("target.mapping", "Mapping"),
    ("target.mode", "Mode"),
    ("target.readySeconds", "ReadySeconds"),
    ("target.cluster", "Service"),
    ("target.service", "Service"),
    *((f"target.{field}", name) for name, field in _OF_SERVICE.items()),
    ("target", "Alias"),
    ("candidate.version", "Version"),
    ("candidate.taskDefinition", "TaskDefinition"),
    ("candidate", "Version"),
    ("strategy", "Strategy"),
    ("guards", "Guards"),
    ("hooks", "Hooks"),
    ("onFailure", "OnFailure"),
    ("afterPromotion", "AfterPromotion"),
)
"""The property for each field of a request, the longer ones first."""

_FIELD = re.compile(rf"(^|; )({'|'.join(re.escape(field) for field, _ in _FIELD_OF)})(?=[:.\[])")

_HOOK = re.compile(r"\b[hH]ooks\.(?P<stage>beforeTraffic|afterTraffic)\[(?P<place>\d+)\](?P<kind>\.codeDeployHook)?")
_NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})([eE][+-]?\d{1,2})?", re.ASCII)
"""A number as a template may write it, such as 10, 60.0, .05, 1e-3 or 1.0E-4."""

_NUMBER_FAULTS = ("int_type", "int_parsing", "int_from_float", "float_type", "float_parsing")


class Target(NamedTuple):
    """The target of a resource, as its physical id and its properties name it."""

    function: str = ""
    alias: str = ""
    mapping: str = ""
    cluster: str = ""
    service: str = ""

    @property
    def named(self) -> str:
        """The property that names it."""
        return "Service" if self.service else "Mapping" if self.mapping else "Alias"

    @property
    def key(self) -> str:
        """Key of the target for locks and claims."""
        if self.service:
            return f"ecs-service/{self.cluster}/{self.service}"
        return f"event-source/{self.mapping}" if self.mapping else f"lambda-alias/{self.function}/{self.alias}"

    def physical_id(self, place: Place) -> str:
        """Return the physical id of a resource with this target."""
        if self.service:
            return service_arn(*place_of(place), self.cluster, self.service)
        return self.mapping or alias_arn(*place_of(place), self.function, self.alias)


class Wanted(NamedTuple):
    """What the properties of a rollout resource ask for."""

    target: Target
    request: dict[str, Any]
    """A valid request in its JSON form, without its id and its candidate."""
    version: str = ""
    """The version to roll out, or family and revision for a service; empty if $LATEST is to be published."""

    @property
    def candidate(self) -> dict[str, Any]:
        """The candidate of a request, if it does not publish $LATEST."""
        return candidate_of(self.target, self.version)


def candidate_of(target: Target, revision: str) -> dict[str, Any]:
    """Return a revision of a target as the candidate of a request."""
    return {"taskDefinition": revision} if target.service else {"version": revision}


def revision_in(candidate: Mapping[str, Any]) -> str:
    """Return the revision that a candidate names, as records have it; empty if it names none."""
    return str(candidate.get("version") or candidate.get("taskDefinition", "").rpartition("/")[2])


def place_of(place: Place) -> tuple[str, str, str]:
    """Return partition, Region and account, in the order of an ARN."""
    return place.partition, place.region, place.account


def fingerprint_of(properties: Mapping[str, Any]) -> str:
    """Return a digest of all properties."""
    return hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()


def service_seconds(properties: Mapping[str, Any]) -> int:
    """Return how long CloudFormation waits for the answer. It has checked the value itself."""
    given = str(properties.get("ServiceTimeout", ""))
    return min(int(given), MAX_SERVICE_SECONDS) if given.isdecimal() else MAX_SERVICE_SECONDS


def removes_alias(properties: Mapping[str, Any]) -> bool:
    """Return whether the deletion of the resource deletes the alias that it created."""
    return bool(properties.get("OnDelete") != "retain")


def target_in(physical_id: str, place: Place) -> Target | None:
    """Return the target that a physical id names; None for the id of a resource that never had a valid one."""
    if _UUID.fullmatch(physical_id):
        return Target(mapping=physical_id)
    if found := _SERVICE.fullmatch(physical_id):
        here = (found["partition"], found["region"], found["account"]) == place_of(place)
        return Target(cluster=found["cluster"], service=found["service"]) if here else None
    found = _ALIAS.fullmatch(physical_id)
    if found and (found["partition"], found["region"], found["account"]) == place_of(place):
        return Target(found["function"], found["alias"])
    return None


def target_of(properties: Mapping[str, Any], place: Place) -> Target | None:
    """Return the target that properties name, whatever the others are; None if it is not valid."""
    try:
        return _target_of(properties, place)
    except RequestRefused:
        return None


def read_rollout(event: StackEvent, place: Place) -> Wanted:
    """Read the properties of a Custom::HeadgateRollout.

    Raises
    ------
    RequestRefused
        If a property is not valid. The message names the property, its value and the fix.
    """
    given = event.properties
    _refuse_unknown(given, ROLLOUT_PROPERTIES)
    on_delete = given.get("OnDelete", "remove")
    if on_delete not in ("remove", "retain"):
        raise RequestRefused(f"OnDelete: must be remove or retain (given {shown_value(on_delete)})")
    target = _target_of(given, place)
    version = _version_of(given, target)
    detail: dict[str, Any] = {
        "id": event.rollout_id,
        "target": target_detail(given, target),
        **{field: given[name] for field, name in _AS_IN_A_REQUEST if name in given},
        **_guards_of(given),
        **({"hooks": hooks_of(given["Hooks"])} if "Hooks" in given else {}),
        "onBusy": "refuse",
        # A stand-in for $LATEST, whose digest is read later.
        "candidate": candidate_of(target, version) if version else {"publish": {}},
    }
    try:
        request = read_request(with_numbers(RolloutRequest, detail), event.rollout_id).to_wire()
    except RequestRefused as refusal:
        raise RequestRefused(in_properties(str(refusal), given)) from None
    del request["id"], request["candidate"]
    return Wanted(target, request, version)


def read_task_detail(event: StackEvent) -> dict[str, Any]:
    """Read the properties of a Custom::HeadgateTask as the detail of a Task Requested event.

    Raises
    ------
    RequestRefused
        If a property is not valid.
    """
    # Imported late: a rollout does not need it.
    from headgate.ecs_tasks.request import TaskRequest, read_task

    _refuse_unknown(event.properties, TASK_PROPERTIES)
    task = event.properties.get("Task")
    if not isinstance(task, dict):
        raise RequestRefused(
            "Task: is missing; give the fields of a Task Requested event, as in {taskDefinition: migrate}"
            if task is None
            else f"Task: must be an object with a taskDefinition (given {shown_value(task)})"
        )
    if "id" in task:
        raise RequestRefused("Task.id: is not a known property here, because each deployment needs its own; remove it")
    try:
        return read_task(with_numbers(TaskRequest, {"id": event.rollout_id, **task}), event.rollout_id).to_wire()
    except RequestRefused as refusal:
        raise RequestRefused(re.sub(r"(^|; )(?=[a-z]\w*[:.\[])", r"\1Task.", str(refusal))) from None


def in_properties(message: str, given: Mapping[str, Any] | None = None) -> str:
    """Return a message about a request with the names of the properties instead of the request's fields.

    Parameters
    ----------
    given
        The properties. A hook of a DeploymentPreference in them has the name that it has there.
    """
    names = dict(_FIELD_OF)
    if "Service" in (given or {}):
        names |= {"target": "Service", "candidate": "TaskDefinition"}
    told = _FIELD.sub(lambda found: found[1] + names[found[2]], message)
    return _HOOK.sub(lambda found: _hook_as_given(found, (given or {}).get("Hooks")), told)


def _hook_as_given(found: re.Match[str], hooks: object) -> str:
    """Return the place of a hook as the properties have it. ``hooks_of`` puts that of a DeploymentPreference first."""
    name = next(name for name, stage in _CODEDEPLOY_HOOKS.items() if stage == found["stage"])
    if not isinstance(hooks, dict) or name not in hooks:
        return found[0]
    if found["place"] == "0":
        return f"Hooks.{name}"
    return f"Hooks.{found['stage']}[{int(found['place']) - 1}]{found['kind'] or ''}"


def hook_stage_as_given(stage: str, given: Mapping[str, Any]) -> str:
    """Return the stage of hooks as the properties name it."""
    hooks = given.get("Hooks")
    name = next((name for name, each in _CODEDEPLOY_HOOKS.items() if each == stage), "")
    return name if isinstance(hooks, dict) and name in hooks and stage not in hooks else stage


def with_numbers(model: type[Wire], detail: dict[str, Any]) -> dict[str, Any]:
    """Return a request in which text is a number where the model takes one. Other faults stay.

    The models read a boolean from text themselves.
    """
    fixed: dict[str, Any] = json.loads(json.dumps(detail))
    try:
        model.model_validate(fixed, by_alias=True, by_name=False)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            value = _converted(fault["type"], fault["input"])
            if value is not None:
                _put(fixed, fault["loc"], value)
    return fixed


def _converted(fault: str, text: object) -> int | float | None:
    if not isinstance(text, str):
        return None
    if fault not in _NUMBER_FAULTS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(number)


def _put(data: Any, loc: tuple[int | str, ...], value: object) -> None:
    """Replace a value in JSON data at the location of a fault, whose tags of shapes are no fields."""
    *path, last = [part for part in loc if isinstance(part, int) or not part.startswith("<")]
    for part in path:
        data = data[part]
    data[last] = value


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    faults = [
        f"{name[:64]}: is not a known property{did_you_mean(name, known)} (given {shown_value(value)})"
        for name, value in given.items()
        if name not in known
    ]
    if faults:
        raise RequestRefused("; ".join(faults))


def _target_of(given: Mapping[str, Any], place: Place) -> Target:
    named = [name for name in ("Alias", "Mapping", "Service") if name in given]
    if not named:
        raise RequestRefused(
            "Alias: is missing; give Alias, as in checkout:live, Mapping, the UUID of an event source mapping, or "
            "Service, as in web/shop"
        )
    if len(named) > 1:
        raise RequestRefused(
            f"{named[0]}: cannot be given with {named[1]}, because a resource has one target; remove one of the two"
        )
    if "Service" in given:
        return _service_of(given["Service"], place)
    if set_up := next((name for name in _OF_SERVICE if name in given), ""):
        raise RequestRefused(f"{set_up}: is only for a Service; remove it")
    if "Mapping" in given:
        mapping = given["Mapping"]
        if not isinstance(mapping, str) or not _UUID.fullmatch(mapping):
            raise RequestRefused(
                "Mapping: must be the UUID of an event source mapping, in lower case, as !Ref of an "
                f"AWS::Lambda::EventSourceMapping gives it (given {shown_value(mapping)})"
            )
        return Target(mapping=mapping)
    if "Mode" in given:
        raise RequestRefused("Mode: is only for a Mapping; remove it")
    alias = given["Alias"]
    found = _ALIAS.fullmatch(alias) if isinstance(alias, str) else None
    if found is None:
        raise RequestRefused(f"Alias: {_SAYS_ALIAS} (given {shown_value(alias)})")
    if found["account"] and (found["partition"], found["region"], found["account"]) != place_of(place):
        raise RequestRefused(
            f"Alias: is in {found['account']}, {found['region']}; this Headgate serves {place.account}, "
            f"{place.region}; give the ServiceToken of a Headgate that is deployed there"
        )
    return Target(found["function"], found["alias"])


def _service_of(given: object, place: Place) -> Target:
    found = _SERVICE.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise RequestRefused(
            "Service: must be cluster/service, as in web/shop, or the ARN of a service, as !Ref of an "
            f"AWS::ECS::Service gives it (given {shown_value(given)})"
        )
    if found["account"] and (found["partition"], found["region"], found["account"]) != place_of(place):
        raise RequestRefused(
            f"Service: is in {found['account']}, {found['region']}; this Headgate serves {place.account}, "
            f"{place.region}; give the ServiceToken of a Headgate that is deployed there"
        )
    return Target(cluster=found["cluster"], service=found["service"])


def target_detail(given: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the target of a request, as these properties set it up."""
    ready = {"readySeconds": given.get("ReadySeconds", DEFAULT_READY_SECONDS)}
    if target.mapping:
        mode = {"mode": given["Mode"]} if "Mode" in given else {}
        return {"kind": "event-source", "mapping": target.mapping, **mode, **ready}
    if target.service:
        set_up = {field: given[name] for name, field in _OF_SERVICE.items() if name in given}
        return {"kind": "ecs-service", "cluster": target.cluster, "service": target.service, **set_up, **ready}
    return {"kind": "lambda-alias", "function": target.function, "alias": target.alias, **ready}


def _task_definition_of(given: Mapping[str, Any]) -> str:
    if "Version" in given:
        raise RequestRefused("Version: is only for functions; give the TaskDefinition of a Service")
    definition = given.get("TaskDefinition")
    if not isinstance(definition, str) or not definition:
        said = "is missing" if definition is None else f"is not text (given {shown_value(definition)})"
        raise RequestRefused(
            f"TaskDefinition: {said}; give family:revision, as in shop:7, or !Ref of an AWS::ECS::TaskDefinition"
        )
    return definition.rpartition("/")[2]


def _version_of(given: Mapping[str, Any], target: Target) -> str:
    if target.service:
        return _task_definition_of(given)
    if "TaskDefinition" in given:
        raise RequestRefused("TaskDefinition: is only for a Service; give the Version of a function, or leave it out")
    if "Version" not in given:
        return ""
    version = given["Version"]
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None:
        raise RequestRefused(
            "Version: must be the number or the ARN of a version, as !Ref Checkout.Version gives it; to publish "
            f"$LATEST, leave it out (given {shown_value(version)})"
        )
    if found["function"] and target.function and found["function"] != target.function:
        raise RequestRefused(f"Version: is one of {found['function']}, but Alias is one of {target.function}")
    return str(found["version"])


def _guards_of(given: Mapping[str, Any]) -> dict[str, Any]:
    if "Alarms" not in given:
        return {"guards": given["Guards"]} if "Guards" in given else {}
    alarms, guards = given["Alarms"], given.get("Guards", {})
    if not isinstance(alarms, list):
        raise RequestRefused(f"Alarms: must be a list of names of alarms (given {shown_value(alarms)})")
    if guards == "none":
        raise RequestRefused('Alarms: cannot be given with Guards "none"; remove one of the two')
    if not isinstance(guards, dict):
        return {"guards": guards}
    if "alarms" in guards:
        raise RequestRefused("Alarms: is short for Guards.alarms; give one of the two")
    return {"guards": {**guards, "alarms": alarms}}


def hooks_of(given: object) -> object:
    """Return hooks in which those of a DeploymentPreference are CodeDeploy hooks."""
    if not isinstance(given, dict):
        return given
    known = [*(field.alias or name for name, field in Hooks.model_fields.items()), *_CODEDEPLOY_HOOKS]
    faults = [
        f"Hooks.{name[:64]}: is not a known field{did_you_mean(name, known)} (given {shown_value(value)})"
        for name, value in given.items()
        if name not in known
    ]
    if faults:
        raise RequestRefused("; ".join(faults))
    hooks = {name: value for name, value in given.items() if name not in _CODEDEPLOY_HOOKS}
    for name, stage in _CODEDEPLOY_HOOKS.items():
        if name not in given:
            continue
        if not isinstance(function := given[name], str):
            raise RequestRefused(f"Hooks.{name}: must be the name or ARN of a function (given {shown_value(function)})")
        others = hooks.get(stage, [])
        hooks[stage] = [{"codeDeployHook": function}, *(others if isinstance(others, list) else [others])]
    return hooks
