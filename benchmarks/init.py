"""Imports and module level of each function in a fresh process, next to a function that does nothing."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import ROOT, Section, say, table

LIMIT = 1.15
BIGGEST = 10
PYTHON = ROOT / ".venv" / "bin" / "python"
LAYERS = ("DependenciesLayer", "HeadgateLayer")

BASELINE = """
import boto3
from aws_lambda_powertools import Logger
from pydantic import BaseModel

logger = Logger()


class Request(BaseModel):
    name: str
    number: int = 0


def handler(event, context):
    return {}
"""

TIMED = """
import sys, time
# Optional for boto3, and here only because other tools want them.
sys.modules["awscrt"] = sys.modules["cryptography"] = None
begun = time.process_time()
import app
print(time.process_time() - begun)
"""

SETTINGS = {
    "TABLE": "table",
    "RETENTION_DAYS": "90",
    "ROLLOUT_MACHINE": "arn:aws:states:us-east-1:000000000000:stateMachine:headgate-rollout",
    "DEAD_LETTERS": "http://localhost/dead-letters",
    "FIFO_DEAD_LETTERS": "http://localhost/dead-letters.fifo",
    "SIGNAL_DEAD_LETTERS": "http://localhost/signal-dead-letters",
    "TASK_MACHINE": "arn:aws:states:us-east-1:000000000000:stateMachine:headgate-ecs-task",
    "REDRIVE_MACHINE": "arn:aws:states:us-east-1:000000000000:stateMachine:headgate-redrive",
    "STACK_MACHINE": "arn:aws:states:us-east-1:000000000000:stateMachine:headgate-stack",
    "JOBS": "http://localhost/jobs",
    "JOB_DEAD_LETTERS": "http://localhost/job-dead-letters",
    "UNDELIVERED": "http://localhost/undelivered",
    "REQUESTS": "http://localhost/requests",
    "FIFO_REQUESTS": "http://localhost/requests.fifo",
    "TASK_ROLES": "",
    "TOPIC": "arn:aws:sns:us-east-1:000000000000:headgate",
    "STACK": "headgate",
    "SLACK_CHANNEL": "",
    "TEAMS": "false",
    "AMAZON_Q": "false",
    "CLEAN_FUNCTIONS": "outdated-*",
    "TRIGGER_FOLDER": "/headgate/headgate/triggers",
    "PUBLISHING_ROLES": "arn:aws:iam::123456789012:role/headgate-LambdaAliasDriverRole",
    "URL_SUFFIX": "amazonaws.com",
    "KEEP_VERSIONS": "10",
    "CLEAN_OLDER_THAN_DAYS": "30",
    "DRIVERS": '{"lambda-alias": "arn:aws:lambda:us-east-1:000000000000:function:driver"}',
    "ACCOUNT": "000000000000",
    "TASK_DEFINITIONS": "*",
    "REGISTER_TASK_DEFINITIONS": "false",
    "TASK_CLUSTERS": "*",
    "PARTITION": "aws",
    "HOLDING_PREFIX": "headgate-held-",
    "PREFIX": "headgate",
    "OWN_QUEUES": "{}",
    "PATTERNS": '{"TargetFunctions": "*"}',
    "KEEP_AWAKE": "headgate-judge",
    "STREAM_TARGETS": "",
    "TARGET_STREAMS": "*",
    "SETTLE_SECONDS": "60",
    "WEIGHT_SETTLE_SECONDS": "15",
    "TELEMETRY": "false",
    "BUS": "headgate",
    "POWERTOOLS_SERVICE_NAME": "headgate",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    # Layers hold no bytecode and are read-only on Lambda: each start compiles. The runtime's own boto3 is compiled.
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Pairs(NamedTuple):
    """A function's starts and the baseline's, one of each in turn."""

    function: str
    own: list[float]
    baseline: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.own) / statistics.median(self.baseline)

    def spread(self) -> str:
        """The middle half of the pairs' own ratios."""
        ratios = [own / baseline for own, baseline in zip(self.own, self.baseline, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        return f"{low:.2f} to {high:.2f}"


def measure(build: Path, quick: bool) -> Section:
    """Start every function of a build, and the baseline, in turn."""
    pairs = 2 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        # A copy, for somebody may build again meanwhile.
        copy = Path(shutil.copytree(build, Path(folder) / "build", ignore=shutil.ignore_patterns("__pycache__")))
        baseline = Path(folder) / "baseline"
        baseline.mkdir()
        (baseline / "app.py").write_text(BASELINE)
        layers = [copy / layer / "python" for layer in LAYERS]
        functions = sorted(path.parent for path in copy.glob("*/app.py"))
        measured = {path.name: Pairs(path.name, [], []) for path in functions}
        for one in [baseline, *functions]:
            _start(one, layers)  # Its files are in memory by now.
        for number in range(pairs):
            for path in functions:
                pair = [(measured[path.name].own, path), (measured[path.name].baseline, baseline)]
                for seconds, one in pair if number % 2 else reversed(pair):
                    seconds.append(_start(one, layers))
            say(f"  {number + 1} of {pairs}")
        sizes = _sizes(layers)
    return Section("\n\n".join(_paragraphs(list(measured.values()), sizes, pairs)))


def _start(function: Path, layers: list[Path]) -> float:
    """Seconds of processor time for a function's imports and module level, without the interpreter's own start."""
    # As on Lambda: the function's folder, the layers, then what the runtime has.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, [function, *layers]))} | SETTINGS
    done = subprocess.run(
        [str(PYTHON), "-c", TIMED], cwd=function, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{function.name} does not start:\n{done.stderr}")
    return float(done.stdout)


def _sizes(layers: list[Path]) -> dict[str, dict[str, int]]:
    return {
        layer.parent.name: {
            item.name: sum(file.stat().st_size for file in [item, *item.rglob("*")] if file.is_file())
            for item in layer.iterdir()
        }
        for layer in layers
    }


def _paragraphs(measured: list[Pairs], sizes: dict[str, dict[str, int]], pairs: int) -> list[str]:
    missed = [one.function for one in measured if one.ratio > LIMIT]
    verdict = f"missed by {', '.join(missed)}" if missed else "met by every function"
    items = [(layer, item, size) for layer, found in sizes.items() for item, size in found.items()]
    biggest = sorted(items, key=lambda item: -item[2])[:BIGGEST]
    total = sum(size for _, _, size in items)
    layers = ", ".join(f"{name} {_mb(sum(found.values()))}" for name, found in sizes.items())
    told = (
        "Imports and module level in a fresh process, from what `sam build` made (both layers and the function's "
        "folder), next to a function that imports boto3, Powertools' Logger and pydantic, and makes a Logger and one "
        f"model; {pairs} pairs each, one of either in turn, medians. It is processor time, which whatever else the "
        "machine does disturbs less than the clock. boto3 comes from the project's environment, compiled, and "
        "without awscrt and cryptography, which it does not require; the layers are compiled at each start, as on "
        "Lambda, which cannot keep bytecode. Clients and models are made when they are first used, so a "
        f"part of the work comes with the first event. Limit: a ratio of {LIMIT}: {verdict}."
    )
    return [
        "## Init",
        told,
        table(
            ["function", "ms", "baseline, ms", "ratio", "middle half of pairs", f"limit {LIMIT}"],
            [
                [
                    one.function,
                    f"{statistics.median(one.own) * 1000:.0f}",
                    f"{statistics.median(one.baseline) * 1000:.0f}",
                    f"{one.ratio:.2f}",
                    one.spread(),
                    "met" if one.ratio <= LIMIT else "missed",
                ]
                for one in measured
            ],
        ),
        f"Unpacked size of the layers: {_mb(total)} of the 250 MB that Lambda takes ({layers}). The biggest items:",
        table(["item", "layer", "MB"], [[item, layer, f"{size / 1e6:.2f}"] for layer, item, size in biggest]),
    ]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
