"""Where the heads of entities are: found by what names them, and remembered, for those that are asked about often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mainspring.features.keys import encode_key
from mainspring.features.store import ViewState, head_keys

MOST = 8_192
"""Entities of a view that are remembered."""


class Addresses:
    """Of one view in one store."""

    def __init__(self, state: ViewState) -> None:
        self._state = state
        self._books: dict[Any, _Book] = {}  # by the types

    def of(self, columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """Where the heads are of the entity in each row of some columns; of one with a null, where none is.

        Entities are remembered apart by the types of what names them: 1 and True are equal, and different entities.

        Raises:
            ContractError: A value is neither str, int nor bool (MS-F101).
        """
        is_bare = len(columns) == 1
        kinds = [_kind(column) for column in columns]
        if None in kinds:
            return head_keys(self._state, map(encode_key, zip(*columns, strict=True)))
        named = kinds[0] if is_bare else tuple(kinds)
        book = self._books.get(named)
        if book is None:
            book = self._books[named] = _Book(self._state, is_bare=is_bare)
        return list(map(book.__getitem__, columns[0] if is_bare else zip(*columns, strict=True)))


def _kind(column: Sequence[Any]) -> type | None:
    """The one type of all values that are not null; None if there are several."""
    types = set(map(type, column))
    if len(types) > 1:
        types.discard(type(None))
    return types.pop() if len(types) == 1 else None


class _Book(dict[Any, bytes]):
    """By what names an entity: one value as it is, several as a tuple."""

    def __init__(self, state: ViewState, *, is_bare: bool) -> None:
        super().__init__()
        self._state = state
        self._is_bare = is_bare

    def __missing__(self, entity: Any) -> bytes:
        """Work it out."""
        (place,) = head_keys(self._state, [encode_key((entity,) if self._is_bare else entity)])
        if len(self) >= MOST:
            self.clear()
        self[entity] = place
        return place
