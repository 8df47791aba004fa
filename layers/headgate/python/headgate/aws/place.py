"""Where a deployment of Headgate runs."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Partition, account and Region of this deployment."""

    partition: str
    account: str
    region: str
