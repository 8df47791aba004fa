"""The commands that check, prepare and stop, as processes against the deployed application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

AS_DEPLOYED = {"version", "functions", "roles", "machines", "rules", "mappings", "table", "key", "held-queues"}
"""Checks whose result no other test changes."""


def test_the_kill_switch_stops_a_function_and_puts_back_what_was_set(
    headgate: Headgate, service: Service, command: Command
) -> None:
    # GIVEN a service with a reserved concurrency, which doctor finds ready to be rolled out
    name, functions = service.function, headgate.functions
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    checkup = command("doctor", f"{name}:live", "--format", "json").json
    assert [each for each in checkup["findings"] if each["severity"] == "not-checked"] == []
    assert [
        each
        for each in checkup["findings"]
        if each["check"] in AS_DEPLOYED | {"target-alias", "target-versions", "target-concurrency", "target-permission"}
        and each["severity"] != "ok"
    ] == []

    # WHEN it is stopped, twice
    asked = command("stop-traffic", name)
    stopped = command("stop-traffic", name, "--yes")
    again = command("stop-traffic", name, "--yes", "--format", "json")

    # THEN nothing runs, doctor says how to bring it back, and what was set is remembered
    assert (asked.code, asked.out) == (2, "")
    assert asked.err.endswith("Error: this needs a yes, and there is no terminal to ask on; give --yes\n")
    assert (stopped.code, again.code) == (0, 0)
    assert "alias live (version 1)" in stopped.err
    assert (again.json["outcome"], again.json["reservedBefore"]) == ("already-stopped", 5)
    with pytest.raises(functions.exceptions.TooManyRequestsException):
        service.invoke()
    found = command("doctor", f"{name}:live", "--problems")
    assert found.code == 1
    assert f"headgate restore-traffic {name}" in found.out

    # AND it is put back exactly, once
    restored = command("restore-traffic", name, "--yes")
    assert (restored.code, restored.out) == (0, f"{name} has a reserved concurrency of 5. Its traffic runs.\n")
    assert service.invoke() == {"version": "1"}
    assert functions.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 5
    refused = command("restore-traffic", name, "--yes")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_a_request_that_init_writes_is_rolled_out(service: Service, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    target = ("--function", service.function, "--alias", "live")
    written = command("init", "-o", str(file), *target, "--candidate", "2", "--strategy", "AllAtOnce")
    assert (written.code, written.out) == (0, "")
    again = command("init", "-o", str(file), *target, "--candidate", "2", "--strategy", "AllAtOnce")
    assert (again.code, again.err.count("\n")) == (2, 1)

    started = command("start", "--file", str(file), "--wait")
    assert started.code == 0, started.err
    assert service.serving.version == "2"
