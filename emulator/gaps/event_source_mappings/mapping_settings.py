"""Validation of an event source mapping's settings, and its fields in answers.

AWS refuses a setting out of range, one that its kind of source does not have (MaximumConcurrency is for SQS, retries,
age, bisecting, parallelization and failure destinations are for streams), a FIFO queue's batching window, a queue whose
visibility timeout is less than the function's timeout, a source or function that does not exist, and a second mapping
of the same source and function (ResourceConflictException). It returns the fields of the mapping's kind, with defaults
(https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html). MiniStack stores anything, uses a
batch size of 10 for every kind, drops TumblingWindowInSeconds and MetricsConfig, and returns only what it received. A
mapping that CloudFormation points at another qualifier continues with the old one there.

Seams: `lambda_svc._create_esm`, `lambda_svc._update_esm` and `lambda_svc._esm_response`; the mapping's entry in
CloudFormation's `provisioners._RESOURCE_HANDLERS`; the qualifier is read from the function's ARN in
`lambda_svc._iter_all_esms`. Not filled: refusals in CloudFormation.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import kinesis, lambda_svc, sqs
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "mapping_settings"
Mapping = dict[str, Any]

# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
_RANGES = {
    "BatchSize": (1, 10_000),
    "MaximumBatchingWindowInSeconds": (0, 300),
    "ParallelizationFactor": (1, 10),
    "MaximumRecordAgeInSeconds": (-1, 604_800),
    "MaximumRetryAttempts": (-1, 10_000),
    "TumblingWindowInSeconds": (0, 900),
}
LEAST_RECORD_AGE_SECONDS = 60
MOST_FIFO_BATCH = 10
MOST_BATCH_WITHOUT_WINDOW = 10
_BOTH: Mapping = {"MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []}
_STREAMS_ONLY: Mapping = {
    "ParallelizationFactor": 1,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
}
_FOR_STREAMS = (*_STREAMS_ONLY, "StartingPosition", "StartingPositionTimestamp")
_FOR_QUEUES = ("ScalingConfig", "ProvisionedPollerConfig")
# Left out of an answer if empty.
_OPTIONAL = ("FilterCriteria", "KMSKeyArn", "MetricsConfig")
_ALWAYS = ("UUID", "EventSourceArn", "FunctionArn", "State", "LastModified", "BatchSize")
# MiniStack does not keep these.
_FORGOTTEN = ("TumblingWindowInSeconds", "MetricsConfig", "StartingPositionTimestamp", "KMSKeyArn")


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_create_esm", "data", _create)
    seams.wrap(GAP, lambda_svc, "_update_esm", "esm_id, data", _update)
    seams.wrap(GAP, lambda_svc, "_esm_response", "esm", _answer)
    seams.wrap(GAP, lambda_svc, "_iter_all_esms", "", _by_their_arn)
    seams.expect(GAP, provisioners, "_lambda_esm_create", "logical_id, props, stack_name")
    seams.expect(GAP, provisioners, "_lambda_esm_update", "physical_id, old_props, new_props, stack_name")
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    create, update = handlers["create"], handlers["update"]
    handlers["create"] = lambda *arguments: _remember(create(*arguments), arguments[1])
    handlers["update"] = lambda *arguments: _remember(update(*arguments), arguments[2])
    seams.expect(GAP, lambda_svc, "_esm_arn", "esm_id")
    seams.expect(GAP, lambda_svc, "_resolve_existing_esm_function", "function_ref")
    seams.expect(GAP, sqs, "_queue_by_arn", "arn")


def kind_of(source_arn: str) -> str:
    """`sqs`, `fifo`, `kinesis` or `dynamodb`."""
    service = (source_arn.split(":") + [""] * 3)[2]
    return "fifo" if service == "sqs" and source_arn.endswith(".fifo") else service


def is_queue(mapping: Mapping) -> bool:
    """Return whether the mapping's source is a queue."""
    return kind_of(mapping.get("EventSourceArn", "")) in ("sqs", "fifo")


def setting(mapping: Mapping, name: str) -> Any:
    """Return the value of a setting, or AWS's default."""
    if name == "BatchSize":
        return int(mapping.get(name) or (10 if is_queue(mapping) else 100))
    value = mapping.get(name)
    default = _BOTH.get(name, _STREAMS_ONLY.get(name))
    if value in (None, {}):
        return default
    # CloudFormation passes a parameter's value as text.
    if isinstance(default, bool):
        return str(value).lower() == "true"
    return int(value) if isinstance(default, int) else value


def _create(original: Callable[..., Any], data: Mapping) -> Any:
    source = data.get("EventSourceArn", "")
    if kind_of(source) in ("kinesis", "dynamodb", "sqs", "fifo"):
        refusal = _refusal(data, {"EventSourceArn": source}, new=True)
        if refusal:
            return refusal
    given = {**data, "BatchSize": setting(data, "BatchSize")}
    response = original(given)
    if response[0] != 202:
        return response
    mapping = lambda_svc._esms.get(json.loads(response[2])["UUID"])
    mapping.update({name: data[name] for name in _FORGOTTEN if name in data})
    if not is_queue(mapping):
        mapping["StateTransitionReason"] = "User action"
    return json_response(lambda_svc._esm_response(mapping), 202)


def _update(original: Callable[..., Any], esm_id: str, data: Mapping) -> Any:
    mapping = lambda_svc._esms.get(esm_id)
    if mapping is None:
        return original(esm_id, data)
    refusal = _refusal(data, mapping)
    if refusal:
        return refusal
    response = original(esm_id, data)
    if response[0] >= 300:
        return response
    mapping.update({name: data[name] for name in _FORGOTTEN if name in data})
    return json_response(lambda_svc._esm_response(mapping), 202)


def _remember(provisioned: tuple[str, Any], properties: Mapping) -> tuple[str, Any]:
    """Add to a stack's mapping what MiniStack left out."""
    mapping = lambda_svc._esms[provisioned[0]]
    mapping.update({name: properties[name] for name in _FORGOTTEN if name in properties})
    mapping["BatchSize"] = setting({**mapping, "BatchSize": properties.get("BatchSize")}, "BatchSize")
    if not is_queue(mapping):
        mapping["StateTransitionReason"] = "User action"
    return provisioned


def _answer(original: Callable[..., Any], mapping: Mapping) -> Mapping:
    answer = {name: mapping[name] for name in _ALWAYS if name in mapping}
    answer["EventSourceMappingArn"] = lambda_svc._esm_arn(mapping["UUID"])
    answer["BatchSize"] = setting(mapping, "BatchSize")
    answer["StateTransitionReason"] = mapping.get("StateTransitionReason", "USER_INITIATED")
    answer.update({name: setting(mapping, name) for name in _BOTH})
    answer.update({name: mapping[name] for name in _OPTIONAL if mapping.get(name)})
    if is_queue(mapping):
        answer.update({name: mapping[name] for name in _FOR_QUEUES if mapping.get(name)})
        return answer
    answer.update({name: setting(mapping, name) for name in _STREAMS_ONLY})
    destination = (answer["DestinationConfig"].get("OnFailure") or {}).get("Destination")
    answer["DestinationConfig"] = {"OnFailure": {"Destination": destination} if destination else {}}
    answer["StartingPosition"] = mapping.get("StartingPosition", "LATEST")
    if mapping.get("StartingPositionTimestamp"):
        answer["StartingPositionTimestamp"] = mapping["StartingPositionTimestamp"]
    answer["LastProcessingResult"] = mapping.get("LastProcessingResult", "No records processed")
    return answer


def _by_their_arn(original: Callable[..., Any]) -> Iterator[Any]:
    for account, region, mapping in original():
        mapping["Qualifier"] = ":".join(mapping.get("FunctionArn", "").split(":")[7:]) or None
        yield account, region, mapping


def _refusal(data: Mapping, mapping: Mapping, *, new: bool = False) -> Any:
    """Return AWS's error response to this change of this mapping, or None."""
    kind = kind_of(mapping["EventSourceArn"])
    for name, (least, most) in _RANGES.items():
        if name in data and not least <= int(data[name]) <= most:
            return error_response_json(
                "ValidationException",
                f"1 validation error detected: Value '{data[name]}' at '{name[0].lower()}{name[1:]}' failed to satisfy "
                f"constraint: Member must have value between {least} and {most}",
                400,
            )
    complaint = (
        _complaint_about_kind(data, kind)
        or _complaint_about_destination(data)
        or _complaint_about_values({**mapping, **data}, kind, new=new)
        or _complaint_about_source(data, mapping["EventSourceArn"], kind)
        or _complaint_about_function(data)
    )
    if complaint:
        return error_response_json("InvalidParameterValueException", complaint, 400)
    return _conflict(data, mapping)


def _complaint_about_kind(data: Mapping, kind: str) -> str | None:
    foreign = _FOR_STREAMS if kind in ("sqs", "fifo") else _FOR_QUEUES
    found = next((name for name in foreign if name in data and data[name] is not None), None)
    return f"{found} is not supported for this event source." if found else None


def _complaint_about_destination(data: Mapping) -> str | None:
    """Seen in https://github.com/aws-controllers-k8s/community/issues/2865; botocore's model takes an empty text."""
    on_failure = (data.get("DestinationConfig") or {}).get("OnFailure")
    if on_failure is not None and "Destination" not in on_failure:
        return "The Destination field is required for an OnFailure configuration."
    return None


def _complaint_about_values(wanted: Mapping, kind: str, *, new: bool) -> str | None:
    batch, window = setting(wanted, "BatchSize"), setting(wanted, "MaximumBatchingWindowInSeconds")
    if kind == "fifo" and window:
        return "Batching window is not supported for FIFO queues"
    if kind == "fifo" and batch > MOST_FIFO_BATCH:
        return f"Maximum batch size for FIFO queues is {MOST_FIFO_BATCH}."
    if kind == "sqs" and batch > MOST_BATCH_WITHOUT_WINDOW and not window:
        return "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
    if wanted.get("ScalingConfig") and wanted.get("ProvisionedPollerConfig"):
        return "MaximumConcurrency and ProvisionedPollerConfig cannot be used together."
    if -1 < setting({**wanted, "EventSourceArn": ""}, "MaximumRecordAgeInSeconds") < LEAST_RECORD_AGE_SECONDS:
        return f"MaximumRecordAgeInSeconds must be -1 or at least {LEAST_RECORD_AGE_SECONDS}."
    if new and kind in ("kinesis", "dynamodb"):
        return _complaint_about_start(wanted, kind)
    return None


def _complaint_about_start(wanted: Mapping, kind: str) -> str | None:
    position = wanted.get("StartingPosition")
    if position not in ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"):
        return "1 validation error: StartingPosition is required for Kinesis and DynamoDB Streams event sources."
    if position == "AT_TIMESTAMP" and (kind == "dynamodb" or not wanted.get("StartingPositionTimestamp")):
        return "AT_TIMESTAMP needs a Kinesis stream and a StartingPositionTimestamp."
    return None


def _complaint_about_source(data: Mapping, source: str, kind: str) -> str | None:
    if kind == "kinesis":
        name = source.split("stream/")[-1]
        return None if name in kinesis._streams else f"Stream not found: {source}"
    if kind == "dynamodb" or "FunctionName" not in data:
        return None
    queue = sqs._queue_by_arn(source)
    if queue is None:
        return "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue."
    name, _qualifier, error = lambda_svc._resolve_existing_esm_function(data["FunctionName"])
    if error:
        return None
    visibility = int(queue["attributes"].get("VisibilityTimeout", "30"))
    timeout = int(lambda_svc._functions[name]["config"].get("Timeout", 3))
    if visibility < timeout:
        return f"Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds"
    return None


def _complaint_about_function(data: Mapping) -> str | None:
    if "FunctionName" not in data:
        return None
    _name, _qualifier, error = lambda_svc._resolve_existing_esm_function(data["FunctionName"])
    return "Function does not exist" if error else None


def _conflict(data: Mapping, mapping: Mapping) -> Any:
    if "FunctionName" not in data:
        return None
    name, qualifier, error = lambda_svc._resolve_existing_esm_function(data["FunctionName"])
    if error:
        return None
    arn = lambda_svc._func_arn(name) + (f":{qualifier}" if qualifier else "")
    for other in list(lambda_svc._esms.values()):
        same = (other["EventSourceArn"], other["FunctionArn"]) == (mapping["EventSourceArn"], arn)
        if same and other["UUID"] != mapping.get("UUID"):
            return error_response_json(
                "ResourceConflictException",
                f'The event source arn (" {other["EventSourceArn"]} ") and function (" {name} ") provided mapping '
                f"already exists. Please update or delete the existing mapping with UUID {other['UUID']}",
                409,
            )
    return None
