"""Which telemetry stream may report on which functions, so that each team can have a stream of its own.

Kinesis has no condition on what a record says. But a record comes from one stream, and who may write to that is given
by IAM.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class StreamTargets(NamedTuple):
    """Streams with functions of their own. The other streams report on all other functions."""

    entries: tuple[tuple[str, str], ...] = ()
    """Name of a stream, and pattern for the names of its functions."""

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
            Key of the target: ``lambda-alias/<function>/<alias>``.
        """
        stream = stream_arn.rpartition("/")[2]
        function = target.partition("/")[2].partition("/")[0]
        owners = [name for name, functions in self.entries if fnmatchcase(function, functions)]
        if stream in owners:
            return ""
        if owners:
            return f"target: {target} may be reported by the stream {' or '.join(owners)} only, not by {stream}"
        if any(stream == name for name, _ in self.entries):
            return f"target: the stream {stream} may not report on {target}; add {stream}={function} to StreamTargets"
        return ""
