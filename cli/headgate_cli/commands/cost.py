"""``headgate cost``: what a rollout, requests and the installation cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.groups import Group
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from headgate_cli.costs.model import Cost
    from headgate_cli.costs.prices import Prices
    from headgate_cli.costs.requests import RequestCosts, Served
    from headgate_cli.stack import Stack

    Command = TypeVar("Command", bound=Callable[..., Any])

MILLION = 1_000_000

ARCHITECTURES = ("arm64", "x86_64")


def _priced(command: Command) -> Command:
    """Give a command the option ``--prices``, and ``--format``."""
    with_prices = click.option(
        "--prices",
        "price_file",
        metavar="FILE",
        default=None,
        help="JSON file of prices of your Region or contract. It overrides the table of this command price by price.",
    )(command)
    return format_option()(with_prices)


@click.group("cost", cls=Group)
def command() -> None:
    """Show what a rollout, requests or the installation cost.

    \b
    headgate cost rollout checkout-42
    headgate cost plan --strategy Linear10PercentEvery1Minute
    headgate cost requests checkout:live
    headgate cost idle

    Costs are computed from quantities and list prices, without taxes; they are no bill. The command has a price table
    of us-east-1. For another Region or your own contract, give a file:

    \b
    {"regions": {"eu-west-1": {"lambdaRequest": 0.0000002, "transition": 0.000025}}}
    """


@command.command("rollout")
@click.argument("rollout_id", metavar="ROLLOUT")
@_priced
@of_stack
def rollout(stack: Stack, rollout_id: str, price_file: str | None, form: str) -> None:
    """Show what a rollout has cost so far, or in all.

    It is computed from the bakes, pauses and hooks on the rollout's record.

    \b
    headgate cost rollout checkout-42
    headgate cost rollout checkout-42 --format json
    """
    from headgate_cli.costs import of_rollout
    from headgate_cli.rollouts import find_rollout, history_of

    prices = _prices(stack, price_file)
    _show(of_rollout(find_rollout(history_of(stack), rollout_id), prices), form)


@command.command("plan")
@click.option("--file", "request_file", metavar="FILE", help="Request as JSON or YAML; - for the standard input.")
@click.option("--strategy", metavar="STRATEGY", help="Instead of a request: name of a preset, or JSON as in a request.")
@click.option(
    "--evidence",
    type=click.Choice(["none", "telemetry", "cloudwatch"]),
    default="none",
    show_default=True,
    help="With --strategy: where the counts for guards.errors come from; none for a rollout guarded by alarms.",
)
@_priced
@of_stack
def plan(
    stack: Stack, request_file: str | None, strategy: str | None, evidence: str, price_file: str | None, form: str
) -> None:
    """Show what a rollout will cost if it is promoted.

    \b
    headgate cost plan --file request.json
    headgate cost plan --strategy Canary10Percent5Minutes --evidence cloudwatch
    """
    if (request_file is None) == (strategy is None):
        raise click.UsageError("give either --file or --strategy")
    from headgate_cli.costs import of_plan

    planned = _plan_of_file(request_file) if request_file else _plan_of_strategy(str(strategy), evidence)
    _show(of_plan(planned, _prices(stack, price_file)), form)


@command.command("requests")
@click.argument("alias", metavar="[FUNCTION:ALIAS]", required=False)
@click.option("--versions", metavar="A,B", help="Versions to compare; else those that the alias names.")
@click.option("--hours", type=click.IntRange(1, 24 * 14), default=24, show_default=True, help="Hours of metrics.")
@click.option("--memory", type=click.IntRange(128, 10_240), metavar="MB", help="Without an alias: memory in MB.")
@click.option("--duration", type=click.FloatRange(0, 900_000), metavar="MS", help="Mean duration in ms.")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default="arm64", show_default=True)
@click.option(
    "--candidate-memory", type=click.IntRange(128, 10_240), metavar="MB", help="Of the other version.  [default: same]"
)
@click.option(
    "--candidate-duration",
    type=click.FloatRange(0, 900_000),
    metavar="MS",
    help="Of the other version.  [default: same]",
)
@click.option(
    "--candidate-architecture", type=click.Choice(ARCHITECTURES), help="Of the other version.  [default: same]"
)
@click.option(
    "--requests",
    "count",
    type=click.FloatRange(0, 1e15, min_open=True),
    default=MILLION,
    show_default=True,
    help="Requests, for example those of a month.",
)
@click.option("--free-tier", is_flag=True, help="Take off what is free each month.")
@_priced
@of_stack
def requests(
    stack: Stack, alias: str | None, count: float, *, free_tier: bool, price_file: str | None, form: str, **asked: Any
) -> None:
    """Show what requests cost on both versions of a function.

    \b
    headgate cost requests checkout:live --hours 48
    headgate cost requests --memory 512 --duration 120 --candidate-memory 1024 --candidate-duration 70
    headgate cost requests --memory 512 --duration 1000 --requests 3000000 --free-tier

    With an alias, memory and architecture are those of its versions, and durations the averages that CloudWatch has of
    each. Lambda also bills the time of a cold start, which Duration leaves out.
    """
    from headgate_cli.costs.requests import compare

    prices = _prices(stack, price_file)
    versions = _measured(stack, alias, asked) if alias else _given(asked)
    _show_requests(compare(versions, count, prices, free_tier=free_tier), form)


@command.command("idle")
@_priced
@of_stack
def idle(stack: Stack, price_file: str | None, form: str) -> None:
    """Show what the installation costs without rollouts.

    The cost is that of a month.

    \b
    headgate cost idle
    headgate cost idle --stack headgate-staging --prices prices.json
    """
    from headgate_cli.costs.idle import Installation, of_idle

    prices = _prices(stack, price_file)
    kinds = _resource_types(stack)
    telemetry = stack.parameters.get("Telemetry") == "true"
    installation = Installation(
        alarms=kinds.count("AWS::CloudWatch::Alarm"),
        dashboards=kinds.count("AWS::CloudWatch::Dashboard"),
        shards=int(stack.parameters.get("TelemetryShards") or 1) if telemetry else 0,
        # Requests, and jobs; and requests in order.
        queues=2,
        fifo_queues=1,
    )
    _show(of_idle(installation, prices), form)


def _prices(stack: Stack, file: str | None) -> Prices:
    from pathlib import Path

    from headgate_cli.costs.prices import FALLBACK, load_prices

    return load_prices(stack.session.region_name or FALLBACK, None if file is None else Path(file))


def _plan_of_file(name: str) -> dict[str, Any]:
    """Return the plan of a request, as far as it decides the cost."""
    from headgate.errors import RequestRefused
    from headgate.spec.plan import make_plan
    from headgate.spec.request import read_request
    from headgate_cli.failures import Failure
    from headgate_cli.request_files import read_request_file

    try:
        request = read_request(read_request_file(name, "Rollout Requested"), "cost")
    except RequestRefused as refused:
        raise Failure(f"--file: {name}: {refused}") from None
    return make_plan(request, driver="", firing=[]).to_wire()


def _plan_of_strategy(given: str, evidence: str) -> dict[str, Any]:
    import json

    from headgate.errors import RequestRefused
    from headgate.json_faults import json_fault
    from headgate.spec.plan import make_plan
    from headgate.spec.request import read_request
    from headgate_cli.failures import Failure

    try:
        strategy = json.loads(given) if given.lstrip().startswith(("{", "[", '"')) else given
    except (ValueError, RecursionError) as error:
        raise Failure(f"--strategy: is not JSON: {json_fault(error)}; put it in single quotes") from None
    guards = {"errors": {}, "evidence": evidence} if evidence != "none" else "none"
    target = {"kind": "lambda-alias", "function": "any", "alias": "live"}
    detail = {"target": target, "candidate": {"version": "1"}, "strategy": strategy, "guards": guards}
    try:
        request = read_request(detail, "cost")
    except RequestRefused as refused:
        raise Failure(f"--strategy: {refused}") from None
    return make_plan(request, driver="", firing=[]).to_wire()


def _given(asked: dict[str, Any]) -> list[Served]:
    """Return the versions that the options describe."""
    from headgate_cli.costs.requests import Served

    if asked["memory"] is None or asked["duration"] is None:
        raise click.UsageError("give FUNCTION:ALIAS, or --memory and --duration")
    versions = [
        Served(
            version="stable",
            memory_mb=asked["memory"],
            architecture=asked["architecture"],
            milliseconds=asked["duration"],
        )
    ]
    names = {"memory": "memory_mb", "architecture": "architecture", "duration": "milliseconds"}
    other = {
        field: asked[f"candidate_{name}"] for name, field in names.items() if asked[f"candidate_{name}"] is not None
    }
    if other:
        versions.append(versions[0].model_copy(update={"version": "candidate", **other}))
    return versions


def _measured(stack: Stack, alias: str, asked: dict[str, Any]) -> list[Served]:
    """Return the versions of an alias as AWS knows them."""
    from headgate_cli.costs.versions import served_by

    function, _, name = alias.rpartition(":")
    if not function or not name or name.isdigit():
        raise click.UsageError(f"give the alias as FUNCTION:ALIAS, such as checkout:live (given {alias})")
    for option in ("memory", "duration", "candidate_memory", "candidate_duration", "candidate_architecture"):
        if asked[option] is not None:
            raise click.UsageError(
                f"--{option.replace('_', '-')} cannot be used with FUNCTION:ALIAS; remove one of them"
            )
    versions = [each.strip() for each in (asked["versions"] or "").split(",") if each.strip()]
    for version in versions:
        if not version.isdigit():
            raise click.UsageError(f"--versions: must be version numbers with a comma between them (given {version})")
    return served_by(stack.client("lambda"), stack.client("cloudwatch"), function, name, versions, asked["hours"])


def _resource_types(stack: Stack) -> list[str]:
    pages = stack.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    return [each["ResourceType"] for page in pages for each in page["StackResourceSummaries"]]


def _show(cost: Cost, form: str) -> None:
    from headgate_cli.output import echo_json, echo_table, printable

    if form == "json":
        echo_json(cost)
        return
    rows = [
        (line.what, plain(line.quantity), line.unit, f"${plain(line.unit_price, 12)}", dollars(line.dollars))
        for line in cost.lines
    ]
    each = f" a {cost.period}" if cost.period else ""
    echo_table(("WHAT", "QUANTITY", "UNIT", "PRICE", "COST"), [*rows, ("Total", "", "", "", dollars(cost.total))])
    as_of = f", the oldest of {cost.prices_as_of}" if cost.prices_as_of else ""
    click.echo(printable(f"\n{cost.subject[:1].upper()}{cost.subject[1:]}: {dollars(cost.total)}{each}."))
    click.echo(f"List prices of {cost.price_table}{as_of}.")
    for note in cost.notes:
        click.echo(printable(note))


def _show_requests(found: RequestCosts, form: str) -> None:
    from headgate_cli.costs.requests import called
    from headgate_cli.output import echo_json, echo_table, printable

    if form == "json":
        echo_json(found)
        return
    rows = [
        (
            served.version,
            f"{served.memory_mb:,} MB",
            served.architecture,
            f"{plain(served.milliseconds, 3)} ms",
            "" if served.requests_seen is None else f"{served.requests_seen:,.0f}",
            dollars(cost.total),
        )
        for served, cost in zip(found.versions, found.costs, strict=True)
    ]
    click.echo(f"{found.requests:,.0f} requests{', beyond the free tier' if found.free_tier else ''}:\n")
    echo_table(("VERSION", "MEMORY", "ARCHITECTURE", "DURATION", "MEASURED ON", "COST"), rows)
    first, last = found.versions[0], found.versions[-1]
    if found.ratio is not None:
        change = 100 * (found.ratio - 1)
        sense = "more" if change >= 0 else "less"
        costly = f"{called(last.version)} costs {abs(change):.1f} % {sense} than {called(first.version)}."
        click.echo(printable(f"\n{costly[:1].upper()}{costly[1:]}"))
    for note in found.costs[0].notes:
        click.echo(printable(note))


def plain(number: float, digits: int = 6) -> str:
    """Return a number without an exponent: ``0.000025``."""
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".")


def dollars(amount: float) -> str:
    """Return an amount with cents, or with as many digits as a small one needs."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:,.6f}"
