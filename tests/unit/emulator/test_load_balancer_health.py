"""Health of targets on the embedded AWS: states, thresholds and checks."""

from __future__ import annotations

import asyncio

import pytest

from emulator.gaps.elb import health
from emulator.gaps.elb.health import Check, Finding, Health

CHECK = Check(interval=5, healthy_after=2, unhealthy_after=3)
GOOD, BAD = Finding(), Finding("Target.Timeout", "Request timed out")


def states(findings: list[tuple[float, Finding]], state: str = "initial") -> list[str]:
    """The states of a target, registered at 0, after each of these findings at their times."""
    target = Health(0.0, state=state)
    seen = []
    for now, finding in findings:
        target.begin_check(CHECK, now)
        target.take(finding, CHECK, now)
        seen.append(target.state)
    return seen


def test_a_new_target_is_healthy_after_one_good_check() -> None:
    assert states([(0, BAD), (1, GOOD)]) == ["initial", "healthy"]


def test_a_new_target_is_checked_each_second_and_unhealthy_no_sooner_for_that() -> None:
    target = Health(0.0)
    target.begin_check(CHECK, 0.0)
    assert target.due == health.INITIAL_SECONDS
    # Three bad checks take ten seconds at an interval of five.
    assert states([(second, BAD) for second in range(11)]) == ["initial"] * 10 + ["unhealthy"]


def test_a_healthy_target_becomes_unhealthy_and_healthy_again_by_the_thresholds() -> None:
    assert states([(0, BAD), (5, BAD), (10, GOOD), (15, BAD), (20, BAD), (25, BAD)], "healthy") == [
        *["healthy"] * 5,
        "unhealthy",
    ]
    assert states([(0, GOOD), (5, BAD), (10, GOOD), (15, GOOD)], "unhealthy") == [*["unhealthy"] * 3, "healthy"]


def test_an_unhealthy_target_tells_its_newest_reason() -> None:
    target = Health(0.0, state="unhealthy")
    target.take(BAD, CHECK, 1.0)
    assert (target.reason, target.description) == ("Target.Timeout", "Request timed out")
    target.take(Finding("Target.FailedHealthChecks", "Health checks failed"), CHECK, 2.0)
    assert target.reason == "Target.FailedHealthChecks"


def test_a_draining_target_stays_so_whatever_its_checks_find() -> None:
    target = Health(0.0, state="healthy")
    target.begin_check(CHECK, 0.0)
    target.drain(300.0)
    target.take(GOOD, CHECK, 1.0)
    assert (target.state, target.reason, target.gone) == ("draining", "Target.DeregistrationInProgress", 300.0)
    assert not target.checking


def test_healthy_targets_take_requests_and_all_do_if_none_is_healthy() -> None:
    assert health.taking({"a": "healthy", "b": "unhealthy", "c": "initial", "d": "draining"}) == ["a"]
    assert health.taking({"b": "unhealthy", "c": "initial", "d": "draining"}) == ["b", "c"]
    assert health.taking({"d": "draining"}) == []


@pytest.mark.parametrize(
    ("status", "codes", "well"),
    [(200, "200", True), (204, "200", False), (204, "200-299", True), (301, "200, 301", True), (300, "200-299", False)],
)
def test_a_status_matches_codes(status: int, codes: str, well: bool) -> None:
    assert health.matches(status, codes) is well


def test_a_check_is_read_from_a_target_group() -> None:
    group = {
        "HealthCheckPath": "/up",
        "HealthCheckPort": "9000",
        "HealthCheckIntervalSeconds": 5,
        "HealthCheckTimeoutSeconds": 2,
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 4,
        "Matcher": {"HttpCode": "200-299"},
    }
    assert Check.of(group) == Check("/up", "9000", "200-299", 5.0, 2.0, 2, 4)
    assert Check.of({}) == Check()


def found(answer: bytes | None, *, path: str = "/") -> Finding:
    """What a check finds of a target that answers so to a request for `/up`; None never answers."""

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if answer is None:
            await reader.read()
        else:
            writer.write(answer if line.startswith(b"GET /up ") else b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    async def work() -> Finding:
        server = await asyncio.start_server(answering, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await health.find(Check(path=path, port=str(port), timeout=0.2), "127.0.0.1", 1)
        finally:
            server.close()

    return asyncio.run(work())


def test_a_check_asks_the_target_at_its_path_and_port() -> None:
    assert found(b"HTTP/1.1 200 OK\r\n\r\n", path="/up") == Finding()
    wrong = found(b"HTTP/1.1 200 OK\r\n\r\n", path="/")
    assert wrong == ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [404]")


def test_a_check_tells_a_target_that_does_not_answer_from_one_that_answers_nonsense() -> None:
    assert found(None, path="/up").reason == "Target.Timeout"
    assert found(b"hello\r\n\r\n", path="/up").reason == "Target.FailedHealthChecks"
    assert found(b"", path="/up").reason == "Target.FailedHealthChecks"


def test_a_check_of_a_port_where_nothing_listens_fails() -> None:
    finding = asyncio.run(health.find(Check(), "127.0.0.1", 1))
    assert finding == ("Target.FailedHealthChecks", "Health checks failed")
