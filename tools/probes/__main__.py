"""Ask a real account what no documentation answers: ``python -m tools.probes --profile NAME``.

Exit code 0: all answers are as Headgate assumes. 1: one differs. 2: one is unclear, something is left in the account,
or the command is wrong.
"""

from __future__ import annotations

import argparse
import math
import re
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.probes import report
from tools.probes.account import Account, Journal
from tools.probes.questions import PROBES
from tools.probes.run import Run, to_stdout

if TYPE_CHECKING:
    from types import FrameType

    from tools.probes.model import Probe

WORK = Path(__file__).resolve().parents[2] / ".local" / "probes"
"""A folder per run: the journal of what it created, and its report."""

UNCLEAR = 2
_FLAGS = ("keys", "yes", "list")
"""Options without a value. In make their value is 1."""
_RUN = re.compile(r"[0-9a-f]{6}")


class UsageError(Exception):
    """A wrong command. The message names the option and the fix."""


def main(arguments: list[str], work: Path = WORK) -> int:
    """Run the command line."""
    options = _parse(arguments)
    try:
        chosen = _chosen(options)
        if options.list:
            for probe in chosen:
                to_stdout(f"{probe.id}\n    {probe.question}\n    {probe.call}; assumed: {probe.assumed}")
            return 0
        return _clean(options, work) if options.clean else _ask(options, chosen, work)
    except (UsageError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"{error}\n")
        return UNCLEAR
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted. If a run had begun, delete what is left with {_named('clean', 'RUN')}.\n")
        return UNCLEAR


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.probes", description="Ask AWS what no documentation answers."
    )
    parser.add_argument("--profile", help="profile of the account to ask, from your AWS configuration")
    parser.add_argument("--region", help="Region; the profile's by default")
    parser.add_argument("--only", default="", help="ids of probes, separated by commas")
    parser.add_argument("--subnet", default="", help="a subnet with a way to the internet, for probes that run a task")
    parser.add_argument(
        "--keys", action="store_true", help="also run probes that create KMS keys; AWS keeps them 7 days"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before anything is created")
    parser.add_argument("--clean", metavar="RUN", help="delete what a killed run left, and ask nothing")
    parser.add_argument("--list", action="store_true", help="print the questions and exit")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Probe]:
    ids = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := [name for name in ids if name not in PROBES]:
        raise UsageError(f"{_named('only')}: there is no probe {unknown[0]}; {_named('list', '1')} shows all")
    given = {"subnet": bool(options.subnet), "keys": options.keys, "": True}
    for name in ids:
        if not given[PROBES[name].needs]:
            needed = _named("keys", "1") if PROBES[name].needs == "keys" else _named(PROBES[name].needs)
            raise UsageError(f"{_named('only', name)}: this probe needs {needed}; add it")
    if ids or options.list:
        return [PROBES[name] for name in ids or PROBES]
    return [probe for probe in PROBES.values() if given[probe.needs]]


def _account(options: argparse.Namespace, run: str, work: Path) -> Account:
    if not options.profile:
        raise UsageError(
            f"{_named('profile')} is missing; name a profile of your AWS configuration, as in "
            f"{_named('profile', 'sandbox')}"
        )
    session = boto3.Session(profile_name=options.profile, region_name=options.region)
    if not session.region_name:
        raise UsageError(
            f"{_named('region')} is missing, and profile {options.profile} has none; add it, as in "
            f"{_named('region', 'eu-west-1')}"
        )
    return Account(session, run, Journal(work / run / "journal.jsonl"))


def _ask(options: argparse.Namespace, chosen: list[Probe], work: Path) -> int:
    run = secrets.token_hex(3)
    account = _account(options, run, work)
    _announce(account, chosen)
    if not options.yes and not _confirmed():
        to_stdout("Nothing was created.")
        return UNCLEAR
    outcome = Run(account, say=to_stdout, options={"subnet": options.subnet}).ask(chosen)
    made = report.as_json(account, outcome)
    report.write(work / run, made)
    _tell_end(made, work / run)
    return outcome.exit_code


def _clean(options: argparse.Namespace, work: Path) -> int:
    if not _RUN.fullmatch(options.clean):
        raise UsageError(
            f"{_named('clean')} must be the six characters of a run's id, as the run printed it (given {options.clean})"
        )
    account = _account(options, options.clean, work)
    to_stdout(f"Deleting what run {account.run} left in account {account.id}, {account.region}:")
    outcome = Run(account, say=to_stdout).clean()
    _tell_end(report.as_json(account, outcome), None)
    return UNCLEAR if outcome.left or outcome.unchecked else 0


def _announce(account: Account, chosen: list[Probe]) -> None:
    to_stdout(f"Account {account.id}, Region {account.region}, as {account.caller}\n")
    for probe in chosen:
        to_stdout(f"  {probe.id}: creates {probe.creates}")
    minutes, cents = math.ceil(sum(probe.minutes for probe in chosen)), sum(probe.cents for probe in chosen)
    probes = "1 probe" if len(chosen) == 1 else f"{len(chosen)} probes one after another"
    to_stdout(
        f"\nRun {account.run}: {probes}, at most about {minutes} minute{'' if minutes == 1 else 's'} and "
        f"${max(cents / 100, 0.01):.2f}.\nEverything has the tag headgate-probe={account.run} and is deleted after its "
        f"probe. If this process is killed, delete the rest with {_named('clean', account.run)}."
    )


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{_named('yes', '1')} is missing, and there is no terminal to ask on; add it to create these resources"
        )
    return input("Create these resources? [y/N] ").strip().lower() in ("y", "yes")


def _tell_end(made: dict[str, object], folder: Path | None) -> None:
    left, unchecked = made["left"], made["searchByTagFailed"]
    assert isinstance(left, list)
    for each in left:
        to_stdout(f"Left in the account: {each['kind']} {each['id']}: {each['why']}")
    if left:
        to_stdout(f"Delete it with {_named('clean', str(made['run']))}.")
    if unchecked:
        to_stdout(f"Leftovers could not be searched by tag: {unchecked}")
    elif not left:
        to_stdout("Nothing is left in the account.")
    if folder:
        to_stdout(f"The report is {folder / 'report.md'}, with all raw answers.")


def _named(option: str, value: str = "") -> str:
    """Return an option as make takes it, and as this command does: most people call it by make."""
    if not value:
        return f"{option.upper()} (--{option})"
    return f"{option.upper()}={value} (--{option}{'' if option in _FLAGS else f' {value}'})"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    raise SystemExit(main(sys.argv[1:]))
