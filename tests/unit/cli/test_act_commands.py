"""Commands that act on rollouts: what they send, what they say of the effect, and their exit codes."""

from __future__ import annotations

import io
import json
import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from click.testing import CliRunner, Result

from headgate.history.model import (
    BakeView,
    HookView,
    LineView,
    PauseView,
    RolloutPage,
    RolloutSummary,
    RolloutView,
    SignalView,
)
from headgate.spec.request import read_request
from headgate.spec.signal_models import read_signal
from headgate.spec.undo import read_undo
from headgate_cli import acting, stack, watching
from headgate_cli.actions import ActionView
from headgate_cli.main import main
from tests.fakes.past_metrics import PastMetrics
from tests.unit.cli.fake_stack import refusal
from tests.views import BEGIN, view_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Seen = RolloutView | Exception | None

LIVE = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
NO_NETWORK = EndpointConnectionError(endpoint_url="https://dynamodb.eu-central-1.amazonaws.com")
OUTPUTS = {
    "BusName": "headgate",
    "TableName": "headgate",
    "PlannerName": "headgate-planner",
    "RequestDeadLettersUrl": "https://sqs/request-dead-letters",
    "SignalDeadLettersUrl": "https://sqs/signal-dead-letters",
    "UndeliveredUrl": "https://sqs/undelivered",
}
PAUSE = PauseView(reason="paused by kim", step=0, started_at=BEGIN, until="2026-12-01T14:00:00.000Z", then="rollback")
HOOKS = [HookView(stage="beforeTraffic", hooks=["smoke"], started_at=BEGIN, outcome="running")]


class World:
    """An installation and its records. The views come one after another, from the first event on."""

    name, region_name, prefix, bus, table = "headgate", "eu-central-1", "headgate", "headgate", "headgate"

    def __init__(self) -> None:
        self.before: list[Seen] = [view_of()]
        self.after: list[Callable[[dict[str, Any]], Seen]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.invoked: list[dict[str, Any]] = []
        self.planned: dict[str, Any] = {}
        self.past: PastMetrics | None = None
        self.failure = ""
        self.last: str | None = "checkout-42"
        self.promotions: dict[str, RolloutView] = {"checkout-42": view_of(status="succeeded", phase=None)}
        self.lost: BaseException | None = None
        self.summaries: list[RolloutSummary] = []
        self.outputs = OUTPUTS

    # The stack.

    @property
    def session(self) -> World:
        return self

    def client(self, *_: Any, **__: Any) -> Any:
        return self

    def output(self, key: str) -> str:
        return self.outputs[key]

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        self.events.append((detail_type, detail))
        if self.lost:
            raise self.lost
        return "event-1"

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {"Item": {"last": {"S": self.last}}} if self.last else {}

    def get_caller_identity(self) -> dict[str, str]:
        if self.failure:
            raise NO_NETWORK
        return {"Arn": "arn:aws:sts::123456789012:assumed-role/Admin/alice"}

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "headgate-planner"
        self.invoked.append(json.loads(Payload))
        failed = {"FunctionError": "Unhandled"} if self.failure else {}
        return {"Payload": io.BytesIO(json.dumps(self.planned).encode()), **failed}

    def get_paginator(self, operation: str) -> World:
        assert operation == "get_metric_data"
        return self

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        if self.past is None:
            raise refusal("AccessDenied", "GetMetricData")
        yield self.past.GetMetricData(**asked)

    # The history.

    def rollout(self, rollout_id: str) -> RolloutView | None:
        if not self.events:
            known = self.before[0]
        else:
            known = self.after[0](self.events[-1][1])
            self.after = self.after[1:] or self.after
        if isinstance(known, Exception):
            raise known
        return known if known is not None and known.id == rollout_id else self.promotions.get(rollout_id)

    def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
        return [view for view in (self.rollout(rollout_id) for rollout_id in rollout_ids) if view]

    def rollouts(self, *, target: str = "", states: Sequence[str] = (), **_: Any) -> RolloutPage:
        found = [each for each in self.summaries if each.target == target and (not states or each.status in states)]
        return RolloutPage(rollouts=found)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(stack, "Stack", lambda *_: world)
    monkeypatch.setattr("headgate.history.store.History", lambda *_, **__: world)
    for module, name, seconds in (
        (acting, "EVERY_SECONDS", 0),
        (acting, "LOST_SECONDS", 0.05),
        (acting, "PATIENCE_SECONDS", 0),
        (acting, "HOOK_SECONDS", 0),
        (watching, "EVERY_SECONDS", 0.001),
        (watching, "EVERY_SECONDS_AT_REST", 0.001),
    ):
        monkeypatch.setattr(module, name, seconds)
    return world


def run(*words: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(main, words)


def signalled(
    kind: Any, outcome: Any = "handled", why: str = "", **fields: Any
) -> Callable[[dict[str, Any]], RolloutView]:
    """The rollout once the signal that was sent last is on record."""

    def seen(detail: dict[str, Any]) -> RolloutView:
        signal = SignalView(
            id=detail["id"], signal=kind, by=detail["by"], reason=detail["reason"], at=BEGIN, outcome=outcome, why=why
        )
        return view_of(**{"signals": [signal], "weight": 25, **fields})

    return seen


def same(view: Seen) -> Callable[[dict[str, Any]], Seen]:
    return lambda _: view


ROLLED_BACK: dict[str, Any] = {"status": "rolled-back", "phase": None, "serving": "7", "reason": "aborted by kim"}
PROMOTED: dict[str, Any] = {"status": "succeeded", "phase": None, "serving": "8"}
STOPPED: dict[str, Any] = {"status": "stopped", "phase": None, "reason": "somebody moved the alias"}
SERVICE: dict[str, Any] = {
    "target": "ecs-service/web/shop",
    "stable": "shop:7",
    "candidate": "shop:8",
    "steps": [{"step": n, "weight": w, "bakeSeconds": 300, "status": "now"} for n, w in enumerate((10.0, 100.0))],
}
PAUSED: dict[str, Any] = {"status": "paused", "phase": "paused", "pause": PAUSE}


@pytest.mark.parametrize(
    ("words", "before", "after", "code", "said"),
    [
        (
            ["pause"],
            {},
            PAUSED,
            0,
            "rolled back at 2026-12-01 14:00 UTC unless somebody decides before (paused by kim)",
        ),
        (["pause"], {}, PROMOTED, 1, "did not pause: it was promoted; version 8 serves"),
        (["pause"], {}, {"phase": "rolling-back"}, 1, "does not pause any more: it is being rolled back"),
        (["resume"], PAUSED, {"phase": "baking"}, 0, "goes on: it bakes at 25 %, step 1"),
        (["promote"], {}, {"step": 1, "weight": 50}, 0, "goes on: it bakes at 50 %, step 2"),
        (["promote"], {}, {"phase": "promoting"}, 0, "goes on: it is being promoted"),
        (["promote"], PAUSED, {"phase": "shifting"}, 0, "goes on: it moves traffic"),
        (["promote"], {}, PROMOTED, 0, "was promoted; version 8 serves"),
        (
            ["promote"],
            {},
            ROLLED_BACK,
            1,
            "was not promoted: it was rolled back; version 7 serves again: aborted by kim",
        ),
        (["promote", "--full"], {}, PROMOTED, 0, "was promoted; version 8 serves"),
        (
            ["promote", "--full"],
            {**SERVICE, "step": 0, "weight": 10},
            {**SERVICE, "step": 1, "weight": 100},
            0,
            (
                "goes on: it has sent all traffic to shop:8, and keeps shop:7 for a way back at once; to keep it no "
                "longer, run headgate promote checkout-42"
            ),
        ),
        (["promote", "--full"], {**SERVICE, "step": 1, "weight": 100}, PROMOTED, 0, "was promoted; version 8 serves"),
        (["promote", "--full"], {}, STOPPED, 1, "was not promoted: it was stopped"),
        (["abort"], {}, ROLLED_BACK, 0, "is aborted: version 7 serves again"),
        (["abort"], {"status": "waiting"}, {"status": "refused", "phase": None}, 0, "is aborted: it has left the line"),
        (["abort"], {}, PROMOTED, 1, "the abort came too late; to take it back, run headgate undo checkout-42"),
        (["abort"], {}, STOPPED, 1, "was stopped, and the target stays as it was found: somebody moved the alias"),
    ],
)
def test_a_signal_says_what_became_of_it(
    world: World, words: list[str], before: dict[str, Any], after: dict[str, Any], code: int, said: str
) -> None:
    world.before = [view_of(**before)]
    kind = "promote-fully" if "--full" in words else words[0]
    # The signal is not on record at the first look, and a lost connection changes nothing.
    world.after = [same(view_of(**before)), same(NO_NETWORK), signalled(kind, **after)]
    result = run(*words, "checkout-42", "--reason", "because")
    assert result.exit_code == code, result.output
    assert said in (result.stderr if code else result.stdout)
    ((detail_type, detail),) = world.events
    assert (detail_type, detail["signal"], detail["rolloutId"]) == ("Rollout Signal", kind, "checkout-42")
    assert (detail["by"], detail["reason"]) == ("assumed-role/Admin/alice", "because")


def test_a_refused_signal_has_headgates_own_reason(world: World) -> None:
    world.after = [signalled("promote", "refused", "signal: promote is too old and was meant for an earlier step")]
    result = run("promote", "checkout-42")
    assert (result.exit_code, result.stderr) == (
        1,
        "checkout-42 refuses it: signal: promote is too old and was meant for an earlier step\n",
    )


@pytest.mark.parametrize(
    ("command", "view", "said"),
    [
        ("resume", {}, "does not accept resume while it is baking; it is not paused, and goes on by itself"),
        ("pause", PAUSED, "does not accept pause while it is paused; it already waits for an operator"),
        ("promote", {"phase": "promoting"}, "does not accept promote while it is promoting; wait for its end"),
        ("abort", {"phase": "rolling-back"}, "does not accept abort while it is rolling-back"),
        ("abort", ROLLED_BACK, "only a running or waiting rollout accepts signals"),
    ],
)
def test_a_signal_that_is_sure_to_be_refused_is_not_sent(
    world: World, command: str, view: dict[str, Any], said: str
) -> None:
    world.before = [view_of(**view)]
    result = run(command, "checkout-42")
    assert (result.exit_code, said in result.stderr, world.events) == (1, True, []), result.output


UNTIL: Any = {"until": "2026-12-02T12:00:00.000Z", "then": "undo"}


def watched(**ended: str) -> RolloutView:
    """A promoted rollout with a watch."""
    return view_of(**PROMOTED, watch=UNTIL | ended)


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        ({"outcome": "stopped", "reason": "stopped by alice"}, 0, "checkout-42 is no longer watched\n"),
        (
            {"outcome": "superseded", "reason": "b was promoted"},
            1,
            "checkout-42 is no longer watched: b was promoted\n",
        ),
    ],
)
def test_a_watch_that_is_stopped_says_how_it_ended(world: World, ended: dict[str, str], code: int, said: str) -> None:
    world.before = [watched()]
    world.after = [same(watched()), same(NO_NETWORK), same(watched(**ended))]
    result = run("stop-watch", "checkout-42", "--reason", "tuning")
    assert (result.exit_code, result.stderr if code else result.stdout) == (code, said)
    ((detail_type, detail),) = world.events
    assert (detail_type, detail["signal"], detail["reason"]) == ("Rollout Signal", "stop-watch", "tuning")
    assert read_signal(detail).signal == "stop-watch"


def test_what_is_not_watched_is_not_told_to_stop(world: World) -> None:
    world.before = [view_of(**PROMOTED)]
    result = run("stop-watch", "checkout-42")
    assert (result.exit_code, world.events) == (1, [])
    assert "is not watched: only a promoted rollout with afterPromotion is" in result.stderr


def test_a_stop_that_nobody_takes_says_where_to_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "RECORD_SECONDS", 0.05)
    world.before, world.after = [watched()], [same(watched())]
    result = run("stop-watch", "checkout-42")
    assert (result.exit_code, "event-1 (Rollout Signal)" in result.stderr) == (2, True)
    world.lost, world.events = NO_NETWORK, []
    result = run("stop-watch", "checkout-42")
    assert (result.exit_code, "the stop-watch may have been sent" in result.stderr) == (2, True), result.stderr


def test_an_abort_on_record_waits_for_the_hook_that_is_being_asked(world: World) -> None:
    world.after = [signalled("abort", "pending", phase="preparing", hooks=HOOKS)]
    result = run("abort", "checkout-42")
    assert (result.exit_code, result.stdout) == (
        0,
        "checkout-42 has the abort on record; it asks the beforeTraffic hooks (smoke), and acts when they answer\n",
    )


def test_a_signal_that_repeats_another_says_so(world: World) -> None:
    world.after = [signalled("pause", "repeated", "signal a has the same effect", phase="preparing")]
    result = run("pause", "checkout-42")
    assert (result.exit_code, "(signal a has the same effect)" in result.stdout) == (0, True)


def test_a_signal_that_nobody_takes_says_where_to_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "RECORD_SECONDS", 0.05)
    world.after = [same(view_of())]
    result = run("pause", "checkout-42")
    assert result.exit_code == 2
    for place in (
        "event-1 (Rollout Signal)",
        "https://sqs/signal-dead-letters",
        "https://sqs/undelivered",
        "list-rules",
    ):
        assert place in result.stderr


@pytest.mark.parametrize(
    ("end", "code"), [(ROLLED_BACK, 0), ({"status": "refused", "phase": None}, 0), (PROMOTED, 1), (STOPPED, 5)]
)
def test_abort_may_wait_for_the_end(world: World, end: dict[str, Any], code: int) -> None:
    pending = signalled("abort", "pending", phase="preparing", hooks=HOOKS)
    world.after = [pending, pending, signalled("abort", **end)]
    result = run("abort", "checkout-42", "--wait", "--format", "json")
    assert result.exit_code == code, result.output
    view = ActionView.model_validate_json(result.stdout)
    assert view.status == end["status"]


def test_a_wait_that_is_too_long_says_that_the_rollout_goes_on(world: World) -> None:
    world.after = [signalled("abort", "pending", phase="preparing", hooks=HOOKS)]
    result = run("abort", "checkout-42", "--wait", "--timeout", "0.05s")
    assert (result.exit_code, "The rollout goes on" in result.stderr) == (6, True), result.output


def test_a_target_names_the_rollout_that_has_it(world: World) -> None:
    world.summaries = [
        RolloutSummary(id="later", status="waiting", target="lambda-alias/checkout/live"),
        RolloutSummary(id="checkout-42", status="running", target="lambda-alias/checkout/live"),
    ]
    world.after = [signalled("pause", **PAUSED)]
    assert run("pause", "checkout:live").exit_code == 0
    assert world.events[0][1]["rolloutId"] == "checkout-42"


def test_a_target_that_no_rollout_has_is_no_target_for_a_signal(world: World) -> None:
    result = run("abort", "shop:live")
    assert (result.exit_code, world.events) == (1, [])
    assert result.stderr == (
        "Error: no rollout has shop:live now, and none waits for it; headgate history shop:live shows earlier ones\n"
    )


def test_of_several_requests_in_line_one_must_be_named(world: World) -> None:
    world.summaries = [
        RolloutSummary(id=name, status="waiting", target="lambda-alias/checkout/live") for name in ("a", "b")
    ]
    result = run("abort", "checkout:live")
    assert (result.exit_code, "several rollouts wait for checkout:live, such as a, b" in result.stderr) == (2, True)


def test_without_an_identity_the_signal_still_has_a_sender(world: World) -> None:
    world.failure = "no network"
    world.after = [signalled("pause", **PAUSED)]
    assert run("pause", "checkout-42").exit_code == 0
    assert world.events[0][1]["by"] == "headgate command"


def test_texts_of_a_record_cannot_control_the_terminal(world: World) -> None:
    world.after = [signalled("abort", **{**STOPPED, "reason": "\x1b]0;gone\x07"})]
    assert "\x1b" not in run("abort", "checkout-42").stderr


# Start


def requested(**fields: Any) -> Callable[[dict[str, Any]], RolloutView]:
    """The rollout of the request that was sent."""
    return lambda detail: view_of(detail["id"], request=read_request(detail, "unused").to_wire(), **fields)


ASKED = ("checkout:live", "--version", "8", "--no-guards")


@pytest.mark.parametrize(
    ("end", "code"), [(PROMOTED, 0), (ROLLED_BACK, 3), ({"status": "refused", "phase": None}, 4), (STOPPED, 5)]
)
def test_start_waits_with_an_exit_code_for_each_end(world: World, end: dict[str, Any], code: int) -> None:
    world.before = [None]
    bake = BakeView(step=0, bake=0, weight=25, started_at=BEGIN)
    world.after = [same(None), requested(phase="preparing"), requested(weight=25, bake=bake), requested(**end)]
    result = run("start", *ASKED, "--id", "a-1", "--wait")
    assert result.exit_code == code, result.output
    assert result.stdout.startswith("a-1 was ")
    assert "a-1 bakes at 25 %" in result.stderr
    assert world.events == [
        (
            "Rollout Requested",
            {"target": LIVE, "candidate": {"version": "8"}, "guards": "none", "id": "a-1"},
        )
    ]


def test_start_returns_as_soon_as_the_request_is_on_record(world: World) -> None:
    world.before = [None]
    line = LineView(place=2, behind="first")
    world.after = [requested(status="waiting", line=line)]
    result = run("start", *ASKED)
    assert result.exit_code == 0
    rollout_id = world.events[0][1]["id"]
    assert result.stdout == f"{rollout_id} waits in line at place 2, behind first\n"
    assert result.stderr == f"To follow it, run headgate watch {rollout_id}.\n"


def test_a_request_that_is_not_valid_is_not_sent(world: World) -> None:
    world.before = [None]
    result = run("start", "checkout:live", "--version", "latest")
    assert (result.exit_code, world.events) == (2, [])
    assert result.stderr.startswith("Error: --version (candidate.version): must be a version number")


def test_the_same_request_again_follows_the_rollout_that_is_there(world: World) -> None:
    detail = {"id": "a-1", "target": LIVE, "candidate": {"version": "8"}, "guards": "none"}
    world.before = [requested(**PROMOTED)(detail)]
    result = run("start", *ASKED, "--id", "a-1", "--wait")
    assert (result.exit_code, world.events) == (0, [])
    assert "a-1 is on record already, with the same content; nothing is started again." in result.stderr


def test_another_request_under_a_known_id_is_refused(world: World) -> None:
    world.before = [requested()({"id": "a-1", "target": LIVE, "candidate": {"version": "9"}})]
    result = run("start", *ASKED, "--id", "a-1")
    assert (result.exit_code, world.events) == (4, [])
    assert "a-1 is the id of an earlier request with other content" in result.stderr


def test_an_id_that_was_refused_without_a_request_is_taken(world: World) -> None:
    world.before = [view_of("a-1", status="refused", phase=None, reason="target: is missing; add it")]
    result = run("start", *ASKED, "--id", "a-1")
    assert (result.exit_code, world.events) == (4, [])


def test_a_request_that_headgate_cannot_read_has_its_reason(world: World) -> None:
    world.before = [None]
    world.after = [same(view_of("a-1", status="refused", phase=None, reason="strategy: is newer than this Headgate"))]
    result = run("start", *ASKED, "--id", "a-1")
    assert (result.exit_code, result.stdout) == (4, "a-1 was refused: strategy: is newer than this Headgate\n")


def test_a_request_that_nobody_takes_says_where_to_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "RECORD_SECONDS", 0.05)
    world.before, world.after = [None], [same(None)]
    result = run("start", *ASKED)
    assert (result.exit_code, "https://sqs/request-dead-letters" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [["start", *ASKED], ["abort", "a-1"], ["undo", "a-1"]])
def test_a_timeout_needs_a_wait(world: World, words: list[str]) -> None:
    result = run(*words, "--timeout", "5m")
    assert (result.exit_code, "--timeout needs --wait" in result.stderr, world.events) == (2, True, [])


def test_an_interrupted_wait_says_that_the_rollout_goes_on(world: World) -> None:
    def interrupt(_: dict[str, Any]) -> RolloutView:
        raise KeyboardInterrupt

    world.before, world.after = [None], [requested(), interrupt]
    result = run("start", *ASKED, "--id", "a-1", "--wait")
    assert (result.exit_code, "Run headgate abort a-1 to end it" in result.stderr) == (130, True)


def test_start_ends_with_4_if_the_planner_refuses_the_request(world: World) -> None:
    world.before = [None]
    world.after = [requested(status="accepted"), requested(status="refused", phase=None, reason="version 8 is gone")]
    result = run("start", *ASKED, "--id", "a-1")
    assert (result.exit_code, result.stdout) == (4, "a-1 was refused: version 8 is gone\n")


def test_start_says_that_it_is_not_known_yet_whether_the_request_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_cli.commands.start.BEGIN_SECONDS", 0.02)
    world.before, world.after = [None], [requested(status="accepted")]
    result = run("start", *ASKED, "--id", "a-1")
    assert (result.exit_code, "it is not known whether it is refused" in result.stderr) == (0, True)


# Events of which is not known whether they were sent

SENDING: list[tuple[list[str], str]] = [
    (["start", *ASKED], "add --id {id}"),
    (["undo", "checkout:live"], "add --id {id}"),
    (["abort", "checkout-42"], "run headgate status checkout-42"),
    (["promote", "checkout-42"], "run headgate status checkout-42"),
]


@pytest.mark.parametrize(("words", "fix"), SENDING)
def test_a_lost_answer_names_what_may_have_been_sent(world: World, words: list[str], fix: str) -> None:
    world.lost, world.after = NO_NETWORK, [same(None)]
    world.before = [view_of(pause=PAUSE, phase="paused", status="paused")]
    result = run(*words)
    ((_, detail),) = world.events
    assert result.exit_code == 2
    assert "may have been sent" in result.stderr
    assert fix.format(id=detail["id"]) in result.stderr
    assert "try again" not in result.stderr


def test_after_a_lost_answer_the_record_tells_what_was_sent(world: World) -> None:
    world.lost, world.before, world.after = NO_NETWORK, [None], [same(None), requested()]
    result = run("start", *ASKED)
    assert (result.exit_code, result.stdout.startswith("checkout-")) == (0, True), result.output


@pytest.mark.parametrize("words", [words for words, _ in SENDING])
def test_an_interrupted_send_names_what_may_have_been_sent(world: World, words: list[str]) -> None:
    world.lost = KeyboardInterrupt()
    world.before = [view_of(pause=PAUSE, phase="paused", status="paused")]
    result = run(*words)
    ((_, detail),) = world.events
    shown = detail.get("rolloutId", detail["id"]) if "signal" in detail else detail["id"]
    assert (result.exit_code, f"headgate status {shown}" in result.stderr) == (130, True)


def test_an_answer_that_refuses_the_call_is_no_doubt(world: World) -> None:
    world.lost, world.before = refusal("AccessDeniedException"), [None]
    assert isinstance(run("start", *ASKED).exception, ClientError)


# Undo


def undone(**fields: Any) -> Callable[[dict[str, Any]], RolloutView]:
    """The undo that was sent, as a rollout of its own."""
    return lambda detail: view_of(
        detail["id"], undo_of="checkout-42", request=read_undo(detail, "x").to_wire(), **fields
    )


def test_an_undo_with_the_id_of_another_rollout_is_refused(world: World) -> None:
    world.before = [view_of("a-1", **PROMOTED, request={"target": LIVE})]
    result = run("undo", "checkout:live", "--id", "a-1")
    assert (result.exit_code, world.events) == (4, [])
    assert "a-1 is the id of another rollout" in result.stderr


def test_an_undo_whose_id_another_takes_meanwhile_is_no_success(world: World) -> None:
    world.after = [same(view_of("a-1", **PROMOTED, request={"target": LIVE}))]
    result = run("undo", "checkout:live", "--id", "a-1")
    assert (result.exit_code, len(world.events)) == (4, 1)


def test_the_same_undo_again_follows_the_one_that_is_there(world: World) -> None:
    world.before = [undone(**{**PROMOTED, "serving": "7"})({"id": "a-1", "target": LIVE})]
    result = run("undo", "checkout:live", "--id", "a-1")
    assert (result.exit_code, world.events) == (0, []), result.output
    assert "is done: version 7 serves again" in result.stdout


@pytest.mark.parametrize(
    ("given", "last", "promoted", "why"),
    [
        ("checkout:live", None, {}, "nothing was promoted"),
        ("checkout:live", "undo-1", {"undo_of": "checkout-42"}, "already an undo"),
        ("checkout-42", "undo-1", {"undo_of": "checkout-42"}, "already undone by undo-1"),
        ("checkout-42", "checkout-43", {}, "was not promoted last; checkout-43 was"),
    ],
)
def test_an_undo_that_is_sure_to_be_refused_is_not_sent(
    world: World, given: str, last: str | None, promoted: dict[str, Any], why: str
) -> None:
    world.last = last
    world.promotions = {last: view_of(last, status="succeeded", phase=None, **promoted)} if last else {}
    world.before = [view_of(**PROMOTED, request={"target": LIVE})]
    result = run("undo", given)
    assert (result.exit_code, world.events, why in result.stderr) == (1, [], True), result.output
    shown = run("undo", given, "--format", "json")
    assert ActionView.model_validate_json(shown.stdout).effect == "none"


@pytest.mark.parametrize(
    ("given", "named"),
    [("checkout:live", {"target": LIVE}), ("checkout-42", {"target": LIVE, "rolloutId": "checkout-42"})],
)
def test_undo_names_a_target_or_the_rollout(world: World, given: str, named: dict[str, Any]) -> None:
    world.before = [view_of(**PROMOTED, request={"target": LIVE})]
    world.after = [undone(**{**PROMOTED, "serving": "7"})]
    result = run("undo", given)
    assert (result.exit_code, "is done: version 7 serves again" in result.stdout) == (0, True), result.output
    ((detail_type, detail),) = world.events
    assert detail_type == "Undo Requested"
    assert {name: value for name, value in detail.items() if name != "id"} == named
    assert detail["id"].startswith("undo-checkout-")


def test_an_undo_has_a_reason(world: World) -> None:
    world.before = [view_of(**PROMOTED, request={"target": LIVE})]
    world.after = [undone(**{**PROMOTED, "serving": "7"})]
    assert run("undo", "checkout:live", "--reason", "too slow").exit_code == 0
    ((_, detail),) = world.events
    assert detail["reason"] == "too slow"


def test_an_undo_that_is_refused_has_no_effect(world: World) -> None:
    world.after = [lambda detail: view_of(detail["id"], status="refused", phase=None, reason="rolloutId: is missing")]
    result = run("undo", "checkout:live", "--format", "json")
    view = ActionView.model_validate_json(result.stdout)
    assert (result.exit_code, view.effect, view.said) == (1, "none", "was refused: rolloutId: is missing")


def test_an_undo_that_waits_says_for_whom(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_cli.commands.undo.SOON_SECONDS", 0.05)
    line = LineView(place=1, behind="first")
    world.after = [lambda detail: view_of(detail["id"], status="waiting", phase=None, line=line)]
    result = run("undo", "checkout:live")
    assert (result.exit_code, "waits in line at place 1, behind first" in result.stdout) == (0, True), result.output


# Plan


def planned(**fields: Any) -> dict[str, Any]:
    from headgate.spec.plan import make_plan

    request = read_request(
        {
            "id": "a-1",
            "target": LIVE,
            "candidate": {"version": "8"},
            "strategy": "Linear30PercentEvery90Minutes",
            "guards": {
                "errors": {},
                "latency": {"thresholdMs": 250, "tolerate": 0.5},
                "alarms": ["checkout|errors"],
                "custom": [],
            },
            "hooks": {
                "afterStep": [{"lambda": "check", "timeoutSeconds": 60}, {"ecsTask": {"taskDefinition": "t"}}],
                "afterTraffic": [{"codeDeployHook": "CodeDeployHook_check"}],
            },
            "onFailure": {"pause": {"at": "zero", "limitSeconds": 3600, "then": "promote"}},
        },
        "unused",
    )
    plan = make_plan(
        request, driver="driver", firing=[], warnings=["alias: *stack* owns it; fix it"], notes=["way: *one*"]
    )
    return {"request": request.to_wire(), "plan": plan.to_wire(), "stable": "7", "candidate": "8", **fields}


def test_plan_shows_what_the_planner_answers(world: World) -> None:
    world.planned = planned()
    result = run("plan", "checkout:live", "--version", "8", "--id", "a-1")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        "rollout a-1",
        "target checkout:live, serves version 7",
        "candidate version 8",
        "waits no; the target is free",
        "on failure paused without traffic for at most 1 h, then promoted",
        "+0 s 30 % bakes 1 h 30 min",
        "+3 h 90 % bakes 1 h 30 min",
        "+4 h 30 min 100 % promoted",
        "after each step check lambda 1 min",
        "after each step t ecsTask 5 min",
        "after promotion CodeDeployHook_check codeDeployHook 5 min",
        "Note: way: *one*",
        "Warning: alias: *stack* owns it; fix it",
    ):
        assert line in lines, result.stdout
    assert any(
        line.startswith("requests over 250 ms telemetry") and "evidence over its limit of 200" in line for line in lines
    )
    ((payload),) = world.invoked
    assert payload["dryRun"] is True
    assert world.events == []


def test_plan_as_json_and_as_markdown(world: World) -> None:
    world.planned = planned(behind="first", place=2)
    view = json.loads(run("plan", "checkout:live", "--version", "8", "--format", "json").stdout)
    assert view["target"] == "lambda-alias/checkout/live"
    assert (view["allowed"], view["behind"], view["place"], view["bakeSeconds"]) == (True, "first", 2, 16200)
    # A rollout would get another id.
    assert view["id"] == ""
    text = run("plan", "checkout:live", "--version", "8", "--format", "markdown").stdout
    assert "| +3 h | 90 % | bakes 1 h 30 min |" in text
    assert "plan for checkout:live" in text
    assert "revision" not in text
    # What others wrote is shown as it is.
    assert r"alarm checkout\|errors" in text
    assert "- **Note**: way: \\*one\\*\n- **Warning**: alias: \\*stack\\* owns it; fix it\n" in text


def catches(world: World) -> str:
    """What the plan says that it catches."""
    lines = [" ".join(line.split()) for line in run("plan", "checkout:live", "--version", "8").stdout.splitlines()]
    return next(line for line in lines if line.startswith("catches"))


def test_a_plan_tells_about_the_least_fault_from_the_past_week(world: World) -> None:
    world.planned, world.past = planned(), PastMetrics([600] * 1000, [1] * 1000)
    view = json.loads(run("plan", "checkout:live", "--version", "8", "--format", "json").stdout)
    assert view["catches"]["requestsPerSecond"] == pytest.approx(10, rel=0.01)
    assert view["catches"]["usualRate"] == pytest.approx(1 / 600)
    assert 1 / 600 < view["catches"]["rate"] < 0.01
    assert re.fullmatch(
        r"catches about 0\.\d+ % errors \(usually 0\.17 %\) in 9 of 10 rollouts, after about \d+ failed requests, at "
        r"(10|9\.9\d) requests per second",
        catches(world),
    )


def test_a_plan_says_if_the_least_fault_is_not_known(world: World) -> None:
    world.planned = planned()
    assert catches(world).startswith("catches unknown: the metrics of the target could not be read (An error occurred")
    world.past = PastMetrics([0], [0])
    assert catches(world) == "catches unknown: the target had no requests in the past 7 days"
    world.past = PastMetrics([1], [0])
    world.planned["plan"]["steps"] = [{"weight": 1, "bakeSeconds": 60}]
    assert catches(world).startswith("catches no error rate surely, at ")


def test_a_plan_says_what_a_guard_does(world: World) -> None:
    world.planned = planned()
    guards = world.planned["plan"]["guards"]
    guards["errors"]["action"], guards["latency"]["action"] = "pause", "report"
    shown = run("plan", "checkout:live", "--version", "8").stdout
    assert "only paused: evidence over its limit of 100 that" in shown
    assert "nothing, only shown: evidence over its limit of 100 that" in shown


def test_stop_watch_of_a_target_says_where_its_rollouts_are(world: World) -> None:
    result = run("stop-watch", "checkout:live")
    assert result.exit_code == 2
    assert "checkout:live is a target" in result.stderr
    assert "headgate history checkout:live" in result.stderr
    assert world.events == []


def test_a_plan_of_guards_that_act_together_has_the_limit_of_their_average(world: World) -> None:
    world.planned = planned()
    shown = " ".join(run("plan", "checkout:live", "--version", "8").stdout.split())
    assert "evidence over its limit of 200, or on average with the others over 100, that the candidate" in shown


def test_a_plan_says_how_long_bakes_are_held_and_what_is_watched_afterwards(world: World) -> None:
    world.planned = planned()
    request = world.planned["request"]
    request["guards"] = {**request["guards"], "leastRequests": {"count": 1000, "limitSeconds": 7200}}
    request["guards"]["onShareMismatch"] = "pause"
    request["afterPromotion"] = {"hours": 24.0, "then": "undo"}
    lines = [" ".join(line.split()) for line in run("plan", "checkout:live", "--version", "8").stdout.splitlines()]
    assert "holds each bake until the candidate has had 1,000 requests, at most 2 h longer" in lines
    assert "share paused if the candidate's share of the requests cannot be by chance what the weight says" in lines
    assert "afterwards watched for 1 d: a fault asks for the undo" in lines


def test_a_plan_catches_no_errors_that_are_only_reported(world: World) -> None:
    world.planned, world.past = planned(), PastMetrics([600] * 1000, [1] * 1000)
    world.planned["plan"]["guards"]["errors"]["action"] = "report"
    assert "catches" not in run("plan", "checkout:live", "--version", "8").stdout


def test_a_plan_has_the_cost_of_the_rollout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cost:
        def to_wire(self) -> dict[str, Any]:
            bound = {"what": "Telemetry: writes, at most", "dollars": 0.002}
            return {"total": 0.01234, "lines": [{"what": "DynamoDB: writes", "dollars": 0.01034}, bound]}

    costs = SimpleNamespace(
        load_prices=lambda region: f"prices of {region}",
        of_plan=lambda plan, prices: Cost() if plan["steps"] and prices == "prices of eu-central-1" else None,
    )
    monkeypatch.setitem(sys.modules, "headgate_cli.costs", costs)
    world.planned = planned()
    lines = [" ".join(line.split()) for line in run("plan", "checkout:live", "--version", "8").stdout.splitlines()]
    assert "cost $0.0103 for Headgate's own work, and at most $0.0020 for telemetry, if it is promoted" in lines


@pytest.mark.parametrize(("weight", "bake", "compares"), [(100, 0, False), (100, 60, False), (50, 60, True)])
def test_a_plan_shows_what_is_compared_only_if_a_step_bakes_with_both_versions(
    world: World, weight: int, bake: int, *, compares: bool
) -> None:
    world.planned = planned()
    world.planned["plan"]["steps"] = [{"weight": weight, "bakeSeconds": bake}]
    result = run("plan", "checkout:live", "--version", "8", "--errors")

    assert result.exit_code == 0, result.output
    # The planner says why.
    assert "compare nothing" not in result.stdout
    assert ("evidence over its limit" in result.stdout) is compares


def test_a_refused_plan_ends_with_1(world: World) -> None:
    world.planned = {"refused": "candidate.version: checkout has no version 8"}
    result = run("plan", "checkout:live", "--version", "8")
    assert (result.exit_code, result.stdout) == (
        1,
        "Refused: --version (candidate.version): checkout has no version 8\n",
    )
    # What headgate start calls wrong usage is no refusal by Headgate either.
    assert run("plan", "checkout:live", "--version", "x").exit_code == 2
    assert run("plan", "checkout:live", "--strategy", "Nope").exit_code == 2
    assert len(world.invoked) == 1
    dry = run("start", "checkout:live", "--version", "8", "--dry-run", "--wait", "--format", "json")
    assert (dry.exit_code, json.loads(dry.stdout)["allowed"], world.events) == (1, False, [])


def test_a_plan_of_a_known_request_says_how_it_stands(world: World) -> None:
    world.planned = {**planned(known="waiting"), "plan": {}}
    result = run("plan", "checkout:live", "--version", "8", "--id", "a-1")
    assert (result.exit_code, "the same request again starts nothing" in result.stdout) == (0, True), result.output


def test_a_planner_that_fails_is_named(world: World) -> None:
    world.failure, world.planned = "yes", {"errorType": "TypeError", "errorMessage": "odd"}
    result = run("plan", "checkout:live", "--version", "8")
    assert (result.exit_code, "the function headgate-planner failed: TypeError: odd" in result.stderr) == (2, True)
