"""Seams: the attributes of MiniStack that gaps replace, after a check that they look as expected.

MiniStack has no extension points, so a gap replaces a module's attribute by a function that receives the original as
its first argument. A later version may rename or change that attribute without notice. A gap that then silently did
nothing would falsify the embedded AWS. So every seam is checked before it is used.
"""

import functools
import importlib.metadata
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


class SeamMissing(RuntimeError):  # noqa: N818 - describes the state
    """MiniStack does not have the seam that a gap needs."""

    def __init__(self, gap: str, seam: str, found: str) -> None:
        version = importlib.metadata.version("ministack")
        super().__init__(f"gap {gap!r}: MiniStack {version} {found} at its seam {seam}. Is the gap still there?")


def expect(gap: str, owner: ModuleType | type, name: str, parameters: str) -> Callable[..., Any]:
    """Return `owner.name` if it takes exactly these parameters ("a, b, c"), else raise SeamMissing."""
    seam = f"{owner.__name__}.{name}"
    found: Callable[..., Any] | None = getattr(owner, name, None)
    if found is None or not callable(found):
        raise SeamMissing(gap, seam, "has no callable")
    actual = ", ".join(inspect.signature(found).parameters)
    if actual != parameters:
        raise SeamMissing(gap, seam, f"takes ({actual}), not ({parameters}),")
    return found


def wrap(gap: str, owner: ModuleType | type, name: str, parameters: str, replacement: Callable[..., Any]) -> None:
    """Replace `owner.name` by `replacement`, which is called with the original as its first argument."""
    original = expect(gap, owner, name, parameters)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def awaiting(*args: Any, **kwargs: Any) -> Any:
            return await replacement(original, *args, **kwargs)

        setattr(owner, name, awaiting)
        return

    @functools.wraps(original)
    def calling(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, calling)


def expect_text(gap: str, owner: ModuleType, name: str, fragment: str) -> str:
    """Return the text `owner.name` if it holds `fragment` exactly once, else raise SeamMissing."""
    text = getattr(owner, name, None)
    if not isinstance(text, str) or text.count(fragment) != 1:
        raise SeamMissing(gap, f"{owner.__name__}.{name}", "does not have the expected text")
    return text
