"""The decisions of the embedded AWS's service scheduler, and the addresses of its tasks."""

import pytest

from emulator.gaps import addresses
from emulator.gaps.ecs.scheduling import Moves, Side, pause_seconds, rolling_moves, share_of
from emulator.gaps.ecs.task_addresses import AddressBook, NoAddressLeft


@pytest.mark.parametrize(
    ("percents", "new", "old", "moves"),
    [
        # By default the new tasks come beside the old ones, which go one by one as the new ones get healthy.
        ((100, 200), (0, 0), (2, 2), (2, 0)),
        ((100, 200), (2, 0), (2, 2), (0, 0)),
        ((100, 200), (2, 1), (2, 2), (0, 1)),
        ((100, 200), (2, 2), (2, 2), (0, 2)),
        ((100, 200), (2, 2), (1, 1), (0, 1)),
        # Without room above the desired count, an old one goes first, as far as enough stay healthy.
        ((50, 100), (0, 0), (2, 2), (0, 1)),
        ((50, 100), (0, 0), (1, 1), (1, 0)),
        ((50, 100), (1, 0), (1, 1), (0, 0)),
        ((50, 100), (1, 1), (1, 1), (0, 1)),
        # With neither room nor leave to stop one, nothing moves.
        ((100, 100), (0, 0), (2, 2), (0, 0)),
        # An old task that is not healthy serves nobody, and may make room.
        ((100, 100), (0, 0), (2, 1), (0, 1)),
        # After the desired count was lowered, the surplus of the old ones goes.
        ((100, 200), (0, 0), (5, 5), (0, 3)),
        # Room for a part of the new ones.
        ((100, 150), (0, 0), (2, 2), (1, 0)),
    ],
)
def test_a_rolling_deployment_of_two_tasks_stays_within_its_limits(
    percents: tuple[int, int], new: tuple[int, int], old: tuple[int, int], moves: tuple[int, int]
) -> None:
    assert rolling_moves(2, *percents, Side(*new), Side(*old)) == Moves(*moves)


def test_a_rolling_deployment_of_no_tasks_stops_the_old_ones() -> None:
    assert rolling_moves(0, 100, 200, Side(0, 0), Side(2, 2)) == Moves(0, 2)


LIMITS = [(100, 200), (50, 100), (0, 100), (75, 125), (100, 150)]
MOVABLE = [
    (desired, minimum, maximum)
    for desired in range(1, 7)
    for minimum, maximum in LIMITS
    # Others have neither room for one more task nor leave to stop one: AWS cannot move them either.
    if desired * (maximum - 100) >= 100 or desired * (100 - minimum) >= 100
]


@pytest.mark.parametrize(("desired", "minimum", "maximum"), MOVABLE)
def test_a_rolling_deployment_ends_with_the_new_tasks_alone(desired: int, minimum: int, maximum: int) -> None:
    new, old = 0, desired
    for _ in range(4 * desired):
        start, stop = rolling_moves(desired, minimum, maximum, Side(new, new), Side(old, old))
        assert new + start + old <= max(1, desired * maximum // 100)
        assert (new + old - stop) * 100 >= desired * minimum
        new, old = new + start, old - stop
    assert (new, old) == (desired, 0)


@pytest.mark.parametrize(
    ("desired", "percent", "tasks"),
    [(3, 10, 1), (3, 100, 3), (4, 25, 1), (4, 26, 2), (100, 29, 29), (5, 0, 0), (0, 50, 0)],
)
def test_a_task_sets_share_is_rounded_up(desired: int, percent: float, tasks: int) -> None:
    assert share_of(desired, percent) == tasks


def test_a_failing_task_is_tried_again_later_and_later() -> None:
    pauses = [pause_seconds(failures) for failures in range(1, 12)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15


def test_an_address_belongs_to_a_task_until_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "4566")
    book = AddressBook([100, 101])
    assert book.of("a") == book.of("a") == book.known("a") == addresses.address(100)
    assert (book.left(5), book.known("b")) == (1, None)
    assert book.of("b") == addresses.address(101)
    with pytest.raises(NoAddressLeft, match="all 2 addresses"):
        book.of("c")
    book.release("b")
    book.release("a")
    book.release("a")
    # The one that has been free for longest comes first.
    assert book.of("c") == addresses.address(101)
