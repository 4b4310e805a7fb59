"""Where the heads of entities are: found by what names them, and remembered, for those that are asked about often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mainspring.features.keys import encode_key, encode_text
from mainspring.features.store import ViewState, head_keys, view_bytes

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
        entities: Iterable[Any]
        if len(columns) == 1:
            (entities,) = columns
            kinds: Any = _kind(entities)
        else:
            entities = zip(*columns, strict=True)
            kinds = tuple(map(_kind, columns))
        book = self._books.get(kinds)
        if book is None:
            if kinds is None or (len(columns) > 1 and None in kinds):
                return head_keys(self._state, map(encode_key, zip(*columns, strict=True)))
            book = self._books[kinds] = _Book(self._state, is_bare=len(columns) == 1)
        return list(map(book.__getitem__, entities))


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
        self._shelf, self._view = state.shelf, view_bytes(state)
        self._is_bare = is_bare

    def __missing__(self, entity: Any) -> bytes:
        """Work it out."""
        if type(entity) is str:
            key: bytes | None = encode_text(entity)
        else:
            key = encode_key((entity,) if self._is_bare else entity)
        place = self._shelf if key is None else self._shelf + key + self._view
        if len(self) >= MOST:
            self.clear()
        self[entity] = place
        return place
