"""Functions stay thin, the composition root builds what they share, and it costs a start nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.decode import cfn_yaml

from headgate.aws.settings import Environment
from headgate.bootstrap import Application
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HANDLERS = sorted(ROOT.glob("functions/*/app.py"))
MAX_LINES = 60

READS: dict[str, Callable[[Environment], Any]] = {
    "TABLE": lambda environment: environment.table,
    "RETENTION_DAYS": lambda environment: environment.retention_days,
    "ROLLOUT_MACHINE": lambda environment: environment.rollout_machine,
    "DRIVERS": lambda environment: environment.drivers,
    "TELEMETRY": lambda environment: environment.telemetry,
    "BUS": lambda environment: environment.bus,
    "UNDELIVERED": lambda environment: environment.undelivered,
    "ACCOUNT": lambda environment: environment.account,
    "PARTITION": lambda environment: environment.place,
    "PREFIX": lambda environment: environment.prefix,
    "OWN_QUEUES": lambda environment: environment.own_queues,
    "HOLDING_PREFIX": lambda environment: environment.holding_prefix,
    "SETTLE_SECONDS": lambda environment: environment.settle_seconds,
    "REGISTER_TASK_DEFINITIONS": lambda environment: environment.may_register_task_definitions,
    "TASK_CLUSTERS": lambda environment: environment.task_clusters,
    "SIGNAL_DEAD_LETTERS": lambda environment: environment.signal_dead_letters,
    "STACK_MACHINE": lambda environment: environment.stack_machine,
    "TASK_MACHINE": lambda environment: environment.job_machine("task"),
    "REDRIVE_MACHINE": lambda environment: environment.job_machine("redrive"),
    "JOBS": lambda environment: environment.jobs,
    "JOB_DEAD_LETTERS": lambda environment: environment.job_dead_letters,
    "REQUESTS": lambda environment: environment.requests(fifo=False),
    "FIFO_REQUESTS": lambda environment: environment.requests(fifo=True),
    "DEAD_LETTERS": lambda environment: environment.dead_letters(fifo=False),
    "FIFO_DEAD_LETTERS": lambda environment: environment.dead_letters(fifo=True),
}


def name_of(handler: Path) -> str:
    return handler.parent.name


@pytest.mark.parametrize("handler", HANDLERS, ids=name_of)
def test_a_handler_is_short(handler: Path) -> None:
    assert len(handler.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("handler", HANDLERS, ids=name_of)
def test_a_handler_leaves_the_table_the_clients_and_the_environment_to_the_composition_root(handler: Path) -> None:
    made = re.findall(
        r"\b(?:Table|LedgerStore|JobStore|Locks|Steps|SignalInbox|Signaller|Executions|AlarmStates|StreamReplay)\(",
        handler.read_text(),
    )
    assert made == []
    assert {"boto3", "os", "headgate.aws.clients", "headgate.aws.settings"} & set(imports_of(handler)) == set()


@pytest.mark.parametrize("handler", HANDLERS, ids=name_of)
def test_a_handler_imports_the_composition_root_before_anything_that_imports_boto3(handler: Path) -> None:
    first = next(module for module in imports_of(handler) if module not in ("__future__", *sys.stdlib_module_names))
    assert first == "headgate.bootstrap"


def imports_of(handler: Path) -> list[str]:
    """The modules that a handler imports when it starts, in order."""
    modules = []
    for statement in ast.parse(handler.read_text()).body:
        if isinstance(statement, ast.Import):
            modules += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            bootstrap = [f"headgate.{alias.name}" for alias in statement.names if statement.module == "headgate"]
            modules += bootstrap or [str(statement.module)]
    return modules


def test_importing_the_composition_root_imports_nothing_that_a_function_may_not_need() -> None:
    # GIVEN an interpreter of its own, as this one has imported everything
    code = """
import gc, sys
before = set(sys.modules)
import headgate.bootstrap
new = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
print(sorted(new), gc.get_threshold()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": PATH}
    )
    # THEN it is the environment alone, and garbage is looked for less often before boto3 is imported
    wanted = ["headgate", "headgate.aws", "headgate.aws.settings", "headgate.bootstrap"]
    assert done.stdout.strip() == f"{wanted} 100000"


PATH = str(ROOT / "layers" / "headgate" / "python")


def test_parts_of_an_application_share_its_table_and_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE", "headgate")
    monkeypatch.setenv("RETENTION_DAYS", "90")
    app = Application()
    assert app.watch.table is app.table
    assert app.watch.locks is app.locks
    assert app.client("dynamodb") is app.client("dynamodb")
    assert Application().table is not app.table


@pytest.mark.parametrize("name", READS)
def test_a_variable_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match=rf"environment variable {name} is not set; template\.yaml sets it"):
        READS[name](Environment())


PATTERNS: dict[str, Callable[[Environment], str]] = {
    "TARGET_STREAMS": lambda environment: environment.target_streams,
    "TASK_DEFINITIONS": lambda environment: environment.task_definitions,
    "TASK_ROLES": lambda environment: environment.task_roles,
}


@pytest.mark.parametrize("name", PATTERNS)
def test_an_empty_pattern_allows_nothing_and_is_not_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    assert PATTERNS[name](Environment()) == ""


def test_the_environment_has_no_variable_that_the_template_does_not_set() -> None:
    template = cfn_yaml.load(str(ROOT / "template.yaml"))
    functions = [
        template["Globals"]["Function"],
        *(resource["Properties"] for resource in template["Resources"].values()),
    ]
    told = {name for function in functions for name in (function.get("Environment") or {}).get("Variables", {})}
    assert READS.keys() | PATTERNS.keys() <= told


def test_functions_that_count_are_asked_once_side_by_side_and_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    functions: Any = Application().count_functions._functions
    config = functions.meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (3, 10, 16)
    assert config.retries["total_max_attempts"] == 1
