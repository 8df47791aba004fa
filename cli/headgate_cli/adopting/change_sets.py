"""A change set before its deployment: whether it does what a step says, and leaves alias and version alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.owning_stack import DIGITS
from headgate_cli.adopting.model import ChangeSetChecks
from headgate_cli.adopting.needs import notes, right_version
from headgate_cli.adopting.steps import failed, passed, settled
from headgate_cli.adopting.templates import parsed, resources_of
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from headgate_cli.adopting.facts import Declared, Facts
    from headgate_cli.adopting.model import Check, StepName
    from headgate_cli.adopting.needs import Installation
    from headgate_cli.stack import Stack

ATTRIBUTES = frozenset({"DeletionPolicy", "UpdateReplacePolicy", "UpdatePolicy", "CreationPolicy", "Metadata"})
"""What CloudFormation keeps for itself: a change of these alone calls no API of the resource.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html
"""

FIXED = {"AWS::Lambda::Version": ("Version",), "AWS::Lambda::Function": ("Arn",), "AWS::IAM::Role": ("Arn",)}
"""Attributes that change only if their resource is replaced."""

INERT = frozenset({"Description", "Tags"})
"""Properties of a function that change nothing in what a new version does.

SAM has the constant AutoPublishCodeSha256 in the description, so handing an alias over or back changes that.
"""


class ChangeSet(NamedTuple):
    """A change set of the stack that owns the alias."""

    name: str
    status: str
    """``CREATE_COMPLETE`` if it can be executed."""
    reason: str
    execution: str
    changes: Mapping[str, Mapping[str, Any]]
    """ResourceChange by logical id."""
    declared: Declared | None
    """The alias as it would be declared; None if there is no template yet."""


def read_change_set(stack: Stack, facts: Facts, name: str) -> ChangeSet:
    """Read a change set. Of a nested stack, ``name`` is the one of the outermost stack.

    Raises
    ------
    Failure
        If there is no such change set, or it does not say what it does to a nested stack.
    """
    formation = stack.client("cloudformation")
    try:
        described, changes = _described(formation, facts.root, name)
    except formation.exceptions.ChangeSetNotFoundException:
        raise Failure(
            f"stack {facts.root} has no change set {name}; sam deploy --no-execute-changeset prints the name, and aws "
            f"cloudformation list-change-sets --stack-name {facts.root} lists them"
        ) from None
    identifier, owner = name, facts.root
    if facts.stack != facts.root and described["Status"] == "CREATE_COMPLETE":
        described, changes = _nested(formation, facts, changes)
        identifier, owner = described["ChangeSetId"], facts.stack
    declared = None
    if described["Status"] == "CREATE_COMPLETE":
        processed, original = (
            parsed(
                formation.get_template(StackName=owner, ChangeSetName=identifier, TemplateStage=stage)["TemplateBody"]
            )
            for stage in ("Processed", "Original")
        )
        declared = facts.declared._replace(
            processed=processed, original=original, existing=_existing(facts.declared.existing, changes)
        )
    return ChangeSet(
        name=name,
        status=described["Status"],
        reason=described.get("StatusReason", ""),
        execution=described.get("ExecutionStatus", ""),
        changes={each["LogicalResourceId"]: each for each in changes},
        declared=declared,
    )


def _described(formation: Any, stack: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a change set and all its changes of resources."""
    given: dict[str, Any] = {"StackName": stack, "ChangeSetName": name}
    described = formation.describe_change_set(**given)
    changes, token = [*described.get("Changes", [])], described.get("NextToken")
    while token:
        page = formation.describe_change_set(**given, NextToken=token)
        changes += page.get("Changes", [])
        token = page.get("NextToken")
    return described, [each["ResourceChange"] for each in changes if "ResourceChange" in each]


def _existing(before: Set[str], changes: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the logical ids of the resources that the stack will have."""
    actions = {each["LogicalResourceId"]: each["Action"] for each in changes}
    removed = {logical for logical, action in actions.items() if action == "Remove"}
    added = {logical for logical, action in actions.items() if action in ("Add", "Import")}
    return frozenset((before - removed) | added)


def _nested(
    formation: Any, facts: Facts, changes: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the change set of the nested stack that owns the alias, at any depth."""
    waiting = list(changes)
    while waiting:
        each = waiting.pop(0)
        if each.get("ResourceType") != "AWS::CloudFormation::Stack" or not each.get("ChangeSetId"):
            continue
        stack_id = each["PhysicalResourceId"]
        described, inner = _described(formation, stack_id, each["ChangeSetId"])
        if stack_id == facts.stack_id:
            return described, inner
        waiting += inner
    raise Failure(
        f"the change set does not say what it changes in the nested stack {facts.stack}; make it with aws "
        "cloudformation create-change-set --include-nested-stacks, of the template that sam package writes"
    )


def checked(facts: Facts, change_set: ChangeSet, step: StepName, headgate: Installation) -> ChangeSetChecks:
    """Judge a change set for a step."""
    found = ChangeSetChecks(name=change_set.name, step=step, checks=list(_checks(facts, change_set, step)))
    if change_set.declared is None or step not in ("hand-over", "roll-out"):
        return found
    return found.model_copy(update={"notes": notes(facts, change_set.declared, headgate)})


def _checks(facts: Facts, change_set: ChangeSet, step: StepName) -> Iterator[Check]:
    if change_set.declared is None or change_set.execution != "AVAILABLE":
        yield _not_ready(change_set)
        return
    yield passed("change-set", f"{change_set.name} can be executed")
    yield from _pattern(facts, change_set.declared, step)
    if step == "take-back":
        yield _new_version(facts, change_set, change_set.declared)
    elif facts.declared.version:
        yield _untouched(change_set, facts.declared.version, "version")
    yield _alias(facts, change_set, change_set.declared, step)
    yield from _function(facts, change_set)
    if step in ("hand-over", "roll-out"):
        yield from right_version(facts, change_set.declared)
    if step == "take-back" and facts.function:
        yield _same_function(facts, change_set, change_set.declared)


def _not_ready(change_set: ChangeSet) -> Check:
    state = f"{change_set.name} is {change_set.status}"
    if change_set.status.endswith(("_PENDING", "_IN_PROGRESS")):
        return failed("change-set", state, "wait a moment, and give the command again")
    if "contain changes" in change_set.reason or "No updates" in change_set.reason:
        return failed("change-set", f"{state}: it contains no changes", "check that the changed template was built")
    return failed(
        "change-set",
        f"{state} and {change_set.execution or 'cannot be executed'}: {change_set.reason or 'no reason given'}",
        "make another one (sam deploy --no-execute-changeset)",
    )


def _pattern(facts: Facts, declared: Declared, step: StepName) -> Iterator[Check]:
    if not declared.alias:
        yield failed("pattern", f"the template no longer has {declared.resource}", "keep the function and its alias")
        return
    if step in ("retain", "hand-over") and not declared.retained:
        yield failed(
            "retained",
            f"{declared.resource} would not have DeletionPolicy and UpdateReplacePolicy Retain",
            f"give both to {facts.declared.function if facts.declared.by_sam else declared.resource}",
        )
    elif step in ("retain", "hand-over"):
        yield passed("retained", f"{declared.resource} has DeletionPolicy and UpdateReplacePolicy Retain")
    if step in ("hand-over", "roll-out"):
        yield _kept_version(facts, declared)
        yield from settled(facts, declared)
        if declared.custom_resource:
            yield passed("custom-resource", f"{declared.custom_resource} rolls the alias out")
        elif declared.left_out:
            fix = "remove its Condition, or give the parameters with which it is true"
            yield failed(
                "custom-resource", f"the stack would not have {declared.left_out}: its Condition is false", fix
            )
        else:
            fix = "add the resource as headgate adopt prints it"
            yield failed("custom-resource", f"no Custom::HeadgateRollout names {facts.alias.target}", fix)
    if step == "take-back" and (declared.names_one_version or declared.by_codedeploy or declared.custom_resource):
        wrong = "the custom resource" if declared.custom_resource else "DeploymentPreference"
        wrong = "a version that does not change" if declared.names_one_version else wrong
        yield failed("pattern", f"the template has {wrong}", "remove it in this deployment")


def _kept_version(facts: Facts, declared: Declared) -> Check:
    if declared.by_codedeploy:
        fix = "remove DeploymentPreference of the function, or set it to {Enabled: false} if Globals has it"
        return failed("pattern", f"CodeDeploy would still move {declared.resource}", fix)
    if not declared.names_one_version and facts.declared.by_sam:
        return failed(
            "pattern",
            f"AutoPublishCodeSha256 of {declared.function} is no constant",
            f'set it to "{facts.digits}", and to no parameter',
        )
    if not declared.names_one_version:
        fix = f'set it to "{facts.alias.version}"'
        return failed("pattern", f"FunctionVersion of {declared.resource} is not literal", fix)
    if facts.declared.by_sam and declared.version != facts.declared.version:
        return failed(
            "pattern",
            f"AutoPublishCodeSha256 of {declared.function} begins with {declared.constant[:DIGITS]}, which makes the "
            f"version {declared.version}; CloudFormation would publish it and move the alias",
            f'set it to "{facts.digits}"',
        )
    return passed("pattern", f"the version of {declared.resource} does not change")


def _untouched(change_set: ChangeSet, resource: str, name: str) -> Check:
    change = change_set.changes.get(resource)
    if change is None:
        return passed(name, f"{resource} is not among the changes")
    if _is_untouched(change_set, resource):
        attributes = [each for each in change.get("Scope", ()) if each in ATTRIBUTES]
        return passed(name, f"of {resource}, only {' and '.join(attributes) or 'what it refers to'} changes")
    return failed(
        name,
        f"{resource} is among the changes: {_in_words(change)}",
        "deploy other changes first, as you always do, and this step by itself",
    )


def _is_untouched(change_set: ChangeSet, resource: str) -> bool:
    """Return whether CloudFormation calls no API of a resource, though it may be among the changes."""
    change = change_set.changes.get(resource)
    if change is None:
        return True
    details = change.get("Details", ())
    if change["Action"] != "Modify" or not (details or set(change.get("Scope", ())) <= ATTRIBUTES):
        return False
    return all(_is_harmless(change_set, each) for each in details)


def _is_harmless(change_set: ChangeSet, detail: Mapping[str, Any]) -> bool:
    """Return whether a detail of a change comes to nothing.

    A property that refers to an attribute of a changed resource is listed as Dynamic, as the attribute might change.
    """
    if detail.get("Target", {}).get("Attribute") in ATTRIBUTES:
        return True
    if detail.get("Evaluation") != "Dynamic" or detail.get("ChangeSource") not in (
        "ResourceAttribute",
        "ResourceReference",
    ):
        return False
    cause, _, attribute = str(detail.get("CausingEntity", "")).partition(".")
    change = change_set.changes.get(cause, {})
    if change.get("Replacement") == "False" and attribute in FIXED.get(str(change.get("ResourceType")), ()):
        return True
    return _is_untouched(change_set, cause)


def _in_words(change: Mapping[str, Any]) -> str:
    targets = [each.get("Target", {}) for each in change.get("Details", ())]
    names = dict.fromkeys(str(each.get("Name") or each.get("Attribute")) for each in targets)
    replaced = " and replacement" if change.get("Replacement", "False") != "False" else ""
    return f"{change['Action']}{replaced}{f' of {chr(44).join(names)}' if names else ''}"


def _alias(facts: Facts, change_set: ChangeSet, declared: Declared, step: StepName) -> Check:
    resource = facts.declared.resource
    before, after = facts.declared.alias.get("Properties", {}), declared.alias.get("Properties", {})
    written = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    moves = written == {"FunctionVersion"} and _moves_version_only(change_set, resource)
    if moves and step == "take-back":
        return passed("alias", f"of {resource}, only FunctionVersion changes")
    if moves and step == "hand-over" and declared.literal == facts.alias.version:
        return passed("alias", f"{resource} gets FunctionVersion {declared.literal}, which it serves")
    found = _untouched(change_set, resource, "alias")
    if found.passed and written:
        # The change set tells what CloudFormation expects, and the template what it will write.
        names = ", ".join(sorted(written))
        return failed("alias", f"the template has another {names} for {resource}", "leave its properties as they are")
    return found


def _moves_version_only(change_set: ChangeSet, resource: str) -> bool:
    change = change_set.changes.get(resource, {})
    return change.get("Action", "Modify") == "Modify" and all(
        _is_harmless(change_set, each) or each.get("Target", {}).get("Name") == "FunctionVersion"
        for each in change.get("Details", ())
    )


def _new_version(facts: Facts, change_set: ChangeSet, declared: Declared) -> Check:
    version = declared.version
    if version and change_set.changes.get(version, {}).get("Action") == "Add":
        return passed("version", f"{version} is a new version, of the code in $LATEST")
    if version == facts.declared.version and facts.stack_version == facts.alias.version:
        return passed("version", f"{version} is version {facts.stack_version}, which is served")
    return failed(
        "version",
        f"{version or 'the version of the template'} is no new version, so the alias would move to the code of version "
        f"{facts.stack_version or 'that the template names'}",
        "change the version's logical id, so that CloudFormation publishes $LATEST",
    )


def _may_replace(change_set: ChangeSet, change: Mapping[str, Any]) -> bool:
    if change.get("Replacement", "False") != "Conditional":
        return bool(change.get("Replacement", "False") == "True")
    return any(
        each.get("Target", {}).get("RequiresRecreation") != "Never" and not _is_harmless(change_set, each)
        for each in change.get("Details", ())
    )


def _function(facts: Facts, change_set: ChangeSet) -> Iterator[Check]:
    function = facts.function
    change = change_set.changes.get(function)
    if change is None:
        return
    if change["Action"] != "Modify" or _may_replace(change_set, change):
        yield failed("function", f"{function} would be replaced or removed", "keep its FunctionName and its logical id")
    else:
        yield passed("function", f"{function} changes in place, so $LATEST does and the alias does not")


def _same_function(facts: Facts, change_set: ChangeSet, declared: Declared) -> Check:
    """Check that $LATEST stays what is served: the alias moves at once to the version that is made of it."""
    function = facts.function
    before, after = (
        resources_of(each.processed).get(function, {}).get("Properties", {}) for each in (facts.declared, declared)
    )
    # A property that names a parameter is the same in both templates, and only the change set tells of it.
    details = change_set.changes.get(function, {}).get("Details", ())
    written = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    targets = [each.get("Target", {}) for each in details if not _is_harmless(change_set, each)]
    expected = [str(each.get("Name") or each.get("Attribute")) for each in targets]
    properties = [name for name in dict.fromkeys((*written, *expected)) if name not in INERT]
    if not properties and (details or _is_untouched(change_set, function)):
        return passed("same-code", f"{function} does not change, so the new version does what is served")
    return failed(
        "same-code",
        f"{function} changes: {', '.join(properties) or 'the change set does not say what'}; the alias would serve it "
        "at once, without a rollout",
        "deploy this change as a rollout first (another Release, with the template as it is deployed), and take the "
        "alias back when it is served",
    )
