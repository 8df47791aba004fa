"""The benchmark of the functions' start: it can start each of them."""

from __future__ import annotations

from benchmarks.init import SETTINGS
from tests.unit.project.policies import SOURCE


def test_it_has_a_value_for_every_variable_of_every_function() -> None:
    functions = [found for found in SOURCE["Resources"].values() if found["Type"] == "AWS::Serverless::Function"]
    shared = SOURCE["Globals"]["Function"]["Environment"]["Variables"]
    own = [found["Properties"].get("Environment", {}).get("Variables", {}) for found in functions]
    asked = {name for variables in (shared, *own) for name in variables}

    # Telemetry is optional, and Lambda sets the variables of AWS itself.
    assert sorted(asked - SETTINGS.keys()) == []
