"""The environment variables that the template sets on a function."""

from __future__ import annotations

import os


def setting(name: str) -> str:
    """Return an environment variable that the template sets. If it is missing, the deployment is faulty."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"environment variable {name} is not set; template.yaml sets it on this function")
    return value
