"""How Headgate marks tasks and task definitions: with tags, and in the reason with which it stops a task."""

from __future__ import annotations

OWN_TAGS = "headgate:"
"""Prefix of Headgate's tags. It sets three on every task."""

DEFINITION_TAG = f"{OWN_TAGS}definition"
"""Tag of a revision that Headgate registered: the digest of the requested definition."""

EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG = f"{OWN_TAGS}execution", f"{OWN_TAGS}number", f"{OWN_TAGS}request"

STOPPED_BY_HEADGATE = "Headgate: "
"""How the reasons begin with which Headgate stops tasks."""
