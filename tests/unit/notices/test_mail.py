"""What an e-mail says, and what the topic takes."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.notices.mail import MAX_MESSAGE_BYTES, WIDTH, prose, publication, subject
from headgate.notices.notice import LABELS, MAX_REASONS
from headgate.notices.texts import MAX_TEXT
from tests.unit.notices.cases import LINK, NASTY, SENT, notice, rolled_back, signal, told


def test_an_email_says_outcome_and_target_first_then_the_reason_the_numbers_and_how_to_see_more() -> None:
    sent = notice("rollout_rolled_back", rolled_back(signals=[signal(signal="pause", reason="let us look")]))
    assert subject(sent) == "Rolled back: checkout:live (checkout-42)"
    assert (
        prose(sent)
        == f"""\
checkout:live, rollout checkout-42: rolled back at 2026-11-21 09:00:25 UTC,
24 s after it began, from 10 % of the traffic: version 6 serves alone again.

4 of 118 requests of version 7 failed (3.4 %), against 1 of 1,046 of version
6 (0.096 %).

The evidence against version 7 reached 290, over its limit of 100: at most
one of 100 rollouts of versions that are no worse reaches it.

8 s passed from the first look that counted a failure of version 7, at
09:00:16 UTC, until version 6 served alone again.

kim sent pause at 09:00:20 UTC (let us look).

Look at the logs of version 7 from 09:00:03 UTC to 09:00:24 UTC. Then start
a rollout of the corrected version under a new id.

Candidate (version 7):  118 requests, 4 failed (3.4 %)
Stable (version 6):     1,046 requests, 1 failed (0.096 %)
Weight reached:         10 %
Time to rollback:       21 s after the first traffic, 8 s after the first failure that was seen

To see more:
  headgate explain checkout-42
  headgate report checkout-42
  {LINK}
"""
    )


def test_without_a_record_it_says_what_the_event_says() -> None:
    assert (
        prose(notice("rollout_rolled_back"))
        == """\
checkout:live, rollout checkout-42: rolled back: version 6 serves alone
again.

4 of 118 candidate requests failed against 1 of 1,046; odds against chance
290 to 1, over the limit of 100 to 1.

Candidate:  version 7
Stable:     version 6

To see more:
  headgate explain checkout-42
  headgate report checkout-42
"""
    )


def test_a_record_that_has_gone_on_does_not_say_what_the_event_said() -> None:
    sent = notice("rollout_paused", rolled_back())
    assert sent.headline == "checkout:live, rollout checkout-42: paused for at most 1 d, then rolls back."
    assert sent.reasons == ("Paused by kim: let us look at the logs first.",)


@pytest.mark.parametrize(
    ("name", "first", "line"),
    [
        ("rollout_succeeded", "Promoted: checkout:live (checkout-42)", "promoted: version 7 serves alone."),
        ("rollout_undone", "Undone: checkout:live (undo-checkout-42)", "undid checkout-42: version 6 serves"),
        ("rollout_stopped", "Stopped: checkout:live (checkout-42)", "Somebody has to act."),
        ("rollout_paused", "Paused: checkout:live (checkout-42)", "paused for at most 1 d, then rolls back."),
        ("rollout_refused", "Refused: rollout checkout-42", "refused, and no traffic moved."),
        ("signal_refused", "Refused: signal checkout-42", "The signal abrot of kim for checkout-42 was refused."),
        ("task_refused", "Refused: task/migrate:4 (migrate-42)", "The ECS task migrate-42 was refused."),
        ("redrive_refused", "Refused: redrive/orders-dead (orders-again)", "The redrive orders-again was refused."),
        ("redrive_ended", "Refused: redrive/orders-dead (orders-dead-1)", "The redrive orders-dead-1 was refused."),
        ("task_ended", "Refused: task/migrate:3 (migrate-42)", "The ECS task migrate-42 was refused."),
        ("watch_ended", "Fault after promotion: checkout:live (checkout-42)", "The undo by-watch-checkout-42 is"),
        ("warden", "Failed: execution/headgate-rollout (r-94d9658b73ff", "failed with States.Runtime"),
    ],
)
def test_each_event_has_words_of_its_own(name: str, first: str, line: str) -> None:
    sent = notice(name)
    assert subject(sent).startswith(first)
    assert line in " ".join(prose(sent).split())


def test_a_paused_rollout_can_be_continued_by_a_command_in_the_email() -> None:
    pause = {
        "reason": "paused by kim",
        "step": 0,
        "started_at": "2026-11-21T09:02:01.318Z",
        "until": "2026-11-22T09:02:01.318Z",
        "then": "rollback",
    }
    view = rolled_back(status="paused", weight=10, ended_at=None, pause=pause, pauses=[pause])
    text = prose(notice("rollout_paused", view, stack="team-headgate"))
    assert text.startswith("checkout:live, rollout checkout-42: paused by kim at 10 %; rolls back at\n2026-11-22 09:02")
    for command in ("resume", "promote", "abort", "explain", "report"):
        assert f"  headgate {command} checkout-42 --stack team-headgate\n" in text


def test_a_failed_execution_of_a_rollout_says_which_rollout_and_where_to_look() -> None:
    sent = notice("warden", rolled_back(status="running"))
    assert sent.target == "lambda-alias/checkout/live"
    assert sent.title == "Failed: checkout:live"
    assert "of the rollout checkout-42" in sent.headline
    assert "The warden rolls its target back." in sent.headline
    assert sent.link.endswith(sent_execution())
    assert notice("warden", status="TIMED_OUT", error=None, cause=None).headline.startswith(
        "The execution of Headgate's machine headgate-rollout timed out"
    )


def test_a_failed_execution_of_a_custom_resource_says_what_it_means_for_the_stack() -> None:
    machine = str(told("warden")["detail"]["stateMachineArn"]).replace("-rollout", "-stack")
    sent = notice(
        "warden", stateMachineArn=machine, error="Unanswered", cause="Transient: the answer could not be sent"
    )
    assert sent.headline == (
        "The execution of Headgate's machine headgate-stack failed with Unanswered, which no state expected. "
        "CloudFormation is told that the custom resource failed, or waits until it times out."
    )


def sent_execution() -> str:
    return str(told("warden")["detail"]["executionArn"])


def test_a_consumers_email_says_what_became_of_its_messages() -> None:
    text = prose(notice("rollout_rolled_back", rolled_back(redriven={"returned": 1200, "forwarded": 2})))
    assert "1,200 messages returned to the source queue and 2 went to your own" in " ".join(text.split())


def test_latency_is_counted_in_words_of_its_own() -> None:
    slow = {
        **rolled_back().comparisons[0].to_wire(),
        "measure": "latency",
        "label": "requests over 250 ms",
        "stable": {"requests": 0, "failures": 0},
    }
    text = prose(notice("rollout_rolled_back", rolled_back(comparisons=[slow])))
    assert "Candidate (version 7), requests over 250 ms:  118 requests, 4 slow (3.4 %)\n" in text
    assert "Stable (version 6), requests over 250 ms:     no requests\n" in text


def test_many_signals_and_warnings_leave_room_for_the_numbers() -> None:
    view = rolled_back(signals=[signal(id=f"s-{number}", reason="x " * 400) for number in range(60)])
    sent = notice("rollout_rolled_back", view)
    assert sum(map(len, sent.reasons)) <= MAX_REASONS
    assert "Weight reached:         10 %\n" in prose(sent)


# What is not trusted


PRINTABLE = set(string.printable) - set("\r\x0b\x0c\t")


@pytest.mark.parametrize("name", SENT)
def test_what_somebody_writes_changes_neither_lines_nor_directions_of_an_email(name: str) -> None:
    sent = notice(name, reason=NASTY, by=NASTY, cause=NASTY)
    assert subject(sent).isprintable()
    assert set(prose(sent)) <= PRINTABLE


@pytest.mark.parametrize("name", SENT)
def test_without_a_reason_nothing_stands_in_its_place(name: str) -> None:
    sent = notice(name, reason="", cause="")
    assert sent.reasons == ()
    assert "\n\n\n" not in prose(sent)
    assert not prose(sent).startswith("\n")


def test_a_record_without_a_reason_does_not_name_one() -> None:
    view = rolled_back(reason="", comparisons=[], evidence=[])
    assert "reason" not in prose(notice("rollout_rolled_back", view, reason=""))


@pytest.mark.parametrize("name", SENT)
def test_a_long_reason_is_cut(name: str) -> None:
    sent = notice(name, reason="word " * 20_000, cause="word " * 20_000)
    assert sum(len(reason) for reason in sent.reasons) <= MAX_TEXT + 1
    assert len(prose(sent)) < 3_000
    # Links and commands, which are copied, are not wrapped.
    wrapped = [line for line in prose(notice(name, reason="word " * 200)).splitlines() if not line.startswith("  ")]
    assert max(map(len, wrapped)) <= WIDTH


TEXTS = st.text(st.characters(), max_size=300)


@given(target=TEXTS, reference=TEXTS, outcome=st.sampled_from(sorted(LABELS)))
def test_a_subject_is_one_that_sns_takes_and_begins_with_the_outcome(target: str, reference: str, outcome: Any) -> None:
    sent = notice("rollout_succeeded")._replace(target=target, reference=reference, outcome=outcome)
    text = subject(sent)
    assert 0 < len(text) < 100
    assert text.isascii()
    assert text.isprintable()
    assert text.startswith(f"{LABELS[outcome]}: ")


def test_a_subject_of_a_long_target_keeps_both_ends_of_its_name_and_the_id() -> None:
    target = f"lambda-alias/{'payments-' * 12}settlement/live"
    text = subject(notice("rollout_rolled_back", target=target))
    assert text.startswith("Rolled back: payments-payments-")
    assert text.endswith("-payments-settlement:live (checkout-42)")
    assert "..." in text
    assert len(text) == 99


def test_letters_of_other_languages_have_a_form_in_a_subject() -> None:
    assert subject(notice("task_refused", taskDefinition="bücher-日本")) == "Refused: task/bucher-?? (migrate-42)"


# What the topic gets


@pytest.mark.parametrize("name", SENT)
def test_programs_get_the_event_as_it_is(name: str) -> None:
    given_event = told(name, reason=NASTY)
    parameters = publication(given_event, notice(name, reason=NASTY))
    forms = json.loads(parameters["Message"])
    assert parameters["MessageStructure"] == "json"
    assert json.loads(forms["default"]) == given_event
    assert set(forms) == {"default", "email"}
    parameters["Message"].encode()


def test_letters_stay_as_they_are() -> None:
    given_event = told("rollout_refused", reason="größer als 100 %")
    forms = json.loads(publication(given_event, notice("rollout_refused"))["Message"])
    assert "größer als 100 %" in forms["default"]
    assert '"version":"0"' in forms["default"]


@pytest.mark.parametrize(("characters", "with_email"), [(200_000, True), (262_000, False)])
def test_an_event_that_leaves_no_room_for_an_email_is_published_alone(characters: int, *, with_email: bool) -> None:
    given_event = told("rollout_refused", padding="")
    given_event["detail"]["padding"] = "x" * (characters - len(json.dumps(given_event)))
    parameters = publication(given_event, notice("rollout_refused"))
    assert ("MessageStructure" in parameters) is with_email
    assert len(parameters["Message"].encode()) <= MAX_MESSAGE_BYTES
    whole = json.loads(parameters["Message"])
    assert (json.loads(whole["default"]) if with_email else whole) == given_event


def test_an_undo_says_which_version_serves_again_and_which_was_taken_back() -> None:
    view = rolled_back(
        status="succeeded", candidate="6", stable="7", serving="6", undo_of="checkout-42", comparisons=[]
    )
    figures = {figure.label: figure.value for figure in notice("rollout_undone", view).figures}
    assert (figures["Serves again"], figures["Taken back"]) == ("version 6", "version 7")
    assert not {"Candidate", "Stable"} & {*figures}
