"""EventBridge: policies of topics, queues and buses, and patterns of rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tools.probes.lab import PROPAGATION_SECONDS, policy, refusal_of
from tools.probes.model import Answer, answer, probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.probes.lab import Lab

EVENTS = "events.amazonaws.com"
SOURCE = "probe.headgate"
_BY_ROLE = (
    "A rule publishes to the topic for Amazon Q by a role (`template.yaml`, ChatRole), which EventBridge may assume "
    "under this condition alone. If that does not work, that chat gets no notifications. After a no, the probe also "
    "tries a role without the condition, and reports whether that works."
)
_TOPIC = (
    "A rule publishes to the topic for Amazon Q by a role, because EventBridge's documentation says that it does not "
    "support conditions in topic policies. If they work, the topic's policy can do without the role."
)
REQUEST, SIGNAL = "Rollout Requested", "Rollout Signal"
_REQUESTER = (
    "The policies in `docs/security.md` let a pipeline request rollouts and not steer them, by the detail-type. One "
    "call may have events of several, and the documentation does not say how IAM compares them."
)


@probe(
    "topic-by-role",
    question="Does a rule reach a topic whose policy does not name EventBridge by a role whose trust policy has the "
    "condition aws:SourceAccount?",
    call="events:PutEvents",
    matters=_BY_ROLE,
    creates="a bus, a rule, one or two roles, a topic and a queue",
    assumed="yes",
    minutes=5,
)
def topic_by_role(lab: Lab) -> Answer:
    """Send events to such a topic until one arrives."""
    return _reached_by_role(lab, lab.topic("topic"))


@probe(
    "encrypted-topic-by-role",
    question="Does a target's role with aws:SourceAccount in its trust policy suffice for a topic with a customer key, "
    "which the role may use through SNS alone?",
    call="events:PutEvents",
    matters=_BY_ROLE,
    creates="a KMS key, a bus, a rule, one or two roles, a topic and a queue",
    assumed="yes",
    minutes=5,
    cents=1,
    needs="keys",
)
def encrypted_topic_by_role(lab: Lab) -> Answer:
    """Send events to such a topic until one arrives."""
    key = lab.key()
    via = {"StringEquals": {"kms:ViaService": f"sns.{lab.account.region}.amazonaws.com"}}
    use = {"Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": key, "Condition": via}
    return _reached_by_role(lab, lab.topic("topic", KmsMasterKeyId=key), use)


def _reached_by_role(lab: Lab, topic: str, *statements: dict[str, Any]) -> Answer:
    queue, bus = lab.subscribed("seen", topic), lab.bus()
    publish = {"Action": "sns:Publish", "Resource": topic}

    def arrives() -> list[str]:
        _put_event(lab.client("events"), bus)
        return lab.receive(queue)

    def reached(role: str) -> dict[str, Any]:
        if refusal := _refusal_of_role(lambda: lab.rule(bus, {"source": [SOURCE]}, topic, role=role)):
            return {"refusal": refusal}
        return {"messages": lab.until(arrives, 90, pause=5)}

    found = reached(lab.role("role", EVENTS, publish, *statements))
    if found.get("messages"):
        return answer(yes=True, **found)
    # It is a no in any case. The control tells whether the conditions of the trust policy are the reason.
    control = reached(lab.role("control", EVENTS, publish, *statements, conditions=False))
    return answer(yes=False, withConditions=found, withoutConditions=control)


def _refusal_of_role(call: Callable[[], Any]) -> str:
    """Return the message with which EventBridge refuses a target's role; empty if it accepts the role."""
    try:
        call()
    except ClientError as error:
        if "assumed" not in str(error):
            raise
        return str(error)
    return ""


@probe(
    "topic-for-own-account",
    question="Does a rule reach a topic whose policy allows events.amazonaws.com with the condition aws:SourceAccount?",
    call="events:PutEvents",
    matters=_TOPIC,
    creates="a bus, a rule, two topics and two queues",
    assumed="no",
    minutes=3,
)
def topic_for_own_account(lab: Lab) -> Answer:
    """Send an event to a topic with the condition, and to one without as the control."""
    return _topic_reached(lab, {"StringEquals": {"aws:SourceAccount": lab.account.id}})


@probe(
    "topic-for-own-rule",
    question="Does a rule reach a topic whose policy allows events.amazonaws.com with ArnLike aws:SourceArn?",
    call="events:PutEvents",
    matters=_TOPIC,
    creates="a bus, a rule, two topics and two queues",
    assumed="no",
    minutes=3,
)
def topic_for_own_rule(lab: Lab) -> Answer:
    """Send an event to a topic with the condition, and to one without as the control."""
    rule = lab.account.arn("events", f"rule/{lab.name('bus')}/{lab.name('rule')}")
    return _topic_reached(lab, {"ArnLike": {"aws:SourceArn": rule}})


def _topic_reached(lab: Lab, condition: dict[str, Any]) -> Answer:
    publish = {"Principal": {"Service": EVENTS}, "Action": "sns:Publish"}
    topics = {
        "control": lab.topic("control", publish),
        "limited": lab.topic("limited", publish | {"Condition": condition}),
    }
    queues = {part: lab.subscribed(f"{part}-seen", topic) for part, topic in topics.items()}
    bus = lab.bus()
    lab.rule(bus, {"source": [SOURCE]}, *topics.values())
    seen = dict.fromkeys(queues, 0)

    def look(part: str) -> Callable[[], bool]:
        def event_arrived() -> bool:
            _put_event(lab.client("events"), bus)
            for name, queue in queues.items():
                seen[name] += len(lab.receive(queue))
            return bool(seen[part])

        return event_arrived

    lab.must(look("control"), 90, "an event at the topic without a condition", pause=5)
    lab.until(look("limited"), 60, pause=5)
    return answer(yes=bool(seen["limited"]), messages=seen, condition=condition)


def _put_event(events: Any, bus: str, source: str = SOURCE, *detail_types: str) -> list[dict[str, Any]]:
    """Put an event of each detail-type in one call; return the answer to each."""
    entry = {"EventBusName": bus, "Source": source, "Detail": "{}"}
    entries = [{**entry, "DetailType": each} for each in detail_types or ("Probe",)]
    found: list[dict[str, Any]] = events.put_events(Entries=entries)["Entries"]
    return found


@probe(
    "bus-denies-forged-source",
    question="Does a bus policy that denies PutEvents by events:source and aws:PrincipalArn stop all but the named "
    "role, and only for that source?",
    call="events:PutEvents",
    matters="Such a policy keeps others from forging the announcements of Headgate. If it does not work, listeners "
    "have to trust everyone with events:PutEvents on the bus; if it denies too much, nothing is announced.",
    creates="a bus and two roles",
    assumed="yes",
    minutes=3,
    no_if_refused=("PutPermission:ValidationException",),
)
def bus_denies_forged_source(lab: Lab) -> Answer:
    """Put events as the named role and as another one, with the protected source and with another one."""
    bus = lab.bus()
    arn = lab.account.arn("events", f"event-bus/{bus}")
    put = {"Action": "events:PutEvents", "Resource": arn}
    named, other = (lab.role(part, "", put) for part in ("named", "other"))
    deny = {
        "Sid": "Announcements",
        "Effect": "Deny",
        "Principal": "*",
        **put,
        "Condition": {
            # One call may have events of several sources.
            "ForAnyValue:StringEquals": {"events:source": "headgate"},
            "ArnNotEquals": {"aws:PrincipalArn": named},
        },
    }
    lab.settled(lambda: lab.client("events").put_permission(EventBusName=bus, Policy=policy(deny)))
    as_named, as_other = (lab.as_role(role)("events") for role in (named, other))
    # Both roles may put other events; this shows that AWS knows their rights.
    lab.must(lambda: _put_result(as_named, bus, SOURCE) == "accepted", 60, "an event of the named role")
    lab.must(lambda: _put_result(as_other, bus, SOURCE) == "accepted", 60, "an event of the other role")
    lab.until(lambda: _put_result(as_other, bus, "headgate") != "accepted", 60)
    results = {
        "namedRole": _put_result(as_named, bus, "headgate"),
        "otherRole": _put_result(as_other, bus, "headgate"),
        "otherRoleOtherSource": _put_result(as_other, bus, SOURCE),
    }
    right = [results["namedRole"], results["otherRoleOtherSource"]] == ["accepted"] * 2
    return answer(yes=right and results["otherRole"] != "accepted", **results)


def _put_result(client: Any, bus: str, source: str, *detail_types: str) -> str:
    """Return ``accepted`` if a call's events all are, or else the first error."""
    try:
        entries = _put_event(client, bus, source, *detail_types)
    except ClientError as error:
        return str(error)
    errors = [f"{each['ErrorCode']}: {each.get('ErrorMessage', '')}" for each in entries if each.get("ErrorCode")]
    return errors[0] if errors else "accepted"


@probe(
    "requester-by-string-equals",
    question="Does a policy with StringEquals on events:detail-type allow a call with the named detail-type, and stop "
    "one that also has an event of another?",
    call="events:PutEvents",
    matters=f"{_REQUESTER} If StringEquals stops such a call, a policy needs no ForAllValues.",
    creates="a bus and a role",
    assumed="no",
    minutes=3,
)
def requester_by_string_equals(lab: Lab) -> Answer:
    """Put events as a role with this right alone."""
    return _mixed_call_is_stopped(lab, {"StringEquals": {"events:detail-type": REQUEST}})


@probe(
    "requester-by-all-values",
    question="Does a policy with ForAllValues:StringEquals on events:detail-type, and Null false, allow a call with "
    "the named detail-type, and stop one that also has an event of another?",
    call="events:PutEvents",
    matters=f"{_REQUESTER} If ForAllValues does not stop such a call either, each requester needs a bus of its own.",
    creates="a bus and a role",
    assumed="yes",
    minutes=3,
)
def requester_by_all_values(lab: Lab) -> Answer:
    """Put events as a role with this right alone."""
    condition = {
        "ForAllValues:StringEquals": {"events:detail-type": REQUEST},
        # ForAllValues also holds where there is no value at all.
        "Null": {"events:detail-type": "false"},
    }
    return _mixed_call_is_stopped(lab, condition)


def _mixed_call_is_stopped(lab: Lab, condition: dict[str, Any]) -> Answer:
    bus = lab.bus()
    put = {"Action": "events:PutEvents", "Resource": lab.account.arn("events", f"event-bus/{bus}")}
    role = lab.role("role", "", {**put, "Condition": condition}, {"Action": "events:ListEventBuses", "Resource": "*"})
    client = lab.as_role(role)("events")
    lab.must(lambda: not refusal_of(client.list_event_buses), PROPAGATION_SECONDS, "the control call of the new role")
    lab.until(lambda: _put_result(client, bus, SOURCE, REQUEST) == "accepted", 30)
    calls = {
        "named": [REQUEST],
        "other": [SIGNAL],
        # A condition might see only the first or the last value.
        "namedThenOther": [REQUEST, SIGNAL],
        "otherThenNamed": [SIGNAL, REQUEST],
    }
    results = {name: _put_result(client, bus, SOURCE, *types) for name, types in calls.items()}
    accepted = [name for name, result in results.items() if result == "accepted"]
    return answer(yes=accepted == ["named"], condition=condition, **results)


@probe(
    "or-with-prefixes",
    question="Does a rule accept and match `$or` whose branches have prefixes?",
    call="events:TestEventPattern",
    matters="The rule of failed executions (`template.yaml`, FailedExecutionRule) is such a pattern. If it is refused, "
    "the stack cannot be created; if it does not match, failed executions raise no alarm.",
    creates="a rule on a bus of its own",
    assumed="yes",
    minutes=0.5,
    no_if_refused=("TestEventPattern:InvalidEventPatternException", "PutRule:InvalidEventPatternException"),
)
def or_with_prefixes(lab: Lab) -> Answer:
    """Test a pattern of this form with four events, and create a rule of it."""
    detail = {
        "$or": [
            {"status": ["TIMED_OUT"]},
            {"status": ["FAILED"], "error": ["Unsettled", {"prefix": "States."}, {"prefix": "Lambda."}]},
        ]
    }
    pattern = {"source": ["aws.states"], "detail": detail}
    details = {
        "timedOut": {"status": "TIMED_OUT"},
        "prefix": {"status": "FAILED", "error": "States.Runtime"},
        "exact": {"status": "FAILED", "error": "Unsettled"},
        "other": {"status": "FAILED", "error": "RolledBack"},
    }
    matched = {name: _matches(lab, pattern, each) for name, each in details.items()}
    lab.rule(lab.bus(), pattern)
    return answer(yes=matched == {"timedOut": True, "prefix": True, "exact": True, "other": False}, matched=matched)


@probe(
    "wildcards-of-services",
    question="Does EventBridge take a rule with six wildcards in two patterns of one field?",
    call="events:PutRule",
    matters="The rules for events of ECS services (`template.yaml`, StoppedTaskRule and ServiceDeploymentRule) have as "
    "many with the widest `TargetServices` and `TargetClusters`. If they are too complex, the stack cannot be created; "
    "then the parameters must take fewer asterisks.",
    creates="a rule on a bus of its own",
    assumed="yes",
    minutes=0.5,
    no_if_refused=("TestEventPattern:InvalidEventPatternException", "PutRule:InvalidEventPatternException"),
)
def wildcards_of_services(lab: Lab) -> Answer:
    """Test such a pattern with an original service, a green one and another, and create a rule of it."""
    wildcards = [{"wildcard": "service/a*b*c/d*e*f"}, {"wildcard": "service/*-hg-*"}]
    pattern = {"source": ["aws.states"], "detail": {"service": wildcards}}
    services = {
        "original": "service/a-b-c/d-e-f",
        "green": "service/a-b-c/d-e-f-hg-12ab34cd",
        "other": "service/a-b/d-e-f",
    }
    matched = {name: _matches(lab, pattern, {"service": service}) for name, service in services.items()}
    lab.rule(lab.bus(), pattern)
    return answer(yes=matched == {"original": True, "green": True, "other": False}, matched=matched)


def _matches(lab: Lab, pattern: dict[str, Any], detail: dict[str, Any]) -> bool:
    event = {
        "id": "1",
        "account": lab.account.id,
        "source": "aws.states",
        "time": "2026-01-01T00:00:00Z",
        "region": lab.account.region,
        "resources": [],
        "detail-type": "Step Functions Execution Status Change",
        "detail": detail,
    }
    found = lab.client("events").test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
    return bool(found["Result"])


_BUS_QUEUE = (
    "A bus with a customer key writes what it cannot decrypt or deliver to its own dead-letter queue. The policy of "
    "`Undelivered` has to let it in."
)


@probe(
    "bus-queue-for-own-account",
    question="Does a bus reach its dead-letter queue whose policy has the condition aws:SourceAccount?",
    call="events:PutEvents",
    matters=_BUS_QUEUE,
    creates="a KMS key, two buses and three queues",
    assumed="yes",
    minutes=5,
    cents=1,
    needs="keys",
)
def bus_queue_for_own_account(lab: Lab) -> Answer:
    """Disable the key of a bus and see whether its events reach the queue."""
    return _bus_queue_reached(lab, {"StringEquals": {"aws:SourceAccount": lab.account.id}})


@probe(
    "bus-queue-for-own-bus",
    question="Does a bus reach its dead-letter queue whose policy has ArnEquals aws:SourceArn of the bus?",
    call="events:PutEvents",
    matters=_BUS_QUEUE,
    creates="a KMS key, two buses and three queues",
    assumed="yes",
    minutes=5,
    cents=1,
    needs="keys",
)
def bus_queue_for_own_bus(lab: Lab) -> Answer:
    """Disable the key of a bus and see whether its events reach the queue."""
    bus = lab.account.arn("events", f"event-bus/{lab.name('bus')}")
    return _bus_queue_reached(lab, {"ArnEquals": {"aws:SourceArn": bus}})


def _bus_queue_reached(lab: Lab, condition: dict[str, Any]) -> Answer:
    service = {"Principal": {"Service": EVENTS}}
    use = {**service, "Action": ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"], "Resource": "*"}
    key = lab.key(use)
    send = {**service, "Action": "sqs:SendMessage"}
    target = lab.queue("target", send)
    # The limited bus is called `bus`, as the condition says.
    queues = {"bus": lab.queue("limited", send | {"Condition": condition}), "control": lab.queue("open", send)}
    for part, queue in queues.items():
        bus = lab.bus(part, KmsKeyIdentifier=key, DeadLetterConfig={"Arn": queue.arn})
        lab.rule(bus, {"source": [SOURCE]}, target.arn)
    seen = dict.fromkeys(queues, 0)

    def put() -> None:
        for part in queues:
            _put_event(lab.client("events"), lab.name(part))

    def arrives() -> Any:
        put()
        return lab.receive(target)

    def falls(part: str) -> Callable[[], bool]:
        def look() -> bool:
            put()
            for name, queue in queues.items():
                seen[name] += len(lab.receive(queue))
            return bool(seen[part])

        return look

    lab.must(arrives, 60, "an event at the target while the key is enabled", pause=5)
    lab.client("kms").disable_key(KeyId=key)
    lab.must(falls("control"), 150, "an event in the dead-letter queue without a condition", pause=10)
    lab.until(falls("bus"), 60, pause=10)
    return answer(yes=bool(seen["bus"]), messages=seen, condition=condition)
