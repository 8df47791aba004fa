"""The demo of consumers: a good and a bad release behind a queue or stream, and a ledger of all orders."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.order_ledger import Account, Try, account_of
from demo.order_stream import GROUPS, OrderStream
from demo.rollout_watch import Rollout, Standing, follow, release, with_strategy
from demo.traffic import Request
from emulator.application import ROOT, deploy_consumer, timed

if TYPE_CHECKING:
    import argparse

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

SOURCES = {"sqs": "a queue", "fifo": "a FIFO queue", "kinesis": "a stream"}
"""Sources of a consumer, and their names in messages."""

EVENTS = Path(__file__).parent / "events"
FUNCTION, ALIAS, STREAM = "orders", "live", "orders"
OLD_LETTER = {"number": 0, "group": "a dead letter from long before the rollouts"}
NO_SETTINGS = ("LastModified", "LastProcessingResult", "StateTransitionReason", "ResponseMetadata")
"""Fields of GetEventSourceMapping that are not settings or state."""

LATEST_SECONDS = 60
"""Time limit for the last orders after the last rollout."""


class OrdersConsumer:
    """The deployed consumer, its source, its ledger and the team's own dead-letter queue.

    Parameters
    ----------
    orders
        Outputs of its stack.
    """

    what = "orders tried"
    called = "version"

    def __init__(self, aws: EmbeddedAws, source: str, orders: Outputs) -> None:
        self._functions, self._sqs, self._dynamodb = aws.client("lambda"), aws.client("sqs"), aws.client("dynamodb")
        self.source, self.mapping_id = source, orders["Mapping"]
        self.into = orders.get("Queue", STREAM)
        self._queue, self._dead_letters, self._ledger = orders.get("Queue"), orders["DeadLetters"], orders["Ledger"]
        self._bury_an_old_letter()
        self._settings, self._policy = self._settings_now(), self._policy_now()

    def standing(self) -> Standing:
        """Return the versions behind the mapping: by the weights of its alias, or the version that it points at."""
        mapping = self._functions.get_event_source_mapping(UUID=self.mapping_id)
        alias = self._functions.get_alias(FunctionName=FUNCTION, Name=ALIAS)
        qualifier = mapping["FunctionArn"].rpartition(":")[2]
        if qualifier == ALIAS:
            weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
            alone = (
                f"{FUNCTION}:{ALIAS} points only at version {alias['FunctionVersion']}, and the mapping at the alias"
            )
            return Standing(alias["FunctionVersion"], weights, "" if weights else alone)
        return Standing(alias["FunctionVersion"], {qualifier: 1.0}, _pace(mapping, qualifier))

    def since(self, begun: float) -> list[Request]:
        """Return the attempts in the ledger since a time."""
        offset = time.time() - time.monotonic()
        tried = [Request(each.at - offset, each.version, each.ok) for each in self.tries()]
        return sorted(request for request in tried if request.at >= begun)

    def tries(self) -> list[Try]:
        """Return all attempts in the ledger."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._ledger, ConsistentRead=True)
        return [
            Try(
                number=int(item["number"]["N"]),
                group=item["group"]["S"],
                at=float(item["at"]["S"].partition("#")[0]),
                version=item["version"]["S"],
                ok=item["ok"]["BOOL"],
                # A ramp points the mapping of a queue at a version, but nothing is read again from a queue's source.
                again=self.source == "kinesis" and item["by"]["S"] != ALIAS,
            )
            for page in pages
            for item in page["Items"]
        ]

    def account_when_done(self, sent: list[int]) -> Account:
        """Return the result for these orders once all were processed, or the time is up."""
        deadline = time.monotonic() + LATEST_SECONDS
        while (account := account_of(sent, self.tries())).lost and time.monotonic() < deadline:
            time.sleep(0.5)
        return account

    def wrong(self) -> list[str]:
        """Describe the team's resources that differ from before the rollouts."""
        now, before = self._settings_now(), self._settings
        faults = [
            f"the mapping's {name} is {now.get(name)}, expected {before.get(name)}"
            for name in sorted(now.keys() | before.keys())
            if now.get(name) != before.get(name)
        ]
        if (policy := self._policy_now()) != self._policy:
            faults.append(f"the queue's redrive policy is {policy}, expected {self._policy}")
        if (letters := self._letters()) != [OLD_LETTER]:
            faults.append(f"the team's dead-letter queue holds {letters}, expected only the old message")
        return faults

    def _settings_now(self) -> dict[str, Any]:
        mapping = self._functions.get_event_source_mapping(UUID=self.mapping_id)
        return {name: mapping[name] for name in mapping if name not in NO_SETTINGS}

    def _policy_now(self) -> str:
        if self._queue is None:
            return ""
        answer = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["RedrivePolicy"])
        return json.dumps(json.loads(answer["Attributes"]["RedrivePolicy"]), sort_keys=True)

    def _bury_an_old_letter(self) -> None:
        fifo = {"MessageGroupId": "old", "MessageDeduplicationId": "old"} if self.source == "fifo" else {}
        self._sqs.send_message(QueueUrl=self._dead_letters, MessageBody=json.dumps(OLD_LETTER), **fifo)

    def _letters(self) -> list[Any]:
        """Return the messages in the team's dead-letter queue, which has no other reader."""
        found = []
        while more := self._sqs.receive_message(QueueUrl=self._dead_letters, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in more]
        return found


def run_consumer(options: argparse.Namespace, aws: EmbeddedAws, headgate: Outputs) -> dict[str, Any]:
    """Run both rollouts of the consumer and return the summary."""
    with timed(f"sam build and sam deploy: orders, the consumer of {SOURCES[options.consumer]} to roll out"):
        outputs = deploy_consumer(aws, headgate, options.consumer)
    consumer = OrdersConsumer(aws, options.consumer, outputs)
    with OrderStream(aws, options.consumer, consumer.into, options.rps) as orders:
        print(f"  {options.rps:g} orders per second into {SOURCES[options.consumer]}, in {GROUPS} groups")
        rollouts = []
        for kind, error_rate, expected in (("good", 0.0, "succeeded"), ("bad", options.bad_error_rate, "rolled-back")):
            share = f": {error_rate:.0%} of the orders fail" if error_rate else ""
            print(f"\nA {kind} release{share}  ({event_file(options.consumer).relative_to(ROOT)})")
            release(aws, FUNCTION, error_rate)
            event = consumer_event(options.consumer, options.strategy, consumer.mapping_id, kind)
            rollouts.append(follow(aws, headgate, event, consumer, expected))
        orders.stop()
        print(f"\nNo more orders. Waiting for the last of {len(orders.sent):,} ...", flush=True)
        account = consumer.account_when_done(orders.sent)
    return _summarise(options, rollouts, account, [*consumer.wrong(), *map(str, aws.denials())])


def consumer_event(source: str, strategy: str | None, mapping_id: str = "", kind: str = "good") -> dict[str, Any]:
    """Return the event from demo/events/ with the given strategy and the mapping's id from its stack."""
    event: dict[str, Any] = json.loads(event_file(source).read_text())
    detail = event["detail"]
    detail["id"] = detail["id"].replace("-release", f"-{kind}-release")
    if mapping_id:
        detail["target"]["mapping"] = mapping_id
    return with_strategy(event, strategy)


def event_file(source: str) -> Path:
    """Return the file in demo/events/ that rolls out the consumer."""
    return EVENTS / f"consumer_{source}.json"


def _pace(mapping: dict[str, Any], version: str) -> str:
    """Describe the state of a ramp."""
    if mapping["State"] != "Enabled":
        return f"the mapping is {mapping['State'].lower()} and points at version {version}"
    limit = (mapping.get("ScalingConfig") or {}).get("MaximumConcurrency")
    if limit:
        return f"version {version} alone, {limit} at a time"
    return f"version {version} alone, batches of {mapping['BatchSize']}"


def _summarise(
    options: argparse.Namespace, rollouts: list[Rollout], account: Account, changed: list[str]
) -> dict[str, Any]:
    wrong = [*changed]
    if account.lost:
        wrong.append(f"{len(account.lost)} orders are lost: {_some(account.lost)}")
    if account.unknown:
        wrong.append(f"{len(account.unknown)} orders were never sent: {_some(account.unknown)}")
    ordered = options.consumer != "sqs"
    if ordered and account.out_of_order:
        wrong.append(f"{len(account.out_of_order)} orders are out of order: {_some(account.out_of_order)}")
    return {
        "consumer": options.consumer,
        "strategy": options.strategy or "as in the event",
        "rps": options.rps,
        "badErrorRate": options.bad_error_rate,
        "rollouts": [rollout.to_summary() | {"redriven": rollout.redriven} for rollout in rollouts],
        "ledger": account.to_summary(ordered=ordered),
        "ok": all(rollout.ended_right for rollout in rollouts) and not wrong,
        "wrong": wrong,
    }


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" ..." if len(numbers) > 10 else "")


def print_consumer_summary(summary: dict[str, Any]) -> None:
    """Print the summary."""
    print("\nSummary")
    for rollout in summary["rollouts"]:
        _print_rollout(rollout)
    _print_ledger(summary["ledger"])
    if summary["wrong"]:
        for fault in summary["wrong"]:
            print(f"  WRONG: {fault}")
    else:
        print("  the mapping's settings, the redrive policy and the team's dead-letter queue are unchanged")
    every = "Both rollouts ended as expected, and every order was processed."
    print(f"\n{every if summary['ok'] else 'The demo did NOT end as expected.'}")


def _print_rollout(rollout: dict[str, Any]) -> None:
    print(f"  {rollout['rolloutId']}: {rollout['outcome']} after {rollout['seconds']:.1f} s")
    print(f"    {rollout['reason']}")
    for version, counts in rollout["requests"].items():
        role = {rollout["stable"]: "stable", rollout["candidate"]: "candidate"}.get(version, "")
        print(f"    version {version} ({role}): {counts['requests']} attempts, {counts['errors']} failed")
    if rollout["secondsFromFirstFailureToRollback"] is not None:
        print(f"    first failed order to rollback: {rollout['secondsFromFirstFailureToRollback']:.1f} s")
    print(
        f"    {FUNCTION}:{ALIAS} serves version {rollout['aliasServes']}, and the mapping points at it, as expected"
        if rollout["ok"]
        else f"    WRONG: {'; '.join(rollout['wrong'])}"
    )
    if rollout["failedRequests"] and rollout["redriven"] is not None:
        print(f"    redriven: {_redriven(rollout['redriven'])}")


def _redriven(redriven: dict[str, int]) -> str:
    words = {
        "returned": "dead letters moved back to the queue",
        "redelivered": "records read again and processed",
        "forwarded": "moved to the team's dead-letter queue",
        "kept": "kept in the rollout's own queue",
        "expired": "expired in the stream",
    }
    counts = [f"{redriven[name]} {what}" for name, what in words.items() if redriven.get(name)]
    return ", ".join(counts) or "nothing: retries processed all failed orders"


def _print_ledger(ledger: dict[str, Any]) -> None:
    order = "order not guaranteed" if ledger["outOfOrder"] is None else f"{len(ledger['outOfOrder'])} out of order"
    print(
        f"  ledger: {ledger['sent']:,} orders sent, {ledger['processed']:,} processed, {len(ledger['lost'])} lost; "
        f"{ledger['failedAtFirst']:,} failed at first; {ledger['seenTwice']:,} seen twice; {order}"
    )
    if ledger["readAgain"]:
        print(f"    {ledger['readAgain']:,} were read again out of order, after the mapping had given up on them")
