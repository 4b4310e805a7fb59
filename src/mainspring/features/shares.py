"""How far a whole has come that is done in parts, one after the other: several views replayed are one bar."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from mainspring.definitions import ModelDef, ViewDef

Progress = Callable[[int, int], None]
"""Called with how many events are done with and how many there are, as far as is known."""


def shares(progress: Progress | None, sizes: Sequence[int]) -> list[Progress | None]:
    """For each part, what is to be told of how far it has come, in whatever it counts.

    Args:
        progress: Told how far the whole has come, of the sum of ``sizes``; None: nobody wants to know.
        sizes: Of the parts.
    """
    if progress is None:
        return [None] * len(sizes)
    whole = sum(sizes)

    def share(before: int, size: int) -> Progress:
        return lambda done, every: progress(before + size * min(done, every) // max(every, 1), whole)

    return [share(sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def events_read(views: Iterable[ViewDef], frame_of: Callable[[str], pl.DataFrame]) -> list[int]:
    """How many events of history a replay of each view goes through."""
    return [sum(frame_of(source.name).height for source in view.sources) for view in views]


def views_asked(model: ModelDef, only: Collection[str] | None) -> list[ViewDef]:
    """The views that some of a model's features are made of; of all of them if None."""
    wanted = (f for f in model.features if only is None or f.name in only)
    return list({view.name: view for feature in wanted for view in model.views_of(feature)}.values())
