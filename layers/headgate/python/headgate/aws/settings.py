"""The environment variables that the template sets on a function."""

from __future__ import annotations

import os


def setting(name: str) -> str:
    """An environment variable that the template sets; absence is a fault of the deployment, so it says which."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"environment variable {name} is not set; template.yaml sets it on this function")
    return value
