"""Runs one function in a container, as Lambda would: with sam local, on the embedded AWS if one is running.

`python -m tools.invoke FUNCTION [EVENT]`; `make demo-serve` starts an embedded AWS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from samcli.yamlhelper import yaml_parse

from emulator import application
from emulator.application import ROOT, SAM
from emulator.server import REGION, EmbeddedAws
from tools.docker_engine import DockerEngine, DockerEngineError
from tools.lambda_image.build import LambdaImageError, default_version, ensure, overrides

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STACK = "headgate"
ACCOUNT = "000000000000"
FUNCTION = "AWS::Serverless::Function"
SOURCES = ("template.yaml", "functions", "layers", "statemachines")
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens here: without an embedded AWS, a function must not reach a developer's account."""
INIT_REPORT = re.compile(r"INIT RTDONE\(status: success\)\s*\n.*INIT REPORT\(durationMs: ([\d.]+)\)")
TALKATIVE = {"SAM_CLI_RIE_DEV": "1"}
"""Makes the emulator log each cold start, among much else."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0

Settings = dict[str, str]


class InvocationError(RuntimeError):
    """The function or event does not exist, or sam failed. The message has the details."""


class Invocation(NamedTuple):
    """Result of one call."""

    answer: Any
    """What the function returned, or Lambda's description of its error."""
    log: str
    """Output of function, emulator and sam; empty if it went to the terminal."""

    @property
    def error_type(self) -> str | None:
        """Name of the error that the function raised, if any."""
        return self.answer.get("errorType") if isinstance(self.answer, dict) else None

    @property
    def init_milliseconds(self) -> float | None:
        """Duration of the cold start. The "Init Duration" in sam's REPORT line is not real."""
        return next(iter(init_milliseconds(self.log)), None)


def init_milliseconds(log: str) -> list[float]:
    """Return the durations of successful cold starts in a log."""
    return [float(found) for found in INIT_REPORT.findall(log)]


def main() -> int:
    """Parse the command line, invoke, and show the answer. The exit status is 1 if the function raised an error."""
    parser = argparse.ArgumentParser(prog="python -m tools.invoke", description=__doc__)
    parser.add_argument("function", help="logical id in template.yaml")
    parser.add_argument("event", nargs="?", type=Path, help="a file; default: the function's own in events/functions/")
    options = parser.parse_args()
    try:
        event = event_for(options.function, options.event)
        aws = _served()
        with DockerEngine() as engine, Containers(engine, aws) as containers:
            invocation = containers.invoke(options.function, event, quietly=False)
    except (DockerEngineError, LambdaImageError, InvocationError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(invocation.answer, indent=2))
    return 1 if invocation.error_type else 0


def function_names() -> list[str]:
    """Return the logical ids of the template's functions."""
    return list(_functions(yaml_parse((ROOT / "template.yaml").read_text())))


def sample_event(function: str) -> Path:
    """Return a function's sample event, such as events/functions/lambda_alias_driver.json for LambdaAliasDriver."""
    return ROOT / "events" / "functions" / f"{re.sub('(?<!^)(?=[A-Z])', '_', function).lower()}.json"


def event_for(function: str, given: Path | None = None) -> Path:
    """Return the event to invoke a function with.

    Raises
    ------
    InvocationError
        If the function or event does not exist, or the event is not JSON.
    """
    if function not in (names := function_names()):
        wrong = f"there is no function {function}" if function else "FUNCTION is missing"
        raise InvocationError(f"{wrong}; FUNCTION is one of {', '.join(names)}")
    event = given or sample_event(function)
    if not event.is_file():
        there = ", ".join(str(path.relative_to(ROOT)) for path in sorted((ROOT / "events").glob("*/*.json")))
        raise InvocationError(f"there is no file {event}; EVENT is your own file, or one of {there}")
    try:
        json.loads(event.read_text("utf-8"))
    except ValueError as error:
        at = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvocationError(f"{event} is not JSON: {at}") from None
    return event.resolve()


def _served() -> EmbeddedAws | None:
    """Return the embedded AWS that `make demo-serve` started, and print whether there is one."""
    aws = EmbeddedAws.find_detached()
    if aws and not _is_deployed(aws):
        aws = None
    message = (
        f"Using the embedded AWS on {aws.endpoint_url}, with the settings of the deployed functions."
        if aws
        else "No embedded AWS with Headgate is running (make demo-serve starts one): the function gets placeholder\n"
        "settings, and all its calls to AWS will fail."
    )
    print(message, file=sys.stderr)
    return aws


def _is_deployed(aws: EmbeddedAws) -> bool:
    formation = aws.client("cloudformation")
    try:
        found = formation.describe_stacks(StackName=STACK)["Stacks"]
    except formation.exceptions.ClientError:
        return False
    return bool(found) and found[0]["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class Served(NamedTuple):
    """Lambda's API served by sam, and its log file."""

    endpoint_url: str
    log: Path

    def client(self) -> Any:
        """Create a boto3 client for it."""
        config = Config(signature_version=UNSIGNED, read_timeout=120, retries={"total_max_attempts": 1})
        return boto3.client("lambda", endpoint_url=self.endpoint_url, region_name=REGION, config=config)


class Containers:
    """The application's functions, each in a container.

    Parameters
    ----------
    aws
        Embedded AWS with Headgate deployed; without it, the functions get placeholder settings and reach nothing.
    more
        Additional functions with the same layers: logical id, and folder with its app.py.
    """

    def __init__(self, engine: DockerEngine, aws: EmbeddedAws | None, more: dict[str, Path] | None = None) -> None:
        self._engine, self._aws, self._more = engine, aws, more or {}
        self._parameters = overrides(default_version()) | {"Telemetry": "true", "CleanVersionsOfFunctions": "*"}
        self._template = Path()
        self._settings: dict[str, Settings] = {}
        self._passage = ExitStack()

    def __enter__(self) -> Self:
        """Prepare the image and the build, and let containers reach the embedded AWS."""
        ensure(self._engine)
        built = _build(self._parameters)
        endpoint = self._passage.enter_context(self._engine.passage(self._aws.port)) if self._aws else NOWHERE
        template = yaml_parse(built.read_text())
        self._settings = _settings(template, self._aws, self._parameters, endpoint)
        for name, folder in self._more.items():
            template["Resources"][name] = {"Type": FUNCTION, "Properties": {"CodeUri": str(folder)}}
            self._settings[name] = {}
        self._template = _with_settings(built, template, self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the containers' connection to the embedded AWS."""
        self._passage.close()

    def invoke(self, function: str, event: Path, *, quietly: bool = True) -> Invocation:
        """Invoke a function in a new container.

        Parameters
        ----------
        quietly
            Return the log instead of writing it to the terminal.
        """
        done = subprocess.run(
            self._command("invoke", function, "--event", str(event)),
            cwd=ROOT,
            env=self._environment() | (TALKATIVE if quietly else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quietly else None,
            text=True,
            check=False,
        )
        log = done.stderr or ""
        if done.returncode:
            raise InvocationError(f"sam local invoke failed ({done.returncode})\n{log[-3000:]}")
        return Invocation(_answer(done.stdout), log)

    @contextmanager
    def serving(self, *, warm: bool = True) -> Iterator[Served]:
        """Serve Lambda's API on this machine with sam local start-lambda.

        Parameters
        ----------
        warm
            Keep containers for the next call. Otherwise every call is a cold start.
        """
        port = _free_port()
        log = application.WORK / "start-lambda.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self._command("start-lambda", "--port", str(port), *(("--warm-containers", "LAZY") if warm else ())),
                cwd=ROOT,
                env=self._environment() | TALKATIVE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches only this process, which then stops sam.
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise InvocationError(f"sam local start-lambda did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.1)
            yield Served(f"http://127.0.0.1:{port}", log)
        finally:
            # As with Ctrl-C, sam removes its containers.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _command(self, verb: str, *words: str) -> list[str]:
        settings = [f"{name}={value}" for name, value in self._parameters.items()]
        return [
            *(str(SAM), "local", verb, *words, "--template", str(self._template), "--skip-pull-image"),
            *("--layer-cache-basedir", str(_folder() / "layers"), "--parameter-overrides", *settings),
        ]

    def _environment(self) -> dict[str, str]:
        # sam prefers its own environment to the template.
        names = {name for settings in self._settings.values() for name in settings}
        given = {name: value for name, value in _sam_environment(self._aws).items() if name not in names}
        return given | self._engine.environment()


def _answer(output: str) -> Any:
    """Parse the answer in sam's output: JSON, and twice the same if the import failed."""
    text = output.strip()
    try:
        return json.JSONDecoder().raw_decode(text)[0] if text else None
    except ValueError:
        return text


def _folder() -> Path:
    return application.WORK / "build" / "containers"


def _build(parameters: Settings) -> Path:
    """Return the template from sam build, which runs only if the sources have changed."""
    folder = _folder()
    template, stamp = folder / "template.yaml", folder / "made-of"
    made_of = _digest(parameters)
    if not (template.exists() and stamp.exists() and stamp.read_text() == made_of):
        stamp.unlink(missing_ok=True)
        settings = [f"{name}={value}" for name, value in parameters.items()]
        common = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local"]
        command = [str(SAM), "build", *common, "--template", str(ROOT / "template.yaml"), "--build-dir", str(folder)]
        done = subprocess.run(
            [*command, "--parameter-overrides", *settings],
            cwd=ROOT,
            env=_sam_environment(None) | {"PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InvocationError(f"sam build failed:\n{(done.stdout + done.stderr)[-3000:]}")
        stamp.write_text(made_of)
    return template


def _digest(parameters: Settings) -> str:
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for source in SOURCES:
        path = ROOT / source
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            if file.suffix != ".pyc":
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _settings(
    template: dict[str, Any], aws: EmbeddedAws | None, parameters: Settings, endpoint: str
) -> dict[str, Settings]:
    """Return the environment of each function: as deployed, or with placeholders."""
    made_up = {name: str(given.get("Default", name)) for name, given in template["Parameters"].items()} | parameters
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    settings = {}
    for name, function in _functions(template).items():
        own = shared | function.get("Environment", {}).get("Variables", {})
        deployed = _deployed_settings(aws, name) if aws else {}
        literals = {key: literal(value, made_up) for key, value in own.items()}
        settings[name] = literals | deployed | {"AWS_ENDPOINT_URL": endpoint}
    return settings


def _with_settings(built: Path, template: dict[str, Any], settings: dict[str, Settings]) -> Path:
    """Write a copy of the built template whose functions have literal settings.

    sam local uses only variables of --env-vars that are in the template, and does not resolve most intrinsic functions.
    """
    for name, function in _functions(template).items():
        function["Environment"] = {"Variables": settings[name]}
    copy = built.with_name("containers.json")
    copy.write_text(json.dumps(template, indent=2))
    return copy


def _functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the properties of the template's functions."""
    resources: dict[str, Any] = template["Resources"]
    return {name: found["Properties"] for name, found in resources.items() if found["Type"] == FUNCTION}


def _deployed_settings(aws: EmbeddedAws, function: str) -> Settings:
    found = aws.client("cloudformation").describe_stack_resource(StackName=STACK, LogicalResourceId=function)
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    configuration = aws.client("lambda").get_function_configuration(FunctionName=name)
    settings: Settings = configuration.get("Environment", {}).get("Variables", {})
    return settings


def literal(value: Any, parameters: Settings) -> str:
    """Return a plausible value of an intrinsic function, with placeholders for what only AWS knows."""
    pseudo = {"AWS::StackName": STACK, "AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws"}
    match value:
        case {"Ref": name}:
            return (pseudo | parameters).get(name, f"{STACK}-{name}")
        case {"Fn::GetAtt": [name, _]}:
            return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{name}"
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w:]+)(?:\.(\w+))?\}", lambda found: _named(found, parameters), text)
        case {"Fn::If": [_, holds, _]}:
            return literal(holds, parameters)
    return str(value)


def _named(found: re.Match[str], parameters: Settings) -> str:
    name, attribute = found.groups()
    return literal({"Fn::GetAtt": [name, attribute]} if attribute else {"Ref": name}, parameters)


def _sam_environment(aws: EmbeddedAws | None) -> dict[str, str]:
    """Return sam's environment, with a placeholder account that is also passed to the functions."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    pointed = (aws or EmbeddedAws.at(9)).environment()
    # sam calls STS. The functions' settings do not use this endpoint variable.
    asks = {"AWS_ENDPOINT_URL_STS": pointed["AWS_ENDPOINT_URL"], "AWS_MAX_ATTEMPTS": "1"}
    return inherited | pointed | asks | {"PYTHONWARNINGS": "ignore"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    raise SystemExit(main())
