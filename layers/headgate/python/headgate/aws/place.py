"""Where a deployment of Headgate runs."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where this Headgate serves."""

    partition: str
    account: str
    region: str
