"""One run: asks each chosen probe, deletes what it created, and goes on after a failure."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.probes.lab import LONGEST_WAIT, Lab
from tools.probes.model import Answer, UnclearError, answer
from tools.probes.resources import code_of, exists, tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tools.probes.account import Account
    from tools.probes.model import Probe
    from tools.probes.resources import Resource

GOING_SECONDS = 180
"""How long a deletion that AWS accepted may take until the resource counts as left."""


@dataclass(frozen=True)
class Result:
    """What one probe found."""

    probe: Probe
    answer: Answer
    seconds: float

    @property
    def as_assumed(self) -> bool:
        """Whether AWS answers what Headgate assumes."""
        return self.answer.verdict == self.probe.assumed


@dataclass
class Outcome:
    """What a run found, and what it could not delete."""

    results: list[Result] = field(default_factory=list)
    left: dict[Resource, str] = field(default_factory=dict)
    """What stays in the account, with the reason."""
    unchecked: str = ""
    """Why the search for leftovers by tag failed; empty if it did not."""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 if all answers are as assumed, 1 if one differs, 2 if one is unclear or something is left."""
        verdicts = [result.answer.verdict for result in self.results]
        if any(not result.as_assumed and result.answer.verdict != "unclear" for result in self.results):
            return 1
        return 2 if self.interrupted or self.left or "unclear" in verdicts else 0


class Run:
    """A run of probes in one account.

    Parameters
    ----------
    say
        Where progress goes, one line at a time.
    longest_wait
        No wait is longer, in seconds.
    options
        What only the caller knows, such as a subnet.
    """

    def __init__(
        self,
        account: Account,
        *,
        say: Callable[[str], None] = print,
        longest_wait: float = LONGEST_WAIT,
        options: dict[str, str] | None = None,
    ) -> None:
        self._account = account
        self._say = say
        self._longest_wait = longest_wait
        self._options = options or {}

    def ask(self, probes: Iterable[Probe]) -> Outcome:
        """Ask every probe. An interruption ends the run after its resources are deleted."""
        outcome, chosen = Outcome(), list(probes)
        for number, probe in enumerate(chosen, start=1):
            self._say(f"[{number}/{len(chosen)}] {probe.id}: {probe.question}")
            try:
                result = self._ask_one(probe, outcome)
            except KeyboardInterrupt:
                self._say("Interrupted.")
                outcome.interrupted = True
                break
            outcome.results.append(result)
            self._say(f"    {_told(result)}")
        self._look_for_leftovers(outcome)
        return outcome

    def clean(self) -> Outcome:
        """Delete what a run left that was killed: what its journal says, and what carries its tag."""
        outcome = Outcome()
        known = self._account.journal.left()
        outcome.left |= self._account.delete_all(known)
        try:
            found = [each for each in tagged(self._account.client, self._account.run) if each not in known]
        except (ClientError, BotoCoreError) as error:
            outcome.unchecked = str(error)
            found = []
        outcome.left |= self._account.delete_all(found)
        for resource in [*known, *found]:
            self._say(f"    {'stays' if resource in outcome.left else 'deleted'}: {resource}")
        self._look_for_leftovers(outcome)
        return outcome

    def _ask_one(self, probe: Probe, outcome: Outcome) -> Result:
        lab = Lab(self._account, probe.id, longest_wait=self._longest_wait, options=self._options)
        begun = self._account.clock.monotonic()
        try:
            answer = _asked(probe, lab)
        finally:
            outcome.left |= self._account.delete_all(lab.created)
        return Result(probe, answer, self._account.clock.monotonic() - begun)

    def _look_for_leftovers(self, outcome: Outcome) -> None:
        """Look in the account itself, whatever the journal says, and delete what is found."""
        client, clock = self._account.client, self._account.clock
        deadline = clock.monotonic() + min(GOING_SECONDS, self._longest_wait)
        found: list[Resource] = []
        try:
            # Deletions of stacks and clusters go on after AWS has accepted them.
            while found := [each for each in tagged(client, self._account.run) if exists(each, client)]:
                outcome.left |= self._account.delete_all([each for each in found if each not in outcome.left])
                if clock.monotonic() > deadline:
                    break
                clock.sleep(5)
        except (ClientError, BotoCoreError) as error:
            outcome.unchecked = str(error)
        still = [*found, *self._account.journal.left()]
        outcome.left |= {each: "it is not deleted yet" for each in still if each not in outcome.left}


def _asked(probe: Probe, lab: Lab) -> Answer:
    """Return the probe's answer. One that fails is unclear unless the refusal is the answer, and the others go on."""
    try:
        return probe.ask(lab)
    except UnclearError as error:
        return Answer("unclear", {"why": str(error), **error.raw})
    except Exception as error:  # noqa: BLE001 - whatever a probe does, the run goes on and cleans up
        found: dict[str, Any] = {"why": f"{type(error).__name__}: {error}"}
        if isinstance(error, ClientError):
            if f"{error.operation_name}:{code_of(error)}" in probe.no_if_refused:
                return answer(yes=False, refusal=str(error))
            found["response"] = {key: error.response[key] for key in ("Error",) if key in error.response}
        return Answer("unclear", found)


def _told(result: Result) -> str:
    verdict = result.answer.verdict
    if verdict == "unclear":
        return f"unclear: {result.answer.raw.get('why', 'see the report')}"
    how = "as assumed" if result.as_assumed else f"Headgate assumes {result.probe.assumed}"
    return f"{verdict} ({how}), after {result.seconds:.0f} s"


def to_stdout(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
