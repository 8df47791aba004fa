"""``headgate dashboard`` as a process: a session, a reading, a signal, and its end."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.local.deployed import eventually, steps
from tests.local.patience import patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded


class Session:
    """A browser without a window and without scripts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._session: dict[str, str] = {}
        entered = self._ask("/api/session", {}, {"X-Headgate-Token": parts.fragment.removeprefix("token=")})
        self._session = {"X-Headgate-Session": entered["session"]}

    def get(self, path: str) -> Any:
        return self._ask(path, None, {})

    def post(self, path: str, body: Any) -> Any:
        return self._ask(path, body, {})

    def _ask(self, path: str, body: Any, headers: dict[str, str]) -> Any:
        headers |= {"Content-Type": "application/json", "Origin": self._origin, **self._session}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self._origin + path, data, headers), timeout=patient(30)) as answer:  # noqa: S310 - the dashboard
            return json.loads(answer.read())


@contextmanager
def dashboard(command: Command) -> Iterator[tuple[Popen[str], Session]]:
    """A running dashboard, and a session of it."""
    with command.start("dashboard", "--no-open") as process:
        try:
            assert process.stdout is not None
            url = next(line.strip() for line in process.stdout if "#token=" in line)
            yield process, Session(url)
        finally:
            process.kill()


def test_dashboard_shows_a_rollout_and_pauses_and_aborts_it(
    headgate: Headgate, service: Service, command: Command
) -> None:
    rollout_id = headgate.request(
        target=service.target, candidate={"version": "2"}, strategy=steps((10, 300)), guards="none"
    )
    headgate.baking(rollout_id)
    with dashboard(command) as (process, session):
        reading = eventually(
            lambda: next((row for row in session.get("/api/now").get("rollouts", []) if row["id"] == rollout_id), None),
            20,
            lambda: f"{rollout_id} is not on the page",
        )
        assert (reading["status"], reading["weight"], reading["bake"]["step"]) == ("running", 10, 0)
        assert reading["target"] == f"lambda-alias/{service.function}/live"

        next_id = headgate.request(target=service.target, candidate={"version": "2"}, guards="none", onBusy="wait")
        line = eventually(
            lambda: next(
                (each for each in session.get("/api/now")["lines"] if each["target"] == reading["target"]), None
            ),
            20,
            lambda: f"{next_id} is not in line",
        )
        assert [(row["id"], row["line"]["place"], row["line"]["behind"]) for row in line["line"]] == [
            (next_id, 1, rollout_id)
        ]
        left = session.post("/api/signal", {"id": next_id, "signal": "abort"})
        assert left["effect"] in ("done", "accepted"), left
        headgate.ended(next_id)

        paused = session.post("/api/signal", {"id": rollout_id, "signal": "pause", "reason": "the logs"})
        # On a busy machine it may take longer than the page waits.
        assert paused["effect"] in ("done", "accepted"), paused
        headgate.in_phase(rollout_id, "paused")
        (kept,) = headgate.record(rollout_id)["signals"].values()
        assert (kept["signal"], kept["reason"]) == ("pause", "the logs")
        assert kept["by"]

        aborted = session.post("/api/signal", {"id": rollout_id, "signal": "abort"})
        assert aborted["effect"] in ("done", "accepted"), aborted
        assert headgate.ended(rollout_id)["status"] == "rolled-back"
        listed = session.get(f"/api/rollouts?target={service.function}:live")["rollouts"]
        assert [(row["id"], row["status"]) for row in listed] == [(next_id, "refused"), (rollout_id, "rolled-back")]

        refused = session.post("/api/signal", {"id": rollout_id, "signal": "resume"})
        assert refused["effect"] == "refused", refused
        assert "only a running or waiting rollout accepts signals" in refused["text"]

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=patient(15))
    assert process.returncode == 0, err
    assert "The dashboard has stopped." in err
    assert "Traceback" not in out + err


def test_dashboard_without_a_stack_or_a_port_says_what_to_do(command: Command) -> None:
    for arguments, named in (
        (["--stack", "nothing"], "there is no stack nothing"),
        (["--host", "203.0.113.1"], "--port, --host: 203.0.113.1:0 cannot be used"),
    ):
        done = command("dashboard", "--no-open", *arguments)
        assert (done.code, done.out) == (2, "")
        assert named in done.err
        assert len(done.err.splitlines()) == 1
