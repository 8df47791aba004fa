"""``headgate init``: writes a request by asking, with what the account has as choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from headgate_cli.failures import Failure
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.drafting.account import Account
    from headgate_cli.drafting.draft import Draft, Evidence
    from headgate_cli.drafting.services import AccountService
    from headgate_cli.stack import Stack

LATEST = "latest"


@click.command("init")
@click.option(
    "-o", "--output", "file", default="request.yaml", show_default=True, metavar="FILE",
    help="File to write; - for the standard output.",
)  # fmt: skip
@click.option("--function", metavar="NAME", help="Function to roll out.")
@click.option("--alias", metavar="NAME", help="Alias of the function whose traffic shifts.")
@click.option("--mapping", metavar="UUID", help="Instead of both: the event source mapping of a consumer.")
@click.option("--service", metavar="CLUSTER/SERVICE", help="Instead of these: an ECS service.")
@click.option(
    "--candidate",
    metavar="VERSION",
    help="Number of a published version, or latest for what $LATEST holds; of a service FAMILY:NUMBER.",
)
@click.option("--strategy", metavar="STRATEGY", help="Name of a preset, or JSON as in a request.")
@click.option("--alarm", "alarms", multiple=True, metavar="NAME", help="Alarm that ends the rollout. Repeatable.")
@click.option(
    "--evidence",
    type=click.Choice(["telemetry", "cloudwatch", "none"]),
    help="Source of the counts of errors to compare.",
)
@click.option("--before-traffic", multiple=True, metavar="FUNCTION", help="Hook before traffic moves. Repeatable.")
@click.option("--after-traffic", multiple=True, metavar="FUNCTION", help="Hook after the promotion. Repeatable.")
@click.option("--force", is_flag=True, help="Overwrite the file without asking.")
@of_stack
@click.pass_context
def command(context: click.Context, /, *, stack: Stack, file: str, force: bool, **given: Any) -> None:
    """Write a request by asking, with choices from the account.

    \b
    headgate init
    headgate init -o checkout.yaml --function checkout --alias live
    headgate init -o shop.yaml --service web/shop
    headgate init -o - --function checkout --alias live --candidate latest \\
      --strategy Canary10Percent5Minutes --alarm checkout-errors --evidence none

    The file is YAML with a comment on every part, for headgate plan --file and headgate start --file. An option answers
    its question. Without a terminal, the target, --candidate and --strategy are needed, and what else is missing is
    left out of the request.
    """
    from headgate_cli.confirmation import can_ask, confirm
    from headgate_cli.drafting.account import Account
    from headgate_cli.drafting.draft import checked, request_text

    _refuse_contradictions(given)
    asks = can_ask()
    if not asks:
        _require_answers(given)
    _refuse_folder(file)
    account = Account(stack)
    draft = _draft(account, given, asks=asks)
    samples = account.samples(of_service=draft.target["kind"] == "ecs-service")
    text = request_text(draft, file, samples)
    checked(text)
    if file == "-":
        click.echo(text, nl=False)
        return
    if not _is_new(file) and not force:
        if not asks:
            raise Failure(f"-o: {file} exists; name another file, or give --force to overwrite it")
        if not confirm(f"{file} exists. Overwrite it?", yes=False):
            context.exit(1)
    _write(file, text)
    click.echo(f"Wrote {file}. Try it without an effect: headgate plan --file {file}", err=True)


def _refuse_contradictions(given: dict[str, Any]) -> None:
    others = [f"--{name}" for name in ("function", "alias", "mapping") if given[name]]
    if given["service"] and others:
        raise Failure(f"--service: names the target, and so does {others[0]}; give one of them")
    if given["mapping"] and (given["function"] or given["alias"]):
        raise Failure(
            "--mapping: names a consumer, whose function and alias are known; leave out --function and --alias"
        )


def _require_answers(given: dict[str, Any]) -> None:
    target = () if given["mapping"] or given["service"] else ("function", "alias")
    missing = [f"--{name}" for name in (*target, "candidate", "strategy") if not given[name]]
    if missing:
        other = "; or --mapping for a consumer, or --service" if "--function" in missing else ""
        raise Failure(f"there is no terminal to ask on; give {', '.join(missing)}{other}")


def _refuse_folder(file: str) -> None:
    from pathlib import Path

    if file != "-" and (Path(file).is_dir() or not Path(file).parent.is_dir()):
        raise Failure(f"-o: {file} cannot be written: it is a folder, or its folder does not exist")


def _is_new(file: str) -> bool:
    from pathlib import Path

    return not Path(file).exists()


def _write(file: str, text: str) -> None:
    """Write a file as a whole, or not at all."""
    from pathlib import Path

    part = Path(f"{file}.part")
    try:
        part.write_text(text, "utf-8")
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Failure(f"-o: {file} cannot be written: {error.strerror}") from None


def _draft(account: Account, given: dict[str, Any], *, asks: bool) -> Draft:
    from headgate_cli.drafting.draft import Draft, read_strategy

    if chosen := given["service"] or _service(account, given):
        return _draft_of_service(account, chosen, given, asks=asks)
    function, alias, target = _target(account, given, asks=asks)
    candidate = given["candidate"] or _candidate(account, function)
    _check_candidate(candidate)
    strategy = read_strategy(given["strategy"] or _strategy())
    alarms = given["alarms"] or (_alarms(account, function) if asks else ())
    # In a ramp the versions never work side by side.
    compares = target["kind"] == "lambda-alias" or not account.is_ramp(target["mapping"])
    evidence = given["evidence"] or (_evidence(account, function, alias, strategy) if asks and compares else "none")
    before, after = given["before_traffic"], given["after_traffic"]
    if asks and not before and not after:
        before, after = _hooks(account, function)
    return Draft(target, candidate, strategy, tuple(alarms), evidence, tuple(before), tuple(after))


def _service(account: Account, given: dict[str, Any]) -> str:
    """Ask whether a service is to be rolled out, if there is one, and return it; empty for a function."""
    from headgate_cli.drafting.questions import Choice, ask

    if given["function"] or given["mapping"] or not (services := account.services()):
        return ""
    choices = [Choice("function", "a function, by its alias"), *(Choice(each, "an ECS service") for each in services)]
    chosen = ask("What is to be rolled out on?", choices, default="function")
    return "" if chosen == "function" else chosen


def _draft_of_service(account: Account, given_service: str, given: dict[str, Any], *, asks: bool) -> Draft:
    from headgate_cli.drafting.draft import Draft, read_strategy

    service = account.service(given_service)
    candidate = given["candidate"] or _revision(service)
    _check_revision(candidate)
    strategy = read_strategy(given["strategy"] or _strategy())
    question = f"Which alarms of {service.name} end the rollout?"
    alarms = given["alarms"] or (_some(question, service.alarms()) if asks else ())
    evidence: Evidence = given["evidence"] or "none"
    if asks and not given["evidence"]:
        evidence = _compared("service", strategy, sends=account.sent_telemetry(service.key))
    before, after = given["before_traffic"], given["after_traffic"]
    if asks and not before and not after:
        before, after = _asked_hooks(account.hooks(of_service=True))
    return Draft(service.target, candidate, strategy, tuple(alarms), evidence, tuple(before), tuple(after))


def _revision(service: AccountService) -> str:
    from headgate_cli.drafting.questions import Choice, ask

    serves = service.serves
    choices = [Choice(each, "serves now" if each == serves else "registered") for each in service.revisions()]
    if not choices:
        raise Failure(f"no revision of {serves.rpartition(':')[0]} is active; register one")
    question = "Which revision of the task definition is to be rolled out?"
    return ask(question, choices, default=choices[0].value, label="Revision", check=_check_revision)


def _check_revision(candidate: str) -> None:
    family, _, number = candidate.rpartition("/")[2].rpartition(":")
    if not family or not (number.isascii() and number.isdecimal()):
        raise Failure(
            "--candidate: must be family:revision of a service's task definition, as in shop:8 "
            f"(given {candidate[:200]})"
        )


def _target(account: Account, given: dict[str, Any], *, asks: bool) -> tuple[str, str, dict[str, str]]:
    """Return the function, its alias, and the target as in a request."""
    from headgate_cli.drafting.questions import Choice, ask

    if uuid := given["mapping"]:
        function, alias = account.behind(uuid.lower())
        account.require_target(function)
        return function, alias, {"kind": "event-source", "mapping": uuid.lower()}
    function = given["function"] or _function(account)
    account.require_target(function)
    aliases = account.aliases(function)
    if not aliases:
        raise Failure(
            f"{function} has no alias, and only an alias can be rolled out; create one (aws lambda create-alias), and "
            "let callers use it"
        )
    alias = given["alias"] or ask(
        f"Which alias of {function}?", [Choice(each.name, f"version {each.version}") for each in aliases]
    )
    if alias not in (each.name for each in aliases):
        known = ", ".join(each.name for each in aliases)
        raise Failure(f"--alias: {function} has no alias {alias}; it has {known}")
    by_alias = {"kind": "lambda-alias", "function": function, "alias": alias}
    consumers = account.consumers(function, alias) if asks and not given["alias"] else {}
    if not consumers:
        return function, alias, by_alias
    choices = [Choice("alias", "callers name the alias")]
    choices += [Choice(uuid, f"the consumer of {source}") for uuid, source in consumers.items()]
    chosen = ask(f"What brings traffic to {function}:{alias}?", choices)
    return function, alias, by_alias if chosen == "alias" else {"kind": "event-source", "mapping": chosen}


def _function(account: Account) -> str:
    from headgate_cli.drafting.questions import Choice, ask

    if not (names := account.targets()):
        raise Failure(
            "there is no function that Headgate's parameter TargetFunctions covers; deploy Headgate with a pattern "
            "that covers yours, and check --region"
        )
    return ask("Which function?", [Choice(name) for name in names])


def _candidate(account: Account, function: str) -> str:
    from headgate_cli.drafting.questions import Choice, ask

    choices = [Choice(LATEST, "what $LATEST holds when the rollout begins")]
    choices += [Choice(version, "published") for version in account.versions(function)]
    return ask("What is to be rolled out?", choices, default=LATEST, label="Version", check=_check_candidate)


def _check_candidate(candidate: str) -> None:
    if candidate != LATEST and not (candidate.isascii() and candidate.isdecimal()):
        raise Failure(f"--candidate: must be the number of a published version, or {LATEST} (given {candidate[:200]})")


def _strategy() -> str:
    from headgate_cli.drafting.draft import PRESETS, meaning_of, read_strategy
    from headgate_cli.drafting.questions import Choice, ask

    choices = [Choice(preset, meaning_of(preset)) for preset in PRESETS]
    question = "How is traffic to move? Other presets, such as Linear20PercentEvery90Seconds, and JSON work too."
    return ask(question, choices, default=PRESETS[0], check=read_strategy)


def _alarms(account: Account, function: str) -> list[str]:
    return _some(f"Which alarms of {function} end the rollout?", account.alarms(function))


def _some(question: str, names: list[str]) -> list[str]:
    from headgate_cli.drafting.questions import Choice, ask_some

    return ask_some(question, [Choice(name) for name in names]) if names else []


def _evidence(account: Account, function: str, alias: str, strategy: str | dict[str, Any]) -> Evidence:
    from headgate_cli.drafting.draft import can_compare

    return _compared("function", strategy, sends=can_compare(strategy) and account.sends_telemetry(function, alias))


def _compared(what: str, strategy: str | dict[str, Any], *, sends: bool) -> Evidence:
    from headgate_cli.drafting.draft import can_compare, cloudwatch_can_judge
    from headgate_cli.drafting.questions import Choice, ask

    choices = []
    if can_compare(strategy) and sends:
        choices.append(Choice("telemetry", f"counts within seconds; the {what} sends telemetry"))
    if cloudwatch_can_judge(strategy):
        choices.append(Choice("cloudwatch", f"counts by the minute, without a change to the {what}"))
    if not choices:
        return "none"
    choices.append(Choice("none", "do not compare; alarms alone guard the rollout"))
    found = ask("Compare the errors of both versions, and by which counts?", choices, default=choices[0].value)
    return cast("Evidence", found)


def _hooks(account: Account, function: str) -> tuple[list[str], list[str]]:
    return _asked_hooks([name for name in account.hooks() if name != function])


def _asked_hooks(names: list[str]) -> tuple[list[str], list[str]]:
    from headgate_cli.drafting.questions import Choice, ask_some

    choices = [Choice(name) for name in names]
    if not choices:
        return [], []
    before = ask_some("Which hooks run before the candidate gets traffic?", choices)
    return before, ask_some("Which hooks run after the promotion?", choices)
