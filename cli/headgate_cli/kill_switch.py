"""The kill switch: a function's reserved concurrency of 0, what was set before, and who is hit.

What was set before is kept in a tag of the function. It is written before the concurrency changes, it needs neither the
stack nor its table, everybody who may look at the function sees it, and it goes with the function.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import iso_of
from headgate.aws.errors import code_of, message_of
from headgate.history.model import Count, Timestamp, View
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

TAG = "headgate:traffic-stopped"
"""Its value is ``reserved=50 since=2026-11-30T11:12:00.000Z``, or ``reserved=none``: a tag allows few characters."""

MIN_UNRESERVED = 100
"""Concurrency that Lambda keeps for functions that have reserved none."""

THROTTLED = 429

_VALUE = re.compile(r"reserved=(?P<reserved>none|[0-9]+) since=(?P<since>\S+)")


class Stop(NamedTuple):
    """What stop-traffic remembers."""

    reserved: int | None
    """Reserved concurrency before; None if there was none."""
    since: str
    """Time of the stop, in ISO 8601."""

    @classmethod
    def of_tag(cls, value: str) -> Stop:
        """Read the value of the tag."""
        match = _VALUE.fullmatch(value)
        if match is None:
            raise Failure(
                f"the tag {TAG} is {value}, which cannot be read; correct it to reserved=NUMBER (or reserved=none) "
                "since=TIME, or remove it"
            )
        return cls(None if match["reserved"] == "none" else int(match["reserved"]), match["since"])

    @property
    def tag(self) -> str:
        """The value of the tag."""
        return f"reserved={'none' if self.reserved is None else self.reserved} since={self.since}"


class Setting(NamedTuple):
    """What is set for a function, and what is remembered."""

    reserved: int | None
    """Reserved concurrency; None if there is none."""
    stop: Stop | None
    """What the last stop remembers; None if there was none, or if it was put back."""


class Hit(View):
    """Who is hit by a stop of a function."""

    aliases: list[str]
    """Aliases, with the version that each points at."""
    event_sources: list[str]
    """Queues, streams and other sources whose mappings invoke the function."""
    urls: list[str]
    """Its function URLs."""
    rollouts: list[str]
    """Running rollouts on it."""
    not_checked: list[str] = []
    """What could not be read, and why."""


class TrafficSwitch(View):
    """The result of ``headgate stop-traffic`` and ``headgate restore-traffic``."""

    function: str
    """Name of the function."""
    outcome: Literal["stopped", "already-stopped", "restored", "kept"]
    """``already-stopped``: nothing was changed. ``kept``: the present setting stays, the one before is forgotten."""
    reserved_now: Count | None = None
    """The reserved concurrency in effect now; missing if there is none."""
    reserved_before: Count | None = None
    """The one before the stop; missing if there was none, or if it is not known."""
    stopped_at: Timestamp | None = None
    """When stop-traffic stopped it; missing if something else did."""
    hit: Hit | None = None
    """Who is hit; missing for a function that runs."""


class KillSwitch:
    """Stops and restores one function.

    Parameters
    ----------
    functions
        A Lambda client.
    name
        Name of the function.
    """

    def __init__(self, functions: Any, name: str) -> None:
        self._functions, self.name = functions, name
        try:
            self.arn = str(functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"])
        except functions.exceptions.ResourceNotFoundException:
            raise Failure(f"function {name} does not exist; check its name, --region and --profile") from None

    def reserved(self) -> int | None:
        """Return the reserved concurrency now; None if there is none."""
        found: int | None = self._functions.get_function_concurrency(FunctionName=self.name).get(
            "ReservedConcurrentExecutions"
        )
        return found

    def remembered(self) -> Stop | None:
        """Return what the last stop has remembered; None if it is not stopped by this command."""
        tags = self._functions.list_tags(Resource=self.arn).get("Tags", {})
        return Stop.of_tag(tags[TAG]) if TAG in tags else None

    def setting(self) -> Setting:
        """Return what is set and remembered now."""
        # In this order: a stop at the same time has written its tag before it sets 0.
        reserved = self.reserved()
        return Setting(reserved, self.remembered())

    def stop(self, found: Setting) -> Stop:
        """Remember the reserved concurrency, then set it to 0.

        A process that dies in between leaves the tag alone. The function then still runs with what the tag says. What
        was written is taken back only if Lambda has refused the call for certain.

        Parameters
        ----------
        found
            What is set and remembered. The new stop is remembered in place of what is.
        """
        stop = Stop(found.reserved, iso_of(datetime.now(UTC)))
        self._functions.tag_resource(Resource=self.arn, Tags={TAG: stop.tag})
        try:
            self._functions.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=0)
        except ClientError as error:
            if not refused(error):
                raise Failure(
                    f"it is not known whether {self.name} is stopped ({code_of(error)}: {message_of(error)}); what was "
                    f"set before ({said(stop.reserved)}) is remembered, so run it again, or put it back with: headgate "
                    f"restore-traffic {self.name}"
                ) from None
            # A tag that stays does no harm.
            with suppress(ClientError, Failure):
                self._take_back(stop, found.stop)
            if code_of(error) != "InvalidParameterValueException":
                raise
            raise Failure(
                f"Lambda does not stop {self.name}: {message_of(error)}; if it has provisioned concurrency, delete "
                "that first (aws lambda delete-provisioned-concurrency-config)"
            ) from None
        self._require(0)
        return stop

    def _take_back(self, written: Stop, before: Stop | None) -> None:
        """Let the tag be as it was before a stop, unless somebody has written another one."""
        if before is None:
            self.forget(written)
        elif self.remembered() == written:
            self._functions.tag_resource(Resource=self.arn, Tags={TAG: before.tag})

    def restore(self, stop: Stop) -> None:
        """Set what was remembered, and then forget it."""
        if stop.reserved is None:
            self._functions.delete_function_concurrency(FunctionName=self.name)
        else:
            self._put_back(stop.reserved)
        self._require(stop.reserved)
        self.forget(stop)

    def forget(self, stop: Stop) -> None:
        """Forget what a stop remembers. What another one has written since stays."""
        if self.remembered() == stop:
            self._functions.untag_resource(Resource=self.arn, TagKeys=[TAG])

    def _put_back(self, reserved: int) -> None:
        try:
            self._functions.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=reserved)
        except ClientError as error:
            if code_of(error) != "InvalidParameterValueException":
                raise
            raise Failure(f"Lambda does not reserve {reserved} for {self.name}: {message_of(error)}") from None

    def require_room(self, reserved: int) -> None:
        """Refuse a restore for which the account has no concurrency left: others may have reserved it meanwhile."""
        limit = self._functions.get_account_settings()["AccountLimit"]
        left = int(limit["UnreservedConcurrentExecutions"]) - reserved
        if left < MIN_UNRESERVED:
            raise Failure(
                f"{self.name} had a reserved concurrency of {reserved}, but of the account's "
                f"{limit['ConcurrentExecutions']} concurrent executions only "
                f"{limit['UnreservedConcurrentExecutions']} are not reserved, and Lambda keeps {MIN_UNRESERVED} of "
                "them; reserve less for other functions, or ask for a higher quota, and try again"
            )

    def _require(self, wanted: int | None) -> None:
        if (now := self.reserved()) != wanted:
            raise Failure(
                f"{self.name} has {said(now)}, not {said(wanted)}: somebody changed it at the same time; look again"
            )


def refused(error: ClientError) -> bool:
    """Return whether a call has had no effect for certain.

    After a server error or a throttle it may have had one, and so may an attempt before the one that was refused.
    """
    answer = error.response.get("ResponseMetadata", {})
    status = answer.get("HTTPStatusCode", 500)
    return 400 <= status < 500 and status != THROTTLED and not answer.get("RetryAttempts")


def said(reserved: int | None) -> str:
    """Return a reserved concurrency in words."""
    return "no reserved concurrency" if reserved is None else f"a reserved concurrency of {reserved}"


def hit_by_stop(stack: Stack, function: str) -> Hit:
    """Return who is hit by a stop. What cannot be read does not keep anybody from stopping a function."""
    functions = stack.client("lambda")
    not_checked: list[str] = []

    def read(what: str, make: Any) -> list[str]:
        try:
            found: list[str] = make()
        except (ClientError, Failure) as error:
            why = message_of(error) if isinstance(error, ClientError) else error.format_message()
            not_checked.append(f"{what}: {why}")
            return []
        return found

    aliases = read("aliases", lambda: _aliases(functions, function))
    names = [function, *(f"{function}:{alias.split(' ')[0]}" for alias in aliases)]
    return Hit(
        aliases=aliases,
        event_sources=read("event sources", lambda: _event_sources(functions, names)),
        urls=read("function URLs", lambda: _urls(functions, function)),
        rollouts=read("rollouts", lambda: rollouts_on(stack, function)),
        not_checked=not_checked,
    )


def _aliases(functions: Any, function: str) -> list[str]:
    pages = functions.get_paginator("list_aliases").paginate(FunctionName=function)
    return [f"{each['Name']} (version {each['FunctionVersion']})" for page in pages for each in page["Aliases"]]


def _event_sources(functions: Any, names: list[str]) -> list[str]:
    """Return the sources of the mappings, enabled ones alone. A mapping is listed under the name that it invokes."""
    pages = functions.get_paginator("list_event_source_mappings")
    mappings = {
        each["UUID"]: each.get("EventSourceArn") or "a self-managed source"
        for name in names
        for page in pages.paginate(FunctionName=name)
        for each in page["EventSourceMappings"]
        if each.get("State") not in ("Disabled", "Disabling")
    }
    return sorted(mappings.values())


def _urls(functions: Any, function: str) -> list[str]:
    pages = functions.get_paginator("list_function_url_configs").paginate(FunctionName=function)
    return [each["FunctionUrl"] for page in pages for each in page["FunctionUrlConfigs"]]


def rollouts_on(stack: Stack, function: str) -> list[str]:
    """Return the running rollouts on a function: of its aliases, and of consumers behind them."""
    from headgate_cli.records import Records

    records = Records(stack)
    prefix = f"lambda-alias/{function}/"

    def moves(target: str, owner: str) -> bool:
        if target.startswith("lambda-alias/"):
            return target.startswith(prefix)
        record = records.rollout(owner)
        return record is not None and record.through_key.startswith(prefix)

    return sorted(owner for target, owner in records.held_locks().items() if moves(target, owner))
