"""Loopback addresses for load balancers and tasks.

Each has an address of its own in 127.0.0.0/8, so that listeners and containers use their real ports. On Linux any
address of that network can be bound without further set-up. The two middle parts come from the port of the embedded
AWS, so that two of them on one machine never share an address.
"""

import os

LOAD_BALANCERS = range(1, 100)
TASKS = range(100, 255)


def address(number: int) -> str:
    """Return the loopback address with this number: one of LOAD_BALANCERS or of TASKS."""
    if number not in LOAD_BALANCERS and number not in TASKS:
        raise ValueError(f"number {number} of a loopback address: use {LOAD_BALANCERS[0]} to {TASKS[-1]}")
    port = int(os.environ["GATEWAY_PORT"])
    return f"127.{port >> 8}.{port & 255}.{number}"
