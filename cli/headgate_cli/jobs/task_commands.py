"""What ``headgate task run`` and ``headgate task stop`` do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from headgate_cli.jobs.endings import STOPPED, ending_of
from headgate_cli.jobs.following import follow
from headgate_cli.jobs.pages import view_of
from headgate_cli.jobs.requests import TASK, checked, describe, submit
from headgate_cli.jobs.stopping import ask_and_stop
from headgate_cli.jobs.task_logs import TaskLogs
from headgate_cli.output import echo_json
from headgate_cli.request_files import read_request_file

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

STOPS_WITHIN_SECONDS = 30
"""How long to look whether ECS stops the tasks of a stopped execution."""


def run(
    stack: Stack,
    definition: str | None,
    words: tuple[str, ...],
    options: dict[str, Any],
    *,
    form: str,
    wait: bool,
    timeout: float | None,
) -> int:
    """Request a task, follow it if wanted, and return the exit code."""
    detail = checked(TASK, request_of(stack, definition, words, options))
    execution = submit(stack, TASK, detail)
    told = f"headgate task show {detail['id']} shows it, headgate task stop {detail['id']} stops it."
    if not wait:
        if form == "json":
            echo_json(view_of(stack, TASK, detail["id"]))
        else:
            click.echo(f"Task {detail['id']} runs. {told}")
        return 0
    click.echo(f"Task {detail['id']} runs. {told}", err=True)
    logs = TaskLogs(stack, execution, detail.get("cluster", "default"))

    def show_logs() -> None:
        for line in logs.new_lines():
            click.echo(f"{line.source} | {line.text}", err=form == "json")

    ending, _ = follow(stack, execution, timeout_seconds=timeout, on_look=show_logs, told=told)
    if form == "json":
        echo_json(view_of(stack, TASK, detail["id"]))
    else:
        click.echo(ending.said)
        for name, code in exit_codes(ending.result):
            click.echo(f"  {name} exited with {code}")
    return ending.exit_code


def request_of(stack: Stack, definition: str | None, words: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the detail of the request: the file's, with what the options say instead."""
    detail = read_request_file(options["file"], TASK.detail_type) if options["file"] else {}
    given = {
        "id": options["request_id"],
        "taskDefinition": definition,
        "cluster": options["cluster"],
        "count": options["count"],
        "launchType": options["launch_type"],
        "timeoutSeconds": round(options["time_limit"]) if options["time_limit"] else None,
        "environment": detail.get("environment", {}) | options["env"] if options["env"] else None,
        "retry": {**detail.get("retry", {}), "attempts": options["attempts"]} if options["attempts"] else None,
        "networkConfiguration": _network(detail, options),
        "overrides": _overrides(
            stack, {**detail, **({"taskDefinition": definition} if definition else {})}, words, options
        ),
    }
    detail |= {name: value for name, value in given.items() if value is not None}
    if options["spot"]:
        if options["launch_type"]:
            raise click.UsageError("--spot cannot be used with --launch-type; remove one of them")
        detail |= {
            "capacityProviderStrategy": [{"provider": "FARGATE_SPOT", "weight": 1}],
            "fallback": "onDemand",
            "retry": {"attempts": 2, **detail.get("retry", {})},
        }
    if "taskDefinition" not in detail:
        raise click.UsageError("give a task definition, or --file with a request")
    return detail


def _network(detail: dict[str, Any], options: dict[str, Any]) -> dict[str, Any] | None:
    if not (options["subnets"] or options["groups"] or options["public_ip"]):
        return None
    given = {
        "subnets": list(options["subnets"]),
        "securityGroups": list(options["groups"]),
        "assignPublicIp": options["public_ip"],
    }
    return {**detail.get("networkConfiguration", {}), **{name: value for name, value in given.items() if value}}


def _overrides(
    stack: Stack, detail: dict[str, Any], words: tuple[str, ...], options: dict[str, Any]
) -> dict[str, Any] | None:
    sizes = {name: options[name] for name in ("cpu", "memory") if options[name]}
    if not (sizes or words):
        if options["container"]:
            raise click.UsageError("--container names the container of a command; give the command after --")
        return None
    overrides = {**detail.get("overrides", {}), **sizes}
    if words:
        name = options["container"] or _only_container(stack, detail.get("taskDefinition"))
        containers = overrides.get("containers", {})
        overrides["containers"] = {**containers, name: {**containers.get(name, {}), "command": list(words)}}
    return overrides


def _only_container(stack: Stack, definition: Any) -> str:
    """Return the name of the only container of a definition."""
    if isinstance(definition, dict):
        found = definition.get("register", {}).get("containerDefinitions", [])
    elif isinstance(definition, str):
        described = stack.client("ecs").describe_task_definition(taskDefinition=definition)["taskDefinition"]
        found = described["containerDefinitions"]
    else:
        raise click.UsageError("give a task definition, or --file with a request")
    names = [str(each.get("name")) for each in found if isinstance(each, dict)]
    if len(names) != 1:
        raise click.UsageError(f"the definition has {len(names)} containers ({', '.join(names)}); give --container")
    return names[0]


def exit_codes(result: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the exit codes of the containers, by name; with the number of the task where there are several."""
    tasks = result.get("tasks", [])
    return [
        (f"task {task['number']}, {name}" if len(tasks) > 1 else name, code)
        for task in tasks
        for name, code in task.get("exitCodes", {}).items()
    ]


def stop(stack: Stack, task_id: str, *, reason: str, yes: bool) -> int:
    """Stop a task, and say what became of it. Return the exit code."""
    question = f"Stop task {task_id}? Its containers get SIGTERM."
    execution = ask_and_stop(stack, TASK, task_id, question, reason=reason, yes=yes)
    if execution is None:
        return 1
    until = time.monotonic() + STOPS_WITHIN_SECONDS
    while time.monotonic() < until:
        ended = describe(stack, execution)
        if ended and ending_of(ended) and not _still_wanted(stack, ended):
            click.echo(f"Task {task_id} is stopped. Task Ended on the bus will say how its containers ended.")
            return 0
        time.sleep(1)
    click.echo(
        f"The execution of task {task_id} is stopped, but ECS still wants its containers to run; see the log of the "
        f"function {stack.prefix}-task-stopper",
        err=True,
    )
    return STOPPED


def _still_wanted(stack: Stack, execution: dict[str, Any]) -> bool:
    """Return whether ECS still wants a task of the execution to run."""
    import json

    from headgate.ecs_tasks.request import read_task
    from headgate.ecs_tasks.runs import TaskRuns
    from headgate.errors import RequestRefused

    try:
        request = read_task(json.loads(execution["input"]), default_id=execution["name"])
    except (ValueError, RequestRefused):
        return False
    if not isinstance(request.task_definition, str):
        definition = f"{request.task_definition.register_.get('family', '')}:0"
    else:
        definition = request.task_definition if ":" in request.task_definition else f"{request.task_definition}:0"
    tasks = TaskRuns(stack.client("ecs")).of_execution(request.cluster, execution["executionArn"], definition)
    return any(task.get("desiredStatus") != "STOPPED" for task in tasks)
