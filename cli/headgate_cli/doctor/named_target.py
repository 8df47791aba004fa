"""The target that a person names, as the model of a request's target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.spec.targets import Target
from headgate_cli.failures import Failure
from headgate_cli.requesting import target_in
from headgate_cli.rollouts import target_key

if TYPE_CHECKING:
    from pydantic import TypeAdapter as Adapter


def named_target(text: str) -> Target:
    """Return the target that a text names, as ``target_key`` reads it.

    Raises
    ------
    Failure
        If it names none. The message has examples.
    """
    from pydantic import TypeAdapter, ValidationError

    key = target_key(text)
    adapter: Adapter[Target] = TypeAdapter(Target)
    try:
        return adapter.validate_python(target_in(key) if key else None, by_alias=True, by_name=False)
    except ValidationError:
        raise Failure(
            f"{text[:200]} is not a target; name an alias as FUNCTION:ALIAS, such as checkout:live, an ECS service as "
            "CLUSTER/SERVICE, such as web/shop, or a consumer by the UUID of its event source mapping"
        ) from None
