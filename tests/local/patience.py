"""How long tests wait for what must happen, in one place."""

SLOWER = 4
"""How much slower than a quiet machine the machine may be that runs the tests.

Limits of waits are given as for a quiet machine, and multiplied by this. A test that passes takes no longer for it; it
only fails later. Neither what a test promises in seconds nor a wait for what must not happen is multiplied.
"""


def patient(seconds: float) -> float:
    """Return the limit of a wait for what takes at most ``seconds`` on a quiet machine."""
    return SLOWER * seconds


A_WHILE = patient(15)
"""The limit of a wait in seconds for what takes no time of its own."""
