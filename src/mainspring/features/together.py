"""Views whose events are the same, answered by one replay: read, brought together by entity and laid out once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from mainspring.definitions import ViewDef
from mainspring.features.columns import columns_of

MOST_BYTES = 1 << 30
"""What the columns of views that are answered together may take, if those of one alone do not take more."""
_COLUMN_BYTES = 16  # an event's, evaluated and brought together


@dataclass(frozen=True, eq=False)
class Together:
    """Some views as one.

    Attributes:
        view: Has the features of all of them, under names of its own.
        parts: The views, each with the places of its values among those of ``view``.
        events: How many events its sources have.
    """

    view: ViewDef
    parts: tuple[tuple[ViewDef, slice], ...]
    events: int


def together(views: Iterable[ViewDef], events: Sequence[int]) -> list[Together]:
    """Views over the same sources, entity, used views and hop as one, as far as ``MOST_BYTES`` allows.

    Which other features a replay answers changes no value but var, std, ewma and trend, and these by less than live and
    replay may differ.

    Args:
        views: In any order.
        events: How many events each view's sources have.
    """
    groups: dict[tuple[object, ...], list[tuple[list[ViewDef], set[object], int]]] = {}
    for view, n in zip(views, events, strict=True):
        used = tuple((v.name, v.version) for v in view.using)
        alike = groups.setdefault((tuple(s.version for s in view.sources), view.entity, used, view.hop_us), [])
        own: set[object] = {c.identity for f in view.features for c in columns_of(f)}
        for group, columns, _ in alike:
            joined = columns | own
            if len(joined) * _COLUMN_BYTES * n <= MOST_BYTES or joined in (own, columns):
                group.append(view)
                columns.update(own)
                break
        else:
            alike.append(([view], own, n))
    return [_joined(group, n) for alike in groups.values() for group, _, n in alike]


def narrowed(view: ViewDef, columns: Collection[str]) -> ViewDef:
    """A view with those of its features alone that some of its columns are made of."""
    needed = tuple(f for f in view.features if not set(view.columns_of(f)).isdisjoint(columns))
    return view if len(needed) == len(view.features) else replace(view, features=needed, derived=())


def _joined(views: list[ViewDef], events: int) -> Together:
    whole = views[0]
    if len(views) > 1:
        features = tuple(replace(f, name=f"{view.name}__{f.name}") for view in views for f in view.features)
        whole = replace(whole, name="__".join(v.name for v in views), features=features, derived=())
    edges = pairwise(accumulate((len(view.column_names) for view in views), initial=0))
    return Together(whole, tuple((view, slice(a, b)) for view, (a, b) in zip(views, edges, strict=True)), events)
