"""Ways of an ECS service: which one it allows, and the rules and target groups that split its requests.

Everything here follows from what AWS answers. This module has no side effects. Facts:
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Service.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.routing import GroupPair, Routing
from headgate.spec.targets import MAX_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headgate.spec.routing import Way
    from headgate.spec.targets import EcsServiceTarget


DRAINING = ("draining", "unhealthy.draining")
"""States of targets that are being deregistered:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html"""


MIGRATION = "docs/from-ecs-deployments.md"
"""Page that says how a service comes from the deployments of CodeDeploy and ECS to those of Headgate."""


class ListenerRule(NamedTuple):
    """A listener rule, or the default actions of a listener."""

    arn: str
    """ARN of the rule; of the listener for its default actions."""
    load_balancer: str
    """ARN of its load balancer."""
    actions: Sequence[Mapping[str, Any]]

    @property
    def weights(self) -> dict[str, int]:
        """Weights of the target groups to which it forwards, by ARN; empty if it does something else."""
        forward = self._forward
        groups = (forward.get("ForwardConfig") or {}).get("TargetGroups") or []
        if not groups and (alone := forward.get("TargetGroupArn")):
            return {alone: 1}
        # A group without a weight has the weight 1.
        return {each["TargetGroupArn"]: int(each.get("Weight", 1)) for each in groups}

    @property
    def is_sticky(self) -> bool:
        """True if clients with a cookie stay with their target group."""
        config = (self._forward.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig") or {}
        return bool(config.get("Enabled"))

    @property
    def _forward(self) -> Mapping[str, Any]:
        return next((action for action in self.actions if action["Type"] == "forward"), {})


class ServiceAnswers(NamedTuple):
    """What AWS answers about a service and its load balancers."""

    service: Mapping[str, Any]
    """From DescribeServices."""
    rules: Mapping[str, ListenerRule] = {}
    """Every rule of the load balancers of the service, by its ARN."""
    groups: Mapping[str, Mapping[str, Any]] = {}
    """Target groups of the service and of its rules, by ARN, from DescribeTargetGroups."""
    balancers: Mapping[str, Mapping[str, Any]] = {}
    """Load balancers of the service, by ARN, from DescribeLoadBalancers."""
    managed: Sequence[str] = ()
    """Capacity providers of the service that are ECS Managed Instances."""


class ServicePlace(NamedTuple):
    """A target group of a service, and the container and port that get its requests."""

    group: str
    container: str
    port: int


def name_of(arn: str) -> str:
    """Return the name of a load balancer or target group in an ARN; of a rule or listener, that of its balancer."""
    parts = arn.split("/")
    return parts[1] if ":targetgroup/" in arn else parts[2]


def rule_named(arn: str) -> str:
    """Return a listener rule as a person finds it: ``rule shop/0f1e2d3c``, by its load balancer and its own id.

    An ARN has 150 characters. A listener has its default actions instead of a rule.
    """
    kind = "rule" if ":listener-rule/" in arn else "default actions of listener"
    return f"{kind} {name_of(arn)}/{arn.rpartition('/')[2]}"


def running_part(service: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what has the task definition, launch type and network of a service: it, or its primary task set."""
    return next((each for each in service.get("taskSets") or [] if each["status"] == "PRIMARY"), service)


def way_of(service: Mapping[str, Any]) -> tuple[Way, str]:
    """Return the way that a service allows, and why.

    Raises
    ------
    RequestRefused
        If it allows none, with the fix.
    """
    where = f"target.service: {service['serviceName']}"
    _refuse_what_nobody_deploys(service, where)
    controller = _controller(service)
    strategy = (service.get("deploymentConfiguration") or {}).get("strategy") or "ROLLING"
    if controller == "CODE_DEPLOY":
        # No command: one that names the controller alone fails, or lets the wrong task definition and group serve.
        raise RequestRefused(
            f"{where} has the deployment controller CODE_DEPLOY, so only CodeDeploy may deploy it; change the "
            f"controller to ECS in the steps of {MIGRATION}#from-codedeploy"
        )
    if controller == "EXTERNAL":
        _refuse_nothing_primary(service, where)
        return "task-sets", "the service's deployment controller is EXTERNAL"
    if strategy != "ROLLING":
        raise RequestRefused(
            f"{where} has the deployment strategy {strategy}, with which ECS moves the traffic itself; Headgate does "
            "not support it yet, only ROLLING and the deployment controller EXTERNAL; change it to ROLLING in the "
            f"steps of {MIGRATION}#from-ecss-own-bluegreen-linear-and-canary"
        )
    return "green-service", "the service has rolling deployments of ECS, and a second target group"


def routing_of(target: EcsServiceTarget, answers: ServiceAnswers) -> Routing:
    """Return how requests reach the revisions of a service.

    Raises
    ------
    RequestRefused
        If the service cannot be rolled out, with the fix.
    """
    way, why = way_of(answers.service)
    if target.way not in (None, way):
        raise RequestRefused(
            f"target.way: must be {way}, because {why} (given {target.way}); change it or leave it out"
        )
    _refuse_what_the_weights_do_not_reach(answers.service)
    if way == "task-sets":
        _refuse_what_task_sets_cannot_have(answers)
    places = places_of(answers.service)
    _refuse_other_balancers(places, answers)
    _refuse_unknown_rules(target, places, answers)
    pairs = [_pair(target, place, places, answers) for place in places]
    _refuse_shared_candidates(pairs)
    routing = Routing(way=way, pairs=_with_test_rules(target, pairs, answers))
    if (count := len(routing.rules)) > MAX_RULES:
        raise RequestRefused(
            f"target.rules: {count} rules forward to the service's target groups, and a rollout moves at most "
            f"{MAX_RULES}, because each is written at every step; combine their conditions in fewer rules"
        )
    for fault in _other_rules(target, routing, answers, refused=True):
        raise RequestRefused(fault)
    # Last: nobody should start a service only to be told that it cannot be rolled out.
    _refuse_stopped(answers.service)
    return routing


def places_of(service: Mapping[str, Any]) -> list[ServicePlace]:
    """Return the target groups of a service.

    Raises
    ------
    RequestRefused
        If it has none, or a Classic Load Balancer.
    """
    name = service["serviceName"]
    found = running_part(service).get("loadBalancers") or []
    if not found:
        raise RequestRefused(
            f"target.service: {name} has no load balancer, so its requests cannot be split; give it a target group of "
            "an Application Load Balancer"
        )
    if classic := next((each["loadBalancerName"] for each in found if not each.get("targetGroupArn")), ""):
        raise RequestRefused(
            f"target.service: {name} is behind the Classic Load Balancer {classic}, which has no weights; move it to "
            "an Application Load Balancer"
        )
    return [ServicePlace(each["targetGroupArn"], each["containerName"], each["containerPort"]) for each in found]


def warnings_about(target: EcsServiceTarget, routing: Routing, answers: ServiceAnswers) -> list[str]:
    """Return what a rollout of the service may run into although it is possible, each with the fix."""
    sticky = [
        f"target.sticky: {rule} keeps clients with a cookie at their target group: the weights count for new clients "
        "alone, and a rollback reaches the others only when their cookie ends; turn the stickiness of the rule off to "
        "split all requests"
        for rule in routing.rules
        if answers.rules[rule].is_sticky
    ]
    return [*_other_rules(target, routing, answers, refused=False), *sticky]


def notes_about(routing: Routing, answers: ServiceAnswers) -> list[str]:
    """Return what was found and chosen."""
    _, why = way_of(answers.service)
    notes = [f"target.way: {routing.way}, because {why}"]
    for pair in routing.pairs:
        count = f"{len(pair.rules)} rule{'s' if len(pair.rules) > 1 else ''}"
        notes.append(
            f"target.rules: {count} of the load balancer {name_of(pair.load_balancer)} split requests between the "
            f"target groups {name_of(pair.stable)} (stable) and {name_of(pair.candidate)} (candidate)"
        )
    if is_deploying(answers.service):
        notes.append("target.service: a deployment is in progress; the rollout waits until it has ended")
    return notes


def is_deploying(service: Mapping[str, Any]) -> bool:
    """Return whether a deployment of the service, or the end of an earlier task set, is in progress."""
    if _controller(service) == "EXTERNAL":
        return any(each["status"] == "DRAINING" for each in service.get("taskSets") or [])
    deployments = service.get("deployments") or []
    return len(deployments) > 1 or any(each.get("rolloutState") == "IN_PROGRESS" for each in deployments)


def _controller(service: Mapping[str, Any]) -> str:
    return str((service.get("deploymentController") or {}).get("type") or "ECS")


def _named(service: Mapping[str, Any]) -> str:
    """Return the options that name a service in a command. Without the cluster it would be another one's."""
    return f"--cluster {service['clusterArn'].rpartition('/')[2]} --service {service['serviceName']}"


def _refuse_what_nobody_deploys(service: Mapping[str, Any], where: str) -> None:
    """Refuse a service that is gone, not its owner's to deploy, or has no number of tasks."""
    if (status := service["status"]) != "ACTIVE":
        raise RequestRefused(f"{where} is {status}, so it was deleted; name a service that is ACTIVE")
    if len(service["serviceArn"].split("/")) < 3:
        raise RequestRefused(
            f"{where} has an ARN of the short format, without the cluster, which Headgate's permissions and the rules "
            "for its events do not cover; migrate it to the long format, which changes nothing else "
            "(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-arn-migration.html)"
        )
    if service.get("resourceManagementType") == "ECS":
        raise RequestRefused(
            f"{where} is a service of ECS Express Mode, whose deployments and load balancer ECS manages; name a "
            "service that you manage"
        )
    if service.get("schedulingStrategy") == "DAEMON":
        raise RequestRefused(
            f"{where} has the scheduling strategy DAEMON, with one task on each instance, so two revisions cannot run "
            "side by side; name a service with the scheduling strategy REPLICA"
        )


def _refuse_stopped(service: Mapping[str, Any]) -> None:
    if not service["desiredCount"]:
        raise RequestRefused(
            f"target.service: {service['serviceName']} is stopped: its desired count is 0, so nothing serves requests "
            f"to compare with; start it first (aws ecs update-service {_named(service)} --desired-count 1), or update "
            "its task definition without a rollout"
        )


def _refuse_nothing_primary(service: Mapping[str, Any], where: str) -> None:
    sets = service.get("taskSets") or []
    if any(each["status"] == "PRIMARY" for each in sets):
        return
    fix = "create one (CreateTaskSet), and make it the primary one (UpdateServicePrimaryTaskSet)"
    if active := next((each["id"] for each in sets if each["status"] == "ACTIVE"), ""):
        fix = (
            f"make one the primary one (aws ecs update-service-primary-task-set {_named(service)} --primary-task-set "
            f"{active})"
        )
    raise RequestRefused(f"{where} has no primary task set, so nothing is stable; {fix}")


def _refuse_what_the_weights_do_not_reach(service: Mapping[str, Any]) -> None:
    """Refuse ways of requests to the tasks beside the load balancer."""
    where = f"target.service: {service['serviceName']}"
    parts = [service, *(service.get("deployments") or []), *(service.get("taskSets") or [])]
    if any((part.get("serviceConnectConfiguration") or {}).get("enabled") for part in parts):
        raise RequestRefused(
            f"{where} uses Service Connect, whose requests do not pass the load balancer and so not its weights; turn "
            "it off, or deploy the service with a strategy of ECS"
        )
    if any(part.get("serviceRegistries") for part in parts):
        raise RequestRefused(
            f"{where} is in a Cloud Map registry (serviceRegistries), whose clients do not pass the load balancer and "
            "so not its weights; remove the registry, or let them call the load balancer"
        )
    if any(part.get("vpcLatticeConfigurations") for part in parts):
        raise RequestRefused(
            f"{where} has VPC Lattice target groups, whose requests do not pass the load balancer and so not its "
            "weights; remove vpcLatticeConfigurations"
        )


def _refuse_what_task_sets_cannot_have(answers: ServiceAnswers) -> None:
    service = answers.service
    where = f"target.service: {service['serviceName']}"
    sets = service.get("taskSets") or []
    if active := [each["id"] for each in sets if each["status"] == "ACTIVE"]:
        raise RequestRefused(
            f"{where} has the task set {active[0]} beside its primary one, so another deployment is in progress; end "
            f"it, or delete that task set (aws ecs delete-task-set {_named(service)} --task-set {active[0]} "
            "--force)"
        )
    if service.get("placementConstraints") or service.get("placementStrategy"):
        raise RequestRefused(
            f"{where} has placement constraints or a placement strategy, which task sets do not support, so the "
            "candidate's tasks would be placed differently; remove them"
        )
    if answers.managed:
        raise RequestRefused(
            f"{where} uses the capacity provider {answers.managed[0]} of ECS Managed Instances, which task sets do not "
            "support; use another capacity provider, or the deployment controller ECS"
        )


def _refuse_other_balancers(places: list[ServicePlace], answers: ServiceAnswers) -> None:
    for place in places:
        group = answers.groups[place.group]
        balancers = group.get("LoadBalancerArns") or []
        if not balancers:
            raise RequestRefused(
                f"target.service: its target group {name_of(place.group)} gets no requests: no listener forwards to "
                "it; add a rule that does"
            )
        for arn in balancers:
            if (kind := answers.balancers[arn]["Type"]) != "application":
                raise RequestRefused(
                    f"target.service: its target group {name_of(place.group)} is behind a load balancer of type "
                    f"{kind}; only Application Load Balancers are supported; remove that target group from the service"
                )


def _refuse_unknown_rules(target: EcsServiceTarget, places: list[ServicePlace], answers: ServiceAnswers) -> None:
    """Refuse named rules that are not of the service's load balancers, or do not forward to its groups."""
    balancers = ", ".join(sorted({name_of(rule.load_balancer) for rule in answers.rules.values()}))
    for field, named in (("rules", target.rules), ("testRules", target.test_rules)):
        if unknown := next((arn for arn in named if arn not in answers.rules), ""):
            raise RequestRefused(
                f"target.{field}: {unknown} does not exist in the service's load balancers ({balancers}); name one of "
                "their rules, or a listener for its default actions"
            )
    groups = {place.group for place in places}
    if foreign := next((arn for arn in target.rules if not groups & answers.rules[arn].weights.keys()), ""):
        raise RequestRefused(
            f"target.rules: {foreign} forwards to none of the service's target groups "
            f"({', '.join(name_of(group) for group in sorted(groups))}); remove it, or let it forward to one"
        )


def _pair(
    target: EcsServiceTarget, place: ServicePlace, places: list[ServicePlace], answers: ServiceAnswers
) -> GroupPair:
    """Return a target group of the service and the free one beside it, with the rules that split between them."""
    name = name_of(place.group)
    rules = [
        rule
        for arn, rule in answers.rules.items()
        if place.group in rule.weights and (arn in target.rules if target.rules else arn not in target.test_rules)
    ]
    if not rules:
        named = "none of those named forwards" if target.rules else "no listener rule forwards"
        raise RequestRefused(
            f"target.rules: {named} to the service's target group {name}; name a rule that does, or leave target.rules "
            "out"
        )
    _refuse_unknown_actions(rules, "rules")
    spare = _how_to_spare_a_rule(target, answers.service)
    others = {rule.arn: _other_group(target, place, rule, spare) for rule in rules}
    candidate, *more = dict.fromkeys(others.values())
    if more:
        raise RequestRefused(
            f"target.rules: the rules of the target group {name} have different second target groups "
            f"({name_of(candidate)}, {name_of(more[0])}); give them the same one{spare}"
        )
    if candidate in {each.group for each in places}:
        raise RequestRefused(
            f"target.rules: {rules[0].arn} forwards to {name} and {name_of(candidate)}, both of which the service "
            "uses; give the rule a second target group that is free"
        )
    _refuse_different_groups(answers.groups[place.group], answers.groups[candidate])
    return GroupPair(
        load_balancer=rules[0].load_balancer,
        stable=place.group,
        candidate=candidate,
        container=place.container,
        port=place.port,
        # In an order of their own: AWS documents none, and the driver compares the routing with the plan's.
        rules=sorted(rule.arn for rule in rules),
    )


def _refuse_unknown_actions(rules: list[ListenerRule], field: str) -> None:
    """Refuse rules with actions that cannot be sent back: an SDK drops the settings that are newer than itself."""
    for rule in rules:
        if unknown := next((each["Type"] for each in rule.actions if not each.keys() - {"Type", "Order"}), ""):
            raise RequestRefused(
                f"target.{field}: {rule.arn} has an action of type {unknown}, whose settings the AWS SDK of Headgate's "
                "functions does not know, so the rule could not be written back as it is; remove the action, or deploy "
                "Headgate with a newer parameter Runtime"
            )


def _how_to_spare_a_rule(target: EcsServiceTarget, service: Mapping[str, Any]) -> str:
    """Return how a rule that the request does not name is left out of the split. One for tests should not be split."""
    if target.rules:
        return ""
    tests = ", or name the rule in target.testRules if it is for tests"
    # The other rules would lose their target group with the stable task set.
    return tests if _controller(service) == "EXTERNAL" else f"{tests}, or name in target.rules only the rules to split"


def _other_group(target: EcsServiceTarget, place: ServicePlace, rule: ListenerRule, spare: str) -> str:
    """Return the second target group of a rule, which has no share of the requests."""
    name, weights = name_of(place.group), rule.weights
    others = [group for group in weights if group != place.group]
    if not others:
        raise RequestRefused(
            f"target.rules: {rule.arn} forwards to the target group {name} alone, and a rollout without a second one "
            "is not supported yet; create another target group with the same settings, and add it to the forward "
            f"action of the rule with weight 0{spare}"
        )
    if len(others) > 1:
        raise RequestRefused(
            f"target.rules: {rule.arn} forwards to {len(weights)} target groups; a rollout splits between two; remove "
            f"the others{spare}"
        )
    other = others[0]
    if weights[other]:
        raise RequestRefused(
            f"target.rules: {rule.arn} has the weights {weights[place.group]} for {name}, the service's target group, "
            f"and {weights[other]} for {name_of(other)}; set them to 100 and 0{spare}"
        )
    if not weights[place.group]:
        raise RequestRefused(f"target.rules: {rule.arn} has only weights of 0; set that of {name} to 100{spare}")
    if rule.is_sticky and not target.sticky:
        raise RequestRefused(
            f"target.rules: {rule.arn} has target group stickiness, with which clients stay at their target group "
            "whatever the weights are, also in a rollback; turn it off, or set target.sticky to true to accept that"
        )
    return other


SAME = ("TargetType", "Protocol", "ProtocolVersion", "VpcId", "IpAddressType")
"""Settings that both target groups of a rule must share, so that a task of either revision can be their target."""


def _refuse_different_groups(stable: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    for field in SAME:
        ours, other = stable.get(field), candidate.get(field)
        if ours != other:
            raise RequestRefused(
                f"target.rules: the second target group {name_of(candidate['TargetGroupArn'])} has the {field} "
                f"{other}, but the service's {name_of(stable['TargetGroupArn'])} has {ours}; use one with the same"
            )


def _refuse_shared_candidates(pairs: list[GroupPair]) -> None:
    seen: dict[str, str] = {}
    for pair in pairs:
        if before := seen.get(pair.candidate):
            raise RequestRefused(
                f"target.rules: {name_of(pair.candidate)} is the second target group beside both {name_of(before)} and "
                f"{name_of(pair.stable)}; give each of the service's target groups a second one of its own"
            )
        seen[pair.candidate] = pair.stable


def _with_test_rules(target: EcsServiceTarget, pairs: list[GroupPair], answers: ServiceAnswers) -> list[GroupPair]:
    """Return the pairs with the test rules that forward to one of their groups."""
    _refuse_unknown_actions([answers.rules[arn] for arn in target.test_rules], "testRules")
    tests: dict[str, list[str]] = {pair.stable: [] for pair in pairs}
    for arn in target.test_rules:
        forwards = answers.rules[arn].weights.keys()
        pair = next((each for each in pairs if forwards & {each.stable, each.candidate}), None)
        if pair is None:
            groups = ", ".join(name_of(group) for each in pairs for group in (each.stable, each.candidate))
            raise RequestRefused(
                f"target.testRules: {arn} forwards to none of the target groups {groups}, so nothing says which of "
                "them it tests; let it forward to one of them"
            )
        tests[pair.stable].append(arn)
    return [pair.model_copy(update={"test_rules": tests[pair.stable]}) for pair in pairs]


def _other_rules(
    target: EcsServiceTarget, routing: Routing, answers: ServiceAnswers, *, refused: bool
) -> Iterator[str]:
    """Yield what is wrong with rules that the request does not name and that forward to one of the groups.

    Parameters
    ----------
    refused
        True for what makes a rollout impossible, False for what it can live with.
    """
    named = {*routing.rules, *target.test_rules}
    for arn, rule in answers.rules.items():
        if arn in named:
            continue
        weights = rule.weights
        for pair in routing.pairs:
            if weights.get(pair.candidate) and refused:
                yield (
                    f"target.rules: {arn} also sends requests to {name_of(pair.candidate)}, which is for the "
                    "candidate; remove that target group from the rule, or name the rule in target.testRules"
                )
            if not weights.get(pair.stable):
                continue
            if refused == (routing.way == "task-sets"):
                what = (
                    "and gets no answer when the stable task set is deleted"
                    if refused
                    else "and gets the new revision all at once when the service is updated in the end"
                )
                yield (
                    f"target.rules: {arn} is not named but sends requests to {name_of(pair.stable)}; it keeps the "
                    f"stable revision during the rollout, {what}; name it, too, or in target.testRules if it is for "
                    "tests"
                )
