"""What the documentation names already and the repository gets with its new layout: nothing, once that is done."""

from __future__ import annotations

COMING_PATHS: dict[str, str] = {
    "CONTRIBUTING.md": "README.md",
    "SECURITY.md": "README.md",
    "LICENSE": "README.md",
    "examples/checkout.yaml": "examples/checkout.yaml",
    "examples/orders.yaml": "examples/orders.yaml",
    "emulator/": "emulator",
    "demo/events/": "events",
    "events/functions/": "events",
    "events/requests/": "events",
    "events/published/": "events",
    "events/requests/rollout_requested_hooks.json": "events/requests/rollout_requested_hooks.json",
    "statemachines/source/": "statemachines",
    "statemachines/source/shapes.py": "statemachines",
}
"""Paths of the new layout, and where their content is until it is there."""

COMING_MODULES: dict[str, str] = {
    "tools.schemas": "tools.schemas",
    "headgate.analysis.judge": "headgate.judge",
    "headgate.aws.sqs_mover": "headgate.transfer",
    "headgate.aws.sqs_move_tasks": "headgate.queues",
    "headgate.aws.stream_replay": "headgate.rereading",
    "headgate.events": "headgate.announcements",
    "headgate.spec": "headgate.request",
    "headgate.spec.targets": "headgate.request",
    "headgate.targets": "headgate.drivers",
    "headgate.targets.driver": "headgate.drivers.driving",
}
"""Modules of the new layout, and their earlier names."""

COMING_TARGETS: set[str] = {"check", "machines"}
"""Targets of the Makefile."""
