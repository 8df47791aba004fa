"""Changes of an event source mapping take a while.

On AWS, creating, changing and deleting a mapping is asynchronous: its State is Creating, Updating, Enabling, Disabling
or Deleting, then Enabled or Disabled; LastModified changes with it; in between, another change is refused with
ResourceInUseException, and the pollers use the earlier settings
(https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html,
https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html). MiniStack changes everything at once
and returns the final state. Here it takes a moment. (MiniStack does this as AWS does: a setting that is left out keeps
its value; the position in a stream survives all of this except deletion.)

Seams: `lambda_svc._create_esm`, `_update_esm`, `_delete_esm`, `_get_esm` and `_list_esms`, and
`lambda_svc._iter_all_esms`, with which the pollers read the current settings.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ministack.core.concurrency import esm_wake
from ministack.core.responses import error_response_json, json_response
from ministack.services import lambda_svc

from emulator.gaps import scope, seams

GAP = "mapping_states"
TRANSITION_SECONDS = 0.3
Mapping = dict[str, Any]


class _Change(NamedTuple):
    """A change in progress."""

    ends: float
    then: str
    in_force: Mapping


_changes: dict[str, _Change] = {}
_lock = threading.RLock()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_create_esm", "data", _create)
    seams.wrap(GAP, lambda_svc, "_update_esm", "esm_id, data", _update)
    seams.wrap(GAP, lambda_svc, "_delete_esm", "esm_id", _delete)
    seams.wrap(GAP, lambda_svc, "_get_esm", "esm_id", _after_settling)
    seams.wrap(GAP, lambda_svc, "_list_esms", "query_params", _after_settling)
    seams.wrap(GAP, lambda_svc, "_iter_all_esms", "", _in_force)
    seams.expect(GAP, lambda_svc, "_release_esm_poll_state", "esm_id")


def _create(original: Callable[..., Any], data: Mapping) -> Any:
    _settle_all()
    with _lock:
        response = original(data)
        if response[0] != 202:
            return response
        mapping = lambda_svc._esms.get(json.loads(response[2])["UUID"])
        return _begin(mapping, "Creating", {**mapping, "Enabled": False})


def _update(original: Callable[..., Any], esm_id: str, data: Mapping) -> Any:
    _settle_all()
    mapping = lambda_svc._esms.get(esm_id)
    if mapping is None:
        return original(esm_id, data)
    if esm_id in _changes:
        return _in_use()
    before = dict(mapping)
    # No poller may see the new settings before they take effect.
    with _lock:
        response = original(esm_id, data)
        if response[0] >= 300:
            return response
        was, now = _enabled(before), _enabled(mapping)
        state = "Updating" if was == now else "Enabling" if now else "Disabling"
        return _begin(mapping, state, before)


def _delete(original: Callable[..., Any], esm_id: str) -> Any:
    _settle_all()
    mapping = lambda_svc._esms.get(esm_id)
    if mapping is None:
        return original(esm_id)
    if esm_id in _changes:
        return _in_use()
    return _begin(mapping, "Deleting", {**mapping, "Enabled": False})


def _begin(mapping: Mapping, state: str, in_force: Mapping) -> Any:
    then = "Enabled" if _enabled(mapping) else "Disabled"
    now = time.time()
    with _lock:
        mapping["State"], mapping["LastModified"] = state, round(now, 3)
        _changes[mapping["UUID"]] = _Change(now + TRANSITION_SECONDS, "" if state == "Deleting" else then, in_force)
    # There may be no other request for a while, and the pollers wait for a signal.
    later = threading.Timer(TRANSITION_SECONDS + 0.01, esm_wake.set)
    later.daemon = True
    later.start()
    return json_response(lambda_svc._esm_response(mapping), 202)


def _enabled(mapping: Mapping) -> bool:
    # CloudFormation may pass text.
    return str(mapping.get("Enabled", True)).lower() != "false"


def _in_use() -> Any:
    message = "Cannot update the event source mapping because it is in use."
    return error_response_json("ResourceInUseException", message, 400)


def _after_settling(original: Callable[..., Any], argument: Any) -> Any:
    _settle_all()
    return original(argument)


def _in_force(original: Callable[..., Any]) -> Iterator[Any]:
    _settle_all()
    with _lock:
        rows = [(account, region, mapping, _changes.get(mapping["UUID"])) for account, region, mapping in original()]
    for account, region, mapping, change in rows:
        yield account, region, change.in_force if change else mapping


def _settle_all() -> None:
    """Complete the changes that are due."""
    if not _changes:
        return
    with _lock:
        for (account, region, esm_id), mapping in list(lambda_svc._esms._data.items()):
            change = _changes.get(esm_id)
            if change is None or change.ends > time.time():
                continue
            del _changes[esm_id]
            if change.then:
                mapping["State"], mapping["LastModified"] = change.then, round(change.ends, 3)
                continue
            del lambda_svc._esms._data[account, region, esm_id]
            with scope.of(account, region):
                lambda_svc._release_esm_poll_state(esm_id)
