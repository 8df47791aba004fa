"""The demo: Headgate rolls out a good and a bad release of a sample service on the embedded AWS.

``run`` starts everything, shows both rollouts, checks the results and stops everything that it started. With
``--consumer`` it rolls out the consumer of a queue or stream, with ``--target ecs`` an ECS service behind a load
balancer. With ``--stack`` it deploys a stack that rolls out with Headgate.
``serve`` starts everything and leaves it running; ``traffic`` sends requests to it; ``stop`` stops it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.consumer import SOURCES, consumer_event, print_consumer_summary, run_consumer
from demo.ecs_service import (
    WAYS,
    WatchedService,
    deploy_service,
    print_service_summary,
    run_ecs_service,
    service_event,
    url_of_service,
)
from demo.report import write_report
from demo.rollout_watch import Rollout, WatchedAlias, follow, release, with_strategy
from demo.stack import print_stack_summary, run_stack, strategy_of
from demo.traffic import Traffic, WebTraffic, tally
from emulator.application import ROOT, WORK, DeploymentError, Outputs, deploy_headgate, deploy_sample, timed
from emulator.server import EmbeddedAws, EmbeddedAwsError, PermissionUse, is_free
from headgate.errors import RequestRefused
from headgate.spec.plan import planned_steps
from headgate.spec.request import read_request
from headgate.spec.strategy import steps_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.spec.request import RolloutRequest
    from headgate.spec.strategy import Step

EVENTS = Path(__file__).parent / "events"
FUNCTION, ALIAS = "checkout", "live"
SERVE_PORT = 4566

HEADGATE = ".venv/bin/python -m headgate_cli"
"""The command in the environment of the demo, which has no script of it."""


def main() -> int:
    """Run the command line. The exit status is 0 if both rollouts ended as expected."""
    options = _parse()
    try:
        match options.verb:
            case "run":
                return run(options)
            case "serve":
                serve()
            case "traffic":
                keep_traffic(options.rps, options.target)
            case "stop":
                print("Stopped." if EmbeddedAws.stop_detached() else "Nothing was running.")
    except (DeploymentError, EmbeddedAwsError, RequestRefused, TimeoutError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Everything that the demo started has been stopped.", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> int:
    """Run both rollouts and print the summary."""
    if options.consumer:
        _announce_plan(consumer_event(options.consumer, options.strategy))
        with EmbeddedAws() as aws:
            headgate = _headgate_on(aws)
            summary = run_consumer(options, aws, headgate)
            print_consumer_summary(summary)
            _finish(aws, headgate, summary)
    elif options.stack:
        _announce_steps(strategy_of(options.strategy)[1])
        with EmbeddedAws() as aws:
            headgate = _headgate_on(aws)
            summary = run_stack(options, aws, headgate)
            print_stack_summary(summary)
            _finish(aws, headgate, summary)
    elif options.target == "ecs":
        _announce_plan(service_event(options.strategy, options.way))
        with EmbeddedAws() as aws:
            headgate = _headgate_on(aws)
            summary = run_ecs_service(options, aws, headgate)
            print_service_summary(summary)
            _finish(aws, headgate, summary)
    else:
        summary = _run_alias(options)
    if options.summary:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        options.summary.write_text(json.dumps(summary, indent=2) + "\n")
        print(f"\nThe summary is in {options.summary}.")
    return 0 if summary["ok"] else 1


def _run_alias(options: argparse.Namespace) -> dict[str, Any]:
    good, bad = (_event(kind, options.strategy) for kind in ("good", "bad"))
    _announce_plan(good)
    with EmbeddedAws() as aws:
        headgate = _deployed(aws)
        with Traffic(aws, FUNCTION, ALIAS, options.rps) as traffic:
            print(f"  {options.rps:g} requests per second on {FUNCTION}:{ALIAS}")
            watched, rollouts = WatchedAlias(aws, FUNCTION, ALIAS, traffic), []
            for title, event, error_rate, expected in (
                ("a good release", good, 0.0, "succeeded"),
                (
                    f"a bad release: {options.bad_error_rate:.0%} of its requests fail",
                    bad,
                    options.bad_error_rate,
                    "rolled-back",
                ),
            ):
                print(f"\n{title[0].upper()}{title[1:]}  ({_file(event).relative_to(ROOT)})")
                release(aws, FUNCTION, error_rate)
                rollouts.append(follow(aws, headgate, event, watched, expected))
            summary = _summarise(options, rollouts, traffic, aws.denials())
        _print_summary(summary)
        _finish(aws, headgate, summary)
    return summary


def _finish(aws: EmbeddedAws, headgate: Outputs, summary: dict[str, Any]) -> None:
    """Write the report while the record is there, and say that everything stops."""
    report = write_report(aws, headgate, summary)
    summary["report"] = str(report) if report else None
    if report:
        print(f"\nThe report of the rollout that was rolled back is in {report}.")
    # Removing the files of all functions takes seconds on a slow disk.
    print("\nStopping the embedded AWS ...", flush=True)


def serve() -> None:
    """Start the embedded AWS with the application and the sample service, and leave it running."""
    if EmbeddedAws.find_detached():
        print("The embedded AWS is already running.\n")
    else:
        aws = EmbeddedAws.serve_detached(port=SERVE_PORT if is_free(SERVE_PORT) else None)
        try:
            headgate = _deployed(aws)
            deploy_service(aws, headgate, WAYS[0])
        except BaseException:
            EmbeddedAws.stop_detached()
            raise
    running = EmbeddedAws.find_detached()
    if running is None:
        raise EmbeddedAwsError("the embedded AWS has stopped; see its log in .local/")
    _print_guide(running)


def keep_traffic(rps: float, target: str | None = None) -> None:
    """Send requests to the sample function, or the sample ECS service, and show the results until Ctrl-C."""
    aws = EmbeddedAws.find_detached()
    if aws is None:
        raise EmbeddedAwsError("the embedded AWS is not running; start it with: make demo-serve")
    url = url_of_service(aws) if target == "ecs" else ""
    called = WatchedService.called if url else WatchedAlias.called
    with WebTraffic(url, rps) if url else Traffic(aws, FUNCTION, ALIAS, rps) as traffic:
        print(f"{rps:g} requests per second to {url or f'{FUNCTION}:{ALIAS}'}. Press Ctrl-C to stop.")
        while True:
            begun = time.monotonic()
            time.sleep(2)
            counts = tally(traffic.since(begun))
            print("   ".join(f"{called} {v}: {n} requests, {e} errors" for v, (n, e) in counts.items()), flush=True)


def _deployed(aws: EmbeddedAws) -> Outputs:
    headgate = _headgate_on(aws)
    with timed("sam build and sam deploy: checkout, the service to roll out"):
        deploy_sample(aws, headgate)
    return headgate


def _headgate_on(aws: EmbeddedAws) -> Outputs:
    print(f"  embedded AWS on {aws.endpoint_url}", flush=True)
    with timed("sam build and sam deploy: headgate"):
        return deploy_headgate(aws)


def _event(kind: str, strategy: str | None) -> dict[str, Any]:
    """Return an event from demo/events/ with the given strategy."""
    event: dict[str, Any] = json.loads((EVENTS / f"{kind}_release.json").read_text())
    return with_strategy(event, strategy)


def _file(event: dict[str, Any]) -> Path:
    return EVENTS / f"{event['detail']['id'].split('-')[1]}_release.json"


def _announce_plan(event: dict[str, Any]) -> None:
    print(f"Headgate demo. {announcement_of(read_request(event['detail'], 'demo'))}\n")


def announcement_of(request: RolloutRequest) -> str:
    """Return what a rollout will do, with the step that keeps the stable revision of a service."""
    steps = steps_of(request.strategy)
    return _strategy(steps, sum(step.bake_seconds for step in planned_steps(request)[len(steps) :]))


def _announce_steps(steps: Sequence[Step]) -> None:
    print(f"Headgate demo. {_strategy(steps)}\n")


def _strategy(steps: Sequence[Step], keep_seconds: int = 0) -> str:
    seconds = sum(step.bake_seconds for step in steps) + keep_seconds
    shape = ", ".join(f"{step.weight:g} % for {step.bake_seconds} s" for step in steps)
    kept = f" with the stable revision kept for {keep_seconds} s" if keep_seconds else ""
    return f"Strategy: {shape}, then 100 %{kept}. A rollout bakes for {seconds} s if nothing stops it."


def _summarise(
    options: argparse.Namespace, rollouts: list[Rollout], traffic: Traffic, denials: list[PermissionUse]
) -> dict[str, Any]:
    return {
        "strategy": options.strategy or "as in the events",
        "rps": options.rps,
        "badErrorRate": options.bad_error_rate,
        "requests": len(traffic.requests),
        "unanswered": traffic.unanswered,
        "rollouts": [rollout.to_summary() for rollout in rollouts],
        "denials": [str(denial) for denial in denials],
        "ok": all(rollout.ended_right for rollout in rollouts) and traffic.unanswered == 0 and not denials,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    print("\nSummary")
    for rollout in summary["rollouts"]:
        print(f"  {rollout['rolloutId']}: {rollout['outcome']} after {rollout['seconds']:.1f} s")
        print(f"    {rollout['reason']}")
        for version, counts in rollout["requests"].items():
            role = {rollout["stable"]: "stable", rollout["candidate"]: "candidate"}.get(version, "")
            print(f"    version {version} ({role}): {counts['requests']} requests, {counts['errors']} failed")
        if rollout["secondsFromFirstFailureToRollback"] is not None:
            print(
                f"    first failed candidate request to rollback: {rollout['secondsFromFirstFailureToRollback']:.1f} s"
            )
        print(
            f"    alias {FUNCTION}:{ALIAS} serves version {rollout['aliasServes']}, as expected"
            if rollout["ok"]
            else f"    WRONG: {'; '.join(rollout['wrong'])}"
        )
        ended_by = ", ".join(rollout["bakesEndedBy"]) or "none"
        print(f"    state transitions: {rollout['stateTransitions']}; bakes ended by: {ended_by}")
    if summary["unanswered"]:
        print(f"  WRONG: {summary['unanswered']} requests got no answer from Lambda")
    for denial in summary["denials"]:
        print(f"  WRONG: {denial}")
    print(f"\n{'Both rollouts ended as expected.' if summary['ok'] else 'The demo did NOT end as expected.'}")


def _print_guide(aws: EmbeddedAws) -> None:
    """Print commands to try out."""
    WORK.mkdir(parents=True, exist_ok=True)
    for kind, error_rate in (("good", 0.0), ("bad", 0.3)):
        event = service_event(None, WAYS[0], kind, error_rate)
        (WORK / f"catalog_{kind}_release.json").write_text(json.dumps(_without_id(event), indent=2) + "\n")
        event = json.loads((EVENTS / f"{kind}_release.json").read_text())
        detail = _without_id(event)
        entry = {
            "EventBusName": "headgate",
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(detail),
        }
        (WORK / f"{kind}_release.json").write_text(json.dumps(detail, indent=2) + "\n")
        (WORK / f"{kind}_release_event.json").write_text(json.dumps([entry], indent=2) + "\n")
    stream = next(iter(aws.client("kinesis").list_streams()["StreamNames"]))
    environment = {
        name: value
        for name, value in aws.environment().items()
        if name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    }
    folder = WORK.relative_to(ROOT) if WORK.is_relative_to(ROOT) else WORK
    print("The embedded AWS is running with Headgate, the function checkout and the ECS service catalog. Try these")
    print("commands in this folder (aws is the AWS CLI):\n")
    for name, value in environment.items():
        print(f"  export {name}={value}")
    print(guide(folder, stream))


def _without_id(event: dict[str, Any]) -> dict[str, Any]:
    """Return the request in an event. Without an id it gets the event's, so that it can be sent repeatedly."""
    return {name: value for name, value in event["detail"].items() if name != "id"}


def guide(folder: Path, stream: str) -> str:
    """Return commands to try out.

    Parameters
    ----------
    folder
        Where the requests are.
    stream
        Name of the telemetry stream.
    """
    return f"""
  # send requests, so that there is evidence
  .venv/bin/python -m demo traffic --rps 20

  # put a new release into $LATEST (a bad one with ERROR_RATE=0.3), and roll it out; the answer has the rollout's ID
  aws lambda update-function-configuration --function-name {FUNCTION} \\
    --environment 'Variables={{RELEASE=2,ERROR_RATE=0,TELEMETRY_STREAM={stream}}}'
  {HEADGATE} start --file {folder / "good_release.json"}

  # see the rollouts on a page, with buttons to pause, promote, abort and undo
  {HEADGATE} dashboard

  # or here: how it stands, live to its end, and why it ended so
  {HEADGATE} status ID
  {HEADGATE} watch ID
  {HEADGATE} explain ID

  # roll it back
  {HEADGATE} abort {FUNCTION}:{ALIAS} --reason "trying it out"

  # a request is an event, so it works without the command too
  aws events put-events --entries file://{folder / "good_release_event.json"}

  # the same for the ECS service catalog behind its load balancer: requests, a good release, and a bad one
  .venv/bin/python -m demo traffic --target ecs --rps 20
  {HEADGATE} plan --file {folder / "catalog_good_release.json"}
  {HEADGATE} start --file {folder / "catalog_good_release.json"} --wait
  {HEADGATE} start --file {folder / "catalog_bad_release.json"} --wait
  {HEADGATE} status catalog/catalog
  {HEADGATE} doctor catalog/catalog

The tasks of ECS services are processes of this machine. Tasks that run once (of a task request, or as a hook) are
containers, and so need Docker: without it, the execution of such a task stays RUNNING.
To stop the embedded AWS: make demo-stop"""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run_ = verbs.add_parser("run", help="roll out a good and a bad release and check the results")
    run_.add_argument("--strategy", help="name of a preset, or a strategy as JSON (default: as in the events)")
    instead = run_.add_mutually_exclusive_group()
    instead.add_argument(
        "--consumer", choices=SOURCES, help="roll out the consumer of a queue, FIFO queue or stream instead"
    )
    instead.add_argument(
        "--stack", action="store_true", help="deploy a stack that rolls out with Headgate instead, by sam deploy"
    )
    instead.add_argument("--target", choices=["ecs"], help="roll out an ECS service behind a load balancer instead")
    run_.add_argument(
        "--way",
        choices=WAYS,
        help="with --target ecs: the candidate runs in a second service (default) or in a second task set",
    )
    run_.add_argument("--rps", type=_number(0.5, 500), default=20.0, help="requests or orders per second (default: 20)")
    run_.add_argument(
        "--bad-error-rate",
        type=_number(0.001, 1),
        default=0.3,
        help="share of requests or orders on which the bad release fails",
    )
    run_.add_argument("--summary", type=Path, help="also write the summary to this file, as JSON")
    verbs.add_parser("serve", help="start the embedded AWS with the application and leave it running")
    traffic = verbs.add_parser("traffic", help="send requests to what serve started")
    traffic.add_argument("--rps", type=_number(0.5, 500), default=20.0, help="requests per second (default: 20)")
    traffic.add_argument("--target", choices=["ecs"], help="send them to the ECS service behind its load balancer")
    verbs.add_parser("stop", help="stop what serve started")
    options = parser.parse_args()
    if options.verb == "run":
        if options.way and not options.target:
            run_.error(f"argument --way: {options.way} is for an ECS service; give --target ecs too")
        options.way = options.way or WAYS[0]
    return options


def _number(least: float, most: float) -> Any:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
