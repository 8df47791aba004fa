"""Checks commands that the documentation shows: that what they name exists, and that the JSON in them can be read."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore import session, xform_name
from click import Context, Group

from headgate_cli.main import main as headgate_cli
from tests.docs.pages import ROOT
from tests.docs.readers import read_json
from tools.package_release import version_of

if TYPE_CHECKING:
    from click import Command

AWS_GLOBAL = {"--query", "--output", "--region", "--profile", "--endpoint-url", "--no-cli-pager"}

SUMS = "SHA256SUMS"
"""What ``make dist`` calls the file of checksums."""

SERVICES = {"s3api": "s3"}
"""Names of services in the AWS CLI, where botocore's differ."""

RENAMED = {(("sns", "subscribe"), "--notification-endpoint"): "Endpoint"}
"""Options that the AWS CLI calls otherwise than the API."""

DETAIL_OF = {
    "$ROLLOUT_MACHINE": "Rollout Requested",
    "$ECS_TASK_MACHINE": "Task Requested",
    "$REDRIVE_MACHINE": "Redrive Requested",
}
"""What the machine behind a variable of the documentation takes as its input."""


class WrongCommandError(Exception):
    """A command that cannot be given as it is shown."""


def commands_of(script: str) -> list[list[str]]:
    """The commands of a script, as a shell would take them apart; comments are left out."""
    commands: list[list[str]] = []
    waiting = ""
    for line in script.splitlines():
        waiting += line.removesuffix("\\") + ("" if line.endswith("\\") else "\n")
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # A quotation goes on in the next line.
            continue
        waiting = ""
        command: list[str] = []
        for word in words:
            if word in ("&&", "|", ";"):
                commands.append(command)
                command = []
            else:
                command.append(word)
        if command:
            commands.append(command)
    if waiting.strip():
        raise WrongCommandError(f"a quotation is not closed: {waiting}")
    return commands


def check(command: list[str]) -> None:
    """Check one command.

    Raises
    ------
    WrongCommandError
        If something that it names does not exist.
    """
    program, *arguments = command
    program = program.rpartition("/")[-1]
    if program not in _CHECKS:
        raise WrongCommandError(f"{program}: nothing here knows this program; add a check for it")
    _CHECKS[program](arguments)


def _make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for argument in arguments:
        name, is_variable, _ = argument.partition("=")
        if is_variable and not re.search(rf"\$\(({name}\)|if \$\({name}\))", makefile):
            raise WrongCommandError(f"make: the Makefile has no variable {name}")
        if not is_variable and name not in targets:
            raise WrongCommandError(f"make: the Makefile has no target {name}")


def _headgate(arguments: list[str]) -> None:
    command: Command = headgate_cli
    rest, names = list(arguments), ["headgate"]
    while isinstance(command, Group) and rest:
        if rest[0] in ("--help", "--version", "-h"):
            return
        inner = command.get_command(Context(command), rest[0])
        if inner is None:
            raise WrongCommandError(f"{' '.join(names)}: there is no command {rest[0]}")
        command = inner
        names.append(rest.pop(0))
    if isinstance(command, Group):
        raise WrongCommandError(f"{' '.join(names)}: name one of its commands")
    # The documentation writes what differs from case to case as a variable: $ROLLOUT.
    try:
        command.make_context(" ".join(names), rest, resilient_parsing="--help" in rest)
    except Exception as error:
        raise WrongCommandError(f"{' '.join(names)}: {error}") from error


def _sam(arguments: list[str]) -> None:
    # Imported by the worker that needs it: sam takes seconds to import.
    from samcli.cli.context import Context as SamContext
    from samcli.cli.main import cli as sam_cli

    command: Command = sam_cli
    rest = list(arguments)
    while isinstance(command, Group):
        name = rest.pop(0) if rest else ""
        inner = command.get_command(Context(sam_cli, obj=SamContext()), name)
        if inner is None:
            raise WrongCommandError(f"sam: there is no command {name}")
        command = inner
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        if option not in known:
            raise WrongCommandError(f"sam {command.name}: there is no option {option}")


@cache
def _operations(service: str) -> dict[str, Any]:
    try:
        model = session.get_session().get_service_model(SERVICES.get(service, service))
    except Exception as error:
        raise WrongCommandError(f"aws: there is no service {service}") from error
    return {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}


def _aws(arguments: list[str]) -> None:
    service, name, *rest = arguments
    operations = _operations(service)
    if name not in operations:
        raise WrongCommandError(f"aws {service}: there is no operation {name}")
    shape = operations[name].input_shape
    members = {f"--{xform_name(member, '-')}": member for member in shape.members}
    members |= {renamed: member for (of, renamed), member in RENAMED.items() if of == (service, name)}
    given = {word: after for word, after in zip(rest, [*rest[1:], ""], strict=False) if word.startswith("--")}
    for option in given:
        if option not in members and option not in AWS_GLOBAL:
            raise WrongCommandError(f"aws {service} {name}: there is no option {option}")
    missing = [member for member in shape.required_members if f"--{xform_name(member, '-')}" not in given]
    if missing:
        raise WrongCommandError(f"aws {service} {name}: needs {', '.join(missing)}")
    url = given.get("--queue-url", "")
    if url.startswith("https:") and not re.search(r"-[A-Z0-9]{13}(\.fifo)?$", url):
        raise WrongCommandError(f"aws {service} {name}: {url} lacks the end that CloudFormation gives the name")
    try:
        _read_inputs(service, name, given)
    except Exception as error:
        raise WrongCommandError(f"aws {service} {name}: {error!r}") from error


def _read_inputs(service: str, name: str, given: dict[str, str]) -> None:
    """Read the requests that a command sends."""
    match service, name:
        case "events", "put-events":
            for entry in json.loads(given["--entries"]):
                members = _operations("events")["put-events"].input_shape.members["Entries"].member.members
                if unknown := entry.keys() - members.keys():
                    raise WrongCommandError(f"aws events put-events: an entry has no {unknown}")
                read_json(entry["DetailType"], json.loads(entry["Detail"]))
        case "stepfunctions", "start-execution":
            read_json(DETAIL_OF[given["--state-machine-arn"]], json.loads(given["--input"]))
        case "sqs", "send-message":
            read_json("Rollout Requested", json.loads(given["--message-body"]))


def _python(arguments: list[str]) -> None:
    if arguments[:1] != ["-m"]:
        raise WrongCommandError("python: is shown with -m and a module")
    module = arguments[1]
    if module == "headgate_cli":  # The command, in an environment without its script.
        _headgate(arguments[2:])
        return
    path = ROOT / module.replace(".", "/")
    if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
        raise WrongCommandError(f"python: there is no module {module}")


def _apt_get(arguments: list[str]) -> None:
    if arguments[:1] not in (["install"], ["update"]):
        raise WrongCommandError(f"apt-get: {arguments[:1]} is not expected")


def _pipx(arguments: list[str]) -> None:
    if arguments != ["install", "dist/headgate-*.whl"]:
        raise WrongCommandError(f"pipx: installs the wheel that make dist builds, not {arguments}")


def _sha256sum(arguments: list[str]) -> None:
    if arguments != ["--check", SUMS]:
        raise WrongCommandError(f"sha256sum: checks what make dist writes, not {arguments}")


def _release_file(arguments: list[str]) -> None:
    names = (f"headgate-{version_of(ROOT)}", f"headgate-{version_of(ROOT)}-application.zip")
    if len(arguments) != 1 or arguments[0] not in names:
        raise WrongCommandError(f"{arguments}: a release has {' and '.join(names)}")


def _export(arguments: list[str]) -> None:
    if wrong := [word for word in arguments if not re.fullmatch(r"(AWS|HEADGATE)_[A-Z_]+=.+", word)]:
        raise WrongCommandError(f"export: neither AWS nor Headgate has a variable {wrong}")


def _eval(arguments: list[str]) -> None:
    if not re.fullmatch(r"\$\(_HEADGATE_COMPLETE=(bash|zsh|fish)_source headgate\)", " ".join(arguments)):
        raise WrongCommandError(f"eval: click completes no shell by {arguments}")


def _jq(arguments: list[str]) -> None:
    if not re.fullmatch(r"\.[a-z.\[\]]+", arguments[-1]):
        raise WrongCommandError(f"jq: {arguments[-1]} is not a path of fields")


_CHECKS = {
    "make": _make,
    "headgate": _headgate,
    "sam": _sam,
    "aws": _aws,
    "python": _python,
    "apt-get": _apt_get,
    "pipx": _pipx,
    "export": _export,
    "sha256sum": _sha256sum,
    "unzip": _release_file,
    "cd": _release_file,
    "eval": _eval,
    "jq": _jq,
}
