"""The tags that Headgate puts on tasks and task definitions."""

from __future__ import annotations

OWN_TAGS = "headgate:"
"""Tags that begin so are Headgate's; it puts three on every task."""

DEFINITION_TAG = f"{OWN_TAGS}definition"
"""The tag of a revision that Headgate has registered: the digest of what it was asked for."""

EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG = f"{OWN_TAGS}execution", f"{OWN_TAGS}number", f"{OWN_TAGS}request"
