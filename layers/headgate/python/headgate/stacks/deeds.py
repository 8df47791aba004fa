"""What the stack planner does itself, between two decisions. Each deed may be repeated without a further effect."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.aws.observability import logger
from headgate.stacks.store import Claim, CreatedAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda import LambdaClient

    from headgate.stacks.facts import Facts
    from headgate.stacks.properties import Target
    from headgate.stacks.store import StackStore

    Told = dict[str, Any]


class Deed(NamedTuple):
    """Something to do before the next decision."""

    name: Literal[
        "take-place",
        "note",
        "note-move",
        "claim",
        "settle",
        "begin",
        "publish",
        "create-alias",
        "delete-alias",
        "release",
    ]
    version: str = ""
    serves: str = ""
    """Of settle: the version that serves, whether or not this request has moved it."""


_REFUSALS = (
    "InvalidParameterValueException",
    "CodeStorageExceededException",
    "ResourceNotFoundException",
    "PreconditionFailedException",
)
"""What Lambda answers if it will not do it at another attempt either."""


class Deeds:
    """Does what was decided."""

    def __init__(self, store: StackStore, functions: LambdaClient) -> None:
        self._store = store
        self._functions = functions

    def do(self, deed: Deed, facts: Facts) -> Told:
        """Do it, and return what the next decision is told: an empty dict, or what came of it.

        Returns
        -------
        dict
            ``refused`` with the reason, if it cannot be done; ``version`` after a publish; ``busy`` if the function is
            being updated.
        """
        logger.info("deed", deed=deed.name, version=deed.version)
        does: dict[str, Callable[[Deed, Facts], Told]] = {
            "take-place": self._take_place,
            "note": self._note,
            "note-move": self._note_move,
            "claim": self._claim,
            "settle": self._settle,
            "begin": self._begin,
            "publish": self._publish,
            "create-alias": self._create_alias,
            "delete-alias": self._delete_alias,
            "release": self._release,
        }
        try:
            return does[deed.name](deed, facts)
        except ClientError as error:
            return _told_of(error)

    def _claim(self, _: Deed, facts: Facts) -> Told:
        event = facts.event
        # If another writer was faster, the next decision sees what it wrote.
        claim = Claim(event.stack_id, event.logical_id, event.request_id)
        self._store.put_claim(event, _key(facts), claim, facts.claim)
        return {}

    def _take_place(self, _: Deed, facts: Facts) -> Told:
        return {} if self._store.take_place(facts.event, facts.contends) else {"refused": SUPERSEDED}

    def _note(self, _: Deed, facts: Facts) -> Told:
        noted = self._store.note(facts.event, facts.target.key if facts.target else "")
        return {} if noted else {"refused": SUPERSEDED}

    def _note_move(self, deed: Deed, facts: Facts) -> Told:
        after = facts.serving.version if facts.serving else ""
        return {"moved": True} if self._store.note_move(facts.event, deed.version, after) else {"refused": SUPERSEDED}

    def _settle(self, deed: Deed, facts: Facts) -> Told:
        if deed.version:
            self._store.complete_note(facts.event, deed.version)
        self._store.settle(facts.event, _known(facts.target).physical_id(facts.place), deed.serves)
        return {}

    def _begin(self, deed: Deed, facts: Facts) -> Told:
        before = deed.version if _notes(facts) else None
        return {"begun": True} if self._store.begin_rollout(facts.event, before) else {"refused": SUPERSEDED}

    def _publish(self, _: Deed, facts: Facts) -> Told:
        # The same code and configuration are published once: Lambda returns the version that has them.
        published = self._functions.publish_version(FunctionName=_function(facts), CodeSha256=facts.latest_sha256)
        return {"version": published["Version"]}

    def _create_alias(self, deed: Deed, facts: Facts) -> Told:
        # Recorded first, and only for the latest request: an alias without a record would never be removed.
        event, before = facts.event, _owned(facts)
        ours = before._replace(created=CreatedAlias(_function(facts), _alias(facts)))
        if not self._store.put_claim(event, _key(facts), ours, before):
            return {"refused": SUPERSEDED}
        try:
            self._functions.create_alias(
                FunctionName=_function(facts), Name=_alias(facts), FunctionVersion=deed.version
            )
        except self._functions.exceptions.ResourceConflictException as error:
            if "already exists" not in message_of(error).lower():
                raise
            self._store.put_claim(event, _key(facts), ours._replace(created=None), ours)
            return {"refused": f"Alias: {_function(facts)}:{_alias(facts)} was created by somebody else meanwhile"}
        return {"created": True}

    def _delete_alias(self, _: Deed, facts: Facts) -> Told:
        if created := _owned(facts).created:
            with suppress(self._functions.exceptions.ResourceNotFoundException):
                self._functions.delete_alias(FunctionName=created.function, Name=created.alias)
        return {"deleted": True}

    def _release(self, _: Deed, facts: Facts) -> Told:
        if facts.claim and facts.gives_claim_up:
            self._store.release(_key(facts), facts.claim)
        if facts.event.request_type == "Delete":
            self._store.forget(facts.event)
        return {"released": True}


SUPERSEDED = "CloudFormation has sent a later request about this resource, which replaces this one (superseded)"


def _told_of(error: ClientError) -> Told:
    """Return what a decision is told about an error of AWS. Raise what may be temporary."""
    if code_of(error) == "ResourceConflictException":
        return {"busy": message_of(error)}
    if is_denied(error):
        return {"refused": f"Headgate may not do it: {message_of(error)}"}
    if code_of(error) in _REFUSALS:
        return {"refused": message_of(error)}
    raise error


def _notes(facts: Facts) -> bool:
    """Return whether the note of the resource is the one of this request."""
    note = facts.resource.note if facts.resource else None
    return note is not None and note.request_id == facts.event.request_id


def _key(facts: Facts) -> str:
    return _known(facts.target).key


def _function(facts: Facts) -> str:
    return _known(facts.through).function


def _alias(facts: Facts) -> str:
    return _known(facts.through).alias


def _owned(facts: Facts) -> Claim:
    """Return the claim of this resource, which every decision with this deed has."""
    if facts.claim is None or not facts.owns_claim:
        raise ValueError("a request whose resource does not have the target has no such deed")
    return facts.claim


def _known(target: Target | None) -> Target:
    """Return a target that every decision with this deed has."""
    if target is None:
        raise ValueError("a request without a valid target has no such deed")
    return target
