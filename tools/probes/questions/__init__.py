"""The questions, by service. Importing the package registers every probe."""

from __future__ import annotations

from tools.probes.model import PROBES
from tools.probes.questions import access, events, functions, machine_errors, machines, mappings, tasks
from tools.probes.questions.unprobed import UNPROBED

__all__ = [
    "PROBES",
    "UNPROBED",
    "access",
    "events",
    "functions",
    "machine_errors",
    "machines",
    "mappings",
    "tasks",
]
