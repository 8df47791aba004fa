"""moto's DynamoDB and Step Functions without HTTP in between, which took five sixths of a call's time.

boto3 still validates the parameters and writes the request's body. moto still reads it, acts, and writes the body of
the response. boto3 still parses that and raises what is modelled. What is left out is the request itself: signing it,
finding moto by its URL, and the objects that three libraries make of it. boto3 does not retry an error here; moto
raises none that it would retry. `test_moto_direct.py` compares the two ways.

The conftest files call ``use`` before a client is made. It acts only while moto's own interception is on.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.handlers import BUILTIN_HANDLERS, REGISTER_LAST
from botocore.parsers import create_parser
from botocore.regions import EndpointRulesetResolver
from botocore.useragent import UserAgentString
from moto.core import DEFAULT_ACCOUNT_ID, responses, serialize
from moto.core.models import botocore_stubber
from moto.dynamodb.responses import DynamoHandler
from moto.stepfunctions.responses import StepFunctionResponse
from moto.utilities.utils import get_partition

if TYPE_CHECKING:
    from botocore.model import OperationModel

_HANDLERS = {"dynamodb": DynamoHandler, "stepfunctions": StepFunctionResponse}

_parser = functools.cache(create_parser)


def answer(model: OperationModel, params: dict[str, Any], context: dict[str, Any], **_: Any) -> Any:
    handler_of = _HANDLERS.get(model.service_model.service_name)
    if handler_of is None or not botocore_stubber.enabled:
        return None
    handler = handler_of()
    handler.region = context["client_region"]
    handler.partition = get_partition(handler.region)
    handler.current_account = DEFAULT_ACCOUNT_ID
    handler.headers = params["headers"]
    handler.querystring, handler.uri_match = {}, {}
    handler.body = params["body"].decode()
    handler.response_headers = {"server": "amazon.com"}
    handler.parse_parameters(_request(params))
    status, headers, body = handler.call_action()
    return SimpleNamespace(status_code=int(status)), _parsed(model, int(status), headers, body)


def _request(params: dict[str, Any]) -> Any:
    """What moto's parser of a JSON request looks at."""
    return SimpleNamespace(
        method=params["method"],
        values={},
        headers=params["headers"],
        data=params["body"],
        path=params["url_path"],
        content_type=params["headers"]["Content-Type"],
    )


def _parsed(model: OperationModel, status: int, headers: dict[str, Any], body: str | bytes) -> Any:
    parser: Any = _parser(model.service_model.resolved_protocol)
    content = body.encode() if isinstance(body, str) else body
    response = {
        "headers": {name.lower(): value for name, value in headers.items()},
        "status_code": status,
        "context": {"operation_name": model.name},
        "body": content,
    }
    parsed = parser.parse(response, model.output_shape)
    if "Error" in parsed:
        error = model.service_model.shape_for_error_code(parsed["Error"].get("Code"))
        if error is not None:
            parsed.update(parser.parse(response, error))
    parsed["ResponseMetadata"]["RetryAttempts"] = 0
    return parsed


_pick = serialize.XFormedAttributePicker.__call__


_TYPES = {"S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL"}
"""Of DynamoDB's attribute values, each of which has one."""


def _pick_from_a_dict(self: Any, context: Any) -> Any:
    if context.key in _TYPES and type(context.obj) is dict and len(context.obj) == 1 and _TYPES & context.obj.keys():
        return context.obj.get(context.key)
    plain = type(context.obj) is dict and not self.response_transformers and "." not in context.key
    return context.obj[context.key] if plain and context.key in context.obj else _pick(self, context)


_construct_endpoint = EndpointRulesetResolver.construct_endpoint
_endpoints: dict[tuple[int, str], Any] = {}


def _endpoint_once(self: Any, operation_model: Any, call_args: Any, request_context: Any) -> Any:
    key = (id(self), operation_model.name)
    if key not in _endpoints:
        # Keeps the client's resolver too, so that no other one gets its id.
        _endpoints[key] = (self, _construct_endpoint(self, operation_model, call_args, request_context))
    return _endpoints[key][1]


@functools.cache
def use() -> None:
    """Let every client that is made from now on call moto directly, in this whole process."""
    # Tests answer calls themselves by the same event; whoever does comes first.
    BUILTIN_HANDLERS.append(("before-call", answer, REGISTER_LAST))
    # A quarter of what is left went into how boto3 names itself, to nobody.
    UserAgentString.to_string = lambda _: "tests"  # type: ignore[assignment, method-assign]
    # moto looks for many spellings of each field of an answer. These services answer with dictionaries in the right
    # one.
    serialize.XFormedAttributePicker.__call__ = _pick_from_a_dict
    # Nor does anybody look at where a request would go.
    EndpointRulesetResolver.construct_endpoint = _endpoint_once  # type: ignore[method-assign]
    # Which methods a class has does not change; moto asks Python for them at every call.
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)
