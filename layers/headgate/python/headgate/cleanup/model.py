"""What a clean-up found and did."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from headgate.wire import Wire

Outcome = Literal["stays", "goes", "deleted", "deregistered", "failed"]


class CleanupView(Wire):
    """Base of the views of a clean-up."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class CleanedRevision(CleanupView):
    """A revision, and what became of it."""

    revision: str
    """Number of the version, or family and number of the task definition."""
    created_at: str | None = None
    """When it was published or registered, ISO 8601. Missing if that was not asked, because it stays anyway."""
    bytes: Annotated[int, Field(ge=0)] = 0
    """Size of its code; 0 for a task definition or an image."""
    outcome: Outcome
    """``stays``, ``goes`` (in a dry run), ``deleted``, ``deregistered``, or ``failed`` if AWS refused it."""
    reasons: list[str]
    """Why."""


class Cleanup(CleanupView):
    """A clean-up of one function or one family."""

    kind: Literal["function", "family"]
    """What was cleaned."""
    name: str
    """Its name."""
    keep: Annotated[int, Field(ge=1)]
    """How many of the newest revisions stay."""
    older_than_seconds: Annotated[float, Field(ge=0)]
    """Age under which a revision stays."""
    applied: bool
    """False for a dry run."""
    revisions: list[CleanedRevision]
    """Every revision, newest first."""
    stopped: str = ""
    """Why it stopped before all were done; empty if it did not."""
    not_checked: list[str]
    """Uses that no API lists, or that are not looked for."""

    def with_outcome(self, *outcomes: Outcome) -> list[CleanedRevision]:
        """Return the revisions with one of these outcomes."""
        return [each for each in self.revisions if each.outcome in outcomes]
