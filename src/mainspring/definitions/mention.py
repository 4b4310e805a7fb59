"""How an error names a thing that stands where it cannot: in a few words, never with all that it holds."""

from __future__ import annotations

from types import FunctionType
from typing import Any

LONGEST = 60


def mention(thing: Any) -> str:
    """A thing in a few words.

    >>> mention(3), mention(int), mention("x" * 100)[-3:]
    ('3', 'the class int', 'xx…')
    """
    from mainspring.definitions.aggregates import Pending
    from mainspring.definitions.features import ViewDef
    from mainspring.definitions.values import LabelDef, ModelDef

    if isinstance(thing, LabelDef):
        return f"a label (on {thing.source.name})"
    if isinstance(thing, ViewDef):
        return f"the feature view {thing.name}"
    if isinstance(thing, FunctionType):
        return f"the function {thing.__name__}"
    if isinstance(thing, ModelDef):
        return f"the model {thing.name}"
    if isinstance(thing, Pending):
        return f"an aggregate (ms.{thing.function})"
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    text = repr(thing).replace("\n", " ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
