"""Which telemetry stream may report on which functions and services, so that each team can have its own.

Kinesis has no condition on what a record says. But a record comes from one stream, and who may write to that is given
by IAM.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class StreamTargets(NamedTuple):
    """Streams with functions and ECS services of their own. The other streams report on all others."""

    entries: tuple[tuple[str, str], ...] = ()
    """Name of a stream, and pattern for the names of its functions and services."""

    @classmethod
    def parse(cls, text: str) -> StreamTargets:
        """Read ``<stream>=<functions>`` entries, with commas between them.

        Raises
        ------
        ValueError
            If an entry is not of this form.
        """
        entries = []
        for entry in filter(None, map(str.strip, text.split(","))):
            stream, equals, functions = entry.partition("=")
            if not (stream and equals and functions) or "=" in functions:
                raise ValueError(
                    f"StreamTargets: {entry!r} is not <stream>=<functions>; write, for example, payments=payments-*"
                )
            entries.append((stream, functions))
        return cls(tuple(entries))

    def refusal(self, stream_arn: str, target: str) -> str:
        """Return why a stream may not report on a target; empty if it may.

        Parameters
        ----------
        stream_arn
            ARN of the stream that a record came from.
        target
            Key of the target: ``lambda-alias/<function>/<alias>`` or ``ecs-service/<cluster>/<service>``.
        """
        stream = stream_arn.rpartition("/")[2]
        named = _name_in(target)
        owners = [name for name, pattern in self.entries if fnmatchcase(named, pattern)]
        if stream in owners:
            return ""
        if owners:
            return f"target: {target} may be reported by the stream {' or '.join(owners)} only, not by {stream}"
        if any(stream == name for name, _ in self.entries):
            return f"target: the stream {stream} may not report on {target}; add {stream}={named} to StreamTargets"
        return ""


def _name_in(target: str) -> str:
    """Return the name of the function or service in the key of a target. A cluster may have services of many teams."""
    kind, _, rest = target.partition("/")
    first, _, second = rest.partition("/")
    return second if kind == "ecs-service" else first
