"""The steps of an adoption and of the way back: where each stands by what is deployed, and what it changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate_cli.adopting.facts import CUSTOM_RESOURCE
from headgate_cli.adopting.model import Adoption, Check, Step
from headgate_cli.adopting.needs import covered, left_references, notes, right_version
from headgate_cli.adopting.templates import Edit, as_yaml, diff_of, global_function, resources_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.aws.owning_stack import Setting
    from headgate_cli.adopting.facts import Declared, Facts
    from headgate_cli.adopting.model import StepName, StepStatus
    from headgate_cli.adopting.needs import Installation

RETAINED = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}

USUAL_STRATEGY = "Canary10Percent5Minutes"

TITLES: dict[StepName, str] = {
    "ready": "The alias can change hands",
    "retain": "The stack can no longer delete the alias",
    "hand-over": "Deploying the stack leaves the alias to Headgate",
    "roll-out": "A new Release is a rollout",
    "take-back": "Deploying the stack moves the alias again",
    "by-codedeploy": "CodeDeploy moves the alias",
    "drop-retain": "The stack may delete the alias again",
}


def adoption_of(facts: Facts, way: str, *, headgate: Installation) -> Adoption:
    """Return where an adoption stands, or the way back.

    Parameters
    ----------
    way
        ``adopt`` or ``undo``.
    headgate
        Headgate's own stack, whose service token the template imports.
    """
    steps = _adopting(facts, headgate) if way == "adopt" else _undoing(facts)
    blocked = any(step.status == "blocked" for step in steps)
    # What is optional, and the next release, is not left to do.
    optional = ("roll-out", "by-codedeploy", "drop-retain")
    left = any(step.status == "next" and step.name not in optional for step in steps)
    return Adoption(
        target=facts.alias.target,
        way="undo" if way == "undo" else "adopt",
        stack=facts.stack,
        resource=facts.declared.resource,
        pattern="serverless-function" if facts.declared.by_sam else "alias",
        served=facts.alias.version,
        stack_version=facts.stack_version,
        version_resource=facts.declared.version,
        standing="blocked" if blocked else "ready" if left else "done",
        steps=steps,
    )


def passed(name: str, message: str) -> Check:
    """Return a check that holds."""
    return Check(name=name, passed=True, message=message)


def failed(name: str, message: str, fix: str) -> Check:
    """Return a check that does not hold."""
    return Check(name=name, passed=False, message=message, fix=fix)


# --- The adoption ---


def _adopting(facts: Facts, headgate: Installation) -> list[Step]:
    declared = facts.declared
    if facts.handed_over:
        ready = _step("ready", "done")
        retain = _step(
            "retain",
            "done",
            checks=[_retained(facts)] if declared.retained else [],
            happens="" if declared.retained else "Skipped: the stack leaves the alias alone, but may delete it.",
        )
        checks = [*_kept(facts), *settled(facts, declared), _moved_by_rollouts_only(facts)]
        hand_over = _judged("hand-over", "done", checks)
        if hand_over.status != "done":
            return [ready, retain, hand_over, _roll_out(facts, "later")]
        checks = [*covered(facts, headgate), *right_version(facts, declared)]
        status: StepStatus = "next" if all(check.passed for check in checks) else "blocked"
        return [ready, retain, hand_over, _roll_out(facts, status, checks, notes(facts, declared, headgate))]
    served = _moved_by_rollouts_only(facts) if declared.names_one_version else _served(facts)
    ready = _judged("ready", "done", [*_quiet(facts), *settled(facts, declared), served, *covered(facts, headgate)])
    retain = _retain(facts, "done" if declared.retained else "next" if ready.status == "done" else "later")
    hand_over = _hand_over(facts, headgate, "next" if ready.status == retain.status == "done" else "later")
    return [ready, retain, hand_over, _roll_out(facts, "later")]


def _retain(facts: Facts, status: StepStatus) -> Step:
    declared = facts.declared
    if status == "done":
        return _step("retain", status, checks=[_retained(facts)])
    edits = [Edit(declared.function if declared.by_sam else declared.resource, attributes=RETAINED)]
    if not declared.by_sam and declared.version in resources_of(declared.original):
        edits.append(Edit(declared.version, attributes=RETAINED))
    passes_on = "SAM passes both on to the version and the alias. " if declared.by_sam else ""
    return _step(
        "retain",
        status,
        happens=f"{passes_on}Deploy it without any other change: CloudFormation then changes attributes of resources "
        "only, and no mistake in a later step can delete the alias. While they are there, deleting the stack leaves "
        "these resources in the account, so delete them by hand then. Keep the lines for as long as you want, or "
        "remove them after the hand-over in a deployment of their own.",
        diff=diff_of(facts.text, edits),
        commands=_commands(facts),
    )


def _hand_over(facts: Facts, headgate: Installation, status: StepStatus) -> Step:
    declared = facts.declared
    return _step(
        "hand-over",
        status,
        happens=(_of_constant(facts) if declared.by_sam else _of_literal(facts))
        + " When it is created, the custom resource asks its hooks, and rolls $LATEST out if it differs from what the "
        f"alias serves.{_passing_drop_retain(facts)}{_true_condition(facts)}",
        diff=diff_of(facts.text, [handing_over(facts)]),
        added="" if declared.custom_resource or declared.left_out else as_yaml(_custom_resource(facts, headgate.name)),
        notes=notes(facts, declared, headgate),
        commands=_commands(facts, plan=" --parameter-overrides Release=1"),
    )


def _passing_drop_retain(facts: Facts) -> str:
    if facts.root == facts.stack:
        return ""
    return f" The template of {facts.root} must pass the parameter Release on to {facts.stack}."


def _true_condition(facts: Facts) -> str:
    left_out = facts.declared.left_out
    return f" The Condition of {left_out} must be true in this deployment." if left_out else ""


def handing_over(facts: Facts) -> Edit:
    """Return the change after which deploying the stack leaves the version alone."""
    declared = facts.declared
    if not declared.by_sam:
        return Edit(
            declared.resource,
            attributes={**RETAINED, "UpdatePolicy": None},
            properties={"FunctionVersion": facts.alias.version},
        )
    everywhere = global_function(declared.original).get("DeploymentPreference")
    # A constant that is there already stays, as the version's logical id is made of it.
    constant = {} if declared.has_constant else {"AutoPublishCodeSha256": facts.digits}
    preference = {"Enabled": False} if everywhere else None
    return Edit(declared.function, attributes=RETAINED, properties={**constant, "DeploymentPreference": preference})


def _of_constant(facts: Facts) -> str:
    declared, function = facts.declared, facts.declared.function
    text = (
        f"SAM makes the version's logical id of AutoPublishCodeSha256, here {declared.version} as it is deployed now. "
        "It stays the same whatever the code is, so CloudFormation leaves version and alias alone. "
    )
    everywhere = global_function(declared.original)
    if everywhere.get("DeploymentPreference"):
        text += f"Globals has DeploymentPreference for every function, so it is switched off for {function}. "
    if everywhere.get("AutoPublishAlias"):
        text += "AutoPublishAlias stays in Globals; AutoPublishCodeSha256 is not possible there. "
    left_out = [
        name for name in ("Role", "TriggerConfigurations", "PassthroughCondition") if name in declared.preference
    ]
    if left_out:
        text += f"{' and '.join(left_out)} of DeploymentPreference has no counterpart. "
    return text.strip()


def _of_literal(facts: Facts) -> str:
    return (
        f"Version {facts.alias.version} is what the alias serves. CloudFormation updates an alias only if one of its "
        "properties changes, and this number stays whatever Headgate moves the alias to."
    )


def _custom_resource(facts: Facts, headgate: str) -> dict[str, Any]:
    declared = facts.declared
    preference = declared.preference
    properties: dict[str, Any] = {
        "ServiceToken": {"Fn::ImportValue": f"{headgate}-ServiceToken"},
        "Alias": {"Ref": f"{declared.function}.Alias" if declared.by_sam else declared.resource},
        "Release": {"Ref": "Release"},
        "Strategy": preference.get("Type", USUAL_STRATEGY),
    }
    if not declared.by_sam:
        properties["Version"] = declared.alias["Properties"]["FunctionVersion"]
    for name in ("Alarms", "Hooks"):
        if preference.get(name):
            properties[name] = preference[name]
    taken, name = resources_of(declared.original), f"{declared.function or declared.resource}Rollout"
    while name in taken:
        name += "2"
    added: dict[str, Any] = {"Resources": {name: {"Type": CUSTOM_RESOURCE, "Properties": properties}}}
    if "Release" not in (declared.original.get("Parameters") or {}):
        added = {"Parameters": {"Release": {"Type": "String"}}, **added}
    return added


def _roll_out(facts: Facts, status: StepStatus, checks: Sequence[Check] = (), told: Sequence[str] = ()) -> Step:
    return _step(
        "roll-out",
        status,
        checks=checks,
        notes=told,
        happens="A deployment with another Release publishes $LATEST and rolls it out. Without one, it changes $LATEST "
        "only.",
        commands=[f"sam deploy --stack-name {facts.root} --parameter-overrides Release=$(git rev-parse HEAD)"],
    )


# --- The way back ---


def _undoing(facts: Facts) -> list[Step]:
    declared = facts.declared
    if declared.names_one_version or declared.custom_resource:
        ready = _judged("ready", "done", [*_quiet(facts), _same_code(facts)])
        status: StepStatus = "next" if ready.status == "done" else "later"
        return [ready, _take_back(facts, status), _by_codedeploy(facts, "later"), _drop_retain(facts, "later")]
    ready = _judged("ready", "done", [*_quiet(facts), _served(facts)])
    quiet = ready.status == "done"
    by_codedeploy = _by_codedeploy(facts, "done" if declared.by_codedeploy else "next" if quiet else "later")
    is_free = resources_of(declared.processed).get(declared.resource, {}).get("DeletionPolicy") != "Retain"
    drop_retain = _drop_retain(facts, "done" if is_free else "next" if quiet else "later")
    return [ready, _step("take-back", "done"), by_codedeploy, drop_retain]


def _take_back(facts: Facts, status: StepStatus) -> Step:
    declared = facts.declared
    if declared.by_sam:
        edits = [Edit(declared.function, properties={"AutoPublishCodeSha256": None})]
        publishes = "SAM names the version after the code again, so CloudFormation publishes $LATEST as a new version "
    else:
        edits = [Edit(declared.resource, properties={"FunctionVersion": _expression(facts)})]
        publishes = (
            "Give the AWS::Lambda::Version a new logical id in the same deployment: CloudFormation then publishes "
            "$LATEST as a new version "
        )
    if declared.custom_resource in resources_of(declared.original):
        edits.append(Edit(declared.custom_resource, removes=True))
    return _step(
        "take-back",
        status,
        happens=f"{publishes}and points the alias at it at once. Deploy the code that is served now, so that the new "
        f"version does the same. Remove the resource {declared.custom_resource or CUSTOM_RESOURCE}: it leaves an alias "
        "that it has not created. Do not add DeploymentPreference yet: CodeDeploy would shift traffic from "
        f"version {facts.stack_version or '(unknown)'}, which CloudFormation takes for the one that is served. A "
        "rollback of this deployment would point the alias at that version too, so deploy with --disable-rollback.",
        diff=diff_of(facts.text, edits),
        notes=left_references(declared),
        commands=_commands(facts, execute=" --disable-rollback", undo=True),
    )


def _expression(facts: Facts) -> Any:
    """Return the moving version of an alias that the template declares, as its custom resource has it."""
    custom = resources_of(facts.declared.processed).get(facts.declared.custom_resource, {}).get("Properties", {})
    version = custom.get("Version")
    if isinstance(version, dict) and isinstance(version.get("Ref"), str):
        return {"Fn::GetAtt": [version["Ref"], "Version"]}
    return version or {"Fn::GetAtt": ["VERSION", "Version"]}


def _by_codedeploy(facts: Facts, status: StepStatus) -> Step:
    declared = facts.declared
    if status == "done":
        return _step("by-codedeploy", status)
    if not declared.by_sam:
        return _step(
            "by-codedeploy",
            status,
            happens="Only if CodeDeploy moved the alias before: add its UpdatePolicy again, without any other change.",
            commands=_commands(facts, undo=True),
        )
    everywhere = global_function(declared.original).get("DeploymentPreference")
    custom = resources_of(declared.processed).get(declared.custom_resource, {}).get("Properties", {})
    strategy = custom.get("Strategy")
    preference = None if everywhere else {"Type": strategy if isinstance(strategy, str) else USUAL_STRATEGY}
    return _step(
        "by-codedeploy",
        status,
        happens="Only if you want DeploymentPreference back, as it was. Deploy it without any other change. The next "
        "deployment with other code is shifted by CodeDeploy.",
        diff=diff_of(facts.text, [Edit(declared.function, properties={"DeploymentPreference": preference})]),
        commands=_commands(facts, undo=True),
    )


def _drop_retain(facts: Facts, status: StepStatus) -> Step:
    declared = facts.declared
    if status == "done":
        return _step("drop-retain", status)
    resource = declared.function if declared.by_sam else declared.resource
    edit = Edit(resource, attributes={"DeletionPolicy": None, "UpdateReplacePolicy": None})
    return _step(
        "drop-retain",
        status,
        happens="Only if a deletion of the stack should delete these resources again.",
        diff=diff_of(facts.text, [edit]),
        commands=_commands(facts, undo=True),
    )


# --- Checks of what is deployed ---


def _quiet(facts: Facts) -> list[Check]:
    alias = facts.alias
    found = [
        failed(
            "stack",
            f"stack {name} is {status}",
            "wait until it has ended"
            if status.endswith("_IN_PROGRESS")
            else f"see why (aws cloudformation describe-stack-events --stack-name {name}), and repair it first",
        )
        for name, status in facts.statuses.items()
        if not status.endswith("_COMPLETE") or status in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE")
    ]
    found = found or [passed("stack", f"stack {facts.stack} is {facts.statuses[facts.stack]}")]
    if alias.rollout:
        fix = f"wait for its end (headgate watch {alias.rollout}), or end it (headgate abort {alias.rollout})"
        found.append(failed("rollout", f"rollout {alias.rollout} moves {alias.target}", fix))
    else:
        found.append(passed("rollout", f"no rollout moves {alias.target}"))
    if "ProvisionedConcurrencyConfig" in facts.declared.alias.get("Properties", {}):
        fix = "remove it in a deployment before, and hold provisioned concurrency on versions (docs/targets.md)"
        resource = facts.declared.resource
        found.append(failed("provisioned", f"{resource} has ProvisionedConcurrencyConfig, which excludes weights", fix))
    if facts.deployment:
        fix = f"wait for its end (aws deploy get-deployment --deployment-id {facts.deployment})"
        found.append(failed("deployment", f"deployment {facts.deployment} of CodeDeploy runs", fix))
    else:
        found.append(passed("deployment", "no deployment of CodeDeploy runs"))
    if alias.weights and not alias.rollout:
        shares = " and ".join(f"{weight:.4%} to version {version}" for version, weight in alias.weights.items())
        fix = "remove the weights (aws lambda update-alias --routing-config AdditionalVersionWeights={})"
        found.append(failed("weights", f"{alias.target} sends {shares}", fix))
    elif not alias.weights:
        found.append(passed("weights", f"{alias.target} serves one version alone"))
    return found


def _served(facts: Facts) -> Check:
    alias, expected = facts.alias, facts.stack_version
    if not expected:
        return passed("served", f"{alias.target} serves version {alias.version}; the template's own is an expression")
    if alias.version == expected:
        return passed("served", f"{alias.target} serves version {expected}, as the stack's template says")
    return failed(
        "served",
        f"{alias.target} serves version {alias.version}, and the stack's template says version {expected}: somebody "
        "has moved it",
        f"deploy the stack with the code that shall be served, or move the alias to version {expected} (headgate start "
        f"{alias.target} --version {expected})",
    )


def _moved_by_rollouts_only(facts: Facts) -> Check:
    alias = facts.alias
    if alias.version == facts.stack_version or not facts.stack_version:
        return passed("served", f"{alias.target} serves version {alias.version}, as before")
    if alias.has_rollouts:
        return passed("served", f"{alias.target} serves version {alias.version}, to which a rollout has moved it")
    return failed(
        "served",
        f"{alias.target} serves version {alias.version}, the stack's template says version {facts.stack_version}, and "
        "no rollout has moved it",
        "find out who has moved it (UpdateAlias in CloudTrail), and move it back",
    )


def _retained(facts: Facts) -> Check:
    return passed(
        "retained", f"the deployed {facts.declared.resource} has DeletionPolicy and UpdateReplacePolicy Retain"
    )


def _kept(facts: Facts) -> list[Check]:
    declared = facts.declared
    how = (
        f"AutoPublishCodeSha256 of {declared.function} is a constant, so {declared.version} does not change"
        if declared.by_sam
        else f"{declared.resource} has the literal FunctionVersion {declared.literal}"
    )
    return [
        passed("pattern", how),
        passed("custom-resource", f"{declared.custom_resource} rolls out what the stack's deployments bring"),
    ]


def _same_code(facts: Facts) -> Check:
    alias = facts.alias
    if not facts.differs:
        return passed("same-code", f"$LATEST of {alias.function} has the code and settings of version {alias.version}")
    return failed(
        "same-code",
        f"$LATEST of {alias.function} differs from version {alias.version}, which is served, in "
        f"{', '.join(facts.differs)}",
        "deploy the commit that is served, or roll out what $LATEST holds (a deployment with another Release, or "
        f"headgate start {alias.target} --publish)",
    )


def settled(facts: Facts, declared: Declared) -> list[Check]:
    """Return a failed check for each property of a template that would move the alias whatever the version is."""
    return [failed("settled", _why_unsettled(each, facts), _settling(each, facts)) for each in declared.moving]


def _why_unsettled(setting: Setting, facts: Facts) -> str:
    if setting.name == "VersionDescription":
        return (
            f"{setting} is no literal, and with another description CloudFormation publishes a version and moves "
            f"{facts.alias.target} to it at once"
        )
    return f"{setting} is no literal, and with another value CloudFormation moves {facts.alias.target} at once"


def _settling(setting: Setting, facts: Facts) -> str:
    if not facts.handed_over:
        return f"remove {setting} in a deployment before this step, or write a literal"
    if setting not in facts.declared.moving:
        return f"leave {setting} as it is deployed"
    if setting.name == "VersionDescription" and facts.description:
        return (
            f"write the literal {json.dumps(facts.description)}, which is deployed; removing it, or another text, "
            "would move the alias too"
        )
    return "write the value that is deployed, as a literal; removing it, or another value, would move the alias too"


# --- Steps ---


def _step(
    name: StepName,
    status: StepStatus,
    *,
    checks: Sequence[Check] = (),
    happens: str = "",
    diff: str = "",
    added: str = "",
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Step:
    return Step(
        name=name,
        title=TITLES[name],
        status=status,
        happens=happens,
        checks=list(checks),
        diff=diff,
        added=added,
        notes=list(notes),
        commands=list(commands),
    )


def _judged(name: StepName, status: StepStatus, checks: Sequence[Check]) -> Step:
    """Return a step that its checks decide on."""
    return _step(name, status if all(check.passed for check in checks) else "blocked", checks=checks)


def _commands(facts: Facts, *, plan: str = "", execute: str = "", undo: bool = False) -> list[str]:
    """Return the commands that deploy exactly the change set that was checked.

    Parameters
    ----------
    plan, execute
        Options of the commands that make and execute it, with a space before them.
    """
    adopt, stack = f"headgate adopt {facts.alias.target}{' --undo' if undo else ''}", f"--stack-name {facts.root}"
    return [
        f"sam deploy {stack} --no-execute-changeset{plan}",
        f"{adopt} --change-set NAME",
        f"aws cloudformation execute-change-set {stack} --change-set-name NAME{execute}",
        f"aws cloudformation wait stack-update-complete {stack}",
        adopt,
    ]
