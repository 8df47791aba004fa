"""Every function killed before and after each of its writes: the rollout ends as it would have, and whole.

A killed process is a BaseException in the middle of a write, so that nothing of the function's own swallows it. What
comes of it is what AWS makes of it: a task fails as ``Runtime.ExitError`` and the machine tries it again, a queue and a
stream deliver again, and so does Lambda what it was asked to do asynchronously.

Each way a rollout can go is played once without a crash, for the list of writes and for what is left at its end. Then
every function is killed at each of its writes, just before it is sent or just after it was carried out. To save time
one run kills each function once: in the n-th run at its n-th write. When that goes wrong, each is killed alone.
"""

from __future__ import annotations

import functools
import json
import threading
import traceback
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest

from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.dynamodb import to_item
from headgate.rollouts.record import ANNOUNCED_AS
from tests.statemachines.engine import ACCOUNT, REGION, LambdaServiceError
from tests.statemachines.rollouts import (
    ALARM,
    CANDIDATE,
    LONG,
    ROLLOUT,
    STABLE,
    Client,
    Rollouts,
    assert_invariants,
    machine_arn,
)

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Collection

    from tests.statemachines.engine import Execution

# It plays again what other tests cover, very often; coverage would double its time.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

TASKS = {"planner", "acquirer", "lambda_alias_driver", "baker", "judge", "pauser", "settler"}
"""Functions that a machine, or the warden, waits for: those are told that the process died."""

ASYNCHRONOUS_RETRIES = 2
"""https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html"""

GUARDED: dict[str, Any] = {"guards": {"alarms": [ALARM]}}
COMPARED: dict[str, Any] = {"guards": {"alarms": [ALARM], "errors": {}}}


class Point(NamedTuple):
    """One write of a run: a function's n-th."""

    function: str
    number: int
    operation: str


class Died(BaseException):
    """The process of a function has been killed."""

    def __init__(self, at: Point) -> None:
        super().__init__(at)
        self.at = at


class Mortal(Rollouts):
    """Headgate in one process, of which functions die, each once at most.

    Parameters
    ----------
    fatal
        The writes at which their functions die.
    when
        Before the write is sent, or after it was carried out and before the function sees the answer.

    Attributes
    ----------
    writes
        All writes so far, in order.
    died
        Those of them at which a function has died.
    """

    def __init__(self, fatal: Collection[Point] = (), when: str = "before") -> None:
        super().__init__()
        self.fatal, self.when = fatal, when
        self.writes: list[Point] = []
        self.died: set[Point] = set()
        self._unanswered: list[dict[str, Any]] = []
        self._counting = threading.Lock()

    def _enter(self, opening: contextlib.ExitStack) -> None:
        super()._enter(opening)
        opening.enter_context(mock.patch.object(Client, "write", self._write))

    def _write(self, operation: str, call: Callable[[], Any]) -> Any:
        with self._counting:
            function = self.running.function
            point = Point(function, 1 + sum(other.function == function for other in self.writes), operation)
            self.writes.append(point)
        if point not in self.fatal:
            return call()
        self.died.add(point)
        if self.when == "after":
            with suppress(Exception):
                call()
        raise Died(point)

    # What AWS makes of a process that died

    def _deliver(self, function: str, event: dict[str, Any]) -> Any:
        try:
            return super()._deliver(function, event)
        except Died as death:
            if function in TASKS:
                raise LambdaServiceError("Runtime.ExitError", "RequestId: request Error: Runtime exited") from None
            woke = (death.at.operation, self.when) == ("send_task_success", "after")
        if function == "signaller" and woke:
            # Lambda invokes again a minute later, and by then the rollout has gone on: see wait_for.
            self._unanswered.append(event)
            return None
        return self._deliver(function, event)

    def wait_for(self, state: str, calls: int = 1) -> None:
        """As ever; and whatever signal has ended a wait before, and is delivered again now, leaves this one alone."""
        super().wait_for(state, calls)
        for event in self._unanswered:
            rollout_id = event["detail"]["rolloutId"]
            if self.record(rollout_id)["status"] in ANNOUNCED_AS:
                continue
            self._deliver("signaller", event)
            token = self.record(rollout_id).get("token", "")
            callback = self.engine.callbacks.get(token)
            kind = event["detail"]["signal"]
            assert callback is not None, f"a {kind} delivered again ended a wait ({state} {calls}) that came after it"
            assert callback.get_outcome() is None, f"a {kind} delivered again ended a wait ({state} {calls}) after it"

    # What comes from outside

    def ask(self, detail: dict[str, Any], kind: str = "Rollout Requested") -> None:
        """A request, as the queue delivers it: again until it has been taken in."""
        body = json.dumps({"id": str(uuid.uuid4()), "detail-type": kind, "detail": detail})
        self.queue(body)

    def queue(self, body: str) -> None:
        message = {
            "messageId": str(uuid.uuid4()),
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
            "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:requests",
        }
        assert self._deliver("intake", {"Records": [message]}) == {"batchItemFailures": []}

    def tell_warden(self, execution: Execution) -> None:
        """An execution has been stopped. The warden's next sweep comes within a minute, whatever becomes of this."""
        detail = {"name": execution.name, "status": execution.status, "input": json.dumps(execution.input)}
        event = {"detail-type": "Step Functions Execution Status Change", "detail": detail}
        for _ in range(1 + ASYNCHRONOUS_RETRIES):
            with suppress(ExceptionGroup):
                self._deliver("warden", event)
                break
        self.sweep()

    def sweep(self) -> None:
        self._deliver("warden", {"detail-type": "Scheduled Event"})

    def publish(self) -> None:
        """Hand the outbox to the publisher, as the table's stream does."""
        # Requests that Headgate sends itself have no time.
        events = (item for item in self.items() if item["sk"].startswith("EVENT#"))
        outbox = sorted(events, key=lambda item: str(item["detail"].get("at", "~")))
        images = [{"NewImage": to_item(item), "SequenceNumber": str(n)} for n, item in enumerate(outbox)]
        answer = self._deliver("publisher", {"Records": [{"dynamodb": image} for image in images]})
        assert answer == {"batchItemFailures": []}

    def take_in_undos(self) -> None:
        """Publish the outbox, and deliver the requests for undos among it."""
        self.publish()
        published = [entry for entry in self.outlets.events if entry["DetailType"] == "Undo Requested"]
        for detail in dict.fromkeys(entry["Detail"] for entry in published):
            self.ask(json.loads(detail), "Undo Requested")


# --- The ways that a rollout can go ----------------------------------------------------------------------------------


def promoted(app: Mortal) -> None:
    """An operator takes a good candidate through its steps, one of them in passing; code is published first."""
    app.functions.code = "new"
    app.ask(app.request((5, 0), (10, LONG), (50, LONG), candidate={"publish": {}}, **GUARDED))
    app.wait_for("Bake", 1)
    app.signal("promote")
    app.wait_for("Bake", 2)
    app.signal("promote")


def promoted_before_its_bake(app: Mortal) -> None:
    """A signal that is there before the bake is: the baker ends that itself."""
    app.before("Bake", lambda: app.signal("promote"))
    app.ask(app.request((10, LONG)))


def convicted(app: Mortal) -> None:
    """The evidence speaks against the candidate, whose code was new; telemetry that cannot be read is put aside."""
    app.functions.code = f"code of {STABLE}"
    app.ask(app.request((10, LONG), candidate={"code": {"s3Bucket": "releases", "s3Key": "checkout.zip"}}, **COMPARED))
    app.wait_for("Bake")
    app.telemetry("a name that is too long" * 100)
    app.telemetry(STABLE, ok=100)
    app.telemetry("8", failed=30)


def alarmed(app: Mortal) -> None:
    app.ask(app.request((10, LONG), **GUARDED))
    app.wait_for("Bake")
    app.alarm("ALARM")
    app.tell_alarm()


def aborted(app: Mortal) -> None:
    """Before the evidence, which the judge is the first to look at, came to anything."""
    app.ask(app.request((10, LONG), **COMPARED))
    app.wait_for("Bake")
    app.telemetry(CANDIDATE, ok=3)
    app.signal("abort")


def paused_twice(app: Mortal) -> None:
    app.ask(app.request((10, LONG)))
    for number in (1, 2):
        app.wait_for("Bake", number)
        app.signal("pause")
        app.wait_for("Pause", number)
        app.signal("resume")
    app.wait_for("Bake", 3)
    app.signal("promote")


def misspelt(app: Mortal) -> None:
    """An operator misspells an abort, and is told so."""
    app.ask(app.request((10, LONG)))
    app.wait_for("Bake")
    app.signal("abrot", event_id="misspelt")
    app.signal("ABORT")


def aborted_before_its_pause(app: Mortal) -> None:
    """A candidate that failed is to wait at zero for an operator, who has decided already: the pauser ends that."""
    app.before("Pause", lambda: app.signal("abort"))
    app.ask(app.request((10, LONG), onFailure={"pause": {"at": "zero", "limitSeconds": LONG}}, **GUARDED))
    app.wait_for("Bake")
    app.alarm("ALARM")
    app.tell_alarm()


def provisioned_and_promoted(app: Mortal) -> None:
    app.functions.provisioned[STABLE] = 5
    app.ask(app.request((10, 0)))


def provisioned_and_aborted(app: Mortal) -> None:
    app.functions.provisioned[STABLE] = 5
    app.ask(app.request((10, LONG)))
    app.wait_for("Bake")
    app.signal("abort")


def handed_over(app: Mortal) -> None:
    """A second request waits for the first, which is aborted."""
    app.ask(app.request((10, LONG), id="first", **GUARDED))
    app.wait_for("Bake", 1)
    app.ask(app.request((10, LONG), id="second"))
    app.signal("abort", "first")
    app.wait_for("Bake", 2)
    app.signal("promote", "second")


def refused(app: Mortal) -> None:
    """One request cannot be read, one does not want to wait, and one names a version that there is not."""
    app.queue("not JSON")
    app.ask(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    app.ask(app.request(id="impatient", onBusy="refuse"))
    app.ask(app.request(id="impossible", candidate={"version": "99"}))
    app.signal("promote", "first")


def undone(app: Mortal) -> None:
    app.ask(app.request(strategy="AllAtOnce"))
    app.settle_down()
    app.ask({"id": "undo", "target": app.request()["target"]}, "Undo Requested")


def undone_by_its_watch(app: Mortal) -> None:
    """An alarm fires after the promotion, twice."""
    app.ask(app.request((10, 0), afterPromotion={"hours": 1, "then": "undo"}, **GUARDED))
    app.settle_down()
    app.tell_alarm()
    app.tell_alarm()
    app.take_in_undos()


def asked_directly(app: Mortal) -> None:
    """StartExecution by hand, and once more while the first holds the target."""
    app.start(app.request((10, LONG), id="first"), "by-hand")
    app.wait_for("Bake", 1)
    app.start(app.request(strategy="AllAtOnce", id="second"), "by-hand-too")
    app.wait_for("Wait for its turn")
    app.signal("abort", "first")


def left_the_line(app: Mortal) -> None:
    """A request that waits in an execution of its own is aborted."""
    app.start(app.request((10, LONG), id="first"), "by-hand")
    app.wait_for("Bake", 1)
    app.start(app.request(strategy="AllAtOnce", id="second"), "by-hand-too")
    app.wait_for("Wait for its turn")
    app.signal("abort", "second")
    app.signal("promote", "first")


def stopped_from_outside(app: Mortal) -> None:
    """Somebody stops the execution: the warden rolls back, and starts what waits."""
    app.ask(app.request((10, LONG), id="first", **GUARDED))
    app.wait_for("Bake", 1)
    app.ask(app.request((10, LONG), id="second"))
    execution = app.executions()[0]
    execution.stop()
    execution.wait()
    app.tell_warden(execution)
    app.wait_for("Bake", 2)
    app.signal("promote", "second")


def never_begun(app: Mortal) -> None:
    """Intake was given up after it had stored a request: the warden starts it."""
    request = app.request(strategy="AllAtOnce")
    app.admit(request, execution_arn(machine_arn(ROLLOUT), execution_name(request["id"])))
    app.sweep()


PLAYS: dict[str, Callable[[Mortal], None]] = {
    play.__name__: play
    for play in (
        promoted,
        promoted_before_its_bake,
        convicted,
        alarmed,
        aborted,
        paused_twice,
        misspelt,
        aborted_before_its_pause,
        provisioned_and_promoted,
        provisioned_and_aborted,
        handed_over,
        refused,
        undone,
        undone_by_its_watch,
        asked_directly,
        left_the_line,
        stopped_from_outside,
        never_begun,
    )
}

ENDS = {
    "promoted": {"checkout-42": "succeeded"},
    "promoted_before_its_bake": {"checkout-42": "succeeded"},
    "convicted": {"checkout-42": "rolled-back"},
    "alarmed": {"checkout-42": "rolled-back"},
    "aborted": {"checkout-42": "rolled-back"},
    "paused_twice": {"checkout-42": "succeeded"},
    "misspelt": {"checkout-42": "rolled-back"},
    "aborted_before_its_pause": {"checkout-42": "rolled-back"},
    "provisioned_and_promoted": {"checkout-42": "succeeded"},
    "provisioned_and_aborted": {"checkout-42": "rolled-back"},
    "handed_over": {"first": "rolled-back", "second": "succeeded"},
    "refused": {"first": "succeeded", "impatient": "refused", "impossible": "refused"},
    "undone": {"checkout-42": "succeeded", "undo": "succeeded"},
    "undone_by_its_watch": {"checkout-42": "succeeded", "by-watch-checkout-42": "succeeded"},
    "asked_directly": {"first": "rolled-back", "second": "succeeded"},
    "left_the_line": {"first": "succeeded", "second": "refused"},
    "stopped_from_outside": {"first": "rolled-back", "second": "succeeded"},
    "never_begun": {"checkout-42": "succeeded"},
}
"""What becomes of the requests with an id that is known beforehand."""

EFFECTS = {
    "intake": {"transact_write_items", "start_execution", "send_message"},
    "acquirer": {"transact_write_items", "update_item"},
    "lambda_alias_driver": {
        "update_item",
        "publish_version",
        "update_function_code",
        "put_provisioned_concurrency_config",
        "delete_provisioned_concurrency_config",
        "update_alias",
    },
    "baker": {"update_item", "transact_write_items", "send_task_success"},
    "judge": {"update_item", "transact_write_items"},
    "pauser": {"update_item", "transact_write_items", "send_task_success"},
    "settler": {"transact_write_items", "start_execution", "send_task_success"},
    "signaller": {"update_item", "send_task_success", "send_task_failure", "send_message", "transact_write_items"},
    "counter": {"transact_write_items", "update_item", "put_item", "send_task_success", "send_message"},
    "publisher": {"put_events"},
    "warden": {"transact_write_items", "invoke", "start_execution"},
}
"""What each function writes; those that are missing write nothing."""


UNPLAYED = {"observer", "event_source_driver", "ecs_service_driver", "starter", "trigger"}
"""What the observer writes is what the counter writes, by the same code; its play needs minutes of CloudWatch that are
over. How often the drivers of consumers and of services are called depends on the time that a drain, or a task, takes:
they are killed at each of their effects where time stands still, in the unit tests. The starter and the trigger have no
part in a rollout: the unit tests let them fail around each of their effects."""

CASES = [(name, when) for name in PLAYS for when in ("before", "after")]


# --- What is left at the end of a run --------------------------------------------------------------------------------


def play(name: str, app: Mortal) -> dict[str, Any]:
    """A run from the first request to the last publication, held against the invariants; what it leaves behind."""
    PLAYS[name](app)
    assert_invariants(app)
    app.publish()
    return left_behind(app)


def left_behind(app: Mortal) -> dict[str, Any]:
    """Everything but times, tokens and names that chance has made up."""
    items = app.items()
    records = {i["pk"].removeprefix("ROLLOUT#"): i for i in items if i["sk"] == "ROLLOUT" and "request" in i}
    announced = {json.dumps(entry, sort_keys=True) for entry in app.outlets.events}
    events = [json.loads(entry["Detail"]) for entry in map(json.loads, announced)]
    ids = [event["id"] for event in events]
    assert len(ids) == len(set(ids)), "the same event was published with two contents"
    stored = {item["detail"]["id"] for item in items if item["sk"].startswith("EVENT#")}
    assert stored == set(ids), "not everything in the outbox was published"
    kept = ("status", "serving", "stable", "candidate")
    return {
        "records": {i: {name: record.get(name) for name in kept} for i, record in records.items()},
        "executions": sorted((str(e.input.get("id")), e.states()[-1]) for e in app.executions()),
        "alias": app.functions.routing,
        "versions": sorted(app.functions.versions),
        "provisioned": app.functions.provisioned,
        "bakes": {event["id"]: event["endedBy"] for event in events if "endedBy" in event},
        "verdicts": {event["id"]: event["verdict"] for event in events if "verdict" in event},
        "announced": sorted(i for i in ids if i.partition("/")[0] in records),
        "counted": counted_in(items),
        "put aside": sorted({message["QueueUrl"] for message in app.outlets.messages}),
        "statuses": sorted(item["status"] for item in items if item["sk"] == "ROLLOUT"),
    }


def counted_in(items: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many requests and failures were counted for each rollout; not when, nor how often the judge has looked."""
    counted: dict[str, dict[str, int]] = {}
    for item in items:
        if item["sk"].partition("#")[0] == "EVIDENCE":
            counts = counted.setdefault(item["pk"], defaultdict(int))
            for name, n in item.items():
                if name.endswith(("_requests", "_failures")):
                    counts[name] += n
    return counted


class Recording(NamedTuple):
    """A run without a crash."""

    writes: list[Point]
    left: dict[str, Any]


@functools.cache
def recorded(name: str) -> Recording:
    with Mortal() as app:
        left = play(name, app)
        return Recording(list(app.writes), left)


def crashed(name: str, points: Collection[Point], when: str) -> dict[tuple[Point, ...], str]:
    """A run in which functions die at these writes, each at one; what is wrong with it, by who had to die for that."""
    with Mortal(points, when) as app:
        try:
            wrong = differences(recorded(name).left, play(name, app))
        except Exception as failure:  # noqa: BLE001 - told with all the others
            wrong = f"{type(failure).__name__} at {traceback.extract_tb(failure.__traceback__)[-1].line}: {failure}"
        immortal = [point for point in points if point not in app.died]
    if len(points) == 1:
        return {tuple(points): wrong or "was not killed"} if wrong or immortal else {}
    alone: dict[tuple[Point, ...], str] = {}
    for point in points if wrong else immortal:
        alone |= crashed(name, [point], when)
    return {tuple(points): wrong} if wrong and not alone else alone


def differences(wanted: dict[str, Any], left: dict[str, Any]) -> str:
    return "; ".join(f"{what}: {left[what]}, not {wanted[what]}" for what in wanted if left[what] != wanted[what])


@pytest.mark.parametrize("name", PLAYS)
def test_without_a_crash_each_rollout_ends_as_it_should(name: str) -> None:
    records = recorded(name).left["records"]
    assert {rollout_id: record["status"] for rollout_id, record in records.items()} == ENDS[name]


def test_what_was_counted_is_among_what_is_compared() -> None:
    counted = recorded("aborted").left["counted"]
    assert [sum(counts.values()) for counts in counted.values()] == [3]


@pytest.mark.parametrize(("name", "when"), CASES)
def test_a_function_killed_at_any_of_its_writes_changes_nothing_in_the_end(name: str, when: str) -> None:
    # GIVEN each write of each function
    runs: defaultdict[int, list[Point]] = defaultdict(list)
    for point in recorded(name).writes:
        runs[point.number].append(point)
    # WHEN the process dies just before or just after it
    wrong: dict[tuple[Point, ...], str] = {}
    for points in runs.values():
        wrong |= crashed(name, points, when)
    # THEN the run ends as it does without, and the invariants hold
    told = [f"{' and '.join(map(str, points))}: {what}" for points, what in wrong.items()]
    assert not told, f"killed {when}:\n" + "\n".join(told)


def test_every_function_is_killed_at_every_kind_of_write_that_it_makes() -> None:
    points = [point for name in PLAYS for point in recorded(name).writes]
    writing = {point.function for point in points}
    assert {f: {p.operation for p in points if p.function == f} for f in writing} == EFFECTS


def test_every_function_that_is_deployed_writes_nothing_or_is_killed() -> None:
    functions = {path.parent.name for path in Path(__file__).parents[2].glob("functions/*/app.py")}
    # They only read records, or none.
    samples = {"smoke_tester", "http_smoke_tester", "version_checker"}
    beside = {"planner", *samples, "prometheus_counter", "notifier", "cleaner"}
    # Of machines of their own, without records.
    tasks = {"task_planner", "task_classifier", "task_stopper"}
    redrives = {"redrive_planner", "redriver", "redrive_stopper"}
    # Their items are their own, and to a rollout they are one of those who start it.
    stacks = {"stack_intake", "stack_planner", "stack_responder"}
    assert functions - set(EFFECTS) - UNPLAYED == beside | tasks | redrives | stacks
