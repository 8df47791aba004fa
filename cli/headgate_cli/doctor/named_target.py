"""The target that a person names, as the model of a request's target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.spec.targets import Target
from headgate_cli.failures import Failure
from headgate_cli.rollouts import target_key

if TYPE_CHECKING:
    from headgate.spec.targets import EventSourceTarget, LambdaAliasTarget


def named_target(text: str) -> LambdaAliasTarget | EventSourceTarget:
    """Return the target that a text names, as ``target_key`` reads it.

    Raises
    ------
    Failure
        If it names none. The message has examples.
    """
    from pydantic import TypeAdapter, ValidationError

    kind, _, rest = (target_key(text) or "").partition("/")
    function, _, alias = rest.partition("/")
    given = {"mapping": rest} if kind == "event-source" else {"function": function, "alias": alias}
    adapter: TypeAdapter[LambdaAliasTarget | EventSourceTarget] = TypeAdapter(Target)
    try:
        return adapter.validate_python({"kind": kind, **given}, by_alias=True, by_name=False)
    except ValidationError:
        raise Failure(
            f"{text[:200]} is not a target; name an alias as FUNCTION:ALIAS, such as checkout:live, or a consumer by "
            "the UUID of its event source mapping"
        ) from None
