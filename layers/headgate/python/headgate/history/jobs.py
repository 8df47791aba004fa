"""Reads ECS tasks and redrives: their requests from the table, their ends from Step Functions."""

from __future__ import annotations

import heapq
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from headgate import keys
from headgate.aws.arns import execution_arn, job_execution_name
from headgate.aws.dynamodb import iso_of
from headgate.aws.stepfunctions import REASON_CHARACTERS
from headgate.history.items import AT_ONCE, FIRST, LAST, Mark
from headgate.history.lenient import view_of
from headgate.history.model import JobPage, JobSummary, JobView
from headgate.jobs.kinds import REDRIVE, REFUSED, REQUESTED, TASK, status_of_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from mypy_boto3_stepfunctions import SFNClient

    from headgate.history.items import Item, Items

Kind = Literal["task", "redrive"]

KINDS = {TASK.name: TASK, REDRIVE.name: REDRIVE}

EXECUTIONS_PER_CALL = 200
"""ListExecutions answers 1,000 at most. Most pages need few."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
"""Names of executions: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html"""

_BY_EVENT = re.compile(r"(task|redrive)-[0-9a-f]{64}")
"""Names of executions that events requested. Their requests are on record."""

_STATES = {
    "RUNNING": "running",
    "PENDING_REDRIVE": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "TIMED_OUT": "failed",
    "ABORTED": "stopped",
}


class Jobs:
    """Reads jobs.

    Parameters
    ----------
    machines
        A client for Step Functions; without one, the ends of jobs are not known.
    arns
        ARNs of the machines by kind.
    """

    def __init__(self, items: Items, machines: SFNClient | None, arns: Mapping[str, str]) -> None:
        self._items = items
        self._machines = machines
        self._arns = arns

    def page(self, kind: Kind, limit: int, mark: Mark | None) -> JobPage:
        """Return the jobs after a mark, newest first."""
        statuses = [status_of_job(kind, what) for what in (REQUESTED, REFUSED)]
        end = mark.created_at if mark else LAST
        requested = heapq.merge(*self._items.in_index(statuses, FIRST, end, limit + 1), key=_mark_of, reverse=True)
        listed = list(islice((item for item in requested if mark is None or _mark_of(item) < mark), limit + 1))
        oldest = _mark_of(listed[-1]) if len(listed) > limit else None
        direct = list(islice(self._started_directly(kind, mark, oldest), limit + 1))
        found = sorted(chain(listed, direct), key=_mark_of, reverse=True)
        following = _mark_of(found[limit - 1]).token if len(found) > limit else None
        shown = self._full_items(found[:limit])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            views = list(pool.map(lambda item: view_of(JobSummary, self._fields(kind, item, JobSummary)), shown))
        return JobPage(jobs=[view for view in views if view], next=following)

    def view(self, kind: Kind, job_id: str) -> JobView | None:
        """Return a job by its id, or by the name or ARN of its execution."""
        pk = keys.job_pk(kind, job_id)
        items = list(self._items.query("pk = :pk", {":pk": pk}, ConsistentRead=True).items())
        requests = [item for item in items if item["sk"] == keys.JOB_SK]
        refusals = [item for item in items if item.get("status") == status_of_job(kind, REFUSED)]
        if known := [*requests, *sorted(refusals, key=_mark_of, reverse=True)]:
            return view_of(JobView, self._fields(kind, known[0], JobView))
        return self._view_of_execution(kind, job_id)

    def _view_of_execution(self, kind: Kind, given: str) -> JobView | None:
        """Return the job of an execution, by its name or ARN."""
        if kind not in self._arns:
            return None
        name = given.removeprefix(execution_arn(self._arns[kind], ""))
        if not _NAME.fullmatch(name):
            return None
        item = {"pk": keys.job_pk(kind, name), "execution": execution_arn(self._arns[kind], name)}
        view = view_of(JobView, self._fields(kind, item, JobView))
        asked = view.request.get("id") if view else None
        if isinstance(asked, str) and job_execution_name(kind, asked) == name:
            return self.view(kind, asked) or view  # An event requested it, and its request is on record.
        return view

    def _full_items(self, items: list[Item]) -> list[Item]:
        """Return items of the index as the table has them, and others as they are."""
        wanted = [(item["pk"], item["sk"]) for item in items if "sk" in item]
        read = self._items.batch(wanted)
        return [read.get((item["pk"], item.get("sk", "")), item) for item in items]

    def _started_directly(self, kind: Kind, mark: Mark | None, oldest: Mark | None) -> Iterator[Item]:
        """Yield the executions that no event requested, newest first, down to the oldest mark that is of use."""
        if self._machines is None or kind not in self._arns:
            return
        pages = self._machines.get_paginator("list_executions").paginate(
            stateMachineArn=self._arns[kind], PaginationConfig={"PageSize": EXECUTIONS_PER_CALL}
        )
        for execution in (execution for page in pages for execution in page["executions"]):
            item = {
                "pk": keys.job_pk(kind, execution["name"]),
                "execution": execution["executionArn"],
                "createdAt": _iso(execution["startDate"]),
            }
            if oldest and _mark_of(item) < oldest:
                return
            if not _BY_EVENT.fullmatch(execution["name"]) and (mark is None or _mark_of(item) < mark):
                yield item

    def _fields(self, kind: Kind, item: Item, model: type[JobSummary]) -> dict[str, Any]:
        """Return the fields of a view of a job, from its item and its execution."""
        fields = {
            "kind": kind,
            "id": item["pk"].partition("#")[2],
            "status": "refused" if item.get("status") == status_of_job(kind, REFUSED) else "requested",
            "subject": item.get("subject"),
            "created_at": item.get("createdAt"),
            "started_at": item.get("startedAt"),
            "execution": item.get("execution"),
            "reason": item.get("reason"),
        }
        if fields["status"] == "refused" or not fields["execution"]:
            return fields
        described = self._describe(str(fields["execution"]))
        if described is None:
            # Step Functions forgets an execution 90 days after its end. Before its start it does not know it, either.
            return {**fields, "status": "unknown" if fields["started_at"] else "requested"}
        request = _json_object(described.get("input"))
        ended = described.get("stopDate")
        return {
            **fields,
            "status": _status_of(described),
            "subject": fields["subject"] or _subject_of(kind, request),
            "created_at": fields["created_at"] or _iso(described["startDate"]),
            "started_at": _iso(described["startDate"]),
            "ended_at": _iso(ended) if ended else None,
            "reason": _reason_of(described),
            **({"request": request, "result": _result_of(described)} if model is JobView else {}),
        }

    def _describe(self, execution: str) -> Any:
        """Return an execution; None if Step Functions does not know it."""
        if self._machines is None:
            return None
        with suppress(self._machines.exceptions.ExecutionDoesNotExist):
            return self._machines.describe_execution(executionArn=execution)
        return None


def _mark_of(item: Item) -> Mark:
    return Mark(str(item.get("createdAt", "")), item["pk"].partition("#")[2])


def _status_of(described: Mapping[str, Any]) -> str:
    # A request that was started directly is checked by its machine.
    return "refused" if described.get("error") == "RequestRefused" else _STATES.get(described["status"], "unknown")


def _result_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of an execution, or what its error tells. Its machine gives the result as the cause."""
    if described["status"] == "SUCCEEDED":
        return _json_object(described.get("output"))
    told = {name: described[name] for name in ("error", "cause") if described.get(name)}
    return _json_object(described.get("cause")) or told


def _reason_of(described: Mapping[str, Any]) -> str:
    if described["status"] in ("RUNNING", "SUCCEEDED", "PENDING_REDRIVE"):
        return ""
    reason = _result_of(described).get("reason")
    told: Iterable[str] = filter(None, (described.get("error"), described.get("cause")))
    default = "its execution timed out" if described["status"] == "TIMED_OUT" else ""
    return (reason if isinstance(reason, str) and reason else ": ".join(told) or default)[:REASON_CHARACTERS]


def _subject_of(kind: Kind, request: Mapping[str, Any]) -> str | None:
    value: Any = request
    for name in KINDS[kind].subject:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _json_object(text: Any) -> dict[str, Any]:
    with suppress(TypeError, ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else {}
    return {}


def _iso(moment: datetime) -> str:
    from datetime import UTC

    return iso_of(moment.astimezone(UTC))
