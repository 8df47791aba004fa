"""The request that ``start`` and ``plan`` send: from a file, from options, or from both. Options win."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headgate_cli.failures import Failure
from headgate_cli.request_files import read_request_file
from headgate_cli.rollouts import Duration, target_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.spec.request import RolloutRequest
    from headgate_cli.stack import Stack

    Command = TypeVar("Command", bound=Callable[..., Any])

HOOK_STAGES = {
    "before_traffic": ("beforeTraffic", "after the candidate is ready and before it gets traffic"),
    "before_step": ("beforeStep", "before each shift of traffic"),
    "after_step": ("afterStep", "after each bake"),
    "after_traffic": ("afterTraffic", "after the promotion"),
    "on_rollback": ("onRollback", "after a rollback"),
}
"""Options with hooks: the field of a request, and when the hook runs."""

CANDIDATES = {
    "version": "--version",
    "publish": "--publish",
    "confirm": "--confirm",
    "s3": "--s3",
    "images": "--image",
    "task_definition": "--task-definition",
}
"""Options with a candidate, by their parameters."""

GUARDS = {
    "alarms": "--alarm",
    "strict_alarms": "--strict-alarms",
    "errors": "--errors",
    "latency": "--latency",
    "tolerate": "--tolerate",
    "evidence": "--evidence",
    "alpha": "--alpha",
    "on_no_data": "--on-no-data",
}
"""Options with guards, by their parameters."""


def request_options(command: Command) -> Command:
    """Give a command the target and the options of a request. They come in ``**asked``, for ``detail_of``."""
    options = [
        click.argument("target", required=False),
        click.option("--file", "file", metavar="FILE", help="Request as JSON or YAML; - for the standard input."),
        click.option("--id", "id", metavar="ID", help="Id of the rollout.  [default: a new one]"),
        click.option("--mapping", metavar="UUID", help="Roll out the consumer behind this event source mapping."),
        click.option("--source", metavar="NAME", help="Roll out the consumer of this queue or stream: name or ARN."),
        click.option("--function", metavar="NAME", help="With --source: the consumer, if the source has several."),
        click.option("--service", metavar="CLUSTER/SERVICE", help="Roll out this ECS service; its ARN will do too."),
        click.option("--mode", type=click.Choice(["split", "ramp"]), help="For a consumer: how traffic moves."),
        click.option(
            "--keep",
            type=Duration(or_none=True),
            metavar="DURATION",
            help="For a service: how long the stable revision is kept at 100 %, before the promotion, such as 30m; 0s: "
            "not at all.  [default: 5m]",
        ),
        click.option("--version", metavar="NUMBER", help="Candidate: this published version."),
        click.option("--publish", is_flag=True, help="Candidate: publish $LATEST. The default, but for a service."),
        click.option("--confirm", metavar="SHA256", help="Candidate: publish $LATEST if it has this CodeSha256."),
        click.option("--s3", metavar="s3://BUCKET/KEY", help="Candidate: publish this deployment package."),
        click.option(
            "--image",
            "images",
            metavar="[CONTAINER=]URI",
            multiple=True,
            help="Candidate: publish this container image; of a service, run it in this container. Repeatable then.",
        ),
        click.option("--task-definition", metavar="FAMILY:NUMBER", help="Candidate: this revision, for a service."),
        click.option("--strategy", metavar="NAME", help="Preset such as Linear10PercentEvery1Minute, or JSON."),
        click.option("--alarm", "alarms", metavar="NAME", multiple=True, help="Guard: a CloudWatch alarm. Repeatable."),
        click.option("--strict-alarms", is_flag=True, help="Refuse the rollout while one of the alarms fires."),
        click.option("--errors", is_flag=True, help="Guard: compare error rates."),
        click.option("--latency", metavar="MS", help="Guard: compare requests slower than this; auto: from the past."),
        click.option("--tolerate", type=float, metavar="SHARE", help="With 0.5, a rate may be 1.5 times as high."),
        click.option("--evidence", type=click.Choice(["telemetry", "cloudwatch"]), help="Source of the counts."),
        click.option("--alpha", type=float, metavar="NUMBER", help="Probability of a false rollback, such as 0.01."),
        click.option("--on-no-data", type=click.Choice(["wait", "fail", "pass"]), help="If a bake has no requests."),
        click.option("--no-guards", is_flag=True, help="Let nothing guard the rollout."),
        *(
            click.option(f"--{name.replace('_', '-')}", metavar="HOOK", multiple=True, help=f"Hook {when}. Repeatable.")
            for name, (_, when) in HOOK_STAGES.items()
        ),
        click.option(
            "--pause-on-failure",
            type=click.Choice(["current", "zero"]),
            help="Wait for an operator instead of rolling back: at the current weight, or without traffic.",
        ),
        click.option(
            "--pause-limit",
            type=Duration(),
            metavar="DURATION",
            help="With --pause-on-failure: how long to wait, such as 2h.",
        ),
        click.option("--on-busy", type=click.Choice(["wait", "refuse"]), help="If the target has a rollout already."),
        click.option(
            "--after-promotion",
            type=Duration(),
            metavar="DURATION",
            help="Keep alarms and limits counting after the promotion, such as 24h.",
        ),
        click.option(
            "--after-promotion-then",
            type=click.Choice(["undo", "report"]),
            help="With --after-promotion: what happens at a fault.  [default: report]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def detail_of(stack: Stack, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail of the request. It is not checked yet.

    Parameters
    ----------
    stack
        For ``--source``, whose mapping is looked up.
    asked
        The values of ``request_options``.
    """
    detail = read_request_file(asked["file"], "Rollout Requested") if asked["file"] else {}
    if target := _target(stack, asked):
        # What the file says of a target of this kind stays, such as readySeconds.
        before = _object(detail, "target")
        detail["target"] = (before if before.get("kind") == target["kind"] else {}) | target
    elif "target" not in detail:
        raise Failure(
            "there is no target; give one such as checkout:live, a consumer by --mapping, an ECS service by --service, "
            "or a --file"
        )
    # Imported when needed: it reads the options that are declared here.
    from headgate_cli.naming_options import refuse_options_of_other_kinds

    refuse_options_of_other_kinds(_object(detail, "target").get("kind"), asked)
    if asked["mode"]:
        detail["target"] = _object(detail, "target") | {"mode": asked["mode"]}
    if asked["keep"] is not None:
        detail["target"] = _object(detail, "target") | {"keepSeconds": round(asked["keep"])}
    chosen = {
        "id": asked["id"],
        "candidate": _candidate(asked),
        "strategy": _strategy(asked["strategy"]),
        "guards": _guards(detail, asked),
        "hooks": _hooks_of(detail, asked),
        "onFailure": _on_failure(detail, asked),
        "onBusy": asked["on_busy"],
        "afterPromotion": _after_promotion(detail, asked),
    }
    detail |= {field: value for field, value in chosen.items() if value is not None}
    return detail


def with_id(detail: dict[str, Any]) -> dict[str, Any]:
    """Return the detail with a new id, if it has none."""
    return {"id": new_id(detail["target"]), **detail}


def read(detail: dict[str, Any]) -> RolloutRequest:
    """Read the detail as Headgate does. Raises RequestRefused with the same message."""
    from headgate.spec.request import read_request

    return read_request(detail, "unused")


def new_id(target: object, prefix: str = "") -> str:
    """Return an id that nobody else makes: what is rolled out, the time, and a few random digits."""
    known = target if isinstance(target, dict) else {}
    named = str(known.get("function") or known.get("mapping") or known.get("service") or "rollout")
    named = re.split("[:/]", named)[-1]
    plain = re.sub(r"[^A-Za-z0-9-_]", "-", named).lstrip("-_")[:64] or "rollout"
    return f"{prefix}{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def target_in(key: str) -> dict[str, Any]:
    """Return the target with a key, as requests name it."""
    kind, *names = key.split("/")
    fields = {
        "lambda-alias": ("function", "alias"),
        "event-source": ("mapping",),
        "ecs-service": ("cluster", "service"),
    }
    return {"kind": kind, **dict(zip(fields[kind], names, strict=True))}


def _object(detail: dict[str, Any], field: str) -> dict[str, Any]:
    """Return the object in a field that options add to; empty if there is none."""
    found = detail.get(field)
    return dict(found) if isinstance(found, dict) else {}


def _target(stack: Stack, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    given = {
        "TARGET": asked["target"],
        "--mapping": asked["mapping"],
        "--source": asked["source"],
        "--service": asked["service"],
    }
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(named)} both name the target; give one of them")
    if asked["function"] and not asked["source"]:
        raise click.UsageError("--function needs --source; name an alias as the argument, such as checkout:live")
    if asked["mapping"]:
        return {"kind": "event-source", "mapping": asked["mapping"]}
    if asked["source"]:
        return {"kind": "event-source", "mapping": find_mapping(stack, asked["source"], asked["function"])}
    if asked["service"]:
        return _service(asked["service"])
    if not asked["target"]:
        return None
    if key := target_key(asked["target"]):
        return target_in(key)
    raise click.UsageError(
        f"TARGET must be a function and its alias, such as checkout:live, a cluster and its service, such as web/shop, "
        f"or the UUID of a mapping (given {asked['target']})"
    )


def _service(given: str) -> dict[str, Any]:
    """Return the target that ``--service`` names: ``web/shop``, or its ARN. An ARN keeps account and Region checked."""
    key = target_key(given) or ""
    if not key.startswith("ecs-service/"):
        raise click.UsageError(
            f"--service must be a cluster and its service, such as web/shop, or the ARN of a service (given {given})"
        )
    return target_in(key) | ({"service": given} if given.startswith("arn:") else {})


def find_mapping(stack: Stack, source: str, function: str | None) -> str:
    """Return the UUID of the mapping that reads a queue or stream for a function.

    Raises
    ------
    Failure
        If there is none, or several. The message lists them.
    """
    by_source = {"EventSourceArn": source} if source.startswith("arn:") else {}
    pages = stack.client("lambda").get_paginator("list_event_source_mappings").paginate(**by_source)
    found = [
        mapping
        for page in pages
        for mapping in page["EventSourceMappings"]
        if _reads(mapping, source) and (not function or _function_of(mapping) == function.rpartition(":function:")[2])
    ]
    whose = f" for {function}" if function else ""
    if not found:
        raise Failure(
            f"no event source mapping reads {source}{whose}; check both names and the Region "
            "(aws lambda list-event-source-mappings)"
        )
    if len(found) > 1:
        listed = ", ".join(
            f"{mapping['UUID']} ({mapping['FunctionArn'].partition(':function:')[2]})" for mapping in found
        )
        fix = "give one as --mapping" if function else "give --function, or one as --mapping"
        raise Failure(f"{len(found)} event source mappings read {source}{whose}: {listed}; {fix}")
    return str(found[0]["UUID"])


def _reads(mapping: Mapping[str, Any], source: str) -> bool:
    arn = str(mapping.get("EventSourceArn", ""))
    # arn:aws:sqs:...:orders, arn:aws:kinesis:...:stream/orders, arn:aws:dynamodb:...:table/orders/stream/2026-...
    return source in (arn, arn.rpartition(":")[2], *arn.split("/")[1:2])


def _function_of(mapping: Mapping[str, Any]) -> str:
    return str(mapping["FunctionArn"]).partition(":function:")[2].partition(":")[0]


def _candidate(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    given = [option for name, option in CANDIDATES.items() if asked[name]]
    if set(given) == {"--publish", "--confirm"}:
        given = ["--confirm"]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} each name a candidate; give one of them")
    if asked["version"]:
        return {"version": asked["version"]}
    if asked["publish"] or asked["confirm"]:
        return {"publish": {"confirm": asked["confirm"]} if asked["confirm"] else {}}
    if asked["images"]:
        return _images(asked["images"])
    if asked["task_definition"]:
        return {"taskDefinition": asked["task_definition"]}
    if not asked["s3"]:
        return None
    bucket, _, key = asked["s3"].removeprefix("s3://").partition("/")
    if not asked["s3"].startswith("s3://") or not key:
        raise click.UsageError(f"--s3 must be like s3://bucket/key (given {asked['s3']})")
    return {"code": {"s3Bucket": bucket, "s3Key": key}}


_CONTAINER_IMAGE = re.compile(r"(?P<container>[a-zA-Z0-9_-]+)=(?P<uri>.+)")


def _images(given: tuple[str, ...]) -> dict[str, Any]:
    """Return the candidate of images: new code of a function, or by their containers a revised task definition."""
    named = [_CONTAINER_IMAGE.fullmatch(each) for each in given]
    images = {match["container"]: match["uri"] for match in named if match}
    if not images and len(given) == 1:
        return {"code": {"imageUri": given[0]}}
    if len(images) < len(given):
        raise click.UsageError(
            "--image can be repeated for different containers of a service, as in --image app=URI "
            f"(given {', '.join(given)})"
        )
    return {"revise": {"images": images}}


def _strategy(given: str | None) -> Any:
    import json

    from headgate.json_faults import json_fault

    if given is None or not given.lstrip().startswith(("{", "[", '"')):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--strategy is not JSON: {json_fault(error)}; put it in single quotes") from None


def _guards(detail: dict[str, Any], asked: Mapping[str, Any]) -> Any:
    """Return the guards, with those of the options; None if the options name none."""
    given = [option for name, option in GUARDS.items() if asked[name] not in (None, False, ())]
    if asked["no_guards"]:
        if given:
            raise click.UsageError(f"--no-guards contradicts {given[0]}; give one of them")
        return "none"
    if not given:
        return None
    guards = _object(detail, "guards")
    if asked["alarms"]:
        guards["alarms"] = list(asked["alarms"])
    if asked["errors"]:
        guards["errors"] = _object(guards, "errors")
    if asked["latency"]:
        guards["latency"] = _object(guards, "latency") | _threshold(asked["latency"])
    if asked["tolerate"] is not None:
        compared = [name for name in ("errors", "latency") if isinstance(guards.get(name), dict)]
        if not compared:
            raise click.UsageError("--tolerate needs a comparison; add --errors or --latency")
        guards |= {name: guards[name] | {"tolerate": asked["tolerate"]} for name in compared}
    wire = {"strict_alarms": "strictAlarms", "evidence": "evidence", "alpha": "alpha", "on_no_data": "onNoData"}
    return guards | {field: asked[name] for name, field in wire.items() if asked[name] not in (None, False)}


def _threshold(given: str) -> dict[str, float]:
    if given == "auto":
        return {}
    try:
        number = float(given.removesuffix("ms"))
    except ValueError:
        raise click.UsageError(f"--latency must be milliseconds such as 250, or auto (given {given})") from None
    return {"thresholdMs": number}


def _hooks_of(detail: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the hooks, with those of the options instead of the file's at the same stage; None without options."""
    hooks = {field: [_hook(each) for each in asked[name]] for name, (field, _) in HOOK_STAGES.items() if asked[name]}
    return _object(detail, "hooks") | hooks if hooks else None


def _hook(given: str) -> dict[str, Any]:
    """Return a hook by a function's name, codedeploy:NAME, lifecycle:NAME, task:FAMILY, machine:NAME, or by its ARN."""
    if given.startswith("codedeploy:"):
        return {"codeDeployHook": given.removeprefix("codedeploy:")}
    if given.startswith("lifecycle:"):
        return {"ecsLifecycleHook": given.removeprefix("lifecycle:")}
    if ":stateMachine:" in given or given.startswith("machine:"):
        return {"stateMachine": given.removeprefix("machine:")}
    if ":task-definition/" in given or given.startswith("task:"):
        return {"ecsTask": {"taskDefinition": given.removeprefix("task:")}}
    return {"lambda": given}


def _on_failure(detail: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any] | None:
    if not asked["pause_on_failure"]:
        if asked["pause_limit"]:
            raise click.UsageError("--pause-limit needs --pause-on-failure")
        return None
    before = _object(_object(detail, "onFailure"), "pause")
    limit = {"limitSeconds": round(asked["pause_limit"])} if asked["pause_limit"] else {}
    return {"pause": before | {"at": asked["pause_on_failure"]} | limit}


def _after_promotion(detail: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any] | None:
    hours, then = asked["after_promotion"], asked["after_promotion_then"]
    before = _object(detail, "afterPromotion")
    if then and not (hours or before):
        raise click.UsageError("--after-promotion-then needs --after-promotion")
    chosen = {"hours": hours / 3600 if hours else None, "then": then}
    return before | {field: value for field, value in chosen.items() if value is not None} or None
