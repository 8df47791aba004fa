"""What ``headgate adopt`` tells: the steps, where they stand, and the checks that decide on the next one."""

from __future__ import annotations

from typing import Literal

from headgate.history.model import View

StepName = Literal["ready", "retain", "hand-over", "roll-out", "take-back", "by-codedeploy", "drop-retain"]

StepStatus = Literal["done", "next", "blocked", "later"]


class Check(View):
    """A check of a step."""

    name: str
    """What is checked, such as ``served``."""
    passed: bool
    """Whether it holds."""
    message: str
    """What was found."""
    fix: str = ""
    """What to do about it. Empty if it holds."""


class Step(View):
    """A step of the adoption, or of the way back."""

    name: StepName
    """``ready``: nothing runs on the alias, and Headgate may move it. Of the adoption, ``retain``: the stack can no
    longer delete the alias. ``hand-over``: deploying the stack no longer moves it. ``roll-out``: the next release.
    Of the way back, ``take-back``: the stack moves the alias again. ``by-codedeploy``: it does so by CodeDeploy.
    ``drop-retain``: the stack may delete it again."""
    title: str
    """What is true when the step is done."""
    status: StepStatus
    """``next``: may be taken now. ``blocked``: a check failed. ``later``: an earlier step comes first."""
    happens: str = ""
    """What the deployment of this step does."""
    checks: list[Check] = []
    """Its checks on what is deployed."""
    diff: str = ""
    """Changes in the template as it was deployed, as a unified diff."""
    added: str = ""
    """What comes into the template, as YAML."""
    notes: list[str] = []
    """What else has to change, as for a hook that was written for CodeDeploy."""
    commands: list[str] = []
    """Commands to give, in their order."""


class ChangeSetChecks(View):
    """The checks of a change set."""

    name: str
    """Its name."""
    step: StepName
    """The step that it is checked for."""
    checks: list[Check]
    """The checks."""
    notes: list[str] = []
    """What else has to change in its template before a rollout can succeed."""


class Adoption(View):
    """Where the adoption of an alias stands, or the way back."""

    target: str
    """The alias, as ``FUNCTION:ALIAS``."""
    way: Literal["adopt", "undo"]
    """``undo``: the way back."""
    stack: str = ""
    """Name of the stack that owns the alias. Empty if none does."""
    resource: str = ""
    """Logical id of the alias in the stack."""
    pattern: Literal["", "serverless-function", "alias"] = ""
    """What the template declares: a function of SAM that publishes its alias, or the alias itself."""
    served: str
    """Version that the alias serves."""
    stack_version: str = ""
    """Version that the stack's template names. Empty if it is not known."""
    version_resource: str = ""
    """Logical id of that version. Empty if there is none."""
    standing: Literal["ready", "blocked", "done"]
    """``ready``: the next step may be taken. ``blocked``: a check failed. ``done``: nothing is left to do."""
    steps: list[Step] = []
    """The steps in their order."""
    change_set: ChangeSetChecks | None = None
    """The checks of the change set, if one was named."""
