"""Requests of jobs, as the messages of the queue have them."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headgate.aws.sqs_batches import event_id
from headgate.errors import RequestRefused
from headgate.ids import given_id
from headgate.jobs.kinds import KINDS

if TYPE_CHECKING:
    from headgate.jobs.kinds import JobKind


SUBJECT_CHARACTERS = 300
"""Maximum length of the subject that a refusal repeats."""


class JobRequest:
    """A request whose kind is known. It need not be valid until ``check`` has passed.

    Attributes
    ----------
    event_id
        Id of the event that has the request, else of the message.
    id
        Id of the job: the request's own, else ``event_id``.
    """

    def __init__(self, kind: JobKind, detail: Any, event_id: str) -> None:
        given = detail.get("id") if isinstance(detail, dict) else None
        self.kind = kind
        self.detail = detail
        self.event_id = event_id
        self.id: str = given_id(given) or event_id

    def check(self) -> None:
        """Raise RequestRefused if the request is not valid. The message names every faulty field."""
        self.kind.check(self.detail, self.event_id)

    @property
    def execution_input(self) -> dict[str, Any]:
        """Input of the execution: the request as it was given, with its id."""
        return {**self.detail, "id": self.id}

    @cached_property
    def sha256(self) -> str:
        """Digest of the content. The order of fields does not matter.

        It is made of the request as it was given: the defaults of a later version do not change it.
        """
        return hashlib.sha256(json.dumps(self.execution_input, sort_keys=True).encode()).hexdigest()

    @property
    def subject(self) -> str | None:
        """What the job is about, as far as the request says so."""
        value = self.detail
        for name in self.kind.subject:
            value = value.get(name) if isinstance(value, dict) else None
        return value[:SUBJECT_CHARACTERS] if isinstance(value, str) else None


def read_job(body: Any, message_id: str) -> JobRequest:
    """Read a message as far as needed to know what it requests.

    Raises
    ------
    RequestRefused
        If it is no event that requests a job.
    """
    detail_type = body.get("detail-type") if isinstance(body, dict) else None
    if not isinstance(detail_type, str) or detail_type not in KINDS:
        from headgate.wire import shown_value  # It imports pydantic, which a cold start does not need.

        raise RequestRefused(
            f"detail-type: must be {' or '.join(KINDS)}; send the whole event, and other events to the bus "
            f"(given {shown_value(detail_type)})"
        )
    return JobRequest(KINDS[detail_type], body.get("detail"), event_id(body, message_id))
