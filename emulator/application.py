"""Builds the application with sam build and deploys it with sam deploy to the embedded AWS, as a user would."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import WaiterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from emulator.server import EmbeddedAws

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / os.environ.get("HEADGATE_WORK", ".local")
"""What is made on the way; two runs side by side have a folder each."""
SAM = ROOT / ".venv" / "bin" / "sam"

Outputs = dict[str, str]
Way = Literal["green-service", "task-sets"]

OPEN = (
    *("TargetFunctions", "TargetQueues", "TargetStreams", "TargetServices", "HookFunctions", "HookMachines"),
    "CountFunctions",
    *("RedriveQueues", "RedriveStreams", "TaskDefinitions", "TaskRoles", "CodeObjects"),
)
"""Parameters that allow nothing by default, and everything here."""


class DeploymentError(RuntimeError):
    """sam failed. The message has the end of its output."""


def parameters() -> Outputs:
    """Return the parameters for this machine, whose Python runs the functions."""
    machine = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if machine is None:
        raise DeploymentError(f"Lambda does not support this machine's architecture ({platform.machine()})")
    return {"Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}", "Architecture": machine}


def deploy_headgate(aws: EmbeddedAws, *, opened: Iterable[str] = OPEN, **overrides: str) -> Outputs:
    """Build and deploy Headgate, with these parameters, and return the stack's outputs.

    Parameters
    ----------
    opened
        Parameters that allow everything.
    """
    return _deploy(aws, "headgate", ROOT / "template.yaml", _settings(opened) | overrides)


def deploy_release(aws: EmbeddedAws, folder: Path, **overrides: str) -> Outputs:
    """Build and deploy a release of Headgate from its unpacked sources, as ``deploy_headgate`` does this checkout."""
    return _deploy(aws, "headgate", folder / "template.yaml", _settings(OPEN) | overrides)


def deploy_packaged(aws: EmbeddedAws, folder: Path, *, stack: str = "headgate", **overrides: str) -> Outputs:
    """Deploy an application that is built already, in its unpacked folder and without anything else."""
    settings = [f"{name}={value}" for name, value in (_settings(OPEN) | overrides).items()]
    command = ["deploy", "--template-file", "template.yaml", "--stack-name", stack, "--resolve-s3"]
    answers = ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    _sam(aws, [*command, *answers, "--parameter-overrides", *settings], folder)
    return _outputs(aws, stack)


def package_for_publishing(aws: EmbeddedAws, folder: Path) -> Path:
    """Upload what an unpacked application holds, as before ``sam publish``. Return the template that names it all."""
    packaged = folder / "packaged.yaml"
    _sam(
        aws,
        ["package", "--template-file", "template.yaml", "--resolve-s3", "--output-template-file", packaged.name],
        folder,
    )
    return packaged


def _settings(opened: Iterable[str]) -> Outputs:
    everything = dict.fromkeys(opened, "*") | {"Telemetry": "true", "RegisterTaskDefinitions": "true"}
    # Here a queue's attributes and a rule's weights take effect at once.
    everything |= {"QueueSettleSeconds": "1", "WeightSettleSeconds": "1"}
    return parameters() | everything


def delete_headgate(aws: EmbeddedAws) -> None:
    """Delete Headgate's stack, as ``sam delete`` does."""
    settings = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local", "--no-prompts"]
    _sam(aws, ["delete", *settings, "--stack-name", "headgate"])


def deploy_sample(aws: EmbeddedAws, headgate: Outputs) -> Outputs:
    """Build and deploy the sample service."""
    wanted = ("HeadgateLayerArn", "TelemetryStreamName", "TelemetryStreamArn")
    overrides = parameters() | {name: headgate[name] for name in wanted}
    return _deploy(aws, "checkout", ROOT / "examples" / "checkout.yaml", overrides)


def deploy_consumer(aws: EmbeddedAws, headgate: Outputs, source: str) -> Outputs:
    """Build and deploy the sample consumer of ``sqs``, ``fifo`` or ``kinesis``."""
    wanted = ("HeadgateLayerArn", "TelemetryStreamName", "TelemetryStreamArn")
    overrides = parameters() | {name: headgate[name] for name in wanted} | {"Source": source}
    return _deploy(aws, "orders", ROOT / "examples" / "orders.yaml", overrides)


def deploy_catalog(
    aws: EmbeddedAws, headgate: Outputs, way: Way, *, stack: str = "catalog", **overrides: str
) -> Outputs:
    """Deploy the sample ECS service with its load balancer, and return the outputs of its stack.

    Parameters
    ----------
    way
        ``green-service`` deploys a service of the controller ECS. ``task-sets`` deploys one of the controller EXTERNAL,
        and creates its first task set, which a rollout deletes and so belongs to no stack.
    stack
        Name of the stack, and of everything in it.

    Raises
    ------
    DeploymentError
        If the stack was not created.
    """
    from tools.dist import telemetry_wheel  # It imports SAM, which few callers need.

    subnets = aws.client("ec2").describe_subnets()["Subnets"][:2]
    given = {
        "Vpc": subnets[0]["VpcId"],
        "Subnets": ",".join(each["SubnetId"] for each in subnets),
        "Image": "catalog:1",
        # Without a Docker engine, a task is a process with this checkout's files.
        "Command": f"python3,{ROOT / 'examples' / 'catalog' / 'app.py'}",
        "PythonPath": str(telemetry_wheel(ROOT, WORK / "telemetry")),
        # Ports below 1024 need root.
        "ListenerPort": "8080",
        "DeploymentController": {"green-service": "ECS", "task-sets": "EXTERNAL"}[way],
        "TelemetryStreamName": headgate["TelemetryStreamName"],
        "TelemetryStreamArn": headgate["TelemetryStreamArn"],
    } | overrides
    # It has nothing to build, so it is created as the AWS CLI does.
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(ROOT / "examples" / "catalog.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
    )
    try:
        cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    except WaiterError as error:
        raise DeploymentError(f"the stack {stack} was not created: {_why(cloudformation, stack)}") from error
    outputs = _outputs(aws, stack)
    if way == "task-sets":
        _create_first_task_set(aws, outputs, given["Subnets"].split(","))
    return outputs


def _why(cloudformation: Any, stack: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [each for each in events if each["ResourceStatus"].endswith("FAILED")]
    return "; ".join(f"{each['LogicalResourceId']}: {each.get('ResourceStatusReason')}" for each in failed)


def _create_first_task_set(aws: EmbeddedAws, outputs: Outputs, subnets: list[str]) -> None:
    """Create the task set that serves before the first rollout."""
    ecs, named = aws.client("ecs"), {"cluster": outputs["Cluster"], "service": outputs["Service"]}
    network = {"subnets": subnets, "securityGroups": [outputs["TaskSecurityGroup"]], "assignPublicIp": "ENABLED"}
    first = ecs.create_task_set(
        **named,
        taskDefinition=outputs["FirstRevision"],
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
        loadBalancers=[{"targetGroupArn": outputs["BlueGroup"], "containerName": "app", "containerPort": 8080}],
        scale={"value": 100, "unit": "PERCENT"},
    )["taskSet"]
    ecs.update_service_primary_task_set(**named, primaryTaskSet=first["id"])


def deploy_shop(
    aws: EmbeddedAws, headgate: Outputs, release: str, *, template: str = "shop", **overrides: str
) -> Outputs:
    """Build and deploy a release of the sample shop, whose stack rolls out with Headgate.

    Parameters
    ----------
    template
        Name of the template in ``examples``. The stack has the same name, with hyphens.

    Raises
    ------
    DeploymentError
        If the stack was not deployed, because Headgate rolled the release back, for example.
    """
    wanted = ("HeadgateLayerArn", "TelemetryStreamName", "TelemetryStreamArn")
    given = parameters() | {name: headgate[name] for name in wanted} | {"Release": release} | overrides
    return _deploy(aws, template.replace("_", "-"), ROOT / "examples" / f"{template}.yaml", given)


def _deploy(aws: EmbeddedAws, stack: str, template: Path, overrides: Outputs) -> Outputs:
    build = WORK / "build" / stack
    settings = ["--parameter-overrides", *(f"{name}={value}" for name, value in overrides.items())]
    common = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local"]
    _sam(
        aws,
        [
            *("build", *common, "--template", str(template), "--build-dir", str(build)),
            *settings,
        ],
    )
    _sam(aws, ["deploy", *common, "--stack-name", stack, "--template", str(build / "template.yaml"), *settings])
    return _outputs(aws, stack)


def _outputs(aws: EmbeddedAws, stack: str) -> Outputs:
    described = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def _sam(aws: EmbeddedAws, arguments: list[str], folder: Path = ROOT) -> None:
    # Variables that were given to make, such as TARGET, would count in the makefiles of the layers too.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    }
    # The layer's makefile uses this environment's pip.
    environment = inherited | aws.environment() | {"PYTHON": sys.executable, "PYTHONWARNINGS": "ignore"}
    WORK.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(SAM), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    with (WORK / "sam.log").open("a") as log:
        log.write(f"$ sam {' '.join(arguments)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise DeploymentError(f"sam {arguments[0]} failed ({done.returncode}); its last lines:\n{tail}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print a step, a dot every two seconds while it runs, and its duration."""
    print(f"  {what} ", end="", flush=True)
    begun, done = time.monotonic(), threading.Event()
    dots = threading.Thread(target=_print_dots, args=(done,), daemon=True)
    dots.start()
    try:
        yield
    finally:
        done.set()
        dots.join()
    print(f"({time.monotonic() - begun:.1f} s)", flush=True)


def _print_dots(done: threading.Event) -> None:
    while not done.wait(2):
        print(".", end="", flush=True)
