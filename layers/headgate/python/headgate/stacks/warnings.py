"""The warnings of a plan as an attribute of the resource."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.stacks.properties import in_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 1500
"""The whole answer to CloudFormation has at most 4,096 bytes."""

_CUT = "..."


def warnings_in(plan: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the warnings of a plan, in its JSON form, as one text; empty if it has none.

    Parameters
    ----------
    given
        The properties, whose names the text has.
    """
    text = "; ".join(in_properties(each, given) for each in plan.get("warnings", []))
    kept = text
    while len(json.dumps(kept)) > MAX_BYTES:
        # An escaped character takes up to twelve bytes.
        excess = len(json.dumps(kept)) - MAX_BYTES
        kept = kept.removesuffix(_CUT)[: -max(1, excess // 12 + len(_CUT))] + _CUT
    return kept
