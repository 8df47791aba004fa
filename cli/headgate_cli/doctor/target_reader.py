"""Reads what the checks of a target judge. It calls AWS, changes nothing, and judges nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.analysis.measures import AliasMeasures
from headgate.aws.arns import alias_arn
from headgate.aws.errors import is_missing_queue
from headgate.aws.owning_stack import leaves_alone, owner_of
from headgate_cli.doctor.targets import WATCHED_MINUTES, AliasFacts, EvidenceFacts, SourceQueueFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.aws.owning_stack import StackOwner
    from headgate.spec.routing import RevisionArm
    from headgate.spec.targets import LambdaAliasTarget
    from headgate_cli.records import Records
    from headgate_cli.stack import Stack


def read_mapping(stack: Stack, uuid: str) -> dict[str, Any] | None:
    """Return an event source mapping; None if it does not exist."""
    functions = stack.client("lambda")
    try:
        return dict(functions.get_event_source_mapping(UUID=uuid))
    except functions.exceptions.ResourceNotFoundException:
        return None


def read_queue(stack: Stack, mapping: Mapping[str, Any], timeout: int, rollout: str) -> SourceQueueFacts:
    """Return the queue that a mapping reads.

    Parameters
    ----------
    timeout
        Timeout of the function in seconds.
    rollout
        The rollout that moves the consumer; empty if none does.
    """
    sqs, arn = stack.client("sqs"), mapping["EventSourceArn"]
    name = arn.rpartition(":")[2]
    attributes = sqs.get_queue_attributes(
        QueueUrl=_url_of(sqs, arn), AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
    )
    attributes = attributes.get("Attributes", {})
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    dead_letters = policy.get("deadLetterTargetArn", "")
    exists = True
    if dead_letters:
        try:
            _url_of(sqs, dead_letters)
        except ClientError as error:
            if not is_missing_queue(error):
                raise
            exists = False
    return SourceQueueFacts(
        name=name,
        attributes=attributes,
        timeout=timeout,
        batch_size=mapping.get("BatchSize", 10),
        reports_items="ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or ()),
        dead_letters_exist=exists,
        holds=not rollout and dead_letters.rpartition(":")[2].startswith(f"{stack.prefix}-held-"),
    )


def _url_of(sqs: Any, arn: str) -> str:
    *_, account, name = arn.split(":")
    return str(sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])


class AliasReader:
    """Reads an alias and its function.

    Parameters
    ----------
    key
        Key of the target: the alias's own, or the consumer's whose mapping points at it.
    """

    def __init__(self, stack: Stack, records: Records, target: LambdaAliasTarget, key: str) -> None:
        self._stack, self._records, self._target, self._key = stack, records, target, key
        self._functions = stack.client("lambda")

    @cached_property
    def rollout(self) -> str:
        """The rollout that moves the target; empty if none does."""
        return self._records.moved_by(self._key) or self._records.moved_by(self._target.key)

    @cached_property
    def latest(self) -> dict[str, Any] | None:
        """GetFunction's answer about $LATEST; None if there is no such function."""
        try:
            return dict(self._functions.get_function(FunctionName=self._target.name))
        except self._functions.exceptions.ResourceNotFoundException:
            return None

    @cached_property
    def alias(self) -> AliasFacts:
        """The alias."""
        name, alias = self._target.name, self._target.alias
        if self.latest is None:
            return AliasFacts(name, alias, there=False, known=())
        try:
            answer = self._functions.get_alias(FunctionName=name, Name=alias)
        except self._functions.exceptions.ResourceNotFoundException:
            pages = self._functions.get_paginator("list_aliases").paginate(FunctionName=name)
            known = [each["Name"] for page in pages for each in page["Aliases"]]
            return AliasFacts(name, alias, there=True, known=known)
        weights = (answer.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        return AliasFacts(name, alias, True, (), answer["FunctionVersion"], weights, self.rollout)

    @property
    def reserved(self) -> int | None:
        """Reserved concurrency of the function; None if it has none."""
        found: int | None = (self.latest or {}).get("Concurrency", {}).get("ReservedConcurrentExecutions")
        return found

    @cached_property
    def configurations(self) -> dict[str, Mapping[str, Any]]:
        """Configurations of the versions that the alias points at, and of $LATEST, by version."""
        found = {}
        for version in (self.alias.version, *self.alias.weights):
            if version.isdigit():
                answer = self._functions.get_function(FunctionName=self._target.name, Qualifier=version)
                found[version] = answer["Configuration"]
        return found | ({"$LATEST": self.latest["Configuration"]} if self.latest else {})

    @property
    def timeout(self) -> int:
        """The longest timeout of these versions in seconds."""
        return max((int(each.get("Timeout", 3)) for each in self.configurations.values()), default=3)

    def provisioned(self) -> dict[str, int]:
        """Return the provisioned concurrency of the alias and its versions, of those that have some."""
        found = {}
        for qualifier in (self._target.alias, self.alias.version, *self.alias.weights):
            try:
                answer = self._functions.get_provisioned_concurrency_config(
                    FunctionName=self._target.name, Qualifier=qualifier
                )
            except self._functions.exceptions.ProvisionedConcurrencyConfigNotFoundException:
                continue
            found[qualifier] = int(answer["RequestedProvisionedConcurrentExecutions"])
        return found

    def owner(self) -> tuple[StackOwner | None, bool]:
        """Return the stack that owns the alias, and whether deploying it certainly leaves the version alone."""
        formation = self._stack.client("cloudformation")
        _, partition, _, region, account, *_ = str((self.latest or {})["Configuration"]["FunctionArn"]).split(":")
        arn = alias_arn(partition, region, account, self._target.name, self._target.alias)
        owner = owner_of(formation, arn)
        if owner is None:
            return None, False
        return owner, leaves_alone(formation, owner, self._target.alias)

    def evidence(self) -> EvidenceFacts:
        """Return what tells whether the versions could be compared."""
        item = self._records.get(keys.target_pk(self._target.key), keys.TELEMETRY_SK)
        seen_at = datetime.fromtimestamp(item["seenAt"], UTC) if item else None
        telemetry = self._stack.parameters.get("Telemetry") == "true"
        return EvidenceFacts(telemetry, seen_at, self._invocations())

    def _invocations(self) -> dict[str, int]:
        """Count the invocations of the last minutes. Only an alias with weights has metrics of each version."""
        versions: dict[RevisionArm, str] = {}
        if self.alias.weights:
            # At most two versions: https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
            versions = {"stable": self.alias.version, "candidate": next(iter(self.alias.weights))}
        measures, period = AliasMeasures(self._target, versions), 60
        queries = measures.all_requests("all", period=period).queries
        for arm, version in versions.items():
            queries += measures.invocations(f"v{version}", arm, period=period).queries
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        pages = self._stack.client("cloudwatch").get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=now - timedelta(minutes=WATCHED_MINUTES),
            EndTime=now + timedelta(minutes=1),
        )  # fmt: skip
        sums = dict.fromkeys((query["Id"] for query in queries), 0)
        for page in pages:
            for result in page["MetricDataResults"]:
                sums[result["Id"]] += int(sum(result["Values"]))
        return {query_id.removeprefix("v"): count for query_id, count in sums.items()}
