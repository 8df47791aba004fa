"""Every order in which some actors can make their calls, each of which may also stop for ever between any two of them.

An actor is a plain function that calls clients. Nothing runs at the same time: an actor that has got some answers is
played from its beginning with those, up to the call that it makes next. As it is given nothing but answers, that call
depends on them alone, so it is worked out once and remembered. What there is to explore is a graph, then: its states
are what the world holds and how far each actor has come, its edges are single calls. Each state is visited once,
however many schedules lead to it, by a shortest of them first. So all interleavings are covered, the schedule that is
told of a failure is a shortest one, and the same actors are always explored in the same order.

That an actor dies before or after one of its calls is a schedule in which it is not heard of again. So every state is
an end as well, in which whoever has not finished is dead: ``at_the_end`` is asked about each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Call(NamedTuple):
    """A call that an actor makes: one atomic step of the world."""

    service: str
    operation: str
    parameters: str
    """As JSON text."""


class World(NamedTuple):
    """What the actors share."""

    table: frozenset[tuple[tuple[str, str], str]]
    """Items of DynamoDB by key, as JSON text."""
    outside: frozenset[tuple[str, str]]
    """Everything else, as JSON text by name."""


class Actor:
    """Somebody who makes calls.

    Parameters
    ----------
    name
        How a schedule calls it.
    play
        What it does; the answer is how it ended. It must depend on the answers of its calls alone.
    carries
        What dies when it does: for the rules to know.
    tries
        How often it is played: one that dies may be tried again, from its beginning.
    """

    def __init__(self, name: str, play: Callable[[], str], carries: str = "", tries: int = 1) -> None:
        self.name, self.play, self.carries = name, play, carries
        self.again = Actor(f"{name}, again", play, carries, tries - 1) if tries > 1 else None
        self._ends: dict[str, Position] = {}
        self.beginning = Position(self, ())

    def end(self, how: str) -> Position:
        """The position of an actor that has finished; what led there does not matter any more."""
        if how not in self._ends:
            self._ends[how] = Position(self, (), how)
        return self._ends[how]


class Position:
    """How far an actor has come: the answers that it has got. ``ended`` is how it has finished, if it has."""

    def __init__(self, actor: Actor, answers: tuple[str, ...], ended: str | None = None) -> None:
        self.actor, self.ended = actor, ended
        self._answers = answers
        self._call: Call | None = None
        self._after: dict[str, Position] = {}

    @property
    def call(self) -> Call:
        """The call that it makes next."""
        if self._call is None:
            reached = play(self.actor, self._answers)
            assert isinstance(reached, Call), f"{self.actor.name} makes no call"
            self._call = reached
        return self._call

    def after(self, answer: str) -> Position:
        """Where an answer takes it."""
        if answer not in self._after:
            reached = play(self.actor, (*self._answers, answer))
            if isinstance(reached, Call):
                position = Position(self.actor, (*self._answers, answer))
                position._call = reached
            else:
                position = self.actor.end(reached)
            self._after[answer] = position
        return self._after[answer]


class _Unanswered(BaseException):
    """A call that an actor has got no answer to yet. Nothing of the actor's own swallows it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class _Stage:
    """Who is played now, and the answers that are left to give."""

    actor: Actor | None = None
    answers: Iterator[str] = iter(())


_stage = _Stage()


def play(actor: Actor, answers: Sequence[str]) -> Call | str:
    """Play an actor from the beginning: the call that it makes after these answers, or how it ends."""
    _stage.actor, _stage.answers = actor, iter(answers)
    try:
        return actor.play()
    except _Unanswered as unanswered:
        return unanswered.call
    finally:
        _stage.actor = None


def ask(service: str, operation: str, parameters: Callable[[], str]) -> str:
    """Make a call, as whoever is played now; the answer to it. Its parameters matter only where it is new."""
    for answer in _stage.answers:
        return answer
    raise _Unanswered(Call(service, operation, parameters()))


def on_stage() -> Actor | None:
    """Who is played now."""
    return _stage.actor


class Step(NamedTuple):
    """One step of a schedule."""

    actor: str
    call: Call
    answer: str
    died: bool = False
    """Whether it died before it got the answer."""


class Broken(AssertionError):  # noqa: N818
    """An invariant that did not hold, with the schedule that led there."""

    def __init__(self, what: str, schedule: Sequence[Step], told: Callable[[Step], str]) -> None:
        self.what, self.schedule = what, schedule
        lines = [f"  {number:2} {told(step)}" for number, step in enumerate(schedule, start=1)]
        super().__init__("\n".join([what, *lines]))


class Rules(ABC):
    """How a world goes on, and what must hold in it."""

    @abstractmethod
    def carry_out(self, world: World, call: Call) -> tuple[World, str] | None:
        """The world after a call, and the answer; None while the call has to wait for others."""

    @abstractmethod
    def check(self, before: World, after: World) -> str:
        """What is wrong after a step; empty if nothing is."""

    @abstractmethod
    def at_the_end(self, world: World, dead: frozenset[str]) -> tuple[str, list[Step]]:
        """What is wrong when nobody goes on, and the steps that come after that; empty if nothing is.

        Parameters
        ----------
        dead
            What those carry who have not finished.
        """

    def told(self, step: Step) -> str:
        """A step as a line of text."""
        return f"{step.actor}: {step.call.operation} -> {step.answer}"


class Explored(NamedTuple):
    """What an exploration has come to."""

    states: int
    ends: frozenset[tuple[str, ...]]
    """How the actors ended, each in its place, in all schedules in which nobody died."""


State = tuple[World, tuple[Position, ...]]


def explore(world: World, actors: Sequence[Actor], rules: Rules, most: int = 1_000_000) -> Explored:
    """Play these actors in every order.

    Raises
    ------
    Broken
        If something does not hold.
    """
    return _Exploration(rules, most).run(world, actors)


class _Exploration:
    def __init__(self, rules: Rules, most: int) -> None:
        self._rules, self._most = rules, most
        self._came_from: dict[State, tuple[State, Step] | None] = {}
        self._waiting: deque[State] = deque()
        self._remembered: dict[tuple[World, Call], tuple[World, str, str] | None] = {}

    def run(self, world: World, actors: Sequence[Actor]) -> Explored:
        ends: set[tuple[str, ...]] = set()
        self._reach((world, tuple(actor.beginning for actor in actors)), None)
        while self._waiting:
            state = self._waiting.popleft()
            if not self._go_on_from(state):
                ends.add(tuple(position.ended or "waits" for position in state[1]))
            dead = frozenset(position.actor.carries for position in state[1] if position.ended is None)
            wrong, steps = self._rules.at_the_end(state[0], dead - {""})
            if wrong:
                raise Broken(wrong, [*self._schedule(state), *steps], self._rules.told)
        return Explored(len(self._came_from), frozenset(ends))

    def _reach(self, state: State, by: tuple[State, Step] | None) -> None:
        if state not in self._came_from:
            self._came_from[state] = by
            self._waiting.append(state)
            assert len(self._came_from) <= self._most, "too many states"

    def _go_on_from(self, state: State) -> bool:
        """Take every step that is possible; False if there is none."""
        world, positions = state
        possible = False
        for number, position in enumerate(positions):
            if position.ended is not None:
                continue
            if (result := self._carry_out(world, position.call)) is None:
                continue
            possible = True
            after, answer, wrong = result
            step = Step(position.actor.name, position.call, answer)
            try:
                reached = position.after(answer)
            except Exception as failure:
                failed = f"{position.actor.name} fails: {type(failure).__name__}: {failure}"
                raise Broken(failed, [*self._schedule(state), step], self._rules.told) from failure
            if wrong:
                raise Broken(wrong, [*self._schedule(state), step], self._rules.told)
            self._reach((after, (*positions[:number], reached, *positions[number + 1 :])), (state, step))
            if again := position.actor.again:
                died = (*positions[:number], again.beginning, *positions[number + 1 :])
                self._reach((after, died), (state, step._replace(died=True)))
        return possible

    def _carry_out(self, world: World, call: Call) -> tuple[World, str, str] | None:
        """The world after a call, the answer, and what is wrong then."""
        key = (world, call)
        if key not in self._remembered:
            result = self._rules.carry_out(world, call)
            self._remembered[key] = result and (*result, self._rules.check(world, result[0]))
        return self._remembered[key]

    def _schedule(self, state: State) -> list[Step]:
        """The steps that led to a state."""
        steps: list[Step] = []
        while came := self._came_from[state]:
            state, step = came
            steps.append(step)
        return steps[::-1]
