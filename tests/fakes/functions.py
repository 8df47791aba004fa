"""Headgate's functions, loaded with the settings of a deployment."""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.builders import (
    ACCOUNT,
    CONTEXT,
    DRIVER,
    EVERYTHING,
    MACHINE,
    OWN,
    PUBLISHING_ROLES,
    ROOT,
    TABLE,
    event,
)

if TYPE_CHECKING:
    from types import ModuleType


SETTINGS = {
    "TABLE": TABLE,
    "RETENTION_DAYS": "90",
    "ROLLOUT_MACHINE": MACHINE,
    "DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "FIFO_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters.fifo",
    "SIGNAL_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/signal-dead-letters",
    "STACK_MACHINE": MACHINE.replace("rollout", "stack"),
    "TASK_MACHINE": MACHINE.replace("rollout", "ecs-task"),
    "REDRIVE_MACHINE": MACHINE.replace("rollout", "redrive"),
    "JOB_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/job-dead-letters",
    "UNDELIVERED": "https://sqs.eu-central-1.amazonaws.com/123456789012/undelivered",
    "BUS": "headgate",
    "TOPIC": "arn:aws:sns:eu-central-1:123456789012:headgate-Notifications",
    "STACK": "headgate",
    "TEAMS": "false",
    "AMAZON_Q": "false",
    "ACCOUNT": ACCOUNT,
    "TASK_DEFINITIONS": "*",
    "REGISTER_TASK_DEFINITIONS": "false",
    "TASK_CLUSTERS": "*",
    "PARTITION": "aws",
    "TELEMETRY": "true",
    "DRIVERS": json.dumps(
        {kind: DRIVER.replace("lambda-alias", kind) for kind in ("lambda-alias", "event-source", "ecs-service")}
    ),
    "HOLDING_PREFIX": "headgate-held-",
    "PREFIX": OWN.prefix,
    "OWN_QUEUES": json.dumps(OWN.queues),
    "TARGET_STREAMS": "*",
    "PATTERNS": json.dumps(EVERYTHING.by_parameter),
    "SETTLE_SECONDS": "60",
    "WEIGHT_SETTLE_SECONDS": "15",
    "CLEAN_FUNCTIONS": "check*",
    "TRIGGER_FOLDER": "/headgate/headgate/triggers",
    "PUBLISHING_ROLES": " ".join(PUBLISHING_ROLES),
    "URL_SUFFIX": "amazonaws.com",
    "KEEP_VERSIONS": "10",
    "CLEAN_OLDER_THAN_DAYS": "30",
}

NAMES = sorted(path.parent.name for path in ROOT.glob("functions/*/app.py"))


class Functions:
    """The functions' modules and the clients that they made; a client of each service, shared to save time."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.module = functools.cache(self._load)
        self._make: Any = boto3.client

    def call(self, name: str, payload: Any = None, context: Any = CONTEXT) -> Any:
        """Invoke a function, with the payload in events/ unless another is given."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "client", self.client)  # A function makes its clients when it first needs them.
            return self.module(name).handler(event(name) if payload is None else payload, context)

    def _load(self, name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"function_{name}", ROOT / "functions" / name / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            for setting, value in SETTINGS.items():
                patch.setenv(setting, value)
            spec.loader.exec_module(module)
        return module

    def client(self, service: str, **settings: Any) -> Any:
        if service not in self.clients:
            self.clients[service] = self._make(service, **settings)
        return self.clients[service]
